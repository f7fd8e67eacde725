"""Deep features on the MSI grid: the block pulls what it needs from the slide.

The network runs on a fixed lattice of windows over the tissue of the slide, each with the halo
that makes its features those of one undivided forward pass; a block of MSI pixels computes the
windows that its pixels touch and sums them up by area, window by window in raster order. Which
block asks has no influence on any number, so results are the same bits for every blocking.

Cost: a window of w pixels with a halo of r costs ``(1 + 2 r / w) ** 2`` times its own area, less at
the slide's border; blocks that share a window compute it each.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from msiscale import grid
from msiscale.errors import InputError
from msiscale.grid import Block, Floats
from msiscale.regridding import Overlap, as_coverage, overlap

if TYPE_CHECKING:  # torch, which a client need not load
    from msiscale.features.encoders import Encoder

# Peaks at 1.9 GB a process in float32 with the largest built-in encoder, 1.2 GB in bfloat16.
DEFAULT_WINDOW = 2048
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
    matrix: Floats,
    block: Block,
    wanted: NDArray[np.bool_],
    encoder: Encoder,
    *,
    window: int = DEFAULT_WINDOW,
    extent: Block | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean feature vectors of the MSI pixels of one block.

    The slide is padded with white on the right and at the bottom to whole cells of the network;
    the result is the area-weighted mean of one forward pass over that.

    Parameters
    ----------
    image : Image
        The slide at its working resolution.
    matrix : (3, 3) float64
        MSI index to level-0 pixels.
    block : Block
        MSI pixels.
    wanted : bool (h, w) of the block
        Pixels to compute. Only windows that they touch are read.
    encoder : Encoder
    window : int
        Working pixels of a window's side without the halo, at most; a multiple of the encoder's
        stride. Part of the recipe: another window changes features by rounding (1e-6).
    extent : Block, optional
        Cells of the network that the windows tile, the same for every block of a slide: `extent_of`
        all its tissue. Default the whole slide.

    Returns
    -------
    features : float32 (h, w, channels)
        NaN where not wanted or off the slide.
    coverage : float32 (h, w)
        Share of the pixel on the slide, 0..1; 0 where not wanted.
    """
    cells = _cells(image.shape, encoder.stride)
    shared = overlap(to_cells(matrix, image, encoder.stride), block, cells, wanted=wanted)
    n = block.shape[0] * block.shape[1]
    sums = np.zeros((n, encoder.channels))
    windows, size = windows_of(shared, window, encoder.stride, extent)
    halo = encoder.halo // encoder.stride
    give_back()

    def read(core: Block) -> NDArray[np.uint8]:
        part, s = _with_halo(core, size, halo, cells), encoder.stride
        return image.read(part.y0 * s, part.x0 * s, part.shape[0] * s, part.shape[1] * s)

    for core, pixels in _ahead(read, windows):
        part = _with_halo(core, size, halo, cells)
        dense = encoder(pixels)
        dense = dense[core.y0 - part.y0 : core.y1 - part.y0, core.x0 - part.x0 : core.x1 - part.x0]
        here = shared.within(core)
        sums[here.touched()] += here.weighted_sum(dense, core)
    covered = shared.covered()
    coverage = as_coverage(covered, shared.pixel_area).astype(np.float32)
    with np.errstate(invalid="ignore"):
        sums /= covered.reshape(-1, 1)  # 0 / 0, the pixels without a slide, is NaN
    return sums.astype(np.float32).reshape(*block.shape, -1), coverage


def to_cells(matrix: Floats, image: Image, stride: int) -> Floats:
    """`matrix` (MSI index to level-0 pixels) made to end in cells of the network."""
    dy, dx = image.downsample
    result = grid.as_matrix(matrix).copy()
    result[0] /= dx * stride
    result[1] /= dy * stride
    return result


def extent_of(
    image: Image, matrix: Floats, tissue: NDArray[np.bool_], encoder: Encoder
) -> Block | None:
    """Cells of the network that hold all tissue pixels (y, x); None where there are none."""
    whole = Block(0, tissue.shape[0], 0, tissue.shape[1])
    corners = grid.pixel_corners(to_cells(matrix, image, encoder.stride), whole)[tissue]
    if not corners.size:
        return None
    x0, y0, x1, y1 = grid.bounds(corners)
    h, w = _cells(image.shape, encoder.stride)
    found = Block(
        max(math.floor(y0), 0), min(math.ceil(y1), h), max(math.floor(x0), 0), min(math.ceil(x1), w)
    )
    return found if min(found.shape) > 0 else None


