"""Mass-spectrometry images: readers, the cohort's m/z axis, the data cube."""

from __future__ import annotations

from msiscale.msi.axis import find_axis, supported
from msiscale.msi.cube import bin_spectra, cube_block, layout
from msiscale.msi.dataset import open_msi
from msiscale.msi.fixed_axis import fixed_axis
from msiscale.msi.layouts import companions, open_source
from msiscale.msi.normalisation import inverse_transform, normalisation
from msiscale.msi.peaks import PeakSums, peak_sums
from msiscale.msi.rows import image_of
from msiscale.msi.source import MsiSource
from msiscale.msi.sparse import write_sparse
from msiscale.msi.spectra import Spectra
from msiscale.msi.write import write_hdf5

__all__ = [
    "MsiSource",
    "PeakSums",
    "Spectra",
    "bin_spectra",
    "companions",
    "cube_block",
    "find_axis",
    "fixed_axis",
    "image_of",
    "inverse_transform",
    "layout",
    "normalisation",
    "open_msi",
    "open_source",
    "peak_sums",
    "supported",
    "write_hdf5",
    "write_sparse",
]
