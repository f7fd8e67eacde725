"""Phantom cohorts, and how their false discoveries are counted."""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from benchmarks.common.phantoms import smooth_field, tissue
from msiscale.biomarkers import combine, specimen_association

Floats = NDArray[np.float64]
SHAPE = (40, 44)
RATE = 0.05
METHODS = ("q", "q_t", "q_dl", "q_pixels")
_PATTERNS = 12  # that the ions of a specimen are mixed from
_AROUND = 40  # pixels around a specimen, so that fields are not periodic


def figures(tables: list[pd.DataFrame], planted: int) -> dict[str, float]:
    """What each method finds in cohorts of which m/z 1 to `planted` are the planted ions."""
    found: dict[str, float] = {}
    for method in METHODS:
        counts = np.zeros((len(tables), 2), int)
        for i, table in enumerate(tables):
            hit, own = table[method] <= RATE, table["mz"] <= planted
            counts[i] = (hit & own).sum(), (hit & ~own).sum()
        found |= {f"{method}.{k}": v for k, v in _rates(counts, planted).items()}
    p = np.concatenate([t.loc[t["mz"] > planted, "p"] for t in tables])
    for level in (0.05, 0.01, 0.001):
        found[f"share_of_p_below_{level:g}"] = float((p <= level).mean())
    return found


def _rates(counts: NDArray[np.int_], planted: int) -> dict[str, float]:
    """Mean share of false discoveries, phantoms with any (with its 95 % interval), and power."""
    proportion = counts[:, 1] / np.maximum(1, counts.sum(axis=1))
    some = int((counts[:, 1] > 0).sum())
    interval = stats.binomtest(some, len(counts)).proportion_ci(method="exact")
    rates = {
        "false_discovery_proportion": float(proportion.mean()),
        "phantoms_with_any_false": some / len(counts),
        "phantoms_with_any_false_low": float(interval.low),
        "phantoms_with_any_false_high": float(interval.high),
        "false_discoveries_a_phantom": float(counts[:, 1].mean()),
    }
    return rates | ({"found": float(counts[:, 0].mean() / planted)} if planted else {})


def cohort(words: argparse.Namespace, planted: int, number: int) -> pd.DataFrame:
    """The table of one phantom cohort; m/z 1 to `planted` are the planted ions."""
    rng, n = np.random.default_rng([words.seed, planted, number]), words.ions
    mixing = rng.standard_normal((_PATTERNS, n)) * (rng.random((_PATTERNS, n)) < 0.25)
    mixing[0] += rng.standard_normal(n)
    noise = rng.uniform(0.3, 1.5, n)
    tables = {}
    for patient in range(words.patients):
        part, cancer, images = _specimen(rng, mixing, noise)
        size = images[part].std(axis=0)[:planted]
        images[..., :planted] += words.effect * size * cancer[..., None]
        tables[f"P{patient}"] = specimen_association(
            np.exp(0.3 * images).astype(np.float32),
            cancer.astype(np.float32),
            part,
            mz=np.arange(1.0, n + 1),
            shifts=words.shifts,
            seed=patient,
        )
    table = combine(tables, {})
    pixels = stats.combine_pvalues(_by_pixels(tables, table["mz"].to_numpy()), "fisher", axis=0)
    return table.assign(
        q_dl=stats.false_discovery_control(table["p_dl"]),
        q_pixels=stats.false_discovery_control(pixels.pvalue),
    )


def _by_pixels(tables: dict[str, pd.DataFrame], order: Floats) -> Floats:
    """(patient, mz) p of the rank-sum test as if pixels were independent: what not to do."""
    found = []
    for table in tables.values():
        row = table.set_index("mz").loc[order.tolist()]
        n1, n0 = row["n_cancer"].to_numpy(float), row["n_other"].to_numpy(float)
        z = (row["auc"].to_numpy() - 0.5) / np.sqrt((n1 + n0 + 1) / (12 * n1 * n0))
        found.append(np.maximum(2 * stats.norm.sf(np.abs(z)), 1e-300))
    return np.stack(found)


def _specimen(
    rng: np.random.Generator, mixing: Floats, noise: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Floats]:
    """Tissue (y, x), annotation (y, x) on 10 to 30 % of it, ion images (y, x, mz)."""
    part = tissue(rng, SHAPE, _AROUND)
    label = smooth_field(rng, SHAPE, float(rng.uniform(3, 6)), _AROUND)
    cancer = part & (label > np.quantile(label[part], rng.uniform(0.7, 0.9)))
    lengths = (float(rng.choice([2.5, 4.0, 6.0])) for _ in range(_PATTERNS))
    fields = [smooth_field(rng, SHAPE, length, _AROUND) for length in lengths]
    images = np.stack(fields, axis=-1) @ mixing
    return part, cancer, images + noise * rng.standard_normal(images.shape)
