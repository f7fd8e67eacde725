"""How each m/z differs between cancer and other tissue: in a specimen, and over patients.

Pixels of one specimen are not independent of each other, so no p-value is computed from them: the
patient is the unit, a specimen gives one AUC and one effect, and only their spread over patients
is tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from msiscale.biomarkers.annotation import annotate

Floats = NDArray[np.float64]
_READ_BYTES = 8  # a value of a slab and its copy by rows
_RANK_BYTES = 64  # a value, its rank and the temporaries of both
_CHUNK = 64  # m/z that lie together in the store
MIN_PATIENTS = 3


def rank_auc(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> Floats:
    """Area under the ROC curve of every row, by ranks; ties count one half (Mann-Whitney U).

    Parameters
    ----------
    values : (k, n) one row an m/z. NaN are left out, row by row.
    positive : (n,) bool.

    Returns
    -------
    (k,) float64; NaN where a class is empty.
    """
    auc = np.full(values.shape[0], np.nan)
    whole = ~np.isnan(values).any(axis=1)
    n1 = int(positive.sum())
    n0 = positive.size - n1
    if n1 and n0 and whole.any():
        ranks = stats.rankdata(values[whole], axis=1)
        auc[whole] = (ranks[:, positive].sum(axis=1) - n1 * (n1 + 1) / 2) / (n1 * n0)
    for row in np.flatnonzero(~whole):
        seen = ~np.isnan(values[row])
        auc[row] = (
            rank_auc(values[row : row + 1, seen], positive[seen])[0] if seen.any() else np.nan
        )
    return auc


def specimen_association(
    intensity: Any,
    cancer: ArrayLike,
    tissue: ArrayLike,
    *,
    mz: ArrayLike | None = None,
    threshold: float = 0.5,
    memory: int = 256 << 20,
) -> pd.DataFrame:
    """Compare cancer with other labelled tissue for every m/z of one specimen.

    Parameters
    ----------
    intensity : (y, x, mz) float; NumPy, Zarr, or an xarray.DataArray on Dask or lazy. It is read in
        slabs of m/z that hold about `memory` bytes (64 m/z at the least).
    cancer : (y, x) annotated fraction, NaN where unknown. At or above `threshold` is cancer.
    tissue : (y, x) bool.
    mz : (mz,) needed when `intensity` is not labelled.

    Returns
    -------
    DataFrame, one row an m/z in the order of the axis: mz; auc (cancer against other tissue, 0.5
    when an m/z is nowhere seen, NaN when a class is empty); effect (log2 of the ratio of mean
    intensities, both with a pseudo-count of 1 % of the specimen's median positive mean);
    standardized_difference (difference of means over the pooled standard deviation); mean_cancer,
    mean_other; n_cancer, n_other (pixels).
    """
    axis = np.asarray(intensity["mz"] if mz is None else mz, dtype=np.float64)
    if intensity.ndim != 3 or intensity.shape[2] != axis.size:
        raise ValueError(f"intensity is {intensity.shape}, the m/z axis {axis.size}")
    fraction = np.asarray(cancer, dtype=np.float32)
    known = np.asarray(tissue, dtype=bool) & np.isfinite(fraction)
    if known.shape != intensity.shape[:2]:
        raise ValueError(f"cancer is {fraction.shape}, intensity {intensity.shape}")
    # an m/z axis has no empty pixels: one that is NaN at the first m/z was not measured
    known &= np.isfinite(_slab(intensity, 0, 1)[..., 0]) if axis.size else False
    positive = fraction[known] >= threshold
    step = max(1, memory // (_READ_BYTES * known.size) // _CHUNK) * _CHUNK
    part = max(1, memory // (_RANK_BYTES * max(1, positive.size)))
    results = np.full((4, axis.size), np.nan)
    for start in range(0, axis.size, step):
        # a row an m/z: sums along rows are the same whatever the slab
        values = np.ascontiguousarray(_slab(intensity, start, start + step)[known].T)
        for row in range(0, len(values), part):
            compared = _compare(values[row : row + part], positive)
            results[:, start + row : start + row + compared.shape[1]] = compared
    auc, mean_cancer, mean_other, difference = results
    pseudo = _pseudo_count(np.concatenate([mean_cancer, mean_other]))
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.log2((mean_cancer + pseudo) / (mean_other + pseudo))
    return pd.DataFrame(
        {
            "mz": axis,
            "auc": auc,
            "effect": effect,
            "standardized_difference": difference,
            "mean_cancer": mean_cancer,
            "mean_other": mean_other,
            "n_cancer": int(positive.sum()),
            "n_other": int(positive.size - positive.sum()),
        }
    )


def combine(tables: Mapping[str, pd.DataFrame], patients: Mapping[str, str]) -> pd.DataFrame:
    """Combine specimens over patients, the strongest m/z first.

    Values are averaged over the specimens of a patient and then over patients. With three patients
    or more, p is that of a two-sided one-sample t-test of the patients' AUCs against 0.5 (where
    they are all alike, of the sign test), and q is Benjamini and Hochberg's over the m/z; with
    fewer, both are NaN.

    Parameters
    ----------
    tables : specimen -> result of `specimen_association`, all on one m/z axis.
    patients : specimen -> patient; a specimen that is not in it is its own patient.

    Returns
    -------
    DataFrame: mz, auc, effect, standardized_difference, p, q, n_patients, mean_intensity, in
    descending order of ``|auc - 0.5|`` (ties: of ``|effect|``, then ascending m/z; NaN last).
    """
    if not tables:
        raise ValueError("no specimen to combine")
    axis = next(iter(tables.values()))["mz"].to_numpy()
    for name, table in tables.items():
        if not np.array_equal(table["mz"].to_numpy(), axis):
            raise ValueError(f"specimen {name} has another m/z axis than the others")
    groups: dict[str, list[str]] = {}
    for name in tables:
        groups.setdefault(patients.get(name, name), []).append(name)

    def per_patient(column: str) -> Floats:
        return np.stack(
            [_mean([tables[name][column].to_numpy(float) for name in g]) for g in groups.values()]
        )

    aucs = per_patient("auc")
    combined = pd.DataFrame(
        {
            "mz": axis,
            "auc": _mean(aucs),
            "effect": _mean(per_patient("effect")),
            "standardized_difference": _mean(per_patient("standardized_difference")),
            "p": _patient_test(aucs),
            "n_patients": np.isfinite(aucs).sum(axis=0),
        }
    )
    combined.insert(5, "q", _false_discovery(combined["p"].to_numpy()))
    means = [per_patient("mean_cancer"), per_patient("mean_other")]
    combined["mean_intensity"] = _mean(_mean(means))
    strength = np.abs(combined["auc"].to_numpy() - 0.5)
    effect = np.abs(combined["effect"].to_numpy())
    order = np.lexsort((axis, -np.nan_to_num(effect), -np.nan_to_num(strength, nan=-1.0)))
    return combined.iloc[order].reset_index(drop=True)


def biomarker_table(
    tables: Mapping[str, pd.DataFrame],
    patients: Mapping[str, str],
    lipids: pd.DataFrame,
    *,
    polarity: str,
    adducts: Iterable[str] | None = None,
    tolerance_ppm: float = 5.0,
) -> pd.DataFrame:
    """`combine` and `annotate` together: the rows of biomarkers.csv, strongest first."""
    combined = combine(tables, patients)
    names = annotate(
        combined["mz"],
        lipids,
        polarity=polarity,
        adducts=adducts,
        tolerance_ppm=tolerance_ppm,
        intensity=combined["mean_intensity"],
    )
    return pd.concat([combined, names.drop(columns="mz")], axis=1)


def tidy(tables: Mapping[str, pd.DataFrame], patients: Mapping[str, str]) -> pd.DataFrame:
    """Every specimen's table below each other, with the columns specimen and patient in front."""
    parts = []
    for name, table in tables.items():
        part = table.copy()
        part.insert(0, "specimen", name)
        part.insert(1, "patient", patients.get(name, name))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _slab(intensity: Any, start: int, stop: int) -> NDArray[np.floating]:
    """``intensity[:, :, start:stop]`` in memory."""
    if isinstance(intensity, xr.DataArray):
        part = intensity.transpose("y", "x", "mz").isel(mz=slice(start, stop))
        return np.asarray(part.values)
    return np.asarray(intensity[:, :, start:stop])


