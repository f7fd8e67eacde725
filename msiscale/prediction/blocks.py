"""One block of a slide's prediction, on a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.features import encoder_of
from msiscale.features.extract import extract_block, whole_units
from msiscale.grid import Block, as_matrix
from msiscale.models.calibration import moved
from msiscale.models.margins import bounds, local_scale
from msiscale.prediction.grid import group_means
from msiscale.prediction.model import Model, bound_names, load_model, probability, spectra
from msiscale.regridding import covered_by_half
from msiscale.slide.reader import open_reader
from msiscale.slide.tissue import tissue_mask
from msiscale.slide.working import WorkingImage, as_asked
from msiscale.store import array_of, open_group, write_block

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SlidePlan:
    """What every block of a slide's prediction is told.

    Attributes
    ----------
    target : ``predictions.zarr/<name>``
    model : URL of the model
    key : digest of the slide, the model and the choices; what a worker keeps is of one key
    matrix : pixel index to level-0 pixels
    shape : of the grid
    pixel_um : of the grid
    columns : m/z whose ion images are written too
    prevalence : share of cancer that is assumed; None: that of the training
    """

    target: str
    model: str
    key: str
    matrix: tuple[tuple[float, ...], ...]
    shape: tuple[int, int]
    pixel_um: float
    columns: tuple[int, ...]
    prevalence: float | None = None


# a worker predicts the blocks of a slide one after another, all by one model
@lru_cache(maxsize=2)
def _model(url: str, key: str) -> Model:
    return load_model(url)


@lru_cache(maxsize=2)
def _slide(
    path: str, mpp: float | None, target: float, key: str
) -> tuple[WorkingImage, Mask, tuple[float, float]]:
    """The slide at its working resolution, and its tissue: the whole of a slide decides on it."""
    slide = open_reader(path, mpp=mpp)
    mask, downsample = tissue_mask(slide)
    return as_asked(slide, target), mask, downsample


def predict_block(
    plan: SlidePlan, specimen: Specimen, block: Block, config: RunConfig
) -> dict[str, Any]:
    """Predict a block and write it. Memory: one window, and the features of a block."""
    model = _model(plan.model, plan.key).at_prevalence(plan.prevalence)
    image, mask, downsample = _slide(specimen.slide, specimen.mpp, config.mpp, plan.key)
    matrix = as_matrix(plan.matrix)
    around = whole_units(block, plan.shape)
    tissue = covered_by_half(mask, downsample, matrix, around)
    encoder = encoder_of(config)
    features, coverage = extract_block(
        image,
        matrix,
        block,
        tissue,
        encoder,
        window=config.pixels_a_window,
        around=around,
    )
    found = predict_features(model, features, coverage, plan.pixel_um)
    if plan.columns:
        columns = list(plan.columns)
        images = spectra(found["predicted_scores"], model.mean[columns], model.spectrum[:, columns])
        found["predicted_intensity"] = images
        if model.margins:
            margin = model.margins["intensity"][columns]
            scale = local_scale(found["feature_distance"])
            both = bounds(images, margin, scale, lowest=0)
            found |= zip(bound_names("predicted_intensity"), both, strict=True)
    group = open_group(plan.target, "r+")
    for name, values in found.items():
        write_block(array_of(group, name), block, values)
    return {"pixels": int(np.isfinite(found["feature_distance"]).sum())}


def predict_features(
    model: Model, features: NDArray[np.float32], coverage: NDArray[np.float32], pixel_um: float
) -> dict[str, NDArray[Any]]:
    """Predict all that a model can from features.

    Parameters
    ----------
    model : Model
        The fitted model.
    features : (h, w, channels) float32
        NaN off the tissue.
    coverage : (h, w) float32
        Share of each pixel on the slide.
    pixel_um : float
        Side of a pixel, µm.

    Returns
    -------
    dict of str to (h, w) or (h, w, component) float32
        The probabilities `model.maps` with their bounds and their log-odds, ``predicted_scores``,
        ``coverage``, ``feature_distance`` and ``feature_unexplained``.
    """
    log_odds = model.predict_log_odds(features)
    coarse = group_means(features, coverage, pixel_um, float(model.attrs["pixel_um"]))
    distance, unexplained = model.novelty.measure(coarse)
    found: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(model.maps):
        found[name] = probability(log_odds[..., i])
        found[f"{name}_log_odds"] = log_odds[..., i]
        if name in model.margins:
            found |= zip(
                bound_names(name), _bounds(model, name, found[name], distance), strict=True
            )
    return {
        **found,
        "coverage": coverage,
        "predicted_scores": model.predict_scores(features),
        "feature_distance": distance,
        "feature_unexplained": unexplained,
    }


def _bounds(
    model: Model, name: str, values: NDArray[np.float32], distance: NDArray[np.float32]
) -> Iterator[NDArray[Any]]:
    """Bounds of a probability; margins hold at the prevalence of the training, and move with it."""
    held, here = model.calibrated_at[name], model.prevalence[name]
    base = values if held == here else moved(values, here, held)
    for bound in bounds(base, model.margins[name], local_scale(distance), lowest=0, highest=1):
        yield bound if held == here else moved(bound, held, here).astype(np.float32)
