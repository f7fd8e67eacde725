"""What a reader should know before believing a figure: protocols side by side, leakage, equal
rank, jitter, chance, the study's choices, and differences between specimens."""

from __future__ import annotations

import math

import pandas as pd

from msiscale.report.data import MODELS, PROTOCOL, Results
from msiscale.report.tables import Table, frame, interval_of, number, with_interval

PROTOCOLS = {
    PROTOCOL: "patient left out",
    "spatial_blocks": "spatial blocks",
    "pixel_folds": "pixel folds",
}
COMPARED = {**MODELS, "cancer_from_he_modes": "from modes of H&E"}
SHOWN = [
    *((model, "cancer", metric) for model in COMPARED for metric in ("auc", "average_precision")),
    ("msi_from_he", "weighted", "r2"),
    ("msi_from_he", "mode_000", "r2"),
]
_METRICS = {"auc": "AUC", "average_precision": "average precision", "r2": "R²"}
_TESTS = {
    "null_labels": "annotation moved over the tissue",
    "null_registration": "slide mirrored under the MSI",
}


# what a test leaves as it was says nothing of chance
_UNTOUCHED = {"null_labels": "msi_from_he", "null_registration": "cancer_from_msi"}
_BATCH = {
    "between_specimens": "share of the variance between specimens",
    "between_patients": "of it between patients",
    "within_patients": "of it between specimens of a patient",
    "pairwise_auc": "AUC of telling two specimens apart by a pixel",
    "pairwise_auc_least": "the same, of the two most alike",
    "pairwise_auc_most": "the same, of the two least alike",
    "pairwise_accuracy": "accuracy of telling two apart",
    "modes_used": "modes used",
}
_OF = {"msi": "MSI modes", "features": "H&E features"}
_NOTHING = 1e-12  # of a variance


def words_of(model: str, target: str, metric: str) -> list[str]:
    """What is predicted, and how it is scored."""
    what = f"cancer {COMPARED[model]}" if model in COMPARED else f"MSI from H&E, {_mode(target)}"
    return [what, _METRICS.get(metric, metric)]


def _mode(target: str) -> str:
    if target.startswith("mode_"):
        return f"mode {int(target.removeprefix('mode_')) + 1}"
    return "all modes by variance"


def present(results: Results) -> list[str]:
    """Protocols of the run, the headline's first."""
    there = list(results.metrics["protocol"].unique())
    return [p for p in PROTOCOLS if p in there] + [p for p in there if p not in PROTOCOLS]


def protocols(results: Results) -> Table:
    """Pooled values of each protocol side by side with intervals over patients, and what leakage
    is worth: pixel folds less patients left out."""
    names, bounds = present(results), interval_of(results)
    leaks = {PROTOCOL, "pixel_folds"} <= set(names)
    rows = []
    for model, target, metric in SHOWN:
        values = {p: results.metric("all", model, target, metric, p) for p in names}
        if all(math.isnan(v) for v in values.values()):
            continue
        cells = [
            with_interval(v, bounds.get((p, model, target, metric))) for p, v in values.items()
        ]
        if leaks:
            cells.append(signed(values["pixel_folds"] - values[PROTOCOL]))
        rows.append([*words_of(model, target, metric), *cells])
    columns = ["predicted", "metric", *(PROTOCOLS.get(p, p.replace("_", " ")) for p in names)]
    return Table([*columns, "worth of leakage"] if leaks else columns, rows)


def signed(value: float) -> str:
    """A difference with its sign."""
    return "–" if math.isnan(value) else f"{value:+.3f}"


def comparisons(results: Results) -> Table:
    """Differences of models on the same pixels, patients left out."""
    table = results.table("comparisons")
    rows = []
    for row in table[table["protocol"] == PROTOCOL].to_dict("records"):
        bounds = f"{signed(row['low'])} to {signed(row['high'])}"
        names = [COMPARED.get(row[c], row[c]) for c in ("model", "against")]
        cells = [_METRICS.get(row["metric"], row["metric"]), signed(row["difference"]), bounds]
        rows.append([*names, *cells, number(row["patients"]), number(row["p"])])
    columns = ["cancer predicted", "against", "metric", "difference", "95 % interval"]
    return Table([*columns, "patients", "p"], rows)


def jitter(results: Results) -> Table:
    """Scores with the slide so many MSI pixels away from where it lies, mean over the draws."""
    means = jitter_means(results)
    levels = sorted({level for level, *_ in means})
    rows = []
    for key in SHOWN:
        values = [means.get((level, *key), math.nan) for level in levels]
        if not all(math.isnan(v) for v in values):
            rows.append([*words_of(*key), *map(number, values)])
    return Table(["predicted", "metric", *(f"{number(x)} px away" for x in levels)], rows)


