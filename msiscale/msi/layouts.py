"""The layouts in which images are read, and what opens a file of any of them.

To add one, write a module of `msiscale.msi.kinds` and a row of `LAYOUTS`; or, for one in HDF5 or
Zarr, a row of `msiscale.msi.trees.KINDS`. A package of one's own adds one by an entry point of
`GROUP`: a function of a path and what is asked, which gives a source, or None for other files.
``python -m msiscale.msi.layouts_table`` writes the table of them into docs/inputs.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points

import numpy as np

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi.asked import NOTHING, Asked
from msiscale.msi.imzml import beside_imzml, is_imzml, open_imzml
from msiscale.msi.kinds.csv_table import is_csv, open_csv
from msiscale.msi.kinds.parquet import is_parquet, open_parquet
from msiscale.msi.kinds.vendor import is_vendor, refuse_vendor
from msiscale.msi.pixel_size import worded
from msiscale.msi.source import MsiSource, refuse_packed
from msiscale.msi.trees import is_hdf5, open_hdf5, open_zarr
from msiscale.msi.zarr_tree import is_zarr
from msiscale.store import open_file

#: Of the entry points that add layouts.
GROUP = "msiscale.msi_layouts"

Own = Callable[[str, Asked], MsiSource | None]


@dataclass(frozen=True)
class Layout:
    """How images of one kind are told, opened, and kept together.

    Attributes
    ----------
    tells : whether a path is of this layout; the second argument gives the file's first 512 bytes
    open : the source at a path; the second argument is what the user asks of it
    beside : the other files of the image at a path, () of a path that is of no such image
    name, holds : who writes it and what is in it, for the documentation; "" for none
    """

    tells: Callable[[str, Callable[[], bytes]], bool]
    open: Callable[[str, Asked], MsiSource]
    beside: Callable[[str], tuple[str, ...]] = lambda path: ()
    name: str = ""
    holds: str = ""


MOST_METRES = 0.5  #: of an image

#: Most telling first; those that are told by the path alone (folders) before those by the bytes.
_TABLE = "columns `x`, `y`, and one for each m/z, named by it; one row for each pixel"
LAYOUTS = (
    Layout(is_vendor, refuse_vendor),
    Layout(is_zarr, open_zarr),
    Layout(is_csv, open_csv, name="CSV (.csv, .tsv, .txt)", holds=_TABLE),
    Layout(is_hdf5, open_hdf5),
    Layout(is_parquet, open_parquet, name="Parquet", holds=_TABLE),
    Layout(is_imzml, open_imzml, beside_imzml, "imzML", "`.imzML` with its `.ibd` beside it"),
)


@cache
def own_layouts() -> tuple[tuple[str, Own], ...]:
    """The layouts that installed packages add, by name; InputError where one cannot be loaded."""
    found = []
    for entry in sorted(entry_points(group=GROUP)):
        try:
            found.append((entry.name, entry.load()))
        except Exception as error:
            raise InputError(
                f"{entry.value}: the MSI layout {entry.name} cannot be loaded ({error}); "
                "mend or uninstall its package"
            ) from None
    return tuple(found)


def open_source(
    path: str, *, pixel_um: float | Sequence[float] | None = None, asked: Asked = NOTHING
) -> MsiSource:
    """Open a mass-spectrometry image of any layout; only its metadata is read.

    Parameters
    ----------
    path
        local path or URL of the image, an .imzML (in any letter case) or of another layout
    pixel_um
        side of a pixel in µm, or its (y, x); overrides what the file says and what is `asked`
    asked
        all that is asked beyond the file: the spectra of a polarity or MS level, and so on

    Returns
    -------
    The source, whose spectra are read on request.

    Raises
    ------
    InputError
        no such file, of no known kind, or damaged
    """
    path = str(path)
    if pixel_um is not None:
        try:
            size = PixelSize.of(pixel_um)
        except (TypeError, ValueError):
            size = PixelSize(np.nan, np.nan)
        if not all(np.isfinite(side) and side > 0 for side in size):
            raise InputError(f"{path}: pixel_um is {pixel_um}; give the pixel size in µm, above 0")
        asked = replace(asked, pixel_um=size)
    for _, read in own_layouts():
        own = read(path, asked)
        if own is not None:
            return own
    head = cache(lambda: _head(path))  # one request, and none where the path tells the layout
    for layout in LAYOUTS:
        if layout.tells(path, head):
            source = layout.open(path, asked)
            _check_extent(source)
            return source
    if head().startswith(b"PK"):
        raise InputError(f"{path}: is a zip archive; unpack it and give what is in it")
    raise InputError(
        f"{path}: neither imzML nor HDF5, Zarr, CSV or Parquet; give the .imzML or the .h5 of the "
        "image"
    )


def _check_extent(source: MsiSource) -> None:
    """No image is half a metre wide, whoever says so."""
    if source.pixel_um is None:
        return
    height, width = (n * um * 1e-6 for n, um in zip(source.shape, source.pixel_um, strict=True))
    if max(height, width) > MOST_METRES:
        raise InputError(
            f"{source.path}: {source.shape[1]} x {source.shape[0]} pixels of "
            f"{worded(source.pixel_um)} are {width:.3g} x {height:.3g} m; give the right "
            "size in the manifest column pixel_um, for example 50"
        )


def _head(path: str) -> bytes:
    try:
        with open_file(path) as file:
            head = file.read(512)
    except IsADirectoryError:
        raise InputError(
            f"{path}: cannot be read: a folder that is neither Zarr nor raw data of a known kind; "
            "give the file of the image in it"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); check the path") from None
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is a Git LFS pointer, not data; run `git lfs pull`")
    refuse_packed(path, head)
    return head


def companions(path: str) -> tuple[str, ...]:
    """The other files of an image: the .ibd of an imzML. Raises InputError where it is missing."""
    return tuple(other for layout in LAYOUTS for other in layout.beside(path))
