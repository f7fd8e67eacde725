"""OME-Zarr pyramids (NGFF 0.4 and 0.5) at a path or a URL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr

from msiscale.errors import InputError
from msiscale.slide.backend import Level, Pixels, level_table, on_white, plausible_mpp
from msiscale.store import open_group
from msiscale.store.web import Refused

MOST_CHUNK = 1 << 29  # bytes of a chunk, which is decoded whole

_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


def _group(path: str) -> zarr.Group:
    """The group at `path`, of Zarr v3 (NGFF 0.5) or v2 (0.4)."""
    for version in (3, 2):
        try:  # others leave chunks of the fill value out
            return open_group(path, whole=False, zarr_format=version)
        except Refused:
            raise
        except InputError:
            continue
    raise InputError(
        f"{path}: no OME-Zarr there; check the address, or write one with"
        " `msiscale convert SLIDE URL`"
    )


def _multiscale(path: str, group: zarr.Group) -> tuple[zarr.Group, dict[str, Any]]:
    """The group that holds the pyramid and its metadata; Bio-Formats puts it below ``0``."""
    for candidate in (group, group.get("0")):
        if isinstance(candidate, zarr.Group):
            attrs: Any = candidate.attrs.asdict()
            scales = attrs.get("ome", attrs).get("multiscales")
            if scales:
                return candidate, scales[0]
    raise InputError(
        f"{path}: a Zarr group without OME `multiscales`: no slide, or one whose conversion was"
        " cut short; run `msiscale convert SLIDE URL` again"
    )


def _scale(item: dict[str, Any], n: int) -> list[float]:
    transforms = item.get("coordinateTransformations") or []
    found = [t["scale"] for t in transforms if t.get("type") == "scale"]
    return [float(v) for v in found[0]] if found else [1.0] * n


class OmeZarrBackend:
    """An 8-bit RGB(A) OME-Zarr with axes in any order; t and z may be there with one plane."""

    def __init__(self, path: str) -> None:
        group, scales = _multiscale(path, _group(path))
        try:
            self._describe(path, group, scales)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as e:
            if isinstance(e, InputError):
                raise
            reason = f"no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())
            raise InputError(
                f"{path}: damaged OME metadata ({reason}); convert the slide again"
            ) from None

    def _describe(self, path: str, group: zarr.Group, scales: dict[str, Any]) -> None:
        axes = scales.get("axes") or []
        names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
        self._arrays: list[Any] = [group[item["path"]] for item in scales["datasets"]]
        first = self._arrays[0]
        sizes = dict(zip(names, first.shape, strict=False))
        planes = [size for name, size in sizes.items() if name not in ("c", "y", "x")]
        if {"c", "y", "x"} - set(names) or sizes["c"] not in (3, 4) or set(planes) - {1}:
            raise InputError(
                f"{path}: axes {names} {first.shape}; a slide has c (3), y and x: convert an RGB"
                " image"
            )
        if first.dtype != np.uint8:
            raise InputError(f"{path}: pixels of {first.dtype}; a slide is 8-bit RGB")
        if large := [a.chunks for a in self._arrays if math.prod(a.chunks) > MOST_CHUNK]:
            raise InputError(f"{path}: chunks of {large[0]}; write it in chunks of 512 x 512 px")
        self._names = names
        iy, ix = names.index("y"), names.index("x")
        shapes = [(array.shape[iy], array.shape[ix]) for array in self._arrays]
        common = _scale(scales, len(names))
        steps = []
        for item in scales["datasets"]:
            own = _scale(item, len(names))
            steps.append((own[iy] * common[iy], own[ix] * common[ix]))
        ratios = [(step[0] / steps[0][0], step[1] / steps[0][1]) for step in steps]
        told = tuple(Level(s, r) for s, r in zip(shapes, ratios, strict=True))
        self.levels = told if len(set(ratios)) == len(ratios) else level_table(shapes)
        # Without a unit a scale is a number of anything.
        unit_y, unit_x = (
            _UM.get(axes[i].get("unit", "")) if isinstance(axes[i], dict) else None
            for i in (iy, ix)
        )
        self.mpp = plausible_mpp(
            steps[0][0] * unit_y if unit_y else None, steps[0][1] * unit_x if unit_x else None
        )
        self.bounds = (0, 0)
        self.hint = ""

    def read(self, level: int, y: int, x: int, h: int, w: int) -> Pixels:
        """Pixels ``(h, w, 3)`` uint8 of a rectangle that lies inside the level."""
        window: dict[str, Any] = {"y": slice(y, y + h), "x": slice(x, x + w), "c": slice(None)}
        pixels = np.asarray(self._arrays[level][tuple(window.get(name, 0) for name in self._names)])
        kept = [name for name in self._names if name in window]
        return on_white(pixels.transpose([kept.index(name) for name in "yxc"]))

    def close(self) -> None:
        """Nothing is held open."""
