"""A fitted model as `msiscale predict` uses it: linear maps of features, or of curves of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.special import logit

from msiscale import store
from msiscale.errors import InputError
from msiscale.models.calibration import moved
from msiscale.models.fold_model import fourier_of
from msiscale.models.fourier import FourierMap
from msiscale.models.novelty import Limits, Novelty
from msiscale.prediction.tiers import Tiers, tiers_of
from msiscale.store import nearest_column, open_group

MAPS = ("cancer_from_he", "cancer_from_predicted_msi")
FORMAT = 3
CURVED = 4  # with Fourier features, of which version 3 knows nothing
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """What ``model.zarr`` holds of use without MSI.

    ``scores`` is (channel, component) with its intercepts; ``cancer`` (channel, len(maps)) gives
    the log-odds of ``maps`` (none, when the cohort had no annotation); ``spectrum``
    (component, mz) and ``mean`` (mz,) turn scores into spectra. The log-odds hold at the shares of
    cancer ``prevalence``, and ``thresholds`` are the probabilities from which on to call a pixel
    there, both by map; ``calibrated_at`` are the shares of the training. ``novelty`` tells how
    unlike those of the training features are, and ``limits`` when the model should not be believed.
    ``margins`` say how far predictions of a new patient err (`models.margins`): (mz,) of
    ``intensity``, (component,) of ``scores``, and one of each of ``maps`` at the shares of the
    training; nothing where no patient was held out. ``tiers`` are of ``ions.csv`` beside the model,
    where there is one. ``fourier`` makes the Fourier features that come after those of the slide
    among the channels of ``scores`` and ``cancer``, where there are any.
    """

    attrs: dict[str, Any]
    digest: str
    scores: Float32
    scores_intercept: Float32
    maps: tuple[str, ...]
    cancer: Float32
    cancer_intercept: Float32
    spectrum: Float32
    mean: Float32
    mz: NDArray[np.float64]
    prevalence: dict[str, float]
    thresholds: dict[str, float]
    novelty: Novelty
    limits: Limits
    calibrated_at: dict[str, float] = field(default_factory=dict)
    margins: Mapping[str, Float32] = field(default_factory=dict)
    tiers: Tiers | None = None
    fourier: FourierMap | None = None

    def at_prevalence(self, share: float | None) -> Model:
        """The same model where another share of the pixels is cancer.

        Log-odds and thresholds move by the difference of the log-odds of both shares (Bayes' rule):
        what cancer looks like is taken to be the same. So the pixels that are called are, too.

        Parameters
        ----------
        share
            Above 0 and below 1; None: that of the training.

        Returns
        -------
        Model
        """
        if share is None:
            return self
        held = np.array([self.prevalence[m] for m in self.maps])
        with np.errstate(divide="ignore"):
            shift = (logit(share) - logit(held)).astype(np.float32)
        cuts = {m: float(moved(self.thresholds[m], self.prevalence[m], share)) for m in self.maps}
        return replace(
            self,
            cancer_intercept=self.cancer_intercept + shift,
            prevalence=dict.fromkeys(self.maps, share),
            thresholds=cuts,
        )

    def predict_scores(self, features: Float32) -> Float32:
        """Predict the scores of the spectra's components from features.

        Parameters
        ----------
        features
            (..., channel) float32.

        Returns
        -------
        numpy.ndarray
            (..., component) float32.
        """
        return (self._seen(features) @ self.scores + self.scores_intercept).astype(np.float32)

    def predict_log_odds(self, features: Float32) -> Float32:
        """Predict the log-odds of cancer.

        Without `fourier` they are linear in the features, so that they may be averaged.

        Parameters
        ----------
        features
            (..., channel) float32.

        Returns
        -------
        numpy.ndarray
            (..., map) float32, in the order of `maps`.
        """
        return (self._seen(features) @ self.cancer + self.cancer_intercept).astype(np.float32)

    def _seen(self, features: Float32) -> Float32:
        return features if self.fourier is None else self.fourier.beside(features)

    def columns(self, mz: Sequence[float] | None) -> list[int]:
        """The columns of the axis for m/z that were asked for."""
        return columns_of(self.mz, self.mean, self.spectrum, mz or ())


def load_model(url: str) -> Model:
    """Read ``model.zarr``; raise `InputError` if it is not a model of this version."""
    group = open_group(url)
    if group.attrs.get("msiscale_model") not in (FORMAT, CURVED):
        raise InputError(
            f"{url}: it is not a model of this version of msiscale; fit it again with msiscale fit"
        )
    read = partial(store.read, group)
    maps = tuple(m for m in MAPS if f"{m}_coef" in group)
    none = np.empty((read("ridge_coef").shape[0], 0), np.float32)
    distribution = open_group(store.join(url, "novelty"))
    facts: Any = group.attrs["calibration"]
    of = {m: facts[m]["cancer"] for m in maps}
    trained = {m: float(of[m]["prevalence"]) for m in maps}
    slope, intercept = (np.array([of[m][k] for m in maps]) for k in ("slope", "intercept"))
    raw = np.stack([read(f"{m}_coef") for m in maps], axis=1) if maps else none
    base = np.array([float(read(f"{m}_intercept")) for m in maps])
    axis = read("mz").astype(np.float64)
    return Model(
        attrs=dict(group.attrs),
        digest=str(group.attrs["digest"]),
        scores=read("ridge_coef"),
        scores_intercept=read("ridge_intercept"),
        maps=maps,
        cancer=(raw * slope).astype(np.float32),
        cancer_intercept=(slope * base + intercept).astype(np.float32),
        spectrum=read("pca_components"),
        mean=read("pca_mean"),
        mz=axis,
        prevalence=dict(trained),
        calibrated_at=trained,
        thresholds={m: float(of[m]["threshold"]) for m in maps},
        novelty=Novelty.load(distribution, store.read),
        limits=Limits.load(distribution),
        margins=_margins(group),
        tiers=tiers_of(url.rstrip("/").rpartition("/")[0], axis),
        fourier=fourier_of(group, store.read),
    )


def _margins(group: zarr.Group) -> dict[str, Float32]:
    if "margins" not in group:
        return {}
    found = group["margins"]
    assert isinstance(found, zarr.Group)
    return {name: store.read(found, name) for name in found}


def columns_of(
    axis: NDArray[np.float64], mean: Float32, spectrum: Float32, wanted: Sequence[float]
) -> list[int]:
    """Find the column of the axis nearest to each m/z.

    Parameters
    ----------
    axis : (mz,) float64
        The model's m/z.
    mean, spectrum : (mz,) and (component, mz) float32
        Of the model, as in `Model`; all zero in a column that it leaves out.
    wanted : sequence of float
        The m/z to find.

    Returns
    -------
    list of int
        One column for each of `wanted`.

    Raises
    ------
    InputError
        None is near enough, or the model leaves that column out.
    """
    found = []
    for value in wanted:
        nearest = nearest_column(axis, value)
        if mean[nearest] == 0 and not spectrum[:, nearest].any():
            raise InputError(
                f"m/z {value}: it is too rare in the training to be predicted; choose another"
            )
        found.append(nearest)
    return found


def spectra(scores: Any, mean: Float32, spectrum: Float32) -> Float32:
    """Turn scores into intensities; what is below zero is zero.

    Parameters
    ----------
    scores
        (..., component) float32.
    mean
        (mz,) float32, of the model.
    spectrum
        (component, mz) float32, of the model.

    Returns
    -------
    numpy.ndarray
        (..., mz) float32.
    """
    found: Float32 = np.maximum(scores @ spectrum + mean, np.float32(0)).astype(np.float32)
    return found


def probability(log_odds: Any) -> Float32:
    """Turn log-odds into probabilities of the same shape, float32."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-np.asarray(log_odds))), dtype=np.float32)


def bound_names(name: str) -> tuple[str, str]:
    """What the maps of the lower and the upper bound of another are called."""
    return f"{name}_lower", f"{name}_upper"


def of_model(model: Model) -> dict[str, tuple[NDArray[Any], str]]:
    """What a prediction keeps of the model to tell its errors: values and axis, by name."""
    found: dict[str, tuple[NDArray[Any], str]] = {}
    if model.margins:
        found["intensity_margin"] = model.margins["intensity"], "mz_axis"
        found["scores_margin"] = model.margins["scores"], "component"
    if model.tiers is not None:
        found["tier"] = model.tiers.tier, "mz_axis"
        found["tier_pearson"] = model.tiers.pearson, "mz_axis"
        found["identification"] = model.tiers.name, "mz_axis"
    return found
