"""What `msiscale fuse` does on a worker, for one specimen: inputs, restoring, sharpening."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.features import encoder_of
from msiscale.features.extract import extract_block, whole_units
from msiscale.fusion import (
    Fine,
    Fit,
    Measured,
    consistency,
    fit,
    make_consistent,
    measured_grid,
    nested,
    restore,
    score,
)
from msiscale.fusion.regression import Regression
from msiscale.fusion.restoring import model_of
from msiscale.fusion.variables import (
    NAMES,
    luminance,
)
from msiscale.grid import Block, Floats, blocks, centres_um
from msiscale.models import Moments
from msiscale.models.moments import reciprocal
from msiscale.pipeline.fuse_figure import draw_restored
from msiscale.pipeline.fuse_specimen import FusedSpecimen, InStore
from msiscale.pipeline.pixel_rows import PixelRows, sound
from msiscale.placing import affine_of, finer
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working
from msiscale.store import (
    array_of,
    create_array,
    join,
    open_group,
    put,
    read,
    write_block,
    write_bytes,
)

# of the means of parts against the pixels that were measured
CONSISTENCY = ("consistency_correlation", "consistency_rmse")
METRICS = (
    *("correlation", "rmse", "ssim", "reconstruction_correlation", "reconstruction_r2"),
    *CONSISTENCY,
)
_SIDE = 512  # raster pixels of a slide that are worked on at once
_REGRESSION = ("coef", "intercept", "chosen", "correlation", "r2")


def structure(cohort_url: str, state_url: str, name: str, config: RunConfig) -> dict[str, Any]:
    """Write the share (mz,) of each ion's variance left after binning 2 x 2 (noise: a quarter)."""
    with sound(cohort_url, name):
        group = open_group(join(cohort_url, name))
        mask = PixelRows.open(join(cohort_url, name), "", min_coverage=config.min_coverage).mask
        intensity = array_of(group, "intensity")
        pixels: Moments | None = None
        coarse: Moments | None = None
        for cell in blocks(mask.shape, (nested.CELL, nested.CELL)):
            if not mask[cell.slices].any():
                continue
            values = np.asarray(intensity[cell.slices], np.float64)
            values[~mask[cell.slices]] = np.nan
            fine, mean = _variances(values), _variances(nested.degrade(values, 2))
            pixels = fine if pixels is None else pixels + fine
            coarse = mean if coarse is None else coarse + mean
    found = open_group(state_url, "a").require_group(name).require_group("fusion")
    share = np.zeros(intensity.shape[2])
    if pixels is not None and coarse is not None:
        share = np.square(coarse.scale("m") * reciprocal(pixels.scale("m")))
    put(found, "structure", share, ("mz",))
    return {}


def _variances(values: Floats) -> Moments:
    """Moments of the measured pixels, of which only the diagonal is wanted, and made."""
    rows = values[np.isfinite(values).all(axis=-1)]
    n, mean = len(rows), rows.mean(axis=0)
    square = np.diag(((rows - mean) ** 2).sum(axis=0))
    q = rows.shape[1]
    return Moments(n, float(n), np.zeros(0), mean, np.zeros((0, 0)), np.zeros((0, q)), square, 0.0)