def _compare(values: NDArray[np.floating], positive: NDArray[np.bool_]) -> Floats:
    """AUC, mean of cancer, mean of the others, standardized difference of (k, n) values."""
    ones = np.ascontiguousarray(values[:, positive], dtype=np.float64)
    zeros = np.ascontiguousarray(values[:, ~positive], dtype=np.float64)
    n1, mean1, var1 = _moments(ones)
    n0, mean0, var0 = _moments(zeros)
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = np.sqrt((n1 * var1 + n0 * var0) / (n1 + n0 - 2))
        difference = np.where(mean1 == mean0, 0.0, (mean1 - mean0) / pooled)
    difference[np.isnan(mean1) | np.isnan(mean0)] = np.nan
    return np.stack([rank_auc(values, positive), mean1, mean0, difference])


def _moments(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Count, mean and variance along the last axis, NaN left out; NaN where nothing is left."""
    seen = ~np.isnan(values)
    n = seen.sum(axis=-1).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(seen, values, 0.0).sum(axis=-1) / n
        variance = (np.where(seen, values - mean[..., None], 0.0) ** 2).sum(axis=-1) / n
    return n, mean, variance


def _pseudo_count(means: Floats) -> float:
    found = means[np.isfinite(means) & (means > 0)]
    return 0.01 * float(np.median(found)) if found.size else 1.0


def _mean(values: Any) -> Floats:
    """Mean over the first axis, NaN left out; NaN where there is nothing."""
    return _moments(np.ascontiguousarray(np.moveaxis(np.asarray(values, float), 0, -1)))[1]


def _patient_test(aucs: Floats) -> Floats:
    """p of (patient, mz) AUCs against 0.5; NaN below `MIN_PATIENTS` patients."""
    p = np.full(aucs.shape[1], np.nan)
    for column in range(aucs.shape[1]):
        sample = aucs[:, column]
        sample = sample[np.isfinite(sample)]
        if sample.size < MIN_PATIENTS:
            continue
        if np.ptp(sample) < 1e-9:  # a t-test has nothing to divide by
            alike = abs(sample[0] - 0.5) < 1e-9
            p[column] = 1.0 if alike else 2.0 * 0.5**sample.size
        else:
            p[column] = stats.ttest_1samp(sample, 0.5).pvalue
    return p


def _false_discovery(p: Floats) -> Floats:
    q = np.full(p.size, np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q
