"""How far specimens differ from each other beside what varies within them, from their sums alone.

Two views of it. By mode: the share of its variance that lies between specimens (eta squared),
parted into that between patients and that between specimens of a patient; a mode that is mostly
between specimens says which one a pixel is from rather than what it is. Over modes: how surely a
linear discriminant would tell two specimens apart by one pixel, from their means and the pooled
scatter within (Mahalanobis 1936); for two Gaussians a distance d apart the AUC is Phi(d / sqrt 2),
the accuracy Phi(d / 2).

What it cannot tell: whether the difference is the instrument's or the tissue's. Specimens of one
patient, and of one tissue, differ less for the second reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.special import ndtr

from msiscale.grid import Floats
from msiscale.models.moments import Moments
from msiscale.threads import one_blas_thread

Record = dict[str, Any]

MOSTLY = 0.5  #: share between specimens above which a mode is flagged
MOST_MODES = 50  #: that the discriminant uses
ROWS_A_MODE = 10  #: of the pooled scatter, at the least
COLUMNS = ["of", "specimen", "target", "metric", "value"]


def batch_records(
    sums: Mapping[str, Moments],
    components: NDArray[Any],
    mean: NDArray[Any],
    patients: Mapping[str, str],
    columns: slice = slice(None),
) -> list[Record]:
    """Differences between specimens, of the MSI and of the features.

    Memory: two scatter matrices of the features and one specimen's sums.

    Parameters
    ----------
    sums : mapping of specimen to Moments
        x = features (p), m = MSI intensities (q), over the pixels that models are fitted to. Asked
        for one at a time, once.
    components, mean : (k, q) and (q,)
        Modes of the MSI (`FoldModel` of all specimens): score = (intensity - mean) @ components.T.
    patients : mapping of specimen to patient
        Those of the sums.
    columns : slice
        Which of x are features; default all.

    Returns
    -------
    list of dict with the keys of `COLUMNS`; empty for a single specimen. ``of`` is "msi" or
    "features" (whose modes are their principal components).

    For target ``mode_000``, ..., and ``all`` (weighted by variance), specimen "all":
    ``between_specimens``, of which ``between_patients`` and ``within_patients``, shares of the
    variance; ``mostly_batch``, 1 where the first is above `MOSTLY` (for ``all``: the share of modes
    of which that is so). For target ``all`` also, over pairs of specimens, ``pairwise_auc``,
    ``pairwise_auc_least``, ``pairwise_auc_most`` and ``pairwise_accuracy`` of telling them apart by
    one pixel (0.5 is chance), ``modes_used`` for it, and per specimen its mean ``pairwise_auc``
    with the others. Distances are freed of the bias that sampling gives them as if pixels were
    independent; neighbours are not, so what is left of it makes them a little too large.
    """
    if len(sums) < 2:
        return []
    msi, features = _Groups(), _Groups()
    with one_blas_thread():
        for name, part in sums.items():
            modes = part.project(components, mean)
            msi.add(name, modes.n, modes.mean_m, modes.smm)
            features.add(name, part.n, part.mean_x[columns], part.sxx[columns, columns])
        found = _records("msi", msi, patients)
        if features.width:
            leading = features.leading(min(len(components), MOST_MODES))
            found += _records("features", leading, patients)
    return found


class _Groups:
    """Counts, means and pooled scatter within, of specimens that come one at a time."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.n: list[float] = []
        self.means: list[Floats] = []
        self.within: Floats = np.zeros((0, 0))

    def add(self, name: str, n: float, mean: Floats, scatter: Floats) -> None:
        self.names.append(name)
        self.n.append(n)
        self.means.append(mean)
        self.within = scatter.copy() if len(self.n) == 1 else self.within + scatter

    @property
    def width(self) -> int:
        return len(self.within)

    def deviations(self) -> Floats:
        """(specimen, width): means about the mean of all rows."""
        means, n = np.stack(self.means), np.array(self.n)
        return np.asarray(means - n @ means / n.sum())

    def leading(self, k: int) -> _Groups:
        """The same of the leading `k` principal components of all rows."""
        off = self.deviations()
        total = self.within + (off.T * np.array(self.n)) @ off
        p = self.width
        k = min(k, p)
        vectors = eigh(total, subset_by_index=[p - k, p - 1])[1][:, ::-1]
        out = _Groups()
        out.names, out.n = self.names, self.n
        out.means = list(off @ vectors)
        out.within = vectors.T @ self.within @ vectors
        return out


