"""``ions.csv``: how well the image of every m/z is predicted, over pixels that were held out.

All is within what a fold held out of a specimen (all of it, or a block): squares and products are
about the mean of these pixels, ranks are among them, and both are added up over folds and
specimens, as `models.ridge.R2` adds. So a difference between specimens, or between folds, counts
for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from msiscale.cohort import Specimen
from msiscale.errors import InputError, SpecimenError
from msiscale.grid import Floats
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.biomarkers import ANNOTATIONS
from msiscale.pipeline.context import Run
from msiscale.pipeline.pixel_rows import sound
from msiscale.pipeline.tasks import Task, ordered
from msiscale.store import HeldOut, at_once, exists, join, nearest_column, read_csv, write_csv
from msiscale.store.held_out import COLOUR

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
    "pixels",
    "specimens",
]
FDR = 0.1  # of a name that `annotate` gave, at most
DEPTH = 64  # m/z of a chunk of the cube
VALUES = 1 << 24  # float32 of an image of a chunk of m/z, at most, where `DEPTH` m/z allow it
MOST = 4  # chunks of the cube to a task
# what is added up over specimens, of each m/z
SUMS = (
    *("specimens", "pixels", "sum", "tss", "away", "rss", "guess", "product"),
    *("ranks", "guess_ranks", "rank_product", "colour_rss", "colour_guess", "colour_product"),
)


def ions(run: Run) -> None:
    """Write ``ions.csv``, a row an m/z and protocol.

    Memory: a worker holds four times the images of a chunk of m/z of one specimen (measured,
    predicted, by colour, by the mean), 64 MiB each (more above 512 x 512 pixels, where a chunk has
    its least, 64 m/z); the client one row of sums an m/z.
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
    names = [s.name for s in specimens]
    key = run.key("by_ion", fitted.get("digest"), names, [r.get("digest") for r in named])
    if run.done("by_ion", "cohort", key):
        return
    with run.making("by_ion", key, "ions", redone=1) as record:
        axis = load_axis(run)["mz"].values
        held = {p: found for p in _protocols(run) if (found := _held_out(run, p, names))}
        sums = _sums(run, held, len(axis))
        words = _identified(run, axis)
        tables = [scores(protocol, axis, words, found) for protocol, found in sums.items()]
        table = pd.concat(tables) if tables else pd.DataFrame(columns=COLUMNS)
        write_csv(join(run.out, TABLE), table, COLUMNS, digits=12)
        record["mz"] = len(axis)
    if not tables:
        run.say("ions: no pixel was held out; ions.csv has no row")


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
    run: Run, held: Mapping[str, Mapping[str, tuple[int, int]]], n_mz: int
) -> dict[str, Floats]:
    """The (m/z, `SUMS`) of each protocol, added up over its specimens in their order."""
    tasks = [
        Task(f"{protocol}/{name}/{start}", name, ion_sums, (run.out, name, protocol, start, stop))
        for protocol, shapes in held.items()
        for name, shape in shapes.items()
        for start, stop in chunks(shape, n_mz)
    ]
    totals = {protocol: np.zeros((n_mz, len(SUMS))) for protocol in held}
    reports = ordered(run.client, tasks, "ions", run.lease.guard)
    for task, report in zip(tasks, reports, strict=True):
        if report.failure is not None:
            raise SpecimenError(report.failure, task.specimen)
        _, _, protocol, start, stop = task.args
        totals[protocol][start:stop] += np.array(report.result["sums"])
    return totals


def chunks(shape: tuple[int, int], n_mz: int) -> list[tuple[int, int]]:
    """First and last m/z of each task of a specimen: a matter of its size alone."""
    depth = DEPTH * min(max(VALUES // (DEPTH * shape[0] * shape[1]), 1), MOST)
    return [(start, min(start + depth, n_mz)) for start in range(0, n_mz, depth)]


def ion_sums(out: str, specimen: str, protocol: str, start: int, stop: int) -> dict[str, Any]:
    """`SUMS` of some m/z of a specimen; zeros of an m/z that its folds do not have."""
    with sound(join(out, "predictions.zarr"), specimen):
        source, wanted = HeldOut(out, specimen, protocol), slice(start, stop)
        measured, predicted = source.measured(wanted), source.predicted(wanted)
        if not np.isfinite(measured).all():
            raise ValueError(f"{source.cohort.url}/intensity: held-out pixels without values")
        constant = source.constant(wanted)
        coloured = source.has(COLOUR)
        colour = source.predicted(wanted, COLOUR) if coloured else measured
        folds = source.fold[source.held]
        found = np.zeros((stop - start, len(SUMS)))
        for i in np.flatnonzero(source.supported[wanted]):
            for k in np.unique(folds):
                rows = folds == k
                truth, base = measured[rows, i].astype(np.float64), constant[rows, i]
                own = _scored(truth, predicted[rows, i].astype(np.float64))
                own |= {"away": float(((truth - base) ** 2).sum())}
                other = _about(truth, colour[rows, i].astype(np.float64))
                own |= {f"colour_{name}": other[name] if coloured else np.nan for name in other}
                found[i] += [own[name] for name in SUMS]
            found[i, 0] = 1  # a specimen, of however many folds
    return {"sums": found.tolist()}


def _scored(truth: Floats, guess: Floats) -> dict[str, float]:
    """Sums of an image and its prediction, of values and of ranks."""
    centred = truth - truth.mean()
    found = {"specimens": 1.0, "pixels": float(len(truth)), "sum": float(truth.sum())}
    found |= {"tss": float(centred @ centred)} | _about(truth, guess)
    ranks = (rankdata(values) - (len(truth) + 1) / 2 for values in (truth, guess))
    a, b = ranks
    return found | {"ranks": a @ a, "guess_ranks": b @ b, "rank_product": a @ b}


def _about(truth: Floats, guess: Floats) -> dict[str, float]:
    """Squared error; square and product of the prediction, each about its own mean."""
    error, centred = truth - guess, guess - guess.mean()
    product = float(centred @ (truth - truth.mean()))
    return {"rss": float(error @ error), "guess": float(centred @ centred), "product": product}


def scores(
    protocol: str, mz: NDArray[np.float64], words: Sequence[str], sums: Floats
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
    sums
        (k, `SUMS`), over all specimens.

    Returns
    -------
    DataFrame
        `COLUMNS`; NaN where an image does not vary, or nothing was held out.
    """
    of = dict(zip(SUMS, sums.T, strict=True))

    def correlation(product: str, a: str, b: str) -> Floats:
        return _ratio(of[product], np.sqrt(of[a] * of[b]))

    found = {
        "protocol": protocol,
        "mz": mz,
        "identification": list(words),
        "mean": _ratio(of["sum"], of["pixels"]),
        "sd": np.sqrt(_ratio(of["tss"], of["pixels"])),
        "r2": 1 - _ratio(of["rss"], of["tss"]),
        "pearson": correlation("product", "tss", "guess"),
        "spearman": correlation("rank_product", "ranks", "guess_ranks"),
        "colour_r2": 1 - _ratio(of["colour_rss"], of["tss"]),
        "colour_pearson": correlation("colour_product", "tss", "colour_guess"),
        "tissue_r2": 1 - _ratio(of["away"], of["tss"]),
        "pixels": of["pixels"].astype(int),
        "specimens": of["specimens"].astype(int),
    }
    return pd.DataFrame(found, columns=COLUMNS)


def _ratio(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.divide(a, b, out=np.full(len(b), np.nan), where=b > 0))


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