def windows_of(
    shared: Overlap, window: int, stride: int, extent: Block | None = None
) -> tuple[list[Block], tuple[int, int]]:
    """Windows (in cells, without halo) that the entries of `shared` touch, in raster order.

    `extent` (default the whole slide) is cut into the fewest equal windows of at most `window`,
    whose size comes with them (those at the end may be smaller).
    """
    if window < stride or window % stride:
        raise InputError(f"--window {window}: give a multiple of the encoder's stride, {stride}")
    frame = extent or Block(0, shared.source_shape[0], 0, shared.source_shape[1])
    h, w = (_even(n, window // stride) for n in frame.shape)
    across = -(-frame.shape[1] // w)
    numbers = np.unique((shared.y - frame.y0) // h * across + (shared.x - frame.x0) // w)
    result = []
    for number in numbers:
        row, column = divmod(int(number), across)
        y, x = frame.y0 + row * h, frame.x0 + column * w
        result.append(Block(y, min(y + h, frame.y1), x, min(x + w, frame.x1)))
    return result, (h, w)


def give_back() -> None:
    """Return freed memory to the system, where the C library is glibc.

    A worker keeps its pages (`msiscale.cluster`): they fit the next window, which has the same
    size, but would lie beside those of another slide's.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _even(length: int, most: int) -> int:
    """Size of the fewest equal parts of at most `most` that cover `length`."""
    return max(1, -(-length // max(1, -(-length // most))))


def extract_features(
    slide: Any,
    matrix: Floats,
    shape: tuple[int, int],
    *,
    encoder: str | Encoder = "resnet50:layer3",
    weights: str | None = None,
    mpp: float = 0.5,
    slide_mpp: float | None = None,
    tissue: NDArray[np.bool_] | None = None,
    block: tuple[int, int] = (64, 64),
    window: int = DEFAULT_WINDOW,
    device: str = "cpu",
    precision: str = "float32",
) -> xr.Dataset:
    """Deep features of a slide on the MSI grid, computed block by block when asked for.

    Parameters
    ----------
    slide : path, Slide or WorkingImage
        A path, an open slide, or one already at its working resolution (then `mpp` is its own).
    matrix : (3, 3) array
        MSI index (pixel centres at integers) to level-0 pixels.
    shape : (ny, nx)
        The MSI grid.
    encoder, weights, device, precision
        As in `load_encoder`.
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
    """
    matrix = grid.as_matrix(matrix)
    image = _working(slide, mpp, slide_mpp)
    if isinstance(encoder, str):
        from msiscale.features.encoders import load_encoder

        encoder = load_encoder(encoder, weights, device=device, precision=precision)
    elif weights is not None:
        raise InputError("weights: they are part of the encoder given; leave them out")
    if tissue is None:
        tissue = np.ones(shape, bool)
    tissue = np.asarray(tissue, bool)
    if tissue.shape != tuple(shape):
        raise InputError(f"tissue: its shape is {tissue.shape}, that of the MSI grid {shape}")
    windows_of(overlap(np.eye(3), Block(0, 1, 0, 1), (1, 1)), window, encoder.stride)
    extent = extent_of(image, matrix, tissue, encoder)
    task = dask.delayed(extract_block, nout=2, pure=False)
    features, coverage = [], []
    for y in range(0, shape[0], block[0]):
        row = []
        for x in range(0, shape[1], block[1]):
            b = Block(y, min(y + block[0], shape[0]), x, min(x + block[1], shape[1]))
            both = task(image, matrix, b, tissue[b.slices], encoder, window=window, extent=extent)
            row.append(
                (
                    da.from_delayed(both[0], (*b.shape, encoder.channels), np.float32),
                    da.from_delayed(both[1], b.shape, np.float32),
                )
            )
        features.append(da.concatenate([both[0] for both in row], axis=1))
        coverage.append(da.concatenate([both[1] for both in row], axis=1))
    return xr.Dataset(
        {
            "features": (["y", "x", "channel"], da.concatenate(features, axis=0)),
            "coverage": (["y", "x"], da.concatenate(coverage, axis=0)),
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
    from msiscale.slide.working import working

    return working(slide if isinstance(slide, Slide) else open_reader(slide, mpp=slide_mpp), mpp)


def _cells(shape: tuple[int, int], stride: int) -> tuple[int, int]:
    """Cells of the slide, the last ones partly on the white padding."""
    return -(-shape[0] // stride), -(-shape[1] // stride)


def _with_halo(core: Block, size: tuple[int, int], halo: int, cells: tuple[int, int]) -> Block:
    """`core` and at least `halo` cells around it, inside the slide.

    Every window of a slide gets the same size, so that their activations fit the same memory: at
    the slide's border more than the halo is taken on the other side.
    """
    spans = []
    for start, length, whole in zip((core.y0, core.x0), size, cells, strict=True):
        taken = min(length + 2 * halo, whole)
        first = min(max(start - halo, 0), whole - taken)
        spans += [first, first + taken]
    return Block(*spans)


def _ahead(read: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[tuple[_T, _R]]:
    """``(item, read(item))`` in order; the next is read while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[_T, Any]] = []
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > 1:
                first, result = waiting.pop(0)
                yield first, result.result()
        for first, result in waiting:
            yield first, result.result()
