"""Pixels by m/z as AnnData [1]_, for scanpy and squidpy; written cell by cell.

.. [1] https://anndata.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale import __version__
from msiscale.errors import InputError
from msiscale.export.files import made
from msiscale.export.layers import named
from msiscale.export.optional import need
from msiscale.export.pixels import pixel_rows, rows_of
from msiscale.export.source import Opened, Source
from msiscale.grid import Block
from msiscale.store import array_of, has_group, join, open_group, read

Float32 = NDArray[np.float32]


def export_anndata(opened: Opened, out: str) -> Iterator[str]:
    """Write ``out/<specimen>.h5ad``; yields their URLs. See `pixel_table`.

    The m/z are the same in all, so that ``anndata.experimental.concat_on_disk`` makes one of them.
    Memory: spectra of 64 x 64 pixels, and a row of `obs` a pixel.

    Raises
    ------
    InputError
        anndata is not installed; a slide without MSI.
    """
    need("anndata", "export", "anndata")
    import dask

    for source in opened.sources:
        url = join(out, f"{source.name}.h5ad")
        table = pixel_table(opened, source)
        with made(url) as path, dask.config.set(scheduler="synchronous"):
            table.write_h5ad(path)
        yield url


def pixel_table(opened: Opened, source: Source) -> Any:
    """The measured pixels of a specimen as an AnnData whose X is read when it is written.

    Returns
    -------
    AnnData with

    X : Dask float32 (pixel, mz)
        Normalised intensities on the cohort's axis.
    obs
        As `msiscale.export.pixels.pixel_rows`; the index is ``<specimen>_<y>_<x>``.
    var
        ``mz``.
    obsm
        ``spatial`` and ``spatial_slide`` (x, y), pixel centres in µm, on the MSI grid and on the
        slide; ``X_pca``, scores by the PCA of ``model.zarr``, where there is one, with loadings in
        ``varm["PCs"]``. That PCA is of all specimens: for display, not for validation (scores out
        of fold are in ``predictions.zarr``, each fold with modes of its own).
    uns
        ``msiscale``: version, normalisation, polarity, pixel size, the map to the slide.
    """
    anndata = need("anndata", "export", "anndata")
    group, mask = source.measurements, rows_of(source)
    cells = [cell for cell in source.cells if mask[cell.slices].any()]
    if not cells:
        raise InputError(f"{source.name}: no pixel was measured; leave it out")
    counts = tuple(int(mask[cell.slices].sum()) for cell in cells)
    obs = pd.concat([pixel_rows(source, cell, mask) for cell in cells], ignore_index=True)
    places = zip(obs["y"], obs["x"], strict=True)
    obs.index = pd.Index([f"{source.name}_{y}_{x}" for y, x in places])
    intensity = array_of(group, "intensity")
    x = _lazy(cells, counts, len(source.mz), partial(_rows, intensity, mask))
    facts: dict[str, Any] = dict(group.attrs)
    said = {
        "version": __version__,
        "normalisation": str(intensity.attrs.get("normalisation", "")),
        "polarity": source.polarity or "",
        "pixel_um": np.array(source.pixel_um),
        "matrix": source.matrix,
        "encoder": str(facts.get("encoder", "")),
    }
    var = pd.DataFrame({"mz": source.mz}, index=pd.Index(named(source.mz)))
    table = anndata.AnnData(x, obs=obs, var=var, uns={"msiscale": said})
    table.obsm["spatial"] = obs[["x_um", "y_um"]].to_numpy(np.float64)
    table.obsm["spatial_slide"] = obs[["slide_x_um", "slide_y_um"]].to_numpy(np.float64)
    model = join(opened.url, "model.zarr")
    if has_group(model):
        fitted = open_group(model)
        mean, components = read(fitted, "pca_mean"), read(fitted, "pca_components")
        make = partial(_scores, intensity, mask, mean, components)
        table.obsm["X_pca"] = _lazy(cells, counts, len(components), make)
        table.varm["PCs"] = np.ascontiguousarray(components.T)
        ratio = read(fitted, "explained_variance_ratio")
        table.uns["pca"] = {"variance_ratio": ratio.astype(np.float64)}
    return table


def _rows(intensity: Any, mask: NDArray[np.bool_], cell: Block) -> Float32:
    return np.asarray(intensity[cell.slices], np.float32)[mask[cell.slices]]


def _scores(
    intensity: Any, mask: NDArray[np.bool_], mean: Float32, components: Float32, cell: Block
) -> Float32:
    # an m/z that the model leaves out has mean 0 and loadings 0
    return ((_rows(intensity, mask, cell) - mean) @ components.T).astype(np.float32)


def _lazy(cells: list[Block], counts: tuple[int, ...], columns: int, make: Any) -> Any:
    """A Dask array (pixel, column), one chunk a cell."""
    import dask.array as da

    def block(block_info: Any = None) -> Float32:
        return make(cells[block_info[None]["chunk-location"][0]])

    return da.map_blocks(
        block,
        chunks=(counts, (columns,)),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
