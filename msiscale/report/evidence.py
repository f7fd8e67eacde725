"""What a reader should know before believing a figure: protocols side by side, leakage, equal
rank, jitter, chance, the study's choices, and differences between specimens."""

from __future__ import annotations

import math

import pandas as pd

from msiscale.report.data import METRICS, MODELS, PROTOCOL, CsvTable, Results
from msiscale.report.headline import COLOUR, DOUBT, INTERVALS, Estimates
from msiscale.report.tables import HtmlTable, Section, filled, frame, number

COMPARISONS = CsvTable(
    "comparisons",
    "protocol* model* against* metric* difference low high unit* units trusted p p_holm "
    "pooled_difference",
    "msiscale fit, on two patients or more, or blocks of one",
)
RELIABILITY = CsvTable(
    "reliability",
    "protocol* model* predicted observed n",
    "msiscale fit, on annotated specimens",
)
ROBUSTNESS = CsvTable(
    "robustness",
    "test* level draw model* target* metric* value",
    "msiscale robustness with --jitter or --null",
)
SWITCHES = CsvTable(
    "switches",
    "switch* protocol* model* target* metric* value base change",
    "msiscale ablate",
)
BATCH = CsvTable(
    "batch", "of* specimen* target* metric* value", "msiscale fit, on two specimens or more"
)
CORRECTIONS = CsvTable(
    "corrections",
    "correction* model* target* metric* value without difference low high patients trusted p "
    "p_holm",
    "msiscale corrections with --correct",
)
CALIBRATION = CsvTable("calibration", "specimen* matches note?", "msiscale ingest --recalibrate")
PROTOCOLS = {
    PROTOCOL: "patient left out",
    "spatial_blocks": "spatial blocks",
    "pixel_folds": "pixel folds",
}
COMPARED = {
    **MODELS,
    "cancer_from_he_modes": "from modes of H&E",
    COLOUR[0]: "from colour alone",
}
SHOWN = [
    *((model, "cancer", metric) for model in COMPARED for metric in ("auc", "average_precision")),
    ("msi_from_he", "weighted", "r2"),
    ("msi_from_he", "mode_000", "r2"),
    (COLOUR[1], "weighted", "r2"),
    (COLOUR[1], "mode_000", "r2"),
]
_METRICS = {"auc": "AUC", "average_precision": "average precision", "r2": "R²"}
_PREDICTED = {
    **{model: f"cancer {words}" for model, words in COMPARED.items()},
    "msi_from_he": "MSI from H&E",
    "msi_from_colour": "MSI from colour alone",
}
_TESTS = {
    "null_labels": "annotation moved over the tissue",
    "null_registration": "slide mirrored under the MSI",
}
# what a test leaves as it was says nothing of chance
_UNTOUCHED = {"null_labels": "msi_from_he", "null_registration": "cancer_from_msi"}
_BATCH = {
    "between_specimens": "share of the variance between specimens",
    "between_patients": "of which between patients",
    "within_patients": "of which between specimens of a patient",
    "pairwise_auc": "AUC of telling two specimens apart by one pixel",
    "pairwise_auc_least": "the same, for the two most alike",
    "pairwise_auc_most": "the same, for the two least alike",
    "pairwise_accuracy": "accuracy of telling two apart",
    "modes_used": "modes used",
}
_OF = {"msi": "MSI modes", "features": "H&E features"}
_NOTHING = 1e-12  # of a variance


def words_of(model: str, target: str, metric: str) -> list[str]:
    """What is predicted, and how it is scored."""
    source = "colour alone" if model == COLOUR[1] else "H&E"
    what = (
        f"cancer {COMPARED[model]}" if model in COMPARED else f"MSI from {source}, {_mode(target)}"
    )
    return [what, _METRICS.get(metric, metric)]


def _mode(target: str) -> str:
    if target.startswith("mode_"):
        return f"mode {int(target.removeprefix('mode_')) + 1}"
    return "all modes by variance"


def present(results: Results) -> list[str]:
    """Protocols of the run, the headline's first."""
    there = list(results.table(METRICS)["protocol"].unique())
    return [p for p in PROTOCOLS if p in there] + [p for p in there if p not in PROTOCOLS]


def leaks(results: Results) -> bool:
    """Whether the run has what tells the gain from leakage."""
    there = {results.protocol, "pixel_folds"}
    return len(there) == 2 and there <= set(present(results))


def left_out(results: Results) -> str:
    """What is held out in the figures that the page is about."""
    return results.left_out


def averaged(results: Results) -> str:
    """What a score of the page is."""
    if Estimates(results).over_patients(results.protocol):
        return "Mean over patients with its 95 % t interval"
    return "All pixels together"


