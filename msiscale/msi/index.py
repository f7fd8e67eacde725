"""Where the spectra of an imzML lie, kept in Zarr, so that its XML is parsed once."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from msiscale import store
from msiscale.grid import PixelSize
from msiscale.msi.binary import Stored
from msiscale.msi.imzml import ImzmlSource
from msiscale.msi.source import MsiSource

_AXIS = {  # arrays of a shared axis, where there are any
    "mz": ("mz",),
    "mz_order": ("column",),
    "mz_start": ("mz",),
    "mz_same": ("repeated", "pair"),
}
_KEPT = (
    *("shape", "pixel_um", "pixel_from", "origin", "profile", "polarity", "analyser", "mode"),
    *("ms_level", "notes"),
)


def save_index(source: MsiSource, group: zarr.Group) -> None:
    """Write what is known of an imzML to an open group; nothing for HDF5, which opens as fast."""
    if not isinstance(source, ImzmlSource):
        return
    kinds = (source.mz_arrays, source.intensity_arrays)
    columns = [source.positions, *(np.c_[a.offset, a.length, a.stored] for a in kinds)]
    store.put(group, "index", np.hstack(columns).astype(np.int64), ("spectrum", "quantity"))
    for name, dims in _AXIS.items():
        if (values := getattr(source, name)) is not None:
            store.put(group, name, values, dims)
    facts: dict[str, Any] = {name: getattr(source, name) for name in _KEPT}
    facts["ibd"] = source.ibd.rpartition("/")[2]
    facts["stored"] = [[a.dtype, a.zlib] for a in kinds]
    facts["axis"] = [name for name in _AXIS if getattr(source, name) is not None]
    group.attrs["source"] = facts


def load_index(group: zarr.Group, path: str) -> ImzmlSource | None:
    """The source at `path` from what `save_index` wrote; None where that was nothing."""
    facts: Any = group.attrs.get("source")
    if facts is None:
        return None
    index = store.read(group, "index")
    mz_arrays, intensity_arrays = (
        Stored(dtype, zlib, *index[:, column : column + 3].T.copy())
        for (dtype, zlib), column in zip(facts["stored"], (2, 5), strict=True)
    )
    axis: dict[str, Any] = {name: store.read(group, name) for name in facts["axis"]}
    folder, slash, _ = path.replace("\\", "/").rpartition("/")
    return ImzmlSource(
        path=path,
        ibd=folder + slash + facts["ibd"],
        shape=tuple(facts["shape"]),
        pixel_um=None if facts["pixel_um"] is None else PixelSize(*facts["pixel_um"]),
        pixel_from=facts["pixel_from"],
        positions=index[:, :2].astype(np.int32),
        origin=tuple(facts["origin"]),
        **axis,
        lengths=intensity_arrays.length,
        profile=facts["profile"],
        polarity=facts["polarity"],
        ms_level=facts["ms_level"],
        analyser=facts["analyser"],
        notes=facts["notes"],
        mz_arrays=mz_arrays,
        intensity_arrays=intensity_arrays,
    )
