"""Pixels by m/z as AnnData [1]_, for scanpy and squidpy; written cell by cell.

.. [1] https://anndata.readthedocs.io
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale import __version__
from msiscale.errors import InputError
from msiscale.export.files import made
from msiscale.export.layers import named
from msiscale.export.pixels import pixel_rows
from msiscale.export.source import ExportSpecimen, Opened
from msiscale.grid import Block
from msiscale.store import has_group, join, open_group, read

Float32 = NDArray[np.float32]


def export_anndata(opened: Opened, out: str) -> Iterator[str]:
    """Write ``out/<specimen>.h5ad`` (`pixel_table`); yields their URLs."""
    # the m/z are the same in all, so that ``anndata.experimental.concat_on_disk`` makes one of
    # them; in memory: spectra of 64 x 64 pixels, and a row of `obs` a pixel
    need("anndata", "export", "anndata")
    import dask

    for source in opened.sources:
        url = join(out, f"{source.name}.h5ad")
        table = pixel_table(opened, source)
        with made(url) as path, dask.config.set(scheduler="synchronous"):
            table.write_h5ad(path)
        yield url


def need(library: str, extra: str, format: str) -> Any:
    """Import a library that only one format needs, or say in one line how to get it."""
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.partition(".")[0]:
            raise
        raise InputError(
            f"--format {format} needs {library}: pip install 'msiscale[{extra}]', in an "
            "environment of its own (docs/formats)"
        ) from None


def pixel_table(opened: Opened, source: ExportSpecimen) -> Any:
    """The measured pixels of a specimen as an AnnData whose X is read when it is written.

    Parameters
    ----------
    opened, source
        The run, and one of its specimens.

    Returns
    -------
    anndata.AnnData
        ``X``: Dask float32 (pixel, mz), normalised intensities on the cohort's axis. ``obs``: as
        `msiscale.export.pixels.pixel_rows`, index ``<specimen>_<y>_<x>``. ``var``: ``mz``.
        ``obsm``: ``spatial`` and ``spatial_slide`` (x, y), pixel centres in µm on the MSI grid and
        on the slide; ``X_pca``, scores by the PCA of ``model.zarr``, where there is one, with
        loadings in ``varm["PCs"]``. That PCA is of all specimens: for display, not for validation
        (scores out of fold are in ``predictions.zarr``, each fold with modes of its own).
        ``uns["msiscale"]``: version, normalisation, polarity, pixel size, the map to the slide.

    Raises
    ------
    InputError
        anndata is not installed, the slide has no MSI, or no pixel was measured.
    """
    anndata = need("anndata", "export", "anndata")
    stored, mask = source.measurements, source.rows
    cells = [cell for cell in source.cells if mask[cell.slices].any()]
    if not cells:
        raise InputError(f"{source.name}: no pixel was measured; leave it out")
    counts = tuple(int(mask[cell.slices].sum()) for cell in cells)
    obs = pd.concat([pixel_rows(source, cell, mask) for cell in cells], ignore_index=True)
    places = zip(obs["y"], obs["x"], strict=True)
    obs.index = pd.Index([f"{source.name}_{y}_{x}" for y, x in places])
    intensity = stored.intensity
    x = _lazy(cells, counts, len(source.mz), partial(_rows, intensity, mask))
    said = {
        "version": __version__,
        "normalisation": str(intensity.attrs.get("normalisation", "")),
        "polarity": source.polarity or "",
        "pixel_um": np.array(source.pixel_um),
        "matrix": source.matrix,
        "encoder": str(stored.facts.get("encoder", "")),
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

    def block(block_info: Any = None) -> Any:
        return make(cells[block_info[None]["chunk-location"][0]])

    return da.map_blocks(
        block,
        chunks=(counts, (columns,)),
        dtype=np.float32,
        meta=np.empty((0, 0), np.float32),
    )
