"""``ions.csv``: which ions can be read from H&E, over pixels that were held out.

All is within what a fold held out of a specimen (all of it, or a block): squares and products are
about the mean of these pixels, ranks are among them, and both are added up over folds and
specimens, as `models.ridge.R2` adds. So a difference between specimens, or between folds, counts
for nothing. What is said of patients is added up within each, and the patient is the witness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale.biomarkers.patients import MIN_PATIENTS
from msiscale.biomarkers.readable import counted, excess_test, mean_over_patients, tiers
from msiscale.cohort import Specimen
from msiscale.errors import InputError, SpecimenError
from msiscale.grid import Floats
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.biomarkers import ANNOTATIONS
from msiscale.pipeline.context import Run
from msiscale.pipeline.ion_sums import CLASS_SUMS, CLASSES, SUMS, ion_sums
from msiscale.pipeline.tasks import Task, ordered
from msiscale.store import HeldOut, at_once, exists, join, nearest_column, read_csv, write_csv
from msiscale.store.held_out import PATIENTS

TABLE = "ions.csv"
COLUMNS = [
    "protocol",
    "mz",
    "identification",
    "mean",
    "sd",
    "r2",
    "pearson",
    "spearman",
    "colour_r2",
    "colour_pearson",
    "tissue_r2",
    "class_r2",
    "explained",
    "moran",
    "ssim",
    "patients",
    "patient_r2",
    "patient_r2_sd",
    "patient_r2_low",
    "patient_r2_high",
    "patient_pearson",
    "patient_pearson_sd",
    "patient_pearson_low",
    "patient_pearson_high",
    "patient_spearman",
    "patient_spearman_sd",
    "patient_spearman_low",
    "patient_spearman_high",
    "moved_pearson",
    "excess",
    "excess_sd",
    "p",
    "q",
    "tier",
    "pixels",
    "specimens",
]
FDR = 0.1  # of a name that `annotate` gave, at most
DEPTH = 64  # m/z of a chunk of the cube
VALUES = 1 << 24  # float32 of an image of a chunk of m/z, at most, where `DEPTH` m/z allow it
MOST = 4  # chunks of the cube to a task


@dataclass(eq=False)
class OfSpecimen:
    """What the tasks of a specimen summed up.

    Attributes
    ----------
    sums : (mz, `SUMS`)
    classes : (fold, mz, `CLASSES`, `CLASS_SUMS`)
    fold : what it was held out with; empty where parts of it were
    """

    sums: Floats
    classes: Floats
    fold: str

    @classmethod
    def of(cls, parts: Sequence[Mapping[str, Any]]) -> OfSpecimen:
        """Put together what `ion_sums` gave of consecutive m/z."""
        sums = np.concatenate([np.array(part["sums"]) for part in parts])
        classes = np.concatenate([np.array(part["classes"]) for part in parts], axis=1)
        return cls(sums, classes, parts[0]["fold"])


def ions(run: Run) -> None:
    """Write ``ions.csv``, a row an m/z and protocol.

    Memory: a worker holds four times the images of a chunk of m/z of one specimen (measured,
    predicted, by colour, by the mean), 64 MiB each (more above 512 x 512 pixels, where a chunk has
    its least, 64 m/z), and 16 m/z in float64; the client 168 bytes a specimen and m/z, and 72 more
    for each fold of a specimen.
    """
    while specimens := list(run.specimens()):
        try:
            _ions(run, specimens)
            return
        except SpecimenError as error:  # its stored data are damaged
            run.set_aside("by_ion", error.specimen, "", str(error))


def _ions(run: Run, specimens: Sequence[Specimen]) -> None:
    fitted = run.record("fit", "cohort") or {}
    named = [run.record(part, "cohort") or {} for part in ("annotate", "biomarkers")]
    names, patients = [s.name for s in specimens], {s.name: s.patient for s in specimens}
    key = run.key("by_ion", fitted.get("digest"), names, [r.get("digest") for r in named])
    if run.done("by_ion", "cohort", key):
        return
    with run.making("by_ion", key, "ions", redone=1) as record:
        axis = load_axis(run)["mz"].values
        held = {p: found for p in _protocols(run) if (found := _held_out(run, p, names))}
        words = _identified(run, axis)
        tables = []
        for protocol, shapes in held.items():
            summed = _sums(run, protocol, shapes, len(axis))
            tables.append(scores(protocol, axis, words, summed, patients))
            _say(run, protocol, tables[-1])
        table = pd.concat(tables) if tables else pd.DataFrame(columns=COLUMNS)
        write_csv(join(run.out, TABLE), table, COLUMNS, digits=12)
        record["mz"] = len(axis)
    if not tables:
        run.say("ions: no pixel was held out, so ions.csv has no rows")


def _say(run: Run, protocol: str, table: pd.DataFrame) -> None:
    """How many ions each tier has, and what few patients cannot tell."""
    tiers = ", ".join(f"{n} {tier}" for tier, n in counted(table["tier"].tolist()).items())
    run.say(f"ions: {protocol}: by tier {tiers} (H&E predicts A well, B partly and C not)")
    most = int(table["patients"].max()) if len(table) else 0
    if most < MIN_PATIENTS:
        run.say(
            f"ions: {protocol}: a test needs {MIN_PATIENTS} patients, and there are {most}; "
            "p and q are empty, and no ion can be of tier A"
        )


def _protocols(run: Run) -> list[str]:
    """Those of the fit that held something out."""
    url = join(run.out, "metrics.csv")
    return list(read_csv(url, usecols=["protocol"])["protocol"].unique()) if exists(url) else []


def _held_out(run: Run, protocol: str, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Shapes of the specimens that a protocol held out."""

    def shape(name: str) -> tuple[int, int] | None:
        found = HeldOut(run.out, name, protocol)
        return found.cohort.shape if found.exists else None

    shapes = zip(names, at_once(shape, names), strict=True)
    return {name: shape for name, shape in shapes if shape is not None}


