"""Small pictures of a specimen for the gallery, and what the first screen counts of it.

A map is a PNG of `LEVELS` colours of a palette, so that the page can turn a pixel into its value.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from bokeh.palettes import Cividis256, Viridis256
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from msiscale.grid import Floats
from msiscale.models.novelty import Limits
from msiscale.report.apart import is_apart
from msiscale.report.data import MODELS, Results
from msiscale.report.drawing import spread
from msiscale.report.ion_gallery import scored
from msiscale.report.specimen import data_uri, picture
from msiscale.store import (
    HeldOut,
    StoredSpecimen,
    at_once,
    exists,
    has_group,
    join,
    nearest_column,
    read_json,
    remove,
    write_json,
)

PATH = "figures/thumbnail_{}.json"
SIDE = 240  #: pixels of a map on the longer side, at most
SIDE_OF_MANY = 96  #: of a large cohort
LEVELS = 100  #: steps of a map
_NOTHING = 255
PALETTES = {
    name: [colours[round(i * 255 / LEVELS)] for i in range(LEVELS + 1)]
    for name, colours in (("cividis", Cividis256), ("viridis", Viridis256))
}
_CANCER = 0.5
_DISTANCE, _UNEXPLAINED = "feature_distance", "feature_unexplained"


@dataclass(frozen=True)
class Map:
    """A small map: its picture as a data URI, and the values of the first and the last colour."""

    picture: str
    palette: str
    low: float
    high: float


@dataclass(frozen=True)
class Thumbnail:
    """A specimen at a glance.

    Attributes
    ----------
    width, height : of its maps, in thumbnail pixels
    step : MSI pixels a thumbnail pixel, on a side
    slide : H&E on the MSI grid, a data URI; "" without one
    outline : the annotated cancer as an SVG path in thumbnail pixels; "" without one
    maps : by name, those of `MODELS`, or ``measured`` and ``predicted`` of `ion`
    ion : the m/z that is shown where no cancer is predicted; 0 for none
    pixels : MSI pixels that were measured
    tissue_mm2 : area of the tissue
    beyond : share of the pixels whose H&E is unlike that of the training; None if not known
    """

    width: int
    height: int
    step: int
    slide: str
    outline: str
    pixels: int
    tissue_mm2: float
    beyond: float | None
    ion: float = 0.0
    maps: dict[str, Map] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Thumbnail:
        """The thumbnail that `asdict` was given."""
        maps = {name: Map(**one) for name, one in stored["maps"].items()}
        return cls(**{**stored, "maps": maps})


def write_thumbnail(out_url: str, specimen: str, results: Results | None = None) -> list[str]:
    """Write a specimen's `Thumbnail` of a large cohort; its path, if there is anything of it."""
    url = join(out_url, PATH.format(specimen))
    made = thumbnail(results or Results(out_url), specimen, SIDE_OF_MANY)
    if made is None:
        remove(url)  # of an earlier slide
        return []
    write_json(url, asdict(made))
    return [url]


def seen_of(results: Results) -> dict[str, Thumbnail]:
    """Thumbnails of all specimens that have one: as written of a large cohort, else new."""
    found: dict[str, Thumbnail] = results.kept("thumbnails", lambda: _all(results))
    return found


def _all(results: Results) -> dict[str, Thumbnail]:
    many = is_apart(results)

    def one(name: str) -> Thumbnail | None:
        url = join(results.out, PATH.format(name))
        if many and exists(url):
            return Thumbnail.of(read_json(url))
        return thumbnail(results, name, SIDE_OF_MANY if many else SIDE)

    found = zip(results.specimens, at_once(one, results.specimens), strict=True)
    return {name: made for name, made in found if made is not None}


