"""Lipid annotation: LMSD read whole; masses; recall and false discoveries where lipids are known.

Phantoms hold known lipids with all their isotopes, four times as many ions that are no lipid, of
random m/z (``random``) or half of them with the mass defect of lipids (``alike``), and stray peaks.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks._annotation_phantom import Phantom, phantom
from benchmarks._measure import measured
from msiscale.biomarkers import builtin_lipids, read_lipids
from msiscale.biomarkers.candidates import candidates
from msiscale.biomarkers.identification_tables import identification_tables
from msiscale.biomarkers.ion_scores import score_ions

LIBRARIES = ("msiscale.biomarkers",)
RATES = (0.05, 0.1, 0.2)
PPM = 3.0
_LMSD = "../shared/data/lipids/lmsd_2017-12-12.tsv"


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--lmsd", default=_LMSD, help=f"the LMSD as TSV or CSV [{_LMSD}]")
    parser.add_argument("--phantoms", type=int, default=10)
    parser.add_argument("--specimens", type=int, default=4)
    parser.add_argument("--lipids", type=int, default=100)
    parser.add_argument("--unknown", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace) -> dict[str, float]:
    """Reading in processes of their own; then the phantoms."""
    found: dict[str, float] = {}
    if Path(words.lmsd).is_file():
        found |= reading(words.lmsd)
    else:
        print(f"{words.lmsd}: not here; reading is not measured")
    for kind, alike in (("random", 0.0), ("alike", 0.5)):
        seeds = range(words.seed, words.seed + words.phantoms)
        totals = [_one(words, seed, alike) for seed in seeds]
        for name in totals[0]:
            values = [t[name] for t in totals]
            found[f"{kind}.{name}"] = float(np.mean(values))
            if "false" in name:
                found[f"{kind}.{name}_worst_phantom"] = float(np.max(values))
    return found


def reading(lmsd: str) -> dict[str, float]:
    """Seconds and MiB of reading the table, and an SDF of the same records with all fields."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        sdf = str(Path(folder) / "lmsd.sdf")
        found["sdf.mib"] = write_sdf(lmsd, sdf) / 2**20
        for kind, path in (("tsv", lmsd), ("sdf", sdf)):
            cost = measured("benchmarks.annotation:read_table", path=path)
            found[f"{kind}.wall_s"] = cost.wall_s
            found[f"{kind}.peak_mib"] = cost.peak_mib
            found[f"{kind}.structures"] = float(cost.result["structures"])
            found[f"{kind}.rows"] = float(cost.result["rows"])
    return found


def read_table(path: str) -> dict[str, NDArray[Any]]:
    """What the measured process does."""
    table = read_lipids(path)
    return {"rows": np.array(len(table)), "structures": np.array(table["n_structures"].sum())}


def write_sdf(table: str, path: str) -> int:
    """An SDF with a molecule of 50 atoms and LMSD's fields for every record; its size in bytes."""
    atom = "    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0\n"
    bond = "  1  2  1  0  0  0  0\n"
    block = "\n  LIPDMAPS\n\n 50 49  0  0  0  0  0  0  0  0999 V2000\n" + 50 * atom + 49 * bond
    with open(table, newline="") as source, open(path, "w") as target:
        for row in csv.DictReader(source, delimiter="\t"):
            target.write(f"{row['id']}{block}M  END\n")
            items = {
                "LM_ID": row["id"],
                "NAME": row["name"],
                "SYSTEMATIC_NAME": row["name"],
                "CATEGORY": "Glycerophospholipids [GP]",
                "MAIN_CLASS": "Glycerophosphocholines [GP01]",
                "SUB_CLASS": "Diacylglycerophosphocholines [GP0101]",
                "EXACT_MASS": "759.577803",
                "FORMULA": row["formula"],
                "INCHI_KEY": "WTJKGGKOPKCXLL-PFDVCBLKSA-N",
                "INCHI": "InChI=1S/" + row["formula"] + "/c1-6-8-10" * 20,
                "SMILES": "C" * 80,
                "SYNONYMS": row["name"] + "; " + row["name"],
            }
            target.write("".join(f"> <{k}>\n{v}\n\n" for k, v in items.items()) + "$$$$\n")
    return Path(path).stat().st_size


def _one(words: argparse.Namespace, seed: int, alike: float) -> dict[str, float]:
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
    print(f"phantom {seed}, {alike:.0%} of unknown ions like lipids", flush=True)
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
