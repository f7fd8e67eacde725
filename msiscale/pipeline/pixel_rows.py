"""Usable pixels of a specimen as rows, cell by cell: what every fit reads.

Sums run over cells of 64 x 64 MSI pixels in raster order whatever the shards on disk, so a result
does not depend, not even in its last bit, on how the work was cut or on who did it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError, SpecimenError
from msiscale.grid import Block, blocks
from msiscale.models import FourierMap
from msiscale.models import RowBlock as Rows
from msiscale.models.cache import Cached
from msiscale.models.corrections import Correction, load_correction
from msiscale.pipeline.elsewhere import HERE, Elsewhere
from msiscale.store import LostChunk, array_of, open_group, read

CELL = 64

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PixelRows:
    """The usable pixels of one specimen: measured, on tissue, under the slide.

    Attributes
    ----------
    url : ``cohort.zarr/<specimen>``
    stamp : digest of the data, so that rows kept in memory are not taken for newer ones
    mask : (y, x) bool
    features_from, labels_from : where a pixel's features and annotation are taken from, for
        questions such as what a misplaced slide would do
    fourier : makes the Fourier features that linear maps are fitted on beside those of the slide
    correction : URL of what the intensities are corrected by as they are read; "" for nothing
    """

    url: str
    stamp: str
    mask: Mask
    features_from: Elsewhere = HERE
    labels_from: Elsewhere = HERE
    fourier: FourierMap | None = None
    correction: str = ""

    @classmethod
    def open(cls, url: str, stamp: str, *, min_coverage: float) -> PixelRows:
        """Read the small maps."""
        with sound(*url.rsplit("/", 1)):
            group = open_group(url)
            measured = np.isfinite(read(group, "norm"))
            covered = np.nan_to_num(read(group, "coverage")) >= min_coverage
            return cls(url, stamp, read(group, "tissue").astype(bool) & measured & covered)

    @classmethod
    def background(cls, url: str) -> PixelRows:
        """The measured pixels off the tissue, for the baseline of what a tissue mask explains."""
        group = open_group(url)
        measured = np.isfinite(read(group, "norm"))
        return cls(url, "", measured & ~read(group, "tissue").astype(bool))

    def need_any(self, name: str) -> None:
        """Raise `InputError` for a specimen without a usable pixel."""
        if not self.mask.any():
            raise InputError(
                f"specimen {name}: no MSI pixel is at once measured, on tissue and under the slide;"
                " check its registration"
            )

    @property
    def cells(self) -> list[Block]:
        """Cells that hold a usable pixel, in raster order."""
        shape = (self.mask.shape[0], self.mask.shape[1])
        return [b for b in blocks(shape, (CELL, CELL)) if self.mask[b.slices].any()]

    def every_second(self) -> PixelRows:
        """Those of every second row and column."""
        kept = np.zeros_like(self.mask)
        kept[::2, ::2] = self.mask[::2, ::2]
        return replace(self, stamp=f"{self.stamp}/every second", mask=kept)

    def moved(self, *, features: Elsewhere = HERE, labels: Elsewhere = HERE) -> PixelRows:
        """The same pixels, those whose features still come from usable ones."""
        mask = self.mask & features.all_of(self.mask)
        stamp = f"{self.stamp}/{features}/{labels}"
        return replace(self, stamp=stamp, mask=mask, features_from=features, labels_from=labels)

    def corrected(self, url: str) -> PixelRows:
        """The same pixels, their intensities corrected by what is stored at `url`."""
        return replace(self, stamp=f"{self.stamp}/{url}", correction=url)

    def rows(self, name: str, cell: Block) -> Float32:
        """``(n, columns)`` float32 of the usable pixels of a cell."""
        rows = read_rows(self.url, name, cell, self.mask[cell.slices], self._from(name))
        return _corrected(rows, self._by(name))

    def _by(self, name: str) -> str:
        return self.correction if name == "intensity" else ""

    def slide_rows(self, cell: Block) -> Float32:
        """``(n, channels + colours)`` float32: what of the slide the linear maps are fitted on."""
        features = self.rows("features", cell)
        seen = features if self.fourier is None else self.fourier.beside(features)
        return np.concatenate([seen, self.rows("colour", cell)], axis=1)

    def lazy_rows(self, name: str) -> Any:
        """Dask array ``(n, columns)`` float32 of all usable pixels, a chunk a cell."""
        import dask.array as da
        from dask.delayed import delayed

        width = array_of(open_group(self.url), name).shape[2]
        chunks = [
            da.from_delayed(
                delayed(self.rows, pure=False)(name, cell),
                (int(self.mask[cell.slices].sum()), width),
                np.float32,
            )
            for cell in self.cells
        ]
        return da.concatenate(chunks)

    def _from(self, name: str) -> Elsewhere:
        return self.features_from if name in ("features", "colour") else HERE

    def cancer(self) -> Float32:
        """(y, x) float32, the annotated fraction; NaN where it says nothing or is not used."""
        fraction = self.labels_from.rolled(read(open_group(self.url), "cancer"))
        return np.where(self.mask, fraction, np.nan).astype(np.float32)

    def labelled(
        self, name: str, group: str, room: int | None = None, *, hard: bool = False
    ) -> list[Rows]:
        """Blocks for the classifiers: rows of `name` where the annotation says something."""
        # `hard`: a fraction of 0.5 or more counts as 1, and a smaller one as 0
        # a process keeps `room` bytes of them, or as much as `models.cache` says
        fraction = self.cancer()
        if hard:
            fraction = np.where(np.isfinite(fraction), fraction >= 0.5, np.nan)
        owner = (self.url.rsplit("/", 1)[0], name)
        found = []
        for cell in self.cells:
            known = np.isfinite(fraction[cell.slices])
            if known.any():
                y = fraction[cell.slices][known].astype(np.float64)
                what = (self.url, name, cell, known, y, self._from(name), self._by(name))
                make = partial(_labelled, *what)
                rows = Cached((owner, (self.url, self.stamp, hard, cell)), make, room)
                found.append(Rows(group, rows, len(y)))
        return found

    def spread(self, cell: Block, rows: np.ndarray, out: np.ndarray) -> None:
        """Put the rows of a cell back into ``out[y, x]``.

        Parameters
        ----------
        cell
            Pixels (y, x) of the specimen.
        rows
            (n,) or (n, columns), of the cell's usable pixels.
        out
            (y, x) or (y, x, columns) of the whole specimen, changed in place.
        """
        out[cell.slices][self.mask[cell.slices]] = rows


def read_rows(url: str, name: str, cell: Block, mask: Mask, where: Elsewhere = HERE) -> Float32:
    """Read ``array[cell][mask]``, taken from elsewhere if so asked.

    Parameters
    ----------
    url
        ``cohort.zarr/<specimen>``.
    name
        Of the array (y, x, columns).
    cell
        Pixels (y, x) of the specimen.
    mask
        (h, w) bool, usable pixels of the cell.
    where
        Where a pixel's values are taken from.

    Returns
    -------
    numpy.ndarray
        (n, columns) float32, in raster order.

    Raises
    ------
    SpecimenError
        Data are lost or altered, or a usable pixel has a value that is not finite.
    ValueError
        The latter, raised inside `sound`, which hands it on as a `SpecimenError`.
    """
    root, specimen = url.rsplit("/", 1)
    with sound(root, specimen):
        array = array_of(open_group(url), name)
        rows = where.take(array, cell)[mask]
        if not np.isfinite(rows).all():
            raise ValueError(f"{url}/{name}: usable pixels without values")
    return rows


@contextmanager
def sound(root: str, specimen: str) -> Iterator[None]:
    """Make lost or altered data of a specimen below `root` (a ``.zarr``) its failure alone."""
    try:
        yield
    except InputError:
        raise
    except (LostChunk, KeyError, RuntimeError, ValueError) as error:
        out = root.rpartition("/")[0]
        why = " ".join(str(error).split())
        raise SpecimenError(
            f"{root}/{specimen}: stored data are lost or altered ({why}); find and drop what is "
            f"damaged by msiscale verify {out} --redo, then run again",
            specimen,
        ) from None


def _labelled(
    url: str,
    name: str,
    cell: Block,
    mask: Mask,
    y: NDArray[np.float64],
    where: Elsewhere,
    correction: str,
) -> tuple[Float32, NDArray[np.float64], None]:
    """Rows and labels of a cell."""
    return _corrected(read_rows(url, name, cell, mask, where), correction), y, None


def _corrected(rows: Float32, correction: str) -> Float32:
    return _correction(correction).apply(rows) if correction else rows


@lru_cache(maxsize=64)  # a specimen's is wanted for each of its cells; its URL is of one fit
def _correction(url: str) -> Correction:
    return load_correction(url)
