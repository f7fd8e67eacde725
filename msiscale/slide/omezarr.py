"""OME-Zarr pyramids (NGFF 0.4 and 0.5) at a path or a URL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import zarr

from msiscale.errors import InputError
from msiscale.slide.backend import Level, Pixels, level_table, on_white, plausible_mpp
from msiscale.slide.which import Image, dyes, the_slide
from msiscale.store import open_group
from msiscale.store.web import Refused

MOST_CHUNK = 1 << 29  # bytes of a chunk, which is decoded whole
MOST_IMAGES = 100  # that are looked for in a store
_ALPHA = {"a", "alpha", "opacity", "transparency"}

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


def _multiscales(path: str, root: zarr.Group) -> list[tuple[zarr.Group, dict[str, Any], Any]]:
    """Group, multiscales and ``omero`` of every image; Bio-Formats puts them below 0, 1, ..."""
    found: list[tuple[zarr.Group, dict[str, Any], Any]] = []

    def look(group: Any) -> bool:
        attrs: Any = group.attrs.asdict() if isinstance(group, zarr.Group) else {}
        attrs = attrs.get("ome", attrs)
        scales = attrs.get("multiscales") or []
        found.extend((group, one, attrs.get("omero")) for one in scales)
        return bool(scales)

    if not look(root):
        for number in range(MOST_IMAGES):
            if not look(root.get(str(number))):
                break
    if not found:
        raise InputError(
            f"{path}: a Zarr group without OME `multiscales`: no slide, or one whose conversion "
            "was cut short; run `msiscale convert SLIDE URL` again"
        )
    return found


def _scale(item: dict[str, Any], n: int) -> list[float]:
    transforms = item.get("coordinateTransformations") or []
    found = [t["scale"] for t in transforms if t.get("type") == "scale"]
    return [float(v) for v in found[0]] if found else [1.0] * n


class _Pyramid:
    """An image of a store, by its metadata."""

    def __init__(self, group: zarr.Group, scales: dict[str, Any], omero: Any) -> None:
        axes = scales.get("axes") or []
        self.names = [axis["name"] if isinstance(axis, dict) else axis for axis in axes]
        self.arrays: list[Any] = [group[item["path"]] for item in scales["datasets"]]
        self.sizes = dict(zip(self.names, self.arrays[0].shape, strict=False))
        told = omero.get("channels") if isinstance(omero, dict) else None
        self.channels = [str(channel.get("label") or "") for channel in told or ()]
        self.name = str(scales.get("name") or "")
        self.levels: tuple[Level, ...] = ()
        self.trouble = self._trouble()
        if self.trouble:
            self.shape = self.sizes.get("y", 0), self.sizes.get("x", 0)
            self.mpp = None
            return
        iy, ix = self.names.index("y"), self.names.index("x")
        shapes = [(array.shape[iy], array.shape[ix]) for array in self.arrays]
        common = _scale(scales, len(self.names))
        steps = []
        for item in scales["datasets"]:
            own = _scale(item, len(self.names))
            steps.append((own[iy] * common[iy], own[ix] * common[ix]))
        ratios = [(step[0] / steps[0][0], step[1] / steps[0][1]) for step in steps]
        by_scale = tuple(Level(s, r) for s, r in zip(shapes, ratios, strict=True))
        self.levels = by_scale if len(set(ratios)) == len(ratios) else level_table(shapes)
        self.shape = shapes[0]
        # Without a unit a scale is a number of anything.
        unit_y, unit_x = (
            _UM.get(axes[i].get("unit", "")) if isinstance(axes[i], dict) else None
            for i in (iy, ix)
        )
        self.mpp = plausible_mpp(
            steps[0][0] * unit_y if unit_y else None, steps[0][1] * unit_x if unit_x else None
        )

    def _trouble(self) -> str:
        """Why it is no picture of a stained section."""
        first = self.arrays[0]
        planes = [size for name, size in self.sizes.items() if name not in ("c", "y", "x")]
        if stained := dyes(self.channels):
            return f"fluorescence (channels {', '.join(stained[:6])})"
        no_colours = {"c", "y", "x"} - set(self.names) or self.sizes["c"] not in (3, 4)
        if no_colours or set(planes) - {1}:
            return f"of axes {self.names} {first.shape}, where a slide has c (3), y and x"
        if first.dtype != np.uint8:
            return f"of pixels of {first.dtype}, where a slide is 8-bit RGB"
        if self.sizes["c"] == 4 and not self._ends_in_alpha():
            return "of four channels, the last of which is no alpha, as of fluorescence"
        return ""

    def _ends_in_alpha(self) -> bool:
        """Whether the fourth channel is called so, or most of it is opaque."""
        if len(self.channels) == 4 and self.channels[3]:
            return self.channels[3].lower() in _ALPHA
        window = tuple(3 if name == "c" else slice(None) for name in self.names)
        return bool(np.median(np.asarray(self.arrays[-1][window])) == 255)


class OmeZarrBackend:
    """An 8-bit RGB(A) OME-Zarr with axes in any order; t and z may be there with one plane."""

    def __init__(self, path: str, scene: int | None = None) -> None:
        root = _group(path)
        try:
            found = [_Pyramid(*one) for one in _multiscales(path, root)]
            images = [
                Image(number, one.shape, one.mpp, one.trouble, one.name)
                for number, one in enumerate(found, 1)
            ]
            slide, self.notes = the_slide(path, images, scene)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as e:
            if isinstance(e, InputError):
                raise
            reason = f"no {e}" if isinstance(e, KeyError) else " ".join(str(e).split())
            raise InputError(
                f"{path}: damaged OME metadata ({reason}); convert the slide again"
            ) from None
        chosen = found[slide.number - 1]
        self._arrays, self._names = chosen.arrays, chosen.names
        if large := [a.chunks for a in self._arrays if math.prod(a.chunks) > MOST_CHUNK]:
            raise InputError(f"{path}: chunks of {large[0]}; write it in chunks of 512 x 512 px")
        self.levels, self.mpp = chosen.levels, chosen.mpp
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
