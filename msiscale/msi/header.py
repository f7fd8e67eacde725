"""The XML half of an imzML: its header through pyimzML, its spectra through `SpectrumList`."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pyimzml.metadata import XMLNS_PREFIX, Metadata

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi.spectra import Ints
from msiscale.msi.spectrum_list import ArrayFormat, SpectrumList, xml_error
from msiscale.store import open_file

_UNIT_UM = {"UO:0000017": 1.0, "UO:0000018": 1e-3, "UO:0000016": 1e3, "UO:0000015": 1e4}

# Words in the names of an instrument and its components; an ion trap beside one does not count.
ANALYSERS = {
    "orbitrap": re.compile(r"orbitrap|exactive|exploris", re.IGNORECASE),
    "ft-icr": re.compile(r"\bft\b|cyclotron|icr\b|solarix|scimax|apex", re.IGNORECASE),
    "tof": re.compile(r"tof\b|time-of-flight|flex\b|synapt", re.IGNORECASE),
}


@dataclass
class ImzmlHeader:
    """Everything that the .imzML says; nothing here was checked against the .ibd.

    ``xyz`` is (n, 3) int64 as written, z is 1 where it is missing. ``terms`` are the accessions
    of the file content, of all parameter groups and of the first spectrum.
    """

    xyz: Ints
    mz: ArrayFormat
    intensity: ArrayFormat
    uuid: str | None
    terms: set[str]
    pixel_um: PixelSize | None
    analyser: str | None  #: one of `ANALYSERS`, where exactly one is named
    declared: tuple[int | None, int | None]  #: (y, x) count of pixels
    declared_spectra: int | None
    notes: list[str] = field(default_factory=list)
    size_notes: list[str] = field(default_factory=list)  #: of the pixel size


def read_header(path: str) -> ImzmlHeader:
    """Read the .imzML at `path` (local or URL). Raises InputError, one line."""
    with open_file(path) as file:
        metadata, notes, count = _metadata(path, file)
        file.seek(0)
        spectra = SpectrumList(path, metadata)
        spectra.parse(file)
    if not spectra.xyz:
        raise InputError(f"{path}: has no spectra; export the image again")
    if spectra.scientific:
        notes.append("integers in scientific notation (written by R) were read as integers")
    if spectra.other_arrays:
        notes.append("arrays other than m/z and intensity (ion mobility, ...) are not read")
    size_notes: list[str] = []
    pixel_um = _pixel_um(metadata, size_notes)
    content = metadata.file_description.param_by_accession
    uuid = content.get("IMS:1000080")
    groups = metadata.referenceable_param_groups.values()
    terms = spectra.first_terms.union(content, *(group.param_by_accession for group in groups))
    y, x = (_scan_setting(metadata, f"IMS:{number}") for number in (1000043, 1000042))
    return ImzmlHeader(
        xyz=np.frombuffer(spectra.xyz, np.int64).reshape(-1, 3),
        mz=spectra.arrays("m/z"),
        intensity=spectra.arrays("intensity"),
        uuid=str(uuid) if uuid else None,
        terms=terms,
        pixel_um=pixel_um,
        analyser=_analyser(metadata),
        declared=(y, x),
        declared_spectra=count,
        notes=notes,
        size_notes=size_notes,
    )


def _metadata(path: str, file: IO[bytes]) -> tuple[Metadata, list[str], int | None]:
    """pyimzML's reading of everything before the spectrum list; document types are refused."""
    root, count = None, None
    try:
        for _, element in ElementTree.iterparse(file, events=("start",), forbid_dtd=True):
            root = element if root is None else root
            if element.tag.rpartition("}")[2] == "spectrumList":
                count = element.get("count")
                break
    except DefusedXmlException:
        raise InputError(
            f"{path}: the XML declares a document type or entities, which imzML never needs; "
            "remove the declaration"
        ) from None
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # also of its encoding
        raise xml_error(path, error) from None
    if root is None or root.tag.rpartition("}")[2] not in ("mzML", "indexedmzML"):
        raise InputError(f"{path}: is not imzML; give the .imzML of the image")
    for element in root.iter():  # some writers leave the namespace out; pyimzML needs it
        element.tag = XMLNS_PREFIX + element.tag.rpartition("}")[2]
    root = root.find(f"{XMLNS_PREFIX}mzML") if root.tag.endswith("indexedmzML") else root
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            metadata = Metadata(root)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise InputError(
                f"{path}: the imzML header is incomplete (fileDescription, "
                "referenceableParamGroupList); export the image again"
            ) from None
    for text in sorted({str(warning.message) for warning in caught}):
        # Other spellings of a scan setting's name, or none at all, mean nothing.
        if "IMS:" not in text and 'name ""' not in text:
            notes.append(f"header: {text}")
    return metadata, notes, int(count) if count and count.isdigit() else None


def _analyser(metadata: Metadata) -> str | None:
    """The mass analyser that the instrument configurations name, None where not exactly one."""
    parts = [p for c in metadata.instrument_configurations.values() for p in (c, *c.components)]
    names = " | ".join(f"{name} {value}" for p in parts for name, value in p.param_by_name.items())
    found = [kind for kind, words in ANALYSERS.items() if words.search(names)]
    return found[0] if len(found) == 1 else None


def _scan_setting(metadata: Metadata, accession: str) -> int | None:
    for settings in metadata.scan_settings.values():
        try:
            return int(float(settings.param_by_accession[accession]))
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _pixel_um(metadata: Metadata, notes: list[str]) -> PixelSize | None:
    """Pixel size from the first scan settings that state one."""
    found = []
    for settings in metadata.scan_settings.values():
        size: dict[str, float] = {}
        for name, accession, _, _, raw, _, unit in settings.cv_params:
            if accession not in ("IMS:1000046", "IMS:1000047"):
                continue
            try:
                value = float(raw)
            except (TypeError, ValueError):
                notes.append(f"{name} is {raw!r}, which is not a number; ignored")
                continue
            if unit is None and value == 1:
                # R packages write 1 without a unit when they know no size.
                notes.append("pixel size 1 without a unit is taken as unknown; give pixel_um")
                continue
            if unit is None:
                notes.append(f"pixel size {value:g} has no unit; taken as µm")
            elif unit not in _UNIT_UM:
                notes.append(f"pixel size has the unit {unit}; ignored, give pixel_um")
                continue
            elif _UNIT_UM[unit] != 1:
                notes.append(f"pixel size {value:g} ({unit}) converted to µm")
            value *= _UNIT_UM.get(unit, 1.0)
            if np.isfinite(value) and value > 0:
                size[accession] = value
            else:
                notes.append(f"pixel size {value:g} is not a size; ignored")
        if size:
            x = size.get("IMS:1000046", size.get("IMS:1000047", 0.0))
            found.append((size.get("IMS:1000047", x), x))
    notes[:] = list(dict.fromkeys(notes))
    if len(set(found)) > 1:
        notes.append(f"scan settings disagree on the pixel size; the first, {found[0]}, is used")
    return PixelSize(*found[0]) if found else None
