"""The cohort as one SpatialData store [1]_: a coordinate system a specimen, in µm of its slide.

.. [1] L. Marconato et al., "SpatialData: an open and universal data framework for spatial omics",
   Nat. Methods 22 (2025) 58-62; https://spatialdata.scverse.org
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from msiscale.cohort import Specimen, read_manifest
from msiscale.errors import InputError
from msiscale.export.anndata import need, pixel_table
from msiscale.export.layers import Layer, ions, maps, predicted_ions
from msiscale.export.source import ExportSpecimen, Opened, region_files, wanted_mz
from msiscale.grid import Block, Floats, scaling
from msiscale.slide.annotations import read_annotation
from msiscale.slide.outlines import Outline
from msiscale.slide.reader import open_reader
from msiscale.store import Ledger, exists, is_url, local_path, open_group, split_scene

ANYWHERE = (1 << 31, 1 << 31)  # of a slide's shape: what was predicted lies on it
TILE = 512  # MSI pixels on a side of a chunk of an image


def export_spatialdata(opened: Opened, out: str, *, mz: list[float] | None = None) -> Iterator[str]:
    """Write the store `out` (``….zarr``), and yield it.

    For each specimen ``S`` a coordinate system ``S`` (µm from the slide's top left corner) with

    images
        ``S_he`` (the H&E on the MSI grid), ``S_cancer`` (annotated fraction and predicted
        probabilities), ``S_ions`` and ``S_predicted_ions`` (of `mz`, default the strongest)
    labels
        ``S_pixels``: the MSI pixels, numbered from 1
    shapes
        ``S_annotation``, where the manifest and its files are still there, and ``S_regions``
        (predicted cancer)
    tables
        ``S_spectra``: see `pixel_table`; annotates ``S_pixels``

    Memory: spectra of 64 x 64 pixels, one map of a specimen, a row of `obs` a pixel.

    Parameters
    ----------
    opened, out, mz
        The run, a local folder that ends in ``.zarr``, and the m/z of the ion images.

    Yields
    ------
    str
        `out`.
    """
    sd = need("spatialdata", "spatialdata", "spatialdata")
    import dask

    _check_target(out)
    wanted = wanted_mz(opened, mz)
    annotations, regions = _annotations(opened), region_files(opened)
    elements: dict[str, Any] = {}
    for source in opened.sources:
        elements |= _images(sd, source, wanted)
        elements |= _table(sd, opened, source)
        shapes = {"annotation": _annotated(source, annotations.get(source.name))}
        if source.name in regions:
            shapes["regions"] = read_annotation(regions[source.name], ANYWHERE)
        for kind, found in shapes.items():
            if found:
                elements[f"{source.name}_{kind}"] = _shapes(sd, source, found)
    data = sd.SpatialData.init_from_elements(elements)
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "zarr v3 autosharding", UserWarning)  # one a column
        data.write(local_path(out), overwrite=exists(out))
    yield out


def _check_target(out: str) -> None:
    if is_url(out) or not out.rstrip("/").endswith(".zarr"):
        raise InputError(f"{out}: spatialdata writes a local folder; name it SOMETHING.zarr")
    if exists(out) and "spatialdata_attrs" not in open_group(out, whole=False).attrs:
        raise InputError(f"{out}: there is something else there; give another --out")


def _affine(sd: Any, source: ExportSpecimen, matrix: Floats) -> dict[str, Any]:
    transform = sd.transformations.Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))
    return {source.name: transform}


def _images(sd: Any, source: ExportSpecimen, mz: list[float]) -> dict[str, Any]:
    import dask.array as da

    placed = _affine(sd, source, source.corner_to_um)
    found = {}
    for layer in (maps(source), ions(source, mz), predicted_ions(source, mz)):
        if layer is not None:
            found[f"{source.name}_{layer.name}"] = sd.models.Image2DModel.parse(
                _lazy(source, layer),
                dims=("c", "y", "x"),
                c_coords=list(layer.channels),
                transformations=placed,
            )
    preview = source.measurements.array("preview")
    fine = [n / m for n, m in zip(preview.shape, source.shape, strict=False)]
    found[f"{source.name}_he"] = sd.models.Image2DModel.parse(
        da.from_array(preview, name=False).transpose(2, 0, 1),
        dims=("c", "y", "x"),
        c_coords=["r", "g", "b"],
        transformations=_affine(
            sd, source, source.corner_to_um @ scaling(1 / fine[1], 1 / fine[0])
        ),
    )
    ny, nx = source.shape
    number = np.where(source.rows, np.arange(1, ny * nx + 1).reshape(ny, nx), 0)
    found[f"{source.name}_pixels"] = sd.models.Labels2DModel.parse(
        number.astype(np.uint32), dims=("y", "x"), transformations=placed
    )
    return found


def _lazy(source: ExportSpecimen, layer: Layer) -> Any:
    """A Dask array (channel, y, x)."""
    import dask.array as da

    n = len(layer.channels)

    def block(block_info: Any = None) -> Any:
        _, (y0, y1), (x0, x1) = block_info[None]["array-location"]
        return layer.read(Block(y0, y1, x0, x1)).transpose(2, 0, 1)

    size = (n, *source.shape)
    chunks = da.core.normalize_chunks((n, TILE, TILE), size, dtype=np.float32)
    return da.map_blocks(
        block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )


def _table(sd: Any, opened: Opened, source: ExportSpecimen) -> dict[str, Any]:
    table, region = pixel_table(opened, source), f"{source.name}_pixels"
    y, x = (table.obs[name].to_numpy(np.int64) for name in ("y", "x"))
    table.obs["instance_id"] = (1 + y * source.shape[1] + x).astype(np.uint32)
    table.obs["region"] = pd.Categorical([region] * len(table))
    parsed = sd.models.TableModel.parse(
        table, region=region, region_key="region", instance_key="instance_id"
    )
    return {f"{source.name}_spectra": parsed}


def _annotations(opened: Opened) -> dict[str, Specimen]:
    """Those with an annotation, of the manifest of the run where it can still be read."""
    manifest = str((Ledger(opened.url).plan() or {}).get("manifest", ""))
    if not manifest or not exists(manifest):
        return {}
    return {s.name: s for s in read_manifest(manifest) if s.annotation}


def _annotated(source: ExportSpecimen, specimen: Specimen | None) -> list[Outline]:
    """None of it where the annotation, or the slide that it is checked against, has moved."""
    path = None if specimen is None else specimen.annotation
    slide_there = exists(split_scene(source.slide)[0])
    if specimen is None or path is None or not exists(path) or not slide_there:
        return []
    slide = open_reader(source.slide, mpp=source.mpp[0])
    said = specimen.annotation_origin
    return read_annotation(path, slide.shape, offset=said, slide=slide)


def _shapes(sd: Any, source: ExportSpecimen, regions: list[Outline]) -> Any:
    geopandas = need("geopandas", "spatialdata", "spatialdata")
    frame = geopandas.GeoDataFrame(
        {"name": [r.name or "" for r in regions]}, geometry=[r.polygon for r in regions]
    )
    to_um = source.mpp.scaling
    return sd.models.ShapesModel.parse(frame, transformations=_affine(sd, source, to_um))
