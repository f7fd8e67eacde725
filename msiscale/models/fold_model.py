"""A fitted fold: what it consists of, what it scored, and how it is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale.grid import Floats
from msiscale.models.fold_records import MSI_FROM_COLOUR, r2_records
from msiscale.models.folds import Fold
from msiscale.models.fourier import FourierMap
from msiscale.models.joint import LinearMap
from msiscale.models.metrics import Record
from msiscale.models.moments import Moments
from msiscale.models.pca import PCA
from msiscale.models.r2 import R2
from msiscale.saving import Layout, Read, ReadFrom, Saved, as_stored
from msiscale.store import join, open_group, put
from msiscale.threads import one_blas_thread

MAP = {"matrix": ("variable", "z"), "offset": ("z",), "variance": ("z",)}  # of a `LinearMap`
SQUARES = ("rss", "tss", "tss_train")  # of an `R2`
FOURIER = "fourier"  # the group of a fold's Fourier map, where it has one


class Mapped(Protocol):
    """A fold with its maps, in memory or still in the store."""

    @property
    def fourier(self) -> FourierMap | None: ...

    @property
    def fold(self) -> Fold: ...

    @property
    def maps(self) -> Mapping[str, LinearMap] | None: ...


@dataclass(frozen=True, eq=False)
class Basis:
    """Modes of the MSI: principal components of the m/z in use.

    Attributes
    ----------
    columns (q,) : bool, the u m/z in use
    mean (u,), components (k, u), explained_variance (k,), explained_variance_ratio (k,) : float64
        Score = (intensity - mean) @ components.T.
    """

    columns: NDArray[np.bool_]
    mean: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats

    @classmethod
    def exact(
        cls,
        training: Moments,
        specimens: tuple[str, ...],
        columns: NDArray[np.bool_] | None,
        most: int,
    ) -> Basis:
        """Find at most `most` components from the sums of the training specimens.

        Parameters
        ----------
        training
            Sums of `specimens`.
        specimens
            Named where no m/z is in use.
        columns
            (q,) bool, the m/z that they support; default those that vary.
        most
            Components.

        Returns
        -------
        Basis

        Raises
        ------
        ValueError
            No m/z is in use, or `columns` is not of the sums' length.
        """
        used = training.scale("m") > 0 if columns is None else np.asarray(columns, bool)
        if used.shape != (training.q,) or not used.any():
            raise ValueError(
                f"{used.sum()} of {training.q} m/z columns are in use by {specimens}; "
                "a model needs one"
            )
        pca = PCA.from_moments(training.select(m=used), "m", most)
        of_variance = (pca.explained_variance_, pca.explained_variance_ratio_)
        return cls(used, pca.mean_, pca.components_, *of_variance)

    def scores(self, part: Moments) -> Moments:
        """Sums of the scores in the place of the intensities."""
        return part.select(m=self.columns).project(self.components, self.mean)


@dataclass(frozen=True, eq=False)
class Scored:
    """What a fold scored on the specimens that it holds out, without its arrays.

    Attributes
    ----------
    fold : Fold
    explained_variance_ratio : (k,) float64, of its modes
    edge : str, as of `FoldModel`
    scores, colour_scores : dict of specimen to R2, of the map from features and from colours
    spectra : list of dict, records of whole spectra
    """

    fold: Fold
    explained_variance_ratio: Floats
    edge: str
    scores: dict[str, R2] = field(default_factory=dict)
    colour_scores: dict[str, R2] = field(default_factory=dict)
    spectra: list[Record] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        """Tidy metrics on the specimens held out, made anew each time: there are thousands."""
        name, ratio, found = self.fold.name, self.explained_variance_ratio, []
        for specimen, r2 in self.scores.items():
            found += r2_records(name, specimen, r2, ratio)
            if specimen in self.colour_scores:
                alone = self.colour_scores[specimen]
                found += r2_records(name, specimen, alone, ratio, MSI_FROM_COLOUR)
            found += [record for record in self.spectra if record["specimen"] == specimen]
        return found

    def save(self, group: zarr.Group) -> None:
        """Write the scores into a group; the other fields are the model's."""
        for name, scores in (("scores", self.scores), ("colour_scores", self.colour_scores)):
            if scores:
                values = np.stack([[getattr(r2, s) for s in SQUARES] for r2 in scores.values()])
                put(group, name, values, ("specimen", "square", "component"))
                put(group, f"{name}_n", [r2.n for r2 in scores.values()], ("specimen",))
        group.attrs.update({"spectra": self.spectra})

    @classmethod
    def load(cls, model: zarr.Group, group: zarr.Group) -> Scored:
        """Read what `save` wrote into `group`, and the rest from the group of the `model`."""
        attrs: dict[str, Any] = dict(model.attrs)
        fold = Fold(attrs["fold"], tuple(attrs["train"]), tuple(attrs["test"]))
        found: list[dict[str, R2]] = []
        for name in ("scores", "colour_scores"):
            there = name in group
            squares = as_stored(group, name) if there else np.zeros((0, 3, 0))
            n = as_stored(group, f"{name}_n") if there else np.zeros(0)
            each = (R2(float(k), *of) for k, of in zip(n, squares, strict=True))
            found.append(dict(zip(fold.test, each, strict=False)))
        ratio = np.zeros(0)
        if "explained_variance_ratio" in model:
            ratio = as_stored(model, "explained_variance_ratio")
        spectra: Any = group.attrs["spectra"]
        return cls(fold, ratio, str(attrs["edge"]), found[0], found[1], list(spectra))


