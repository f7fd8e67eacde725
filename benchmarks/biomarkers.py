"""Biomarkers: false discoveries over null phantoms, planted ions found, and what both cost.

A phantom is a cohort of smooth ion images that share a few patterns, and a smooth annotation in
each specimen that has nothing to do with them, or with all but the planted ions.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, stats

from msiscale.biomarkers import combine, specimen_association

Floats = NDArray[np.float64]
SHAPE = (40, 44)
RATE = 0.05
METHODS = ("q", "q_t", "q_pixels")
_PATTERNS = 12  # that the ions of a specimen are mixed from
_PLACES = 40  # pixels around a specimen, so that fields are not periodic


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--phantoms", type=int, default=200, help="null ones")
    parser.add_argument("--planted-phantoms", type=int, default=50)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--ions", type=int, default=500)
    parser.add_argument("--planted", type=int, default=10)
    parser.add_argument("--effect", type=float, default=1.0, help="standard deviations of an ion")
    parser.add_argument("--shifts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace) -> dict[str, float]:
    """False discoveries by the run's q, by that of the t-test alone, and by one of pixels."""
    found: dict[str, float] = {}
    began = time.perf_counter()
    for kind, count, planted in (
        ("null", words.phantoms, 0),
        ("planted", words.planted_phantoms, words.planted),
    ):
        taken = {m: np.zeros((count, 2), int) for m in METHODS}
        below = []
        for i in range(count):
            rng = np.random.default_rng([words.seed, planted, i])
            table = _cohort(rng, words, planted)
            own = table["mz"].to_numpy() <= planted
            for method in METHODS:
                hit = table[method].to_numpy() <= RATE
                taken[method][i] = (hit & own).sum(), (hit & ~own).sum()
            below.append(table.loc[~own, "p"].to_numpy())
            print(f"{kind} {i + 1}/{count}", end="\r", flush=True)
        for method, counts in taken.items():
            found |= {f"{kind}.{method}.{k}": v for k, v in _rates(counts, planted).items()}
        p = np.concatenate(below)
        for level in (0.05, 0.01, 0.001):
            found[f"{kind}.share_of_p_below_{level:g}"] = float((p <= level).mean())
    found["wall_s"] = time.perf_counter() - began
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


def _cohort(rng: np.random.Generator, words: argparse.Namespace, planted: int) -> pd.DataFrame:
    """The table of one phantom cohort; m/z 1 to `planted` are the planted ions."""
    n = words.ions
    mixing = rng.standard_normal((_PATTERNS, n)) * (rng.random((_PATTERNS, n)) < 0.25)
    mixing[0] += rng.standard_normal(n)
    noise = rng.uniform(0.3, 1.5, n)
    tables = {}
    for patient in range(words.patients):
        tissue, cancer, images = _specimen(rng, mixing, noise)
        size = images[tissue].std(axis=0)[:planted]
        images[..., :planted] += words.effect * size * cancer[..., None]
        tables[f"P{patient}"] = specimen_association(
            np.exp(0.3 * images).astype(np.float32),
            cancer.astype(np.float32),
            tissue,
            mz=np.arange(1.0, n + 1),
            shifts=words.shifts,
            seed=patient,
        )
    table = combine(tables, {})
    pixels = stats.combine_pvalues(_by_pixels(tables, table["mz"].to_numpy()), "fisher", axis=0)
    return table.assign(
        q_t=stats.false_discovery_control(table["p_t"]),
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
    y, x = np.mgrid[-1 : 1 : SHAPE[0] * 1j, -1 : 1 : SHAPE[1] * 1j]
    tissue = x**2 + y**2 + 0.25 * _field(rng, 8.0) < 0.85
    label = _field(rng, float(rng.uniform(3, 6)))
    cancer = tissue & (label > np.quantile(label[tissue], rng.uniform(0.7, 0.9)))
    fields = [_field(rng, float(rng.choice([2.5, 4.0, 6.0]))) for _ in range(_PATTERNS)]
    images = np.stack(fields, axis=-1) @ mixing
    return tissue, cancer, images + noise * rng.standard_normal(images.shape)


def _field(rng: np.random.Generator, length: float) -> Floats:
    large = rng.standard_normal((SHAPE[0] + 2 * _PLACES, SHAPE[1] + 2 * _PLACES))
    inner = slice(_PLACES, -_PLACES)
    field = ndimage.gaussian_filter(large, length)[inner, inner]
    return np.asarray((field - field.mean()) / field.std())
