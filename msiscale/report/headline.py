"""The headline of a run in words: means over patients by t, all pixels pooled beside them.

The lines at the end of a run, the first screen of the report and the README say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from msiscale.models.patient_means import ALL_PIXELS, OVER_PATIENTS, TRUSTED
from msiscale.report.data import IONS, METRICS, MODELS, CsvTable, Results
from msiscale.report.tables import HtmlTable

INTERVALS = CsvTable(
    "intervals",
    "protocol* model* target* metric* value low high estimand* patients of trusted why?",
    "msiscale fit, on two patients or more",
)
COLOUR = ("cancer_from_colour", "msi_from_colour")  # baselines of what colour alone gives
HEADLINES = (
    *((model, "cancer", "auc") for model in (*MODELS, COLOUR[0])),
    *((m, t, "r2") for m in ("msi_from_he", COLOUR[1]) for t in ("mode_000", "weighted")),
)
SCORED = {"auc": "AUC", "r2": "R²"}
DOUBT = "not to be trusted"
_ENDS = {"r2": -math.inf}  # what a metric can be: else 0 to 1


@dataclass(frozen=True)
class Estimate:
    """A row of ``intervals.csv``.

    Attributes
    ----------
    value, low, high : NaN where there is none
    patients, of : over how many it is, of how many that could be
    trusted : whether the interval is over enough patients
    why : of whom there is no value, and why
    """

    value: float
    low: float
    high: float
    patients: int
    of: int
    trusted: bool
    why: str


Key = tuple[str, str, str, str]


class Estimates:
    """The estimates of a run, by (protocol, model, target, metric)."""

    def __init__(self, results: Results) -> None:
        table = results.table(INTERVALS)
        self._found: dict[str, dict[Key, Estimate]] = {OVER_PATIENTS: {}, ALL_PIXELS: {}}
        self._results = results
        for row in table.to_dict("records"):
            key = (row["protocol"], row["model"], row["target"], row["metric"])
            estimate = Estimate(
                value=float(row["value"]),
                low=float(row["low"]),
                high=float(row["high"]),
                patients=int(row["patients"]),
                of=int(row["of"]),
                trusted=str(row["trusted"]) == "True",
                why=str(row.get("why") or ""),
            )
            self._found.setdefault(row["estimand"], {})[key] = estimate

    def over_patients(self, protocol: str) -> bool:
        """Whether a protocol has means over patients: not where there is one patient."""
        return any(key[0] == protocol for key in self._found[OVER_PATIENTS])

    def mean(self, key: Key) -> Estimate | None:
        """Over patients; None where there is none."""
        return self._found[OVER_PATIENTS].get(key)

    def pooled(self, key: Key) -> Estimate | None:
        """Of all pixels, with the interval of a bootstrap; None where there is none."""
        return self._found[ALL_PIXELS].get(key)

    def value(self, key: Key) -> float:
        """The mean over patients; of all pixels where the protocol has none."""
        if self.over_patients(key[0]):
            found = self.mean(key)
            return math.nan if found is None else found.value
        return self._results.metric("all", *key[1:], protocol=key[0])

    def shown(self, key: Key) -> str:
        """`value`, and its interval where it has one."""
        found = self.mean(key)
        return digits(self.value(key)) if found is None else with_interval(found, key[3])


def digits(value: float) -> str:
    """A score to three decimals; a dash for nothing."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def with_interval(estimate: Estimate, metric: str) -> str:
    """A value and its interval, cut where the metric ends; doubt is said beside it."""
    if math.isnan(estimate.low) or math.isnan(estimate.value):
        return digits(estimate.value)
    low = max(estimate.low, _ENDS.get(metric, 0.0))
    high = estimate.high if metric == "log_loss" else min(estimate.high, 1.0)
    doubt = "" if estimate.trusted else f", {DOUBT}"
    return f"{digits(estimate.value)} ({digits(low)} to {digits(high)}{doubt})"