@dataclass(frozen=True)
class StoredMaps(Mapping[str, LinearMap]):
    """The maps of a stored fold, each read when it is asked for; they are large."""

    url: str

    def __getitem__(self, name: str) -> LinearMap:
        group = open_group(self.url)
        if name not in group:
            raise KeyError(name)
        return LinearMap(**{of: as_stored(group, f"{name}/{of}") for of in MAP})

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(open_group(self.url).keys()))

    def __len__(self) -> int:
        return len(list(iter(self)))


@dataclass(frozen=True)
class StoredFold:
    """A fold of which nothing is read but the maps that are asked for."""

    fold: Fold
    url: str

    @property
    def maps(self) -> StoredMaps:
        """What classifiers see."""
        return StoredMaps(join(self.url, "maps"))

    @property
    def fourier(self) -> FourierMap | None:
        """What makes its Fourier features, where it has any."""
        return fourier_of(open_group(self.url))


def fourier_of(group: zarr.Group, read: ReadFrom = as_stored) -> FourierMap | None:
    """What makes the Fourier features of a stored model, where it has any."""
    return FourierMap.load(group[FOURIER], read) if FOURIER in group else None  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class FoldModel(Saved):
    """PCA of MSI and the map from features to its modes, fitted to the training specimens.

    Attributes
    ----------
    fold : Fold
    columns (q,) : bool, the m/z in use; the others have mean 0 and loadings 0.
    mean (q,), components (k, q), explained_variance (k,), explained_variance_ratio (k,) : float64
        Spectrum = mean + scores @ components.
    coef (k, p), intercept (k,) : float64
        Predicted scores = features @ coef.T + intercept.
    alpha : float, penalty of the map (see `msiscale.models.ridge`).
    alpha_by : str
        How it was chosen: leaving out training "patients", "specimens" or "blocks" of them, or
        "given" (only one to choose from).
    edge : str
        "smallest" or "largest" where it is the last of those to choose from; else "".
    weights : list of float
        Of the groups of features: how much each counts (see `msiscale.models.groups`).
    colour_coef (k, c), colour_intercept (k,), colour_alpha : the same of the colours alone.
    rank : int, of the standardised features in training.
    maps : LinearMap by classifier
        What each of ``cancer_from_msi`` (rows are intensities), ``cancer_from_he``,
        ``cancer_from_he_modes`` (its first modes, as many as there are of MSI: the comparison at
        equal rank) and ``cancer_from_predicted_msi`` (rows are features) sees of a row. Modes are
        in units of their measured standard deviation, predicted ones too: one that H&E hardly
        predicts stays small and the penalty keeps it from passing for chemistry. None after
        `load`.
        With Fourier features there is ``slide`` too: the principal axes of the features without.
    scored : Scored
        On the specimens held out; ``records`` are tidy metrics of it. Without scores after `load`.
    fourier : FourierMap
        Makes the Fourier features that come after those of the slide, the last of p in `coef`; None
        for a linear map of the slide's alone.
    """

    layout = Layout(
        "fold_model",
        "model of a fold",
        {
            "columns": ("mz",),
            "mean": ("mz",),
            "components": ("component", "mz"),
            "explained_variance": ("component",),
            "explained_variance_ratio": ("component",),
            "coef": ("component", "channel"),
            "intercept": ("component",),
            "colour_coef": ("component", "density"),
            "colour_intercept": ("component",),
        },
        ("alpha", "alpha_by", "edge", "weights", "colour_alpha", "rank"),
    )

    fold: Fold
    columns: NDArray[np.bool_]
    mean: Floats
    components: Floats
    explained_variance: Floats
    explained_variance_ratio: Floats
    coef: Floats
    intercept: Floats
    colour_coef: Floats
    colour_intercept: Floats
    alpha: float
    alpha_by: str
    edge: str
    weights: list[float]
    colour_alpha: float
    rank: int
    maps: Mapping[str, LinearMap] | None
    scored: Scored
    fourier: FourierMap | None = None

    @property
    def scores(self) -> dict[str, R2]:
        """What the records are made of, by specimen held out (targets: modes)."""
        return self.scored.scores

    @property
    def colour_scores(self) -> dict[str, R2]:
        """The same of what is predicted from colour alone."""
        return self.scored.colour_scores

    @property
    def records(self) -> list[Record]:
        """Tidy metrics on the specimens held out."""
        return self.scored.records

    @property
    def slide_columns(self) -> tuple[slice, slice]:
        """Where the slide's features and its colours are in x of a specimen's sums."""
        more = 0 if self.fourier is None else self.fourier.features
        features, colours = self.coef.shape[1] - more, self.colour_coef.shape[1]
        return columns_of(features + colours, colours)

    def project(self, intensity: NDArray[Any]) -> NDArray[np.float32]:
        """Scores of measured spectra.

        Parameters
        ----------
        intensity
            (n, q) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        x = intensity - self.mean.astype(intensity.dtype)
        with one_blas_thread():
            return np.asarray(x @ self.components.T.astype(x.dtype), np.float32)

    def beside(self, features: NDArray[Any]) -> NDArray[Any]:
        """What its maps and classifiers see of features of the slide.

        Parameters
        ----------
        features
            (n, p) float, of the slide.

        Returns
        -------
        ndarray
            (n, p + N) with its N Fourier features, or `features` where it has none.
        """
        return features if self.fourier is None else self.fourier.beside(features)

    def predict(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Scores predicted from features.

        Parameters
        ----------
        features
            (n, p) float, of the slide, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        with one_blas_thread():
            found = self.beside(features) @ self.coef.T.astype(features.dtype)
        return np.asarray(found + self.intercept.astype(features.dtype), np.float32)

    def predict_from_colour(self, colour: NDArray[Any]) -> NDArray[np.float32]:
        """Scores predicted from colours alone.

        Parameters
        ----------
        colour
            (n, c) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, k) float32.
        """
        found = colour @ self.colour_coef.T.astype(colour.dtype)
        return np.asarray(found + self.colour_intercept.astype(colour.dtype), np.float32)

    def spectrum(self, scores: NDArray[Any]) -> NDArray[np.float32]:
        """Spectra from scores.

        Parameters
        ----------
        scores
            (n, k) float, in whose precision the product is.

        Returns
        -------
        ndarray
            (n, q) float32, intensities; may be below zero.
        """
        with one_blas_thread():
            found = scores @ self.components.astype(scores.dtype)
        return np.asarray(found + self.mean.astype(scores.dtype), np.float32)

    def save(self, where: str | zarr.Group) -> None:
        """Write the model without its maps and metrics, see `Saved.save`."""
        group = open_group(where, "a") if isinstance(where, str) else where
        if self.fourier is not None:
            self.fourier.save(group.require_group(FOURIER))
        super().save(group)

    @classmethod
    def load(cls, where: str | zarr.Group, read: ReadFrom = as_stored) -> Self:
        """Read what `save` wrote, see `Saved.load`."""
        group = open_group(where) if isinstance(where, str) else where
        return replace(super().load(group, read), fourier=fourier_of(group, read))

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The model without its maps and metrics."""
        arrays, facts = super().stored()
        fold = {"fold": self.fold.name, "train": [*self.fold.train], "test": [*self.fold.test]}
        shape = [*self.coef.shape, len(self.mean), self.colour_coef.shape[1]]
        return arrays, fold | facts | {"shape": shape}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> FoldModel:
        """The model again, its maps, records and scores left empty."""
        names = ("component", "channel", "mz", "density")
        sizes = dict(zip(names, attrs["shape"], strict=True))
        shapes = {n: tuple(sizes[d] for d in dims) for n, dims in cls.layout.arrays.items()}
        found: dict[str, Any] = {name: attrs[name] for name in cls.layout.facts}
        for name, shape in shapes.items():
            found[name] = read(name) if np.prod(shape) else np.zeros(shape)
        fold = Fold(attrs["fold"], tuple(attrs["train"]), tuple(attrs["test"]))
        scored = Scored(fold, found["explained_variance_ratio"], found["edge"])
        return cls(fold=fold, maps=None, scored=scored, **found)


def columns_of(p: int, colours: int) -> tuple[slice, slice]:
    """Where features and colours are among `p` variables of the slide."""
    return slice(0, p - colours), slice(p - colours, p)