def _squares(groups: _Groups, patients: Mapping[str, str]) -> Floats:
    """Sums of squares (3, mode): between patients, between specimens of one, within specimens."""
    off, n = groups.deviations(), np.array(groups.n)
    owners = np.array([patients[name] for name in groups.names])
    between, nested = np.zeros((2, groups.width))
    for owner in np.unique(owners):
        mine = owners == owner
        centre = n[mine] @ off[mine] / n[mine].sum()
        between += n[mine].sum() * centre**2
        nested += n[mine] @ (off[mine] - centre) ** 2
    return np.stack([between, nested, np.diag(groups.within).clip(min=0)])


def _shares(patients: float, specimens: float, within: float) -> dict[str, float]:
    total = patients + specimens + within
    inverse = 1 / total if total > 0 else 0.0
    return {
        "between_specimens": float((patients + specimens) * inverse),
        "between_patients": float(patients * inverse),
        "within_patients": float(specimens * inverse),
    }


def _records(of: str, groups: _Groups, patients: Mapping[str, str]) -> list[Record]:
    squares = _squares(groups, patients)
    rows: list[Record] = []

    def note(target: str, values: Mapping[str, float], specimen: str = "all") -> None:
        for metric, value in values.items():
            rows.append(dict(zip(COLUMNS, (of, specimen, target, metric, value), strict=True)))

    flagged = []
    for i in range(groups.width):
        own = _shares(*squares[:, i])
        flagged.append(float(own["between_specimens"] > MOSTLY))
        note(f"mode_{i:03d}", {**own, "mostly_batch": flagged[-1]})
    whole = _shares(*(part.sum() for part in squares))
    note("all", {**whole, "mostly_batch": float(np.mean(flagged))})
    distance, used = _distances(groups)
    one, other = np.triu_indices(len(groups.names), 1)
    auc = ndtr(distance / np.sqrt(2))
    apart = auc[one, other]
    note(
        "all",
        {
            "pairwise_auc": float(apart.mean()),
            "pairwise_auc_least": float(apart.min()),
            "pairwise_auc_most": float(apart.max()),
            "pairwise_accuracy": float(ndtr(distance[one, other] / 2).mean()),
            "modes_used": float(used),
        },
    )
    for i, name in enumerate(groups.names):
        note("all", {"pairwise_auc": float(np.delete(auc[i], i).mean())}, name)
    return rows


def _distances(groups: _Groups) -> tuple[Floats, int]:
    """Mahalanobis distances (specimen, specimen) of the means, and how many modes they are of."""
    # For means of n and m independent rows and a pooled covariance of v degrees of freedom, the
    # expectation of D² is v / (v - k - 1) (d² + k (1 / n + 1 / m)).
    n = np.array(groups.n)
    freedom = float(n.sum() - len(n))
    used = int(min(groups.width, MOST_MODES, freedom // ROWS_A_MODE))
    if used < 1:
        return np.zeros((len(n), len(n))), 0
    within = groups.within[:used, :used] / freedom
    values, vectors = eigh(within)
    # a direction without scatter within has no scale to measure a difference with
    keep = values > 1e-9 * values.max()
    white = vectors[:, keep] / np.sqrt(values[keep])
    places = groups.deviations()[:, :used] @ white
    # a row at a time: all differences of a thousand specimens would take half a GB
    squares = np.stack([((place - places) ** 2).sum(axis=-1) for place in places])
    k = int(keep.sum())
    noise = k * (1 / n[:, None] + 1 / n[None])
    return np.sqrt(np.maximum(squares * (freedom - k - 1) / freedom - noise, 0)), k
