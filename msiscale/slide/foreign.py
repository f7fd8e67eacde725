"""Formats of other vendors that are not read, and what to do with them."""

from __future__ import annotations

from msiscale.errors import InputError

_BIO_FORMATS = "export it as OME-TIFF from QuPath, or with bfconvert of Bio-Formats"
_VENDORS = "export it as TIFF or SVS with the scanner's own viewer"
FORMATS = {  # suffix: whose it is, and the remedy
    ".vsi": ("Olympus VSI, whose pixels are in the folder beside it", _BIO_FORMATS),
    ".ets": ("a part of an Olympus VSI", _BIO_FORMATS),
    ".lif": ("Leica LIF", _BIO_FORMATS),
    ".lof": ("Leica LOF", _BIO_FORMATS),
    ".xlef": ("Leica XLEF", _BIO_FORMATS),
    ".zvi": ("Zeiss ZVI", _BIO_FORMATS),
    ".lsm": ("Zeiss LSM, of a confocal microscope", _BIO_FORMATS),
    ".nd2": ("Nikon ND2", _BIO_FORMATS),
    ".oib": ("Olympus OIB", _BIO_FORMATS),
    ".oif": ("Olympus OIF", _BIO_FORMATS),
    ".oir": ("Olympus OIR", _BIO_FORMATS),
    ".ims": ("Imaris", _BIO_FORMATS),
    ".afi": ("Aperio's index of fluorescence images", "give a brightfield scan"),
    ".jp2": ("JPEG 2000", _BIO_FORMATS),
    ".isyntax": ("Philips iSyntax", "export it as TIFF with Philips' software or libisyntax"),
    ".i2syntax": ("Philips iSyntax", "export it as TIFF with Philips' software or libisyntax"),
    ".kfb": ("KFBio", _VENDORS),
    ".sdpc": ("Sqray SDPC", _VENDORS),
    ".tmap": ("UNIC TMAP", _VENDORS),
    ".mds": ("Motic MDS", _VENDORS),
    ".mdsx": ("Motic MDSX", _VENDORS),
    ".tron": ("InteMedic TRON", _VENDORS),
}


def refuse_foreign(path: str, suffix: str) -> None:
    """InputError for a format that is known and not read, before a part of it passes for TIFF."""
    if suffix in FORMATS:
        whose, remedy = FORMATS[suffix]
        raise InputError(f"{path}: the format ({whose}) is not read; {remedy}")
