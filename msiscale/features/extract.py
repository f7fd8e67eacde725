"""Deep features on the MSI grid: the block pulls what it needs from the slide.

The MSI grid falls into units of 64 x 64 pixels. The tissue of a unit, where it lies on the slide,
is cut into equal windows, and the network runs on each with the halo that makes its features those
of one undivided forward pass; a block sums them up by area, window by window in raster order.
Units and windows do not depend on the block that asks, so results are the same bits for every
blocking.

Cost: a window of w pixels with a halo of r costs ``(1 + 2 r / w) ** 2`` times its own area, less at
the slide's border and where the network leaves out what deep layers need no more. A block that is
not whole units shares windows with its neighbours, and each computes them. The tiles of a
transformer are those of the slide; a window that cuts them computes them whole.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from msiscale import grid
from msiscale.config import default_window
from msiscale.errors import InputError
from msiscale.grid import Block, Floats, enclosing
from msiscale.placing import (
    GridMap,
    Placing,
    affine_of,
    as_placing,
    pixel_areas,
    with_affine,
)
from msiscale.regridding import Overlap, in_blocks, overlap, share_of, when_computed

if TYPE_CHECKING:  # torch, which a client need not load
    from msiscale.features.area_sums import AreaSums
    from msiscale.features.encoders import Encoder, Encoders

UNIT = 64  # MSI pixels on a side
AHEAD = 3  # windows read at once for a GPU, which one reader would keep waiting
_T = TypeVar("_T")
_R = TypeVar("_R")


class Image(Protocol):
    """A slide at its working resolution (``msiscale.slide.working``)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def downsample(self) -> tuple[float, float]:
        """Level-0 pixels a working pixel (y, x)."""

    def read(self, y: int, x: int, h: int, w: int) -> NDArray[np.uint8]:
        """uint8 (h, w, 3); white outside the slide."""


