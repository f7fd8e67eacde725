"""Ion images onto a finer grid by each method, window by window.

Two questions are asked of the same methods. *Restoring*: the measured ion images are degraded by a
factor and each method tries to get them back, which can be scored. *Sharpening*: the measured
images are the coarse ones, and the fine ones are new. In both, `fit` reads the coarse grid once
and `restore` goes over the fine one in windows; an image is never in memory whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from msiscale.fusion import nested, pansharpening
from msiscale.fusion.regression import (
    FOLDS,
    LEAST_PIXELS,
    Regression,
    fit_pls,
    fit_ridge,
    fold_of,
    side_of,
)
from msiscale.fusion.scores import REACH, Scores
from msiscale.grid import Block, Floats, blocks
from msiscale.models.moments import Moments

INTERPOLATIONS: dict[str, nested.Kernel] = {kernel: kernel for kernel in get_args(nested.Kernel)}
PANSHARPENING = ("laplacian", "ihs", "gihs")
MODELS = ("pls", "pls_deep", "ours")
RESIDUAL = "_residual"  # a model's prediction, and what it leaves of the coarse image
METHODS = (
    *INTERPOLATIONS,
    *PANSHARPENING,
    *(name + end for name in MODELS for end in ("", RESIDUAL)),
)
DEFAULT = tuple(m for m in METHODS if not m.startswith("pls_deep"))
_RESIDUAL_HALO = nested.FILL + 2  # of the residual's bicubic
_TOGETHER = 24  # ions in memory with the surroundings of a window; a multiple of IHS's three


class Slices(Protocol):
    """What can be read in parts: a NumPy or a Zarr array (y, x, ...)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, key: Any) -> Any: ...


class Images(Protocol):
    """Where restored images are kept: by method, written and read in blocks of pixels."""

    def write(self, method: str, block: Block, values: NDArray[np.float32]) -> None:
        """Keep a block.

        Parameters
        ----------
        method
            Whose image it is.
        block
            Pixels (y, x) of the image.
        values
            (h, w, t) float32, of the block.
        """
        ...

    def read(self, method: str, block: Block) -> NDArray[np.float32]: ...


@dataclass
class InMemory:
    """`Images` as NumPy arrays (y, x, t)."""

    shape: tuple[int, int, int]
    images: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def write(self, method: str, block: Block, values: NDArray[np.float32]) -> None:
        """Keep a block.

        Parameters
        ----------
        method
            Whose image it is.
        block
            Pixels (y, x) of the image.
        values
            (h, w, t) float32, of the block.
        """
        image = self.images.setdefault(method, np.full(self.shape, np.nan, np.float32))
        image[block.slices] = values

    def read(self, method: str, block: Block) -> NDArray[np.float32]:
        """A block of what was written."""
        return self.images[method][block.slices]


@dataclass(frozen=True)
class Measured:
    """A specimen on the grid of its MSI."""

    mask: NDArray[np.bool_]  # (y, x), pixels that were measured, on tissue
    ions: Slices  # (y, x, t)
    pan: Slices  # (y, x), the guide image
    variables: Slices  # (y, x, p), what PLS may know of the guide
    features: Slices | None = None  # (y, x, c), deep, for the methods that take them

    @property
    def shape(self) -> tuple[int, int]:
        return self.mask.shape[0], self.mask.shape[1]

    def read(self, name: str, block: Block) -> Floats:
        """A block of one of them, float64 (h, w, ...), NaN off the mask."""
        values = np.asarray(getattr(self, name)[block.slices], dtype=np.float64)
        values[~self.mask[block.slices]] = np.nan
        return values


@dataclass(frozen=True, eq=False)
class Fit:
    """What a factor's coarse grid says of the whole specimen."""

    factor: int
    pixels: int
    sums: Moments  # of the guide (x) and the ions (m) over its pixels
    models: Mapping[str, Regression]  # by name; none where there are too few pixels

    def can(self, method: str) -> bool:
        """Whether there is what the method needs."""
        return model_of(method) is None or model_of(method) in self.models


def model_of(method: str) -> str | None:
    """The model that a method needs to be fitted, None if it needs none."""
    name = method.removesuffix(RESIDUAL)
    return name if name in MODELS else None