def jitter_means(results: Results) -> dict[tuple[float, str, str, str], float]:
    """Mean over the draws by (level in MSI pixels, model, target, metric)."""
    table = results.table("robustness")
    rows = table[table["test"] == "jitter"]
    means = rows.groupby(["level", "model", "target", "metric"], sort=False)["value"].mean()
    return {(float(k[0]), k[1], k[2], k[3]): float(v) for k, v in means.items()}  # type: ignore[index]


def nulls(results: Results) -> Table:
    """What chance gives, beside what was found."""
    table = results.table("robustness")
    rows = []
    for test in [t for t in table["test"].unique() if t != "jitter"]:
        for model, target, metric in SHOWN:
            if model == _UNTOUCHED.get(test):
                continue
            drawn = table.loc[
                (table["test"] == test)
                & (table["model"] == model)
                & (table["target"] == target)
                & (table["metric"] == metric),
                "value",
            ].dropna()
            if len(drawn):
                found = results.metric("all", model, target, metric)
                span = f"{number(float(drawn.min()))} to {number(float(drawn.max()))}"
                middle = number(float(drawn.mean()))
                name = _TESTS.get(test, test.replace("_", " "))
                row = [name, *words_of(model, target, metric), number(found), middle, span]
                rows.append([*row, str(len(drawn))])
    columns = ["test", "predicted", "metric", "found", "by chance", "lowest to highest", "draws"]
    return Table(columns, rows)


def switches(results: Results) -> Table:
    """What each choice of the study changes, patients left out and in pixel folds."""
    table = results.table("switches")
    keys = [(m, t, k) for m, t, k in SHOWN if k != "average_precision"]
    keys += [(m, "cancer", "auc_swapped") for m in MODELS]
    rows = []
    for (switch, protocol), part in table.groupby(["switch", "protocol"], sort=False):
        if protocol not in (PROTOCOL, "pixel_folds"):
            continue
        known = part.set_index(["model", "target", "metric"])[["value", "change"]]
        for key in keys:
            if key in known.index:
                value, change = (float(v) for v in known.loc[[key]].iloc[0])
                what, metric = words_of(*key)
                metric = "AUC of swapped hard labels" if key[2] == "auc_swapped" else metric
                head = [str(switch).replace("_", " "), PROTOCOLS[str(protocol)], what, metric]
                rows.append([*head, number(value - change), number(value), signed(change)])
    columns = ["choice", "protocol", "predicted", "metric", "here", "with it", "change"]
    return Table(columns, rows)


def batch(results: Results) -> Table:
    """How well modes and features tell specimens apart, where they should not."""
    table = results.table("batch")
    sides = [table[(table["of"] == of) & (table["specimen"] == "all")] for of in _OF]
    whole = [dict(zip(s["metric"], s["value"], strict=True)) for s in map(_all_modes, sides)]
    rows = []
    for metric in dict.fromkeys([*_BATCH, *(m for side in whole for m in side)]):
        values = [side.get(metric, math.nan) for side in whole]
        if metric != "mostly_batch" and not all(map(math.isnan, values)):
            values = [0.0 if abs(v) < _NOTHING else v for v in values]
            rows.append([_BATCH.get(metric, metric.replace("_", " ")), *map(number, values)])
    flags = [s[(s["metric"] == "mostly_batch") & (s["target"] != "all")]["value"] for s in sides]
    if any(map(len, flags)):
        shares = [f"{(f > 0).sum()} of {len(f)}" if len(f) else number(None) for f in flags]
        rows.append(["modes mostly of batch", *shares])
    return Table(["measure", *_OF.values()], rows) if rows else Table([], [])


def _all_modes(side: pd.DataFrame) -> pd.DataFrame:
    return side[side["target"] == "all"]


def batch_by_specimen(results: Results) -> Table:
    """The same for each specimen: AUC of telling it from another by one pixel."""
    table = results.table("batch")
    here = table[(table["specimen"] != "all") & (table["target"] == "all")]
    wide = here.pivot_table(index="specimen", columns=["of", "metric"], values="value")
    names = [" ".join(map(str, pair)) for pair in wide.columns.to_flat_index()]
    wide.columns = pd.Index(names)
    order = [n for n in results.specimens if n in wide.index]
    return frame(wide.loc[order].reset_index())