def _sums(
    run: Run, protocol: str, shapes: Mapping[str, tuple[int, int]], n_mz: int
) -> dict[str, OfSpecimen]:
    """What the specimens of a protocol sum up to, in their order."""
    tasks = [
        Task(f"{protocol}/{name}/{start}", name, ion_sums, (run.out, name, protocol, start, stop))
        for name, shape in shapes.items()
        for start, stop in chunks(shape, n_mz)
    ]
    parts: dict[str, list[dict[str, Any]]] = {}
    reports = ordered(run.client, tasks, "ions", run.lease.guard)
    for task, report in zip(tasks, reports, strict=True):
        if report.failure is not None:
            raise SpecimenError(report.failure, task.specimen)
        found = {name: np.array(report.result[name]) for name in ("sums", "classes")}
        parts.setdefault(task.specimen, []).append({**found, "fold": report.result["fold"]})
    return {name: OfSpecimen.of(of) for name, of in parts.items()}


def chunks(shape: tuple[int, int], n_mz: int) -> list[tuple[int, int]]:
    """First and last m/z of each task of a specimen: a matter of its size alone."""
    depth = DEPTH * min(max(VALUES // (DEPTH * shape[0] * shape[1]), 1), MOST)
    return [(start, min(start + depth, n_mz)) for start in range(0, n_mz, depth)]


def scores(
    protocol: str,
    mz: NDArray[np.float64],
    words: Sequence[str],
    found: Mapping[str, OfSpecimen],
    patients: Mapping[str, str],
) -> pd.DataFrame:
    """Make the rows of a protocol.

    Parameters
    ----------
    protocol
        As ``metrics.csv`` calls it.
    mz
        (k,) m/z.
    words
        The lipid of each; empty where none is known.
    found
        What each specimen sums up to.
    patients
        Specimen to patient.

    Returns
    -------
    DataFrame
        `COLUMNS`; NaN where an image does not vary, or nothing was held out.
    """
    total = np.zeros((len(mz), len(SUMS)))
    for specimen in found.values():
        total += specimen.sums
    of = dict(zip(SUMS, total.T, strict=True))
    within = _within(found, patients, len(mz))
    over = {name: mean_over_patients(values) for name, values in within.items()}
    p, q = excess_test(within["excess"])
    class_rss, annotated = class_squares(found, protocol == PATIENTS)
    whole = _ratios(of)
    table = {
        "protocol": protocol,
        "mz": mz,
        "identification": list(words),
        "mean": _ratio(of["sum"], of["pixels"]),
        "sd": np.sqrt(_ratio(of["tss"], of["pixels"])),
        "r2": whole["r2"],
        "pearson": whole["pearson"],
        "spearman": whole["spearman"],
        "colour_r2": 1 - _ratio(of["colour_rss"], of["tss"]),
        "colour_pearson": _correlation(of, "colour_product", "tss", "colour_guess"),
        "tissue_r2": 1 - _ratio(of["away"], of["tss"]),
        "class_r2": np.where(annotated, 1 - _ratio(class_rss, of["tss"]), np.nan),
        "explained": over["explained"]["mean"],
        "moran": over["moran"]["mean"],
        "ssim": _ratio(of["similar"], of["windows"]),
        "patients": over["r2"]["n"].astype(int),
        "moved_pearson": over["moved"]["mean"],
        "excess": over["excess"]["mean"],
        "excess_sd": over["excess"]["sd"],
        "p": p,
        "q": q,
        "tier": tiers(within["r2"], within["pearson"], q),
        "pixels": of["pixels"].astype(int),
        "specimens": of["specimens"].astype(int),
    }
    for name in ("r2", "pearson", "spearman"):
        table[f"patient_{name}"] = over[name]["mean"]
        for ending in ("sd", "low", "high"):
            table[f"patient_{name}_{ending}"] = over[name][ending]
    return pd.DataFrame(table)[COLUMNS]


def _within(
    found: Mapping[str, OfSpecimen], patients: Mapping[str, str], n_mz: int
) -> dict[str, Floats]:
    """(patients, mz) of each score, within each patient."""
    sums: dict[str, Floats] = {}
    for name, specimen in found.items():
        sums[patients[name]] = sums.get(patients[name], 0.0) + specimen.sums
    each = [_ratios(dict(zip(SUMS, of.T, strict=True))) for of in sums.values()]
    names = ("r2", "pearson", "spearman", "explained", "moran", "moved", "excess")
    return {name: np.array([one[name] for one in each]).reshape(-1, n_mz) for name in names}


def _ratios(of: Mapping[str, Floats]) -> dict[str, Floats]:
    """Scores of sums, (mz,) each."""
    found = {
        "r2": 1 - _ratio(of["rss"], of["tss"]),
        "explained": 1 - _ratio(of["rss"] - of["bias"], of["tss"]),
        "pearson": _correlation(of, "product", "tss", "guess"),
        "spearman": _correlation(of, "rank_product", "ranks", "guess_ranks"),
        "moran": _ratio(of["neighbours"] * of["pixels"], of["pairs"] * of["tss"]),
        "moved": _ratio(of["moved"], of["moved_pixels"]),
    }
    return found | {"excess": found["pearson"] - found["moved"]}


def class_squares(found: Mapping[str, OfSpecimen], whole: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """Squared error of the mean of a pixel's annotated class in training.

    Parameters
    ----------
    found
        What each specimen sums up to.
    whole
        Whether whole specimens were held out: then the means are of the specimens that were not
        held out with it, else of the other parts of the specimen itself.

    Returns
    -------
    squares : ndarray
        (mz,) float64. A class that the training lacks, or that is not known, is predicted by the
        mean of all of it.
    annotated : ndarray
        (mz,) bool, whether a pixel of the m/z has a class.
    """
    n_mz = len(next(iter(found.values())).sums)
    squares, known = np.zeros(n_mz), np.zeros(n_mz)
    together: dict[str, tuple[Floats, Floats]] = {}
    if whole:
        for specimen in found.values():
            n, total = _totals(specimen.classes)
            before = together.get(specimen.fold, (0.0, 0.0))
            together[specimen.fold] = before[0] + n.sum(0), before[1] + total.sum(0)
        everything = [sum(of) for of in zip(*together.values(), strict=True)]
    for specimen in found.values():
        n, total = _totals(specimen.classes)
        for k, classes in enumerate(specimen.classes):
            others = (n.sum(0) - n[k], total.sum(0) - total[k])
            if whole:
                mine = together[specimen.fold]
                others = everything[0] - mine[0], everything[1] - mine[1]
            mean = _ratio(others[1].sum(1), others[0].sum(1))
            for c, word in enumerate(CLASSES):
                count, own, scatter = classes[:, c].T
                guess = _ratio(others[1][:, c], others[0][:, c])
                guess = np.where(np.isfinite(guess) & (word != "unknown"), guess, mean)
                error = np.where(np.isfinite(guess), own - guess, 0.0)
                squares += scatter + count * error**2
                known += count * (word != "unknown")
    return squares, known > 0


def _totals(classes: Floats) -> tuple[Floats, Floats]:
    """(fold, mz, class) pixels, and sums of their intensities."""
    n = classes[..., CLASS_SUMS.index("n")]
    return n, n * classes[..., CLASS_SUMS.index("mean")]


def _correlation(of: Mapping[str, Floats], product: str, a: str, b: str) -> Floats:
    return _ratio(of[product], np.sqrt(of[a] * of[b]))


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(np.shape(b), np.nan), where=b > 0))


def _identified(run: Run, axis: NDArray[np.float64]) -> list[str]:
    """The lipid of each m/z and its adduct, as `annotate` or else `biomarkers` named it."""
    if run.is_done("annotate", "cohort"):
        rows = read_csv(join(run.out, ANNOTATIONS), keep_default_na=False)
        rows, name = rows[rows["fdr"].astype(float) <= FDR], "names"
    elif run.is_done("biomarkers", "cohort"):
        rows, name = read_csv(join(run.out, "biomarkers.csv"), keep_default_na=False), "annotation"
    else:
        return [""] * len(axis)
    found: dict[int, str] = {}
    for row in rows[rows[name] != ""].to_dict("records"):  # the surest first
        near = _column(axis, float(row["mz"]), run.config.annotation_ppm)
        found.setdefault(near, f"{row[name]} {row['adduct']}".strip())
    return [found.get(i, "") for i in range(len(axis))]


def _column(axis: NDArray[np.float64], mz: float, ppm: float) -> int:
    try:
        return nearest_column(axis, mz, ppm)
    except InputError:
        return -1