def fit(
    data: Measured, factor: int, methods: Sequence[str], *, alphas: Sequence[float] = (1.0,)
) -> Fit:
    """One reading of a coarse grid, on which a pixel counts by its share of measured pixels.

    Memory: a cell of pixels, and the sums of p variables for each of the folds and two more, at
    ``8 (p + t)²`` bytes.

    Parameters
    ----------
    data : Measured
        The specimen.
    factor : int
        Pixels of the MSI to one of the grid, each way (1: the MSI itself).
    methods : sequence of str
        What is to be restored.
    alphas : sequence of float
        Penalties of the ridge.

    Returns
    -------
    Fit

    Raises
    ------
    ValueError
        No pixel is measured, or a method needs deep features and there are none.
    """
    names = {m for m in map(model_of, methods) if m}
    deep = bool(names - {"pls"})
    if deep and data.features is None:
        raise ValueError(
            f"{', '.join(sorted(names))}: this method needs deep features, and there are none"
        )
    share = nested.share(data.mask, factor)
    pixels = int((share > 0).sum())
    side = side_of(pixels)
    guide: Moments | None = None
    folds: dict[int, Moments] = {}
    for cell in blocks(share.shape, (max(1, nested.CELL // factor),) * 2):
        weight = share[cell.slices]
        known = weight > 0
        if not known.any():
            continue
        fine = nested.times(cell, factor, data.shape)
        m = nested.degrade(data.read("ions", fine), factor)[known]
        pan = nested.degrade(data.read("pan", fine), factor)[known][:, None]
        part = Moments.of(pan, m, weight=weight[known], dtype=np.float64)
        guide = part if guide is None else guide + part
        if not names:
            continue
        x = nested.degrade(data.read("variables", fine), factor)[known]
        if deep:
            x = np.hstack([x, nested.degrade(data.read("features", fine), factor)[known]])
        y, c = (i + o for i, o in zip(np.nonzero(known), (cell.y0, cell.x0), strict=True))
        home = fold_of(y, c, side)
        for f in range(FOLDS):
            here = home == f
            sums = Moments.of(x[here], m[here], weight=weight[known][here], dtype=np.float64)
            folds[f] = folds[f] + sums if f in folds else sums
    if guide is None:
        raise ValueError("no pixel is measured")
    models = {}
    if names and pixels >= LEAST_PIXELS:
        parts = [folds[f] for f in range(FOLDS)]
        models = {name: _model(name, parts, data, alphas) for name in sorted(names)}
    return Fit(factor, pixels, guide, models)


def _model(
    name: str, parts: Sequence[Moments], data: Measured, alphas: Sequence[float]
) -> Regression:
    p = data.variables.shape[2]
    if name == "pls":
        return fit_pls([part.select(x=np.arange(p)) for part in parts])
    if name == "pls_deep":
        return fit_pls(parts)
    return fit_ridge([part.select(x=np.arange(p, part.p)) for part in parts], alphas)


@dataclass(frozen=True)
class Fine:
    """The grid that images are restored to: its shape, and how to read blocks (h, w, ...) of it."""

    shape: tuple[int, int]
    mask: Callable[[Block], NDArray[np.bool_]]
    pan: Callable[[Block], Floats]
    variables: Callable[[Block], NDArray[Any]]
    features: Callable[[Block], NDArray[Any]]
    coarse: Callable[[Block], Floats]  # ions of a block of coarse pixels, NaN where not measured


def measured_grid(data: Measured, factor: int) -> Fine:
    """The MSI's own grid, to be restored from images `factor` times as coarse."""

    def coarse(block: Block) -> Floats:
        return nested.degrade(data.read("ions", nested.times(block, factor, data.shape)), factor)

    def part(name: str) -> Callable[[Block], Floats]:
        return lambda block: data.read(name, block)

    names = ("pan", "variables", "features")
    parts = {name: part(name) for name in names}
    return Fine(data.shape, lambda block: data.mask[block.slices], coarse=coarse, **parts)


def restore(found: Fit, fine: Fine, methods: Sequence[str], images: Images) -> list[str]:
    """Write the images of each method on the fine grid; values below zero become zero.

    Parameters
    ----------
    found : Fit
        What the coarse grid says.
    fine : Fine
        The fine one.
    methods : sequence of str
        Those of a model come before what adds their residual.
    images : Images
        Where to.

    Returns
    -------
    list of str
        The methods that were possible.
    """
    possible = [m for m in methods if found.can(m)]
    models = sorted({m for m in map(model_of, possible) if m})
    plain = [m for m in possible if model_of(m) is None]
    coarse_shape = nested.degraded_shape(fine.shape, found.factor)
    for core, around in nested.windows(coarse_shape, found.factor):
        block = nested.times(core, found.factor, fine.shape)
        mask = fine.mask(block)
        if plain:
            for name, values in _windowed(found, fine, plain, core, around):
                images.write(name, block, _kept(values, mask))
        for name, values in _predicted(found, fine, models, block, mask):
            images.write(name, block, _kept(values, mask))
    for method in possible:
        if method.endswith(RESIDUAL):
            _add_residual(found, fine, method, images)
    return possible


def _kept(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    kept: NDArray[np.float32] = np.maximum(values, 0).astype(np.float32)
    kept[~mask] = np.nan
    return kept


def _crop(
    values: Floats, core: Block, around: Block, factor: int, shape: tuple[int, int]
) -> Floats:
    """The fine pixels of `core` out of those of `around`, no further than `shape`."""
    block = nested.times(core, factor, shape)
    return values[block.within(nested.times(around, factor))]


def _windowed(
    found: Fit, fine: Fine, methods: Sequence[str], core: Block, around: Block
) -> Iterator[tuple[str, Floats]]:
    """Images of the methods that need only the coarse image and the guide around a block."""
    factor, shape = found.factor, fine.shape
    coarse, whole = fine.coarse(around), nested.times(around, factor, shape)
    slope, variance = pansharpening.slopes(found.sums)
    pan = np.full((around.shape[0] * factor, around.shape[1] * factor), np.nan)
    if set(methods) & set(PANSHARPENING):
        pan[: whole.shape[0], : whole.shape[1]] = fine.pan(whole)
    for method in methods:
        parts = []
        for start in range(0, found.sums.q, _TOGETHER):
            some = np.arange(start, min(start + _TOGETHER, found.sums.q))
            low, tilt = coarse[..., some], slope[some]
            if method in INTERPOLATIONS:
                values = nested.upsample(nested.filled(low), factor, INTERPOLATIONS[method])
            elif method == "laplacian":
                values = pansharpening.laplacian(low, pan, factor, tilt, variance)
            elif method == "gihs":
                values = pansharpening.generalised_ihs(low, pan, factor, tilt)
            else:
                values = pansharpening.ihs(low, pan, factor, found.sums.select(m=some))
            parts.append(_crop(values, core, around, factor, shape))
        yield method, np.concatenate(parts, axis=-1)


def _predicted(
    found: Fit, fine: Fine, models: Sequence[str], block: Block, mask: NDArray[np.bool_]
) -> Iterator[tuple[str, Floats]]:
    """Images that a model predicts of what is known of the slide."""
    if not models or not mask.any():
        for name in models:
            yield name, np.full((*block.shape, found.sums.q), np.nan)
        return
    x = np.asarray(fine.variables(block)[mask], np.float64)
    deep = np.empty((len(x), 0))
    if set(models) - {"pls"}:
        deep = np.asarray(fine.features(block)[mask], np.float64)
    columns = {"pls": x, "ours": deep}
    if "pls_deep" in models:
        columns["pls_deep"] = np.hstack([x, deep])
    for name in models:
        values = np.full((*block.shape, found.sums.q), np.nan)
        values[mask] = found.models[name].predict(columns[name])
        yield name, values


def _add_residual(found: Fit, fine: Fine, method: str, images: Images) -> None:
    """A prediction plus, interpolated, what its coarse mean lacks of the coarse image."""
    model, factor = method.removesuffix(RESIDUAL), found.factor
    coarse_shape = nested.degraded_shape(fine.shape, factor)
    for core, around in nested.windows(coarse_shape, factor, _RESIDUAL_HALO):
        whole, block = (nested.times(b, factor, fine.shape) for b in (around, core))
        predicted = images.read(model, whole).astype(np.float64)
        lacks = fine.coarse(around) - nested.degrade(predicted, factor)
        values = nested.upsample(nested.filled(lacks), factor, "bicubic")
        total = _crop(values, core, around, factor, fine.shape)
        total = total + predicted[block.within(whole)]
        images.write(method, block, _kept(total, fine.mask(block)))


def score(data: Measured, images: Images, methods: Sequence[str]) -> dict[str, Scores]:
    """How near restored images are to the measured ones.

    Parameters
    ----------
    data : Measured
        The specimen.
    images : Images
        Those that `restore` wrote, float32 (y, x, t), on the MSI's own grid.
    methods : sequence of str
        Whose.

    Returns
    -------
    dict of str to Scores
    """
    span = _span(data)
    found: dict[str, Scores] = {}
    for cell in blocks(data.shape, (nested.CELL, nested.CELL)):
        if not data.mask[cell.slices].any():
            continue
        around = nested.grown(cell, REACH, data.shape)
        truth, mask = data.read("ions", around), data.mask[around.slices]
        for method in methods:
            restored = images.read(method, around)
            part = Scores.of(truth, restored, mask, cell.within(around), span)
            found[method] = found[method] + part if method in found else part
    return found


def _span(data: Measured) -> Floats:
    """Range (t,) of each ion over the mask."""
    low, high = np.inf, -np.inf
    for cell in blocks(data.shape, (nested.CELL, nested.CELL)):
        values = data.read("ions", cell)[data.mask[cell.slices]]
        if len(values):
            low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
    return np.asarray(high - low, np.float64)