def protocols(results: Results) -> HtmlTable:
    """Each protocol's means over patients with intervals, and what leakage is worth."""
    names, estimates = present(results), Estimates(results)
    leaked = leaks(results)
    rows = []
    for what in SHOWN:
        values = {p: estimates.value((p, *what)) for p in names}
        if all(math.isnan(v) for v in values.values()):
            continue
        cells = [estimates.shown((p, *what)) for p in names]
        if leaked:
            cells.append(signed(values["pixel_folds"] - values[results.protocol]))
        rows.append([*words_of(*what), *cells])
    columns = ["predicted", "metric", *(PROTOCOLS.get(p, p.replace("_", " ")) for p in names)]
    return HtmlTable([*columns, "gain from leakage"] if leaked else columns, rows)


def signed(value: float) -> str:
    """A difference with its sign."""
    return "–" if math.isnan(value) else f"{value:+.3f}"


def comparisons(results: Results) -> HtmlTable:
    """Differences between models on the same held-out pixels."""
    table = results.table(COMPARISONS)
    rows = []
    for row in table[table["protocol"] == results.protocol].to_dict("records"):
        bounds = f"{signed(row['low'])} to {signed(row['high'])}"
        if math.isnan(row["low"]):
            bounds = "–"
        elif str(row["trusted"]) != "True":
            bounds += f", {DOUBT}"
        names = [_PREDICTED.get(row[c], row[c]) for c in ("model", "against")]
        cells = [_METRICS.get(row["metric"], row["metric"]), signed(row["difference"]), bounds]
        cells += [f"{number(row['units'])} {row['unit']}", number(row["p"]), number(row["p_holm"])]
        rows.append([*names, *cells, signed(row["pooled_difference"])])
    columns = ["predicted", "against", "metric", "difference", "95 % interval", "mean over"]
    return HtmlTable([*columns, "p", "p (Holm)", "all pixels pooled"], rows)


def jitter(results: Results) -> HtmlTable:
    """Scores with the slide so many MSI pixels away from where it lies, mean over the draws."""
    means = jitter_means(results)
    levels = sorted({level for level, *_ in means})
    rows = []
    for key in SHOWN:
        values = [means.get((level, *key), math.nan) for level in levels]
        if not all(math.isnan(v) for v in values):
            rows.append([*words_of(*key), *map(number, values)])
    return HtmlTable(["predicted", "metric", *(f"{number(x)} px away" for x in levels)], rows)


def jitter_means(results: Results) -> dict[tuple[float, str, str, str], float]:
    """Mean over the draws by (level in MSI pixels, model, target, metric)."""
    table = results.table(ROBUSTNESS)
    rows = table[table["test"] == "jitter"]
    means = rows.groupby(["level", "model", "target", "metric"], sort=False)["value"].mean()
    return {(float(k[0]), k[1], k[2], k[3]): float(v) for k, v in means.items()}  # type: ignore[index]


def nulls(results: Results) -> HtmlTable:
    """What chance gives, beside what was found."""
    table = results.table(ROBUSTNESS)
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
    return HtmlTable(columns, rows)


def switches(results: Results) -> HtmlTable:
    """What each choice of the study changes, patients left out and in pixel folds."""
    table = results.table(SWITCHES)
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
    return HtmlTable(columns, rows)


def batch(results: Results) -> HtmlTable:
    """How well modes and features tell specimens apart, where they should not."""
    table = results.table(BATCH)
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
    return HtmlTable(["measure", *_OF.values()], rows) if rows else HtmlTable([], [])


def _all_modes(side: pd.DataFrame) -> pd.DataFrame:
    return side[side["target"] == "all"]


def corrections(results: Results) -> HtmlTable:
    """What each correction between specimens changes, mean over the patients left out."""
    table = results.table(CORRECTIONS)
    rows = []
    for row in table[table["correction"] != "none"].to_dict("records"):
        bounds = f"{signed(row['low'])} to {signed(row['high'])}"
        if math.isnan(row["low"]):
            bounds = "–"
        elif str(row["trusted"]) != "True":
            bounds += f", {DOUBT}"
        what = words_of(row["model"], row["target"], row["metric"])
        cells = [number(row["without"]), number(row["value"]), signed(row["difference"]), bounds]
        rows.append([row["correction"], *what, *cells, number(row["p"]), number(row["p_holm"])])
    columns = ["correction", "predicted", "metric", "without", "with it", "difference"]
    return HtmlTable([*columns, "95 % interval", "p", "p (Holm)"], rows)


