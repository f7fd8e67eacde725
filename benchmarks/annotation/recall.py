"""Recall and false discoveries in phantoms whose lipids are known."""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.annotation.phantom import Phantom, phantom
from msiscale.biomarkers import builtin_lipids
from msiscale.biomarkers.candidates import candidates
from msiscale.biomarkers.identification_tables import identification_tables
from msiscale.biomarkers.ion_scores import score_ions

RATES = (0.05, 0.1, 0.2)
PPM = 3.0


def one(words: argparse.Namespace, seed: int, alike: float) -> dict[str, float]:
    """Recall and false discoveries of one phantom, of its cohort and of its specimens."""
    table = builtin_lipids()
    made = phantom(
        table,
        lipids=words.lipids,
        unknown=words.unknown,
        alike=alike,
        seed=seed,
        shape=(40, 44),
    )
    began = time.perf_counter()
    every = candidates(table, _axis(made), polarity="+", ppm=PPM)
    sampled = np.ones(made.shape, bool)
    scores = {
        f"s{i}": score_ions(partial(made.peaks, i), every.mz, every.theory, sampled, ppm=PPM)
        for i in range(words.specimens)
    }
    cohort, single = identification_tables(every, scores, ppm=PPM, decoys=20)
    found: dict[str, float] = {"phantom.wall_s": time.perf_counter() - began}
    for by in ("fdr", "fdr_metaspace"):
        for rate in RATES:
            own = _outcome(made, cohort, by, rate)
            found |= {f"cohort.{k}_at_{by}_{rate:g}": v for k, v in own.items()}
            each = [
                _outcome(made, part.assign(primary=True), by, rate)
                for _, part in single.groupby("specimen")
            ]
            for name in ("recall", "annotated", "false_signal"):
                value = float(np.mean([e[name] for e in each]))
                found[f"specimen.{name}_at_{by}_{rate:g}"] = value
    return found


def _axis(made: Phantom) -> NDArray[np.float64]:
    """The peaks that an axis would have: of lipids, their isotopes, and the unknown ions."""
    lipids = made.lipids["mz"].to_numpy(float)
    return np.sort(np.concatenate([*(lipids + 1.00335 * k for k in range(4)), made.unknown]))


def _outcome(made: Phantom, table: pd.DataFrame, by: str, rate: float) -> dict[str, float]:
    """Recall of the lipids, and which of the annotations at `rate` are false.

    ``false_signal``: at no lipid's m/z, which is what decoys can tell; ``false_ion``: not the
    lipid's own formula and adduct, of the annotations that nothing explains better (primary).
    """
    taken = table[table[by] <= rate]
    true = set(zip(made.lipids["formula"], made.lipids["adduct"], strict=True))
    named = list(zip(taken["formula"], taken["adduct"], strict=True))
    lipids = made.lipids["mz"].to_numpy(float)
    near = [bool((np.abs(lipids / m - 1) <= PPM * 1e-6).any()) for m in taken["mz"]]
    first = taken["primary"].to_numpy(bool)
    right = np.array([n in true for n in named], bool)
    return {
        "recall": len(true & set(named)) / len(true),
        "recall_primary": len(true & {n for n, p in zip(named, first, strict=True) if p})
        / len(true),
        "annotated": float(len(taken)),
        "false_signal": 1 - float(np.mean(near)) if len(taken) else 0.0,
        "false_ion_primary": 1 - float(right[first].mean()) if first.any() else 0.0,
    }