def notes(results: Results, protocol: str = "") -> Iterator[str]:
    """What must be known beside the means: over whom, who is not in them, what is not trusted."""
    estimates = Estimates(results)
    found = {key: estimates.mean((protocol or results.protocol, *key)) for key in HEADLINES}
    known = {key: one for key, one in found.items() if one is not None}
    if not known:
        return
    few = min((e.patients for e in known.values() if not math.isnan(e.low)), default=TRUSTED)
    if few < TRUSTED:
        doubt = f"An interval over fewer than {TRUSTED} patients cannot be trusted"
        yield f"{doubt}; here there are {few}."
    for reason in dict.fromkeys(one.why for one in known.values() if one.why):
        mine = [one for one in known.values() if one.why == reason]
        if all(math.isnan(one.value) for one in mine):
            yield f"No score of cancer: {reason}."
        else:
            over = f"{mine[0].patients} of {mine[0].of} patients"
            yield f"Some means are over {over}; the others have no value: {reason}."
    if any(not math.isnan(one.value) and math.isnan(one.low) for one in known.values()):
        yield "Only one patient has a value of its own, so no interval can be given."


def table(results: Results) -> HtmlTable:
    """The first screen of the report: a row a prediction; empty without means over patients."""
    estimates, rows = Estimates(results), []
    for model, target, metric in HEADLINES:
        key = (results.protocol, model, target, metric)
        mean = estimates.mean(key)
        if mean is not None:
            over = f"{mean.patients} of {mean.of}"
            pooled = digits(results.metric("all", model, target, metric))
            name = [_called(model, target), SCORED[metric]]
            rows.append([*name, with_interval(mean, metric), over, pooled])
    mean_words = "mean over patients (95 % interval)"
    return HtmlTable(["predicted", "score", mean_words, "patients", "all pixels pooled"], rows)


def _called(model: str, target: str) -> str:
    source = "colour alone" if model in COLOUR else MODELS.get(model, "from H&E")
    source = source if source.startswith("from") else f"from {source}"
    if target == "cancer":
        return f"cancer {source}"
    return f"MSI {source}, {'all modes by variance' if target == 'weighted' else 'mode 1'}"


def lines(results: Results) -> Iterator[str]:
    """The lines at the end of a run; nothing where nothing was held out."""
    held = results.protocol
    if results.table(METRICS).empty:
        return
    estimates = Estimates(results)
    means = estimates.over_patients(held)
    found = [estimates.mean((held, *key)) for key in HEADLINES]
    counts = {n for one in found if one is not None for n in (one.patients, one.of)}
    same = f"{counts.pop()} " if len(counts) == 1 else ""
    over = f"mean over {same}patients (95 % interval) | " if means else ""
    yield f"{results.held_out_words}: {over}all pixels pooled"

    def mean_of(key: Key, score: str) -> str:
        one = estimates.mean(key)
        of = "" if one is None or same else f" over {one.patients} of {one.of}"
        return f"{score} {estimates.shown(key)}{of} | " if means else ""

    for model in (*MODELS, COLOUR[0]):
        key = (held, model, "cancer", "auc")
        auc, ap, prevalence = (
            results.metric("all", model, "cancer", m)
            for m in ("auc", "average_precision", "prevalence")
        )
        if math.isnan(auc) and estimates.mean(key) is None:
            continue
        pooled = f"AUC {digits(auc)}  AP {digits(ap)}  (prevalence {digits(prevalence)})"
        yield f"  {model:<26} {mean_of(key, 'AUC')}{pooled}"
    for model, target, metric in HEADLINES:
        pooled_r2 = results.metric("all", model, target, metric)
        if metric == "r2" and not math.isnan(pooled_r2):
            key = (held, model, target, metric)
            called = f"{model} {target}"
            yield f"  {called:<26} {mean_of(key, 'R²')}R² {digits(pooled_r2)}"
    ions = results.table(IONS)
    if len(mine := ions[ions["protocol"] == held]):
        colour = f", from colour alone {digits(mine['colour_pearson'].median())}"
        yield f"  {'ions, median r':<26} {digits(mine['pearson'].median())}{colour}"
    yield from (f"  {note}" for note in notes(results))
    yield from _claimed(results)


def _claimed(results: Results) -> Iterator[str]:
    """What leakage would claim: pooled pixels, as the published study validates."""
    protocol = "pixel_folds"
    aucs = [results.metric("all", model, "cancer", "auc", protocol) for model in MODELS]
    if results.protocol == protocol or all(map(math.isnan, aucs)):
        return
    r2 = results.metric("all", "msi_from_he", "weighted", "r2", protocol)
    yield (
        "pooled pixels, as in the published study, would claim: AUC "
        f"{', '.join(map(digits, aucs))}, R² {digits(r2)}"
    )