def batch_by_specimen(results: Results) -> HtmlTable:
    """The same for each specimen: AUC of telling it from another by one pixel."""
    table = results.table(BATCH)
    here = table[(table["specimen"] != "all") & (table["target"] == "all")]
    wide = here.pivot_table(index="specimen", columns=["of", "metric"], values="value")
    names = [" ".join(map(str, pair)) for pair in wide.columns.to_flat_index()]
    wide.columns = pd.Index(names)
    order = [n for n in results.specimens if n in wide.index]
    return frame(wide.loc[order].reset_index())


def calibration(results: Results) -> HtmlTable:
    """``calibration.csv``: mass errors before and after."""
    return filled(results.table(CALIBRATION))


BELIEVE = Section(
    "believe",
    "Validation",
    """\
<h2 id="believe">Validation</h2>
<h3 id="protocols">Protocols side by side{% if leaks %}, and the gain from leakage{% endif %}</h3>
<p class="note">Pixels of one specimen are alike, so a protocol that splits a specimen between training and test scores too high.{% if leaks %} The gain
from leakage is the score in pixel folds (the published study's protocol) minus the score with {{ left_out }}.{% endif %}</p>
{{ plot("protocols", "AUC of cancer under each protocol; lines: 95 % intervals over four patients or more.") }}
{{ cells(protocols, averaged ~ ", under each validation protocol.", "No metrics yet.") }}
{% if study or comparisons.rows %}
<h3 id="comparisons">Models compared</h3>
<p class="note">What does the network see beyond the colours of the stain? Does predicted MSI know more than the H&amp;E that it comes from? The fair comparison is with as many
modes of H&amp;E. A difference is the mean of the patients' own differences, with its interval and p from one t-test; p (Holm) is adjusted for the rows of its metric.
A patient without both classes has no difference. With one patient the mean is over blocks and has no p. The last column pools all pixels.</p>
{{ cells(comparisons, "Differences between models on the same held-out pixels.", "No comparison: nothing was held out.") }}
{% endif %}
{% if study or jitter.rows or nulls.rows %}
<h3 id="robustness">A misplaced slide, and chance</h3>
{{ plot("jitter", "What a misplaced slide costs: scores of all pixels pooled, by how far the slide was moved.") }}
{{ cells(jitter, "Scores with the slide moved by so many MSI pixels, all pixels pooled.", "Not asked for: --jitter.") }}
{{ cells(nulls, "Scores by chance, all pixels pooled: fits with a moved annotation, or a mirrored slide.", "Not asked for: --null.") }}
{% endif %}
{% if study or switches.rows %}
<h3 id="choices">Choices of the published study (Ul Haque et al. 2023)</h3>
{{ cells(switches, "What each choice changes on this cohort, all pixels pooled.", "Not asked for: msiscale ablate.") }}
{% endif %}
""",  # noqa: E501
    (leaks, left_out, averaged, protocols, comparisons, jitter, nulls, switches),
    # BETWEEN reads the last three
    (INTERVALS, COMPARISONS, RELIABILITY, ROBUSTNESS, SWITCHES, BATCH, CORRECTIONS, CALIBRATION),
)
BETWEEN = Section(
    "between",
    "Between specimens",
    """\
<h2 id="between">Between specimens</h2>
<p class="note">Specimens differ by preparation, instrument and day, not by biology alone. An AUC of 1 means that every pixel gives its specimen away.</p>
{{ cells(batch, "Variance between specimens, and how well two of them can be told apart.", "This needs two specimens and the fit stage.") }}
{% if batch_by_specimen.rows %}
<details><summary>By specimen</summary>
{{ cells(batch_by_specimen, "How well each specimen can be told from the others.") }}
</details>
{% endif %}
{% if study or corrections.rows %}
<h3 id="corrections">Corrections between specimens</h3>
<p class="note">Means over the patients left out. Each patient is corrected towards the training patients by its own unlabelled intensities. Interval and p are from a t-test of the patients' differences.
R² is that of the corrected intensities, which differ with each correction; AUC and average precision use the same annotation. All other results here are without correction.</p>
{{ cells(corrections, "What each correction changes.", "Not asked for: msiscale corrections --correct.") }}
{% endif %}
{% if study or calibration.rows %}
<h3 id="calibration">Recalibration of m/z</h3>
{{ cells(calibration, "Mass error in ppm before and after.", "Not asked for: --recalibrate.") }}
{% endif %}
""",  # noqa: E501
    (batch, batch_by_specimen, corrections, calibration),
    unless=lambda r: (
        ""
        if r.is_study or batch(r).rows or calibration(r).rows
        else "fewer than two specimens can be compared"
    ),
)