def extract_block(
    image: Image,
    placing: Placing,
    block: Block,
    wanted: NDArray[np.bool_],
    encoder: Encoder | Encoders,
    *,
    window: int | None = None,
    around: Block | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean feature vectors of the MSI pixels of one block.

    The slide is padded with white on the right and at the bottom to whole cells of the network;
    the result is the area-weighted mean of one forward pass over that. Several encoders share the
    windows and what is read and decoded for them.

    Parameters
    ----------
    image : Image
        The slide at its working resolution.
    placing : (3, 3) float64, or GridMap
        MSI index to level-0 pixels.
    block : Block
        MSI pixels.
    wanted : bool, of the shape of `around`
        Pixels to compute. Only what they touch is read.
    encoder : Encoder or Encoders
        One, or several.
    window : int, optional
        Working pixels of a window's side without the halo, at most; default
        `msiscale.config.default_window`. Part of the recipe: another window, or an encoder more,
        changes features by rounding (1e-6).
    around : Block, optional
        The block with all of its units, `whole_units`; default the block itself.

    Returns
    -------
    features : float32 (h, w, channels)
        NaN where not wanted or off the slide.
    coverage : float32 (h, w)
        Share of the pixel on the slide, 0..1; 0 where not wanted.
    """
    around = around or block
    window = window or default_window(encoder.id, encoder.precision)
    features = np.full((*block.shape, encoder.channels), np.nan, np.float32)
    coverage = np.zeros(block.shape, np.float32)
    for unit in units(around):
        here = unit & block
        if here is None:
            continue
        inside = np.zeros(unit.shape, bool)
        inside[here.within(unit)] = True
        whole = _overlap(image, placing, unit, encoder.stride, wanted[unit.within(around)])
        windows = windows_of(whole, window, encoder.stride)
        values, shares = _means(image, placing, whole.of(inside), windows, encoder)
        features[here.within(block)] = values[here.within(unit)]
        coverage[here.within(block)] = shares[here.within(unit)]
    return features, coverage


def _overlap(
    image: Image, placing: Placing, unit: Block, stride: int, wanted: NDArray[np.bool_]
) -> Overlap:
    """Areas between the pixels of a unit and the cells of a stride, padded with white."""
    cells = -(-image.shape[0] // stride), -(-image.shape[1] // stride)
    return overlap(to_cells(placing, image, stride), unit, cells, wanted=wanted)


def _means(
    image: Image,
    placing: Placing,
    common: Overlap,  # with cells of the stride that all have in common
    windows: Iterable[Block],  # in these cells
    encoder: Encoder | Encoders,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Area-weighted means of a unit's pixels, and their share on the cells of every encoder."""
    sums, areas = _sums(image, placing, common, windows, encoder)
    shape = common.block.shape
    whole = {s: _whole(placing, image, s, common.block) for s in areas}
    shares = [share_of(area, whole[stride]) for stride, area in areas.items()]
    coverage = np.min(shares, axis=0).astype(np.float32).reshape(shape)
    layers = [layer for one in encoder.each for layer in one.layers]
    with np.errstate(invalid="ignore"):  # 0 / 0, the pixels without a slide, is NaN
        parts = [
            found / areas[layer.stride][:, None] for found, layer in zip(sums, layers, strict=True)
        ]
    values = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    values[coverage.ravel() == 0] = np.nan
    return values.astype(np.float32).reshape(*shape, -1), coverage


def _sums(
    image: Image,
    placing: Placing,
    common: Overlap,
    windows: Iterable[Block],
    encoder: Encoder | Encoders,
) -> tuple[list[NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """Area-weighted sums of features, and the areas, of a unit's pixels, window by window.

    Returns
    -------
    sums
        (pixels, channels) of each layer.
    areas
        (pixels,) by stride, in its cells.
    """
    from msiscale.features.area_sums import area_sums  # torch, which a client need not load

    n = len(common.start) - 1
    sums = [[area_sums(one, n, layer.channels) for layer in one.layers] for one in encoder.each]
    strides = {encoder.stride, *(layer.stride for one in encoder.each for layer in one.layers)}
    areas = {stride: np.zeros(n) for stride in strides}
    touched = [core for core in windows if len(common.within(core).area)]
    last, ahead = None, 1 if encoder.device == "cpu" else AHEAD

    def read(core: Block) -> tuple[list[_View], Block, NDArray[np.uint8], dict[int, Overlap]]:
        views = [
            _view(core.scaled(encoder.stride // one.stride), one, image) for one in encoder.each
        ]
        frame = enclosing([view.pixels for view in views])
        entries = _entries(image, placing, common, core, strides, encoder.stride)
        return views, frame, image.read(frame.y0, frame.x0, *frame.shape), entries

    for views, frame, pixels, entries in _ahead(read, touched, ahead):
        if pixels.shape != last and encoder.device == "cpu":
            give_back()
            last = pixels.shape
        for stride, here in entries.items():
            areas[stride] += here.covered().ravel()
        for one, totals, view in zip(encoder.each, sums, views, strict=True):
            add = partial(_add, one, view, entries, totals)
            one.visit(pixels[view.pixels.within(frame)], add, view.margin)
    if encoder.device == "cpu":
        give_back()  # or Dask would see a worker that is full and give it nothing more
    return [total.found() for totals in sums for total in totals], areas


def _entries(
    image: Image, placing: Placing, common: Overlap, core: Block, strides: set[int], stride: int
) -> dict[int, Overlap]:
    """Areas on a window's cells, by stride: only here, as those of small cells are many."""
    found = {stride: common.within(core)}
    here = np.zeros(common.block.shape, bool)
    here.ravel()[found[stride].touched()] = True
    for finer in strides - {stride}:
        cells = core.scaled(stride // finer)
        found[finer] = _overlap(image, placing, common.block, finer, here).within(cells)
    return found


def _add(
    encoder: Encoder,
    view: _View,
    entries: dict[int, Overlap],
    totals: list[AreaSums],
    number: int,
    dense: Any,
) -> None:
    """Add a layer of a window to its sums, as soon as it is made: no other one need be kept."""
    stride = encoder.layers[number].stride
    totals[number].add(dense, entries[stride], view.core.scaled(view.stride // stride))


@dataclass(frozen=True)
class _View:
    """A window as one encoder has it, in its cells: those wanted, and those that it must see."""

    core: Block
    seen: Block
    stride: int

    @property
    def pixels(self) -> Block:
        return self.seen.scaled(self.stride)

    @property
    def margin(self) -> tuple[int, int, int, int]:
        """Cells above, below, left and right of the core."""
        core, seen = self.core, self.seen
        return core.y0 - seen.y0, seen.y1 - core.y1, core.x0 - seen.x0, seen.x1 - core.x1


def _view(core: Block, encoder: Encoder, image: Image) -> _View:
    height, width = image.shape
    slide = Block(0, -(-height // encoder.stride), 0, -(-width // encoder.stride))
    inner = core & slide  # padding of a coarser encoder is none of its own
    assert inner is not None
    if encoder.tile:
        return _View(inner, inner.grown(to=encoder.tile // encoder.stride), encoder.stride)
    seen = inner.grown(by=encoder.halo // encoder.stride) & slide
    assert seen is not None
    return _View(inner, seen, encoder.stride)


def units(region: Block) -> list[Block]:
    """The units of MSI pixels that a region touches, cut at its borders, in raster order."""
    whole = region.grown(to=UNIT)
    found = (
        Block(y, y + UNIT, x, x + UNIT) & region
        for y in range(whole.y0, whole.y1, UNIT)
        for x in range(whole.x0, whole.x1, UNIT)
    )
    return [unit for unit in found if unit is not None]


def whole_units(block: Block, shape: tuple[int, int]) -> Block:
    """`block` grown to whole units of a grid of `shape`."""
    whole = block.grown(to=UNIT) & Block(0, shape[0], 0, shape[1])
    assert whole is not None
    return whole


def to_cells(placing: Placing, image: Image, stride: int) -> Placing:
    """A placing made to end in cells of the network.

    Parameters
    ----------
    placing : float64 (3, 3), or GridMap
        MSI index to level-0 pixels.
    image : Image
        The slide at its working resolution.
    stride : int
        Working pixels a cell; 1 for these themselves.

    Returns
    -------
    the same kind
    """
    dy, dx = image.downsample
    result = grid.as_matrix(affine_of(placing)).copy()
    result[0] /= dx * stride
    result[1] /= dy * stride
    return with_affine(placing, result)


def _whole(placing: Placing, image: Image, stride: int, block: Block) -> float | Floats:
    """Areas of the pixels of a block in cells of a stride: one number, or (pixels,)."""
    cells = to_cells(placing, image, stride)
    if not isinstance(cells, GridMap):
        return float(abs(np.linalg.det(cells[:2, :2])))
    return np.ravel(pixel_areas(cells, block))


def windows_of(shared: Overlap, window: int, stride: int) -> list[Block]:
    """Windows (in cells, without halo) over the entries of `shared`, in raster order."""
    # what they span is cut into the fewest equal windows of at most `window` pixels, and each to
    # what its own entries span; those without any are left out
    if window < stride:
        raise InputError(f"--window {window}: give at least the encoder's stride, {stride}")
    frame = shared.bounds()
    if frame is None:
        return []
    h, w = (_even(n, window // stride) for n in frame.shape)
    result = []
    for y in range(frame.y0, frame.y1, h):
        for x in range(frame.x0, frame.x1, w):
            needed = shared.within(Block(y, min(y + h, frame.y1), x, min(x + w, frame.x1))).bounds()
            if needed is not None:
                result.append(needed)
    return result


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc."""
    # a worker keeps its pages (`msiscale.cluster`): they fit the next window if it has the same
    # size, and would lie beside those of one that has not
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _even(length: int, most: int) -> int:
    """Size of the fewest equal parts of at most `most` that cover `length`."""
    return max(1, -(-length // max(1, -(-length // most))))


def extract_features(
    slide: Any,
    matrix: Placing,
    shape: tuple[int, int],
    *,
    encoder: str | Encoder | Encoders = "stains,efficientnet-lite0:all",
    weights: str | None = None,
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    tissue: NDArray[np.bool_] | None = None,
    block: tuple[int, int] = (64, 64),
    window: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> xr.Dataset:
    """Deep features of a slide on the MSI grid, computed block by block when asked for.

    Parameters
    ----------
    slide : path, Slide or WorkingImage
        A path, an open slide, or one already at its working resolution (then `mpp` is its own).
    matrix : (3, 3) array, or GridMap
        MSI index (pixel centres at integers) to level-0 pixels.
    shape : (ny, nx)
        The MSI grid.
    encoder, weights, device, precision
        As in `load_encoder`; several encoders with commas between them have their channels one
        after another, over one decode.
    mpp : float
        Micrometres a pixel at which the network sees the slide.
    slide_mpp : float, optional
        Micrometres a level-0 pixel of a slide given by its path, where the file does not say.
    tissue : bool (ny, nx), optional
        MSI pixels to compute; default all.
    block : (int, int)
        MSI pixels a task. It changes speed and memory, never a value.
    window : int
        See `extract_block`.

    Returns
    -------
    xr.Dataset
        ``features`` (y, x, channel) float32, NaN off the tissue and the slide, and ``coverage``
        (y, x) float32, lazy dask arrays with one chunk a block; coordinates are MSI indices.

    Raises
    ------
    InputError
        The slide or the weights cannot be used; at once, not in a task.

    Examples
    --------
    >>> import json
    >>> import msiscale as ms
    >>> with open("cohort/S04_matrix.json") as file:
    ...     matrix = json.load(file)["matrix"]
    >>> found = ms.extract_features(
    ...     "cohort/S04.tiff", matrix, (24, 28), encoder="efficientnet-lite0", mpp=4.0
    ... )
    >>> found.features.shape  # nothing is computed yet
    (24, 28, 1280)
    >>> one = found.features[12, 14].compute()
    >>> one.shape, bool(one.notnull().all())
    ((1280,), True)
    """
    import dask.array as da  # large, and workers do without

    placing = as_placing(matrix)
    image = _working(slide, mpp, slide_mpp)
    if isinstance(encoder, str):
        from msiscale.features.encoders import load_encoders

        words = {"device": device, "precision": precision}
        encoder = load_encoders(encoder, weights, mpp=mpp, **words)  # type: ignore[arg-type]
    elif weights is not None:
        raise InputError("weights: they are part of the encoder given; leave them out")
    if tissue is None:
        tissue = np.ones(shape, bool)
    tissue = np.asarray(tissue, bool)
    if tissue.shape != tuple(shape):
        raise InputError(f"tissue: its shape is {tissue.shape}, that of the MSI grid {shape}")
    window = window or default_window(encoder.id, encoder.precision)
    windows_of(overlap(np.eye(3), Block(0, 1, 0, 1), (1, 1)), window, encoder.stride)
    task = delayed(extract_block, nout=2, pure=False)

    def part(b: Block) -> tuple[Any, Any]:
        around = whole_units(b, shape)
        wanted = tissue[around.slices]
        both = task(image, placing, b, wanted, encoder, window=window, around=around)
        return when_computed(both, b, encoder.channels, np.float32)

    features, coverage = in_blocks(shape, block, part, da.concatenate)
    return xr.Dataset(
        {
            "features": (["y", "x", "channel"], features),
            "coverage": (["y", "x"], coverage),
        },
        {"y": np.arange(shape[0]), "x": np.arange(shape[1])},
        {
            "encoder": encoder.id,
            "weights_sha256": encoder.sha256,
            "precision": encoder.precision,
            "mode": "dense",
            "stride": encoder.stride,
            "halo": encoder.halo,
            "window": window,
            "downsample": tuple(float(d) for d in image.downsample),
        },
    )


def _working(slide: Any, mpp: float, slide_mpp: float | None) -> Image:
    if hasattr(slide, "downsample"):
        image: Image = slide
        return image
    from msiscale.slide.reader import Slide, open_reader
    from msiscale.slide.working import as_asked

    return as_asked(slide if isinstance(slide, Slide) else open_reader(slide, mpp=slide_mpp), mpp)


def _ahead(read: Callable[[_T], _R], items: Iterable[_T], ahead: int = 1) -> Iterator[_R]:
    """``read(item)`` of every item in order; the next are read while the caller uses this one."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[_R]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)