def thumbnail(results: Results, name: str, side: int) -> Thumbnail | None:
    """Made from the store; None where nothing of the specimen is known."""
    data = results.cohort(name)
    if data is None or "tissue" not in data:
        return None
    tissue, pixel = data.tissue, data.pixel_um
    step = max(1, -(-max(tissue.shape) // side))
    height, width = shrunk(tissue, step).shape
    ion, maps = _maps(results, name, step)
    return Thumbnail(
        width=width,
        height=height,
        step=step,
        slide=picture(data, side),
        outline=_outline(data, step),
        pixels=int(data.measured.sum()) if "norm" in data else int(tissue.sum()),
        tissue_mm2=round(float(tissue.sum()) * pixel[0] * pixel[1] / 1e6, 4),
        beyond=_beyond(results, name),
        ion=ion,
        maps=maps,
    )


def map_of(values: NDArray[Any], low: float, high: float, palette: str) -> Map:
    """A small map.

    Parameters
    ----------
    values
        (y, x), NaN where nothing is drawn.
    low, high
        Values of the first and of the last colour.
    palette
        Of `PALETTES`.

    Returns
    -------
    Map
    """
    known = np.isfinite(values)
    share = np.clip((np.where(known, values, low) - low) / ((high - low) or 1.0), 0, 1)
    levels = np.where(known, np.rint(share * LEVELS), _NOTHING).astype(np.uint8)
    image = Image.fromarray(levels, "P")
    colours = b"".join(bytes.fromhex(c[1:]) for c in PALETTES[palette])
    image.putpalette(colours.ljust(768, b"\0"))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=_NOTHING)
    return Map(data_uri(buffer.getvalue(), "png"), palette, low, high)


def shrunk(values: NDArray[Any], step: int) -> Floats:
    """Means of `step` x `step` pixels, those that are known.

    Parameters
    ----------
    values
        (y, x).
    step
        Pixels on a side.

    Returns
    -------
    numpy.ndarray
        (y / step, x / step) rounded up; NaN where no pixel is known.
    """
    found = np.asarray(values, np.float64)
    if step == 1:
        return found
    room = [(0, -n % step) for n in found.shape]
    cells = np.pad(found, room, constant_values=np.nan)
    cells = cells.reshape(cells.shape[0] // step, step, cells.shape[1] // step, step)
    known = np.isfinite(cells)
    counts, sums = known.sum(axis=(1, 3)), np.where(known, cells, 0).sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


def ion_pair(held: HeldOut, mz: float, step: int) -> dict[str, Map]:
    """Measured and predicted image of an m/z, on the scale of what was measured."""
    i = nearest_column(held.mz, mz)
    rows = {
        "measured": held.measured(slice(i, i + 1)),
        "predicted": held.predicted(slice(i, i + 1)),
    }
    images = {name: shrunk(held.image(one)[..., 0], step) for name, one in rows.items()}
    low, high = spread(images["measured"])
    return {name: map_of(one, low, high, "viridis") for name, one in images.items()}


def _maps(results: Results, name: str, step: int) -> tuple[float, dict[str, Map]]:
    """Probabilities of cancer; of a run without them the ion that is predicted best."""
    if results.labelled:
        predicted = results.predictions(name)
        there = [m for m in MODELS if predicted is not None and m in predicted]
        assert predicted is not None or not there
        return 0.0, {
            m: map_of(shrunk(predicted.read(m), step), 0.0, 1.0, "cividis")  # type: ignore[union-attr]
            for m in there
        }
    held, table = results.held_out(name), scored(results)
    if held is None or table.empty:
        return 0.0, {}
    mz = float(table["mz"].iloc[0])
    return mz, ion_pair(held, mz, step)


def _outline(data: StoredSpecimen, step: int) -> str:
    """The border of the annotated cancer, with as few corners as it needs at this size."""
    if "cancer" not in data:
        return ""
    mask = np.pad(np.nan_to_num(shrunk(data.cancer, step)) >= _CANCER, 1)
    parts = []
    for line in find_contours(mask.astype(float), 0.5):
        corners = approximate_polygon(line - 0.5, 0.5)  # padded by one; centres lie at a half
        parts.append("M" + "L".join(f"{x:g} {y:g}" for y, x in np.round(corners, 1)) + "Z")
    return "".join(parts)


def _beyond(results: Results, name: str) -> float | None:
    """The share of a specimen's pixels that `predict` would call unlike the training."""
    predicted = StoredSpecimen.predicted(results.out, name)
    if not predicted.exists or not predicted.has(_DISTANCE, _UNEXPLAINED):
        return None
    of = join(results.out, "model.zarr", "novelty")
    if not has_group(of):
        return None
    distance = predicted.read(_DISTANCE)
    known = int(np.isfinite(distance).sum())
    limits = Limits.load(of)
    far = limits.exceeded(distance, predicted.read(_UNEXPLAINED), 1.0)
    return round(float(far.sum()) / known, 5) if known else None
