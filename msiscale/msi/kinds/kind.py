"""What a layout in HDF5 or Zarr is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.tree import Tree


@dataclass(frozen=True)
class Kind:
    """A layout of arrays in a file, told by their names.

    Attributes
    ----------
    name : who writes it, for the documentation
    holds : its keys, for the documentation
    keys : what must be there
    open : the source in an open file
    says_profile : whether it says itself if it holds profile spectra
    """

    name: str
    holds: str
    keys: tuple[str, ...]
    open: Callable[[Tree], Hdf5Source]
    says_profile: bool = False
