"""SpatialData in Zarr, as Thyra and msiscale write it: a table that is an AnnData."""

from __future__ import annotations

import json

import numpy as np

from msiscale.errors import InputError
from msiscale.msi.hdf5_source import Hdf5Source
from msiscale.msi.kinds import anndata, metaspace, uns_msi
from msiscale.msi.kinds.kind import Kind
from msiscale.msi.tree import Tree
from msiscale.msi.zarr_tree import opened_zarr

#: Columns of `var` that mark a table as another view of the same spectra, which Thyra adds.
_VIEWS = ("mobility", "precursor_mz")
_TABLES = (uns_msi.KIND, metaspace.KIND, anndata.KIND)


def _open(tree: Tree) -> Hdf5Source:
    group = "tables" if "tables" in tree else "table"
    names = sorted(tree.names(group))
    views = [n for n in names if any(f"{group}/{n}/var/{column}" in tree for column in _VIEWS)]
    tables = [n for n in names if n not in views]
    if not tables:
        raise InputError(
            f"{tree.path}: has no table of m/z among its {group} ({', '.join(names) or 'none'}); "
            "convert the image again"
        )
    if len(tables) > 1:
        raise InputError(
            f"{tree.path}: holds {len(tables)} tables ({_listed(tables)}); name one, as in "
            f"{tree.path.rstrip('/')}/{group}/{tables[0]}"
        )
    with opened_zarr(tree.path, f"{group}/{tables[0]}") as table:
        _one_region(table, tables[0])
        kind = next(k for k in _TABLES if all(key in table for key in k.keys) or k.open is _LAST)
        source = kind.open(table)
        if views:
            source.notes.append(f"table {tables[0]} is read, its views {_listed(views)} are not")
        _regions(table, source)
    size = [tree.attr("", f"pixel_size_{axis}_um") for axis in "yx"]
    believed = not any("is not believed" in note for note in source.notes)
    if source.pixel_um is None and None not in size and believed:
        anndata.set_size(source, size, "pixel_size_x_um of the store")
    return source


_LAST = anndata.KIND.open  # which says what is missing


def _one_region(table: Tree, name: str) -> None:
    """Refuse a table of several elements, whose pixels may lie on one another."""
    key = table.value("uns/spatialdata_attrs/region_key")
    if key is None or f"obs/{key}" not in table:
        return
    regions = [str(region) for region in np.unique(table.column(f"obs/{key}"))]
    if len(regions) > 1:
        raise InputError(
            f"{table.path}: table {name} is of {len(regions)} regions ({_listed(regions)}, in "
            f"obs/{key}); write a table, or a store, of each"
        )


def _regions(table: Tree, source: Hdf5Source) -> None:
    """Say which regions of one acquisition are read as one image."""
    try:
        found = json.loads(table.value("uns/regions") or "[]")
        names = [str(region.get("name", region["region_number"])) for region in found]
    except (ValueError, TypeError, KeyError, AttributeError):
        names = []
    if len(names) > 1:
        source.notes.append(f"{len(names)} regions ({_listed(names)}) are read as one image")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


KIND = Kind(
    "SpatialData of Thyra and msiscale (Zarr)",
    "one table in `tables/`, an AnnData; its pixel size in `uns/msi_metadata` or in "
    "`pixel_size_x_um`, `pixel_size_y_um` of the store",
    ("tables",),
    _open,
)
#: Of spatialdata before 0.1.
OLD = Kind("", "", ("table",), _open)
