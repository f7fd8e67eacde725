"""The MSI file of a specimen, opened as the manifest and the options ask."""

from __future__ import annotations

from msiscale import msi
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.msi.asked import Asked
from msiscale.msi.peaks import binned
from msiscale.msi.source import MsiSource


def asked_of(specimen: Specimen, config: RunConfig) -> Asked:
    """How a specimen's MSI is to be read; a row of the manifest goes before an option."""
    return Asked(
        pixel_um=specimen.pixel_um,
        polarity=specimen.polarity or config.polarity,
        ms_level=specimen.ms_level,
        duplicates=config.duplicates,
        trust_ibd=specimen.trust_ibd,
    )


def opened(specimen: Specimen, config: RunConfig) -> MsiSource:
    """The image, of which metadata and three spectra are read. Raises InputError, one line."""
    source = msi.open_source(specimen.msi, asked=asked_of(specimen, config))
    if binned(source):
        source.profile = True
        source.notes.append("said to be centroids, but the bins are even and full; read as profile")
    return source