def inputs(fused: FusedSpecimen, config: RunConfig) -> dict[str, Any]:
    """The chosen ions, the variables of the H&E and the guide, block by block."""
    with sound(*fused.stored.url.rsplit("/", 1)):
        intensity, image = fused.stored.intensity, fused.slide()
        shape = (intensity.shape[0], intensity.shape[1])
        group, parts, size = fused.fusion, fused.parts, nested.CELL
        chunks = (size, size)
        ions, variables = (
            create_array(group, name, (*shape, n), ("y", "x", dim), chunks=(*chunks, n))
            for name, n, dim in (
                ("ions", len(fused.columns), "mz"),
                ("variables", len(NAMES), "variable"),
            )
        )
        pan = create_array(group, "pan", shape, ("y", "x"), chunks=chunks)
        fine_shape = (shape[0] * parts, shape[1] * parts)
        fine = create_array(
            group, "pan_fine", fine_shape, ("yf", "xf"), chunks=(size * parts, size * parts)
        )
        side = max(1, _SIDE // fused.per_pixel)
        for block in blocks(shape, chunks):
            values = np.asarray(intensity[block.slices], np.float32)[..., fused.columns]
            found = np.empty((*block.shape, len(NAMES)))
            guide = np.empty((block.shape[0] * parts, block.shape[1] * parts))
            for tile in blocks(block.shape, (side, side)):
                here = Block(
                    block.y0 + tile.y0, block.y0 + tile.y1, block.x0 + tile.x0, block.x0 + tile.x1
                )
                detailed = fused.variables(image, nested.times(here, parts), parts)
                found[tile.slices] = nested.degrade(detailed, parts)
                guide[nested.times(tile, parts).slices] = luminance(detailed)
            write_block(ions, block, values)
            write_block(variables, block, found)
            write_block(pan, block, luminance(found))
            write_block(fine, nested.times(block, parts), guide)
    return {"variables": list(NAMES), "per_pixel": fused.per_pixel}


def restoring(
    fused: FusedSpecimen,
    config: RunConfig,
    factors: Sequence[int],
    methods: Sequence[str],
    consistent: bool,
) -> dict[str, Any]:
    """Degrade, restore and score; and fit on the MSI's own grid, for `sharpening`."""
    with sound(*fused.stored.url.rsplit("/", 1)):
        data, group = fused.measured(config), fused.fusion
        n = len(fused.columns)
        scores = np.full((len(methods), len(factors) + 1, len(METRICS), n), np.nan)
        found = fit(data, 1, methods, alphas=config.alphas)
        _reconstruction(scores[:, 0], found, methods)
        _save(found, group)
        noisy = found.sums.scale("m")
        left_out, smooth = {}, noisy
        for i, factor in enumerate(factors, start=1):
            found = fit(data, factor, methods, alphas=config.alphas)
            can = [m for m in methods if found.can(m)]
            if len(can) < len(methods):
                left_out[str(factor)] = found.pixels
            if i == 1 + len(factors) // 2:
                smooth = found.sums.scale("m")
            images = InStore.made(group.require_group(f"x{factor}"), can, (*data.shape, n), factor)
            of_means = _restored(found, measured_grid(data, factor), can, images, consistent)
            for method, sums in score(data, images, can).items():
                known = {**sums.values(), **of_means[method]}
                for metric, values in known.items():
                    scores[methods.index(method), i, METRICS.index(metric)] = values
            _reconstruction(scores[:, i], found, methods)
        for old in set(group.group_keys()) - {"fit", *(f"x{f}" for f in factors)}:
            del group[old]
        put(group, "scores", scores, ("method", "factor", "metric", "mz"))
    middle = 1 + len(factors) // 2
    factor = factors[middle - 1]
    ion = int(np.argmax(smooth * reciprocal(noisy)))  # one with much left to restore
    picture = draw_restored(
        fused.specimen.name,
        data,
        InStore(group.require_group(f"x{factor}")),
        methods,
        factor=factor,
        ion=ion,
        mz=float(fused.stored.mz[fused.columns[ion]]),
        correlation=scores[:, middle, 0, ion],
        consistency=scores[:, middle, METRICS.index("consistency_rmse"), ion],
        pixel_um=fused.stored.pixel_um,
    )
    write_bytes(join(fused.out, "figures", f"fusion_{fused.specimen.name}.png"), picture)
    return {"left_out": left_out, "pixels": int(data.mask.sum())}


def _restored(
    found: Fit, fine: Fine, methods: Sequence[str], images: InStore, consistent: bool
) -> dict[str, dict[str, Floats]]:
    """Restore, with means as measured where that is asked for; by method how near they are."""
    restore(found, fine, methods, images)
    if consistent:
        make_consistent(found.factor, fine, methods, images)
    of = {m: s.values() for m, s in consistency(found.factor, fine, methods, images).items()}
    return {m: {name: v[name.partition("_")[2]] for name in CONSISTENCY} for m, v in of.items()}


def _reconstruction(scores: Floats, found: Fit, methods: Sequence[str]) -> None:
    """Fill in, for the methods that are a model, what it was worth on pixels held out."""
    for i, method in enumerate(methods):
        model = found.models.get(method)
        if model is not None:
            scores[i, METRICS.index("reconstruction_correlation")] = model.correlation
            scores[i, METRICS.index("reconstruction_r2")] = model.r2


def _save(found: Fit, group: zarr.Group) -> None:
    saved = group.require_group("fit")
    for old in set(saved.group_keys()) - set(found.models) - {"sums"}:
        del saved[old]
    found.sums.save(saved.require_group("sums"))
    for name, model in found.models.items():
        inner = saved.require_group(name)
        for part in _REGRESSION:
            values = getattr(model, part)
            put(inner, part, values, ("mz", "variable")[: values.ndim])
    saved.attrs.update({"pixels": found.pixels})


def _load(group: zarr.Group, factor: int) -> Fit:
    saved: Any = group["fit"]
    models = {
        name: Regression(*(read(saved[name], part) for part in _REGRESSION))
        for name in saved.group_keys()
        if name != "sums"
    }
    return Fit(factor, int(saved.attrs["pixels"]), Moments.load(saved["sums"]), models)


def sharpening(
    fused: FusedSpecimen, config: RunConfig, methods: Sequence[str], consistent: bool
) -> dict[str, Any]:
    """The measured ion images on the fine grid, in ``fusion.zarr/<specimen>``."""
    with sound(*fused.stored.url.rsplit("/", 1)):
        data, parts = fused.measured(config), fused.parts
        found = _load(open_group(join(fused.state_url, "fusion")), parts)
        can = [m for m in methods if found.can(m)]
        shape = (data.shape[0] * parts, data.shape[1] * parts)
        root = open_group(join(fused.out, "fusion.zarr"), "r+")
        group = root.require_group(fused.specimen.name)
        images = InStore.made(group, can, (*shape, len(fused.columns)), parts)
        deep = any(model_of(m) not in (None, "pls") for m in can)
        fine = _fine(fused, config, data, shape, deep)
        of_means = _restored(found, fine, can, images, consistent)
        scores = np.full((len(methods), len(CONSISTENCY), len(fused.columns)), np.nan)
        for method, values in of_means.items():
            scores[methods.index(method)] = [values[name] for name in CONSISTENCY]
        put(fused.fusion, "consistency", scores, ("method", "metric", "mz"))
        for name, n, um in zip(("y", "x"), shape, fused.stored.pixel_um, strict=True):
            put(group, name, centres_um(n, um / parts), (name,), attrs={"units": "µm"})
        mz = fused.stored.mz[list(fused.columns)]
        put(group, "mz", mz, ("mz",), attrs={"units": "m/z"})
        group.attrs.update(
            {
                "pixel_um": [um / parts for um in fused.stored.pixel_um],
                "matrix": affine_of(finer(fused.stored.placing, parts)).tolist(),
                "slide": fused.specimen.slide,
                "consistent": consistent,
            }
        )
    return {"methods": can, "shape": list(shape)}


def _fine(
    fused: FusedSpecimen, config: RunConfig, data: Measured, shape: tuple[int, int], deep: bool
) -> Fine:
    """The fine grid: what a block of it needs is made of the slide when it is asked for."""
    parts, raster = fused.parts, fused.slide()
    guide = array_of(open_group(join(fused.state_url, "fusion")), "pan_fine")

    def mask(block: Block) -> NDArray[np.bool_]:
        y = np.arange(block.y0, block.y1) // parts
        x = np.arange(block.x0, block.x1) // parts
        return data.mask[np.ix_(y, x)]

    def pan(block: Block) -> Floats:
        return np.where(mask(block), np.asarray(guide[block.slices], np.float64), np.nan)

    features: Callable[[Block], NDArray[Any]] = partial(_no_features)
    if deep:
        features = _deep_features(fused, config, shape, mask)
    return Fine(
        shape,
        mask,
        pan,
        lambda block: fused.variables(raster, block, parts).astype(np.float32),
        features,
        lambda block: data.read("ions", block),
    )


def _no_features(block: Block) -> NDArray[Any]:
    raise AssertionError(f"{block}: no method takes deep features")


def _deep_features(
    fused: FusedSpecimen,
    config: RunConfig,
    shape: tuple[int, int],
    mask: Callable[[Block], NDArray[np.bool_]],
) -> Callable[[Block], NDArray[Any]]:
    """What gives the dense features of a block of fine pixels, by the encoder of the run."""
    facts: dict[str, Any] = dict(fused.stored.features.attrs)
    known, mpp = facts["sha256"], float(facts["mpp"])
    encoder = encoder_of(replace(config, mpp=mpp))
    if encoder.sha256 != known:
        raise InputError(
            f"{fused.out}: its features are of weights {str(known)[:12]}…, but "
            f"{config.weights or 'the default'} is {encoder.sha256[:12]}…; give --weights"
        )
    slide = open_reader(fused.specimen.slide, mpp=fused.specimen.mpp)
    image = working(slide, mpp)
    placing = finer(fused.stored.placing, fused.parts)

    def features(block: Block) -> NDArray[Any]:
        around = whole_units(block, shape)
        wanted = mask(around)
        return extract_block(
            image, placing, block, wanted, encoder, window=config.pixels_a_window, around=around
        )[0]

    return features
