"""How far a run can be trusted, at a glance: five marks, each by a rule that is written down here.

A mark is green, amber or red; grey where a run has nothing to judge by. `RULES` says in words what
decides, and the page shows it, so that nobody has to guess what a colour stands for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msiscale.report.data import MODELS, PROTOCOL, REGISTERED, Results, State
from msiscale.report.evidence import BATCH
from msiscale.report.headline import Estimates
from msiscale.report.novelty import FAR, MANY
from msiscale.report.sections import NOTICES_TABLE
from msiscale.report.thumbnails import Thumbnail

GREEN, AMBER, RED, GREY = "green", "amber", "red", "grey"
WORDS = {GREEN: "good", AMBER: "look closer", RED: "do not rely on it", GREY: "not known"}
SHAPES = {GREEN: "✓", AMBER: "▲", RED: "✕", GREY: "–"}

RESIDUAL = 1.0  #: MSI pixels that a registration may be off
BETWEEN = (0.25, 0.5)  #: share of the variance between specimens: amber, red
GAP = (0.05, 0.2)  #: AUC that random pixels would claim above patients: amber, red
R2_GAP = (0.15, 0.4)  #: the same of R²
MOST = 0.25  #: share of the specimens from which amber is red

RULES = {
    "registration": f"Green: every specimen lies within {RESIDUAL:g} MSI pixel. Amber: some do "
    f"not, or were refused. Red: {MOST:.0%} of the specimens or more do not. A "
    "transform that was given has no residual and does not count.",
    "batch": f"The share of the variance that lies between specimens, of the MSI or the H&E "
    f"features, whichever is larger. Green: below {BETWEEN[0]:.0%}. Red: {BETWEEN[1]:.0%} or more.",
    "leakage": "How much better random pixels score than held-out patients. Green: less than "
    f"{GAP[0]:g} of AUC and {R2_GAP[0]:g} of R². Red: {GAP[1]:g} of AUC or {R2_GAP[1]:g} of R², or "
    "more. With one patient: amber if blocks were held out, red if only random pixels were.",
    "novelty": f"A specimen is unlike the others where the H&E of {FAR:.0%} of its pixels or more "
    f"is beyond the limit. Green: none is. Amber: some are. Red: {MANY:.0%} of them or more are.",
    "notices": "Green: no warning, and no specimen failed. Amber: a warning or a failure. Red: "
    f"{MOST:.0%} of the specimens or more failed.",
}


@dataclass(frozen=True)
class Mark:
    """One judgement.

    Attributes
    ----------
    name : of `RULES`
    level : `GREEN`, `AMBER`, `RED` or `GREY`
    words : what was found, in a sentence
    link : the anchor of the evidence
    """

    name: str
    level: str
    words: str
    link: str

    @property
    def verdict(self) -> str:
        """The level in words."""
        return WORDS[self.level]

    @property
    def shape(self) -> str:
        """A sign that says it without a colour."""
        return SHAPES[self.level]

    @property
    def rule(self) -> str:
        """What decides."""
        return RULES[self.name]


def marks(results: Results, states: Sequence[State], seen: Mapping[str, Thumbnail]) -> list[Mark]:
    """The five marks of a run, in the order in which the page shows them."""
    return [
        registration(results),
        batch(results),
        leakage(results),
        novelty({name: one.beyond for name, one in seen.items()}),
        notices(results, states),
    ]


def registration(results: Results) -> Mark:
    """How many specimens lie where they should."""
    off, known, unmeasured = 0, 0, 0
    for row in results.table(REGISTERED).to_dict("records"):
        away = _first(row.get("residual_px"), row.get("error_px"))
        refused = bool(_first(row.get("refused")) > 0)
        known += 1
        off += refused or away > RESIDUAL
        unmeasured += not refused and math.isnan(away)
    if not known:
        return Mark("registration", GREY, "No specimen is registered yet.", "registration")
    if unmeasured == known:
        words = "No residual is known, as the transforms were given."
        return Mark("registration", GREY, words, "registration")
    level = GREEN if not off else RED if off / known >= MOST else AMBER
    words = f"{known - off - unmeasured} of {known} specimens lie within {RESIDUAL:g} MSI pixel."
    if unmeasured:
        words = f"{words[:-1]}; {unmeasured} {'has' if unmeasured == 1 else 'have'} no residual."
    return Mark("registration", level, words, "registration")


def batch(results: Results) -> Mark:
    """How much of the variance tells specimens apart."""
    table = results.table(BATCH)
    here = table[
        (table["specimen"] == "all")
        & (table["target"] == "all")
        & (table["metric"] == "between_specimens")
    ]
    shares = dict(zip(here["of"], here["value"].astype(float), strict=True))
    if not shares:
        return Mark("batch", GREY, "Specimens were not compared with each other.", "between")
    of = max(shares, key=lambda name: shares[name])
    level = _level(shares[of], BETWEEN)
    what = {"msi": "the MSI", "features": "the H&E features"}.get(of, of)
    words = f"{shares[of]:.0%} of the variance of {what} lies between specimens."
    return Mark("batch", level, words, "between")


def leakage(results: Results) -> Mark:
    """What would have been claimed had pixels of one patient been on both sides."""
    link = "believe"
    if results.protocol == "pixel_folds":
        words = "Only random pixels were held out, beside those trained on."
        return Mark("leakage", RED, words, link)
    if results.protocol != PROTOCOL:
        words = "Blocks of one patient were held out; nothing is known about another."
        return Mark("leakage", AMBER, words, link)
    estimates = Estimates(results)

    def gap(model: str, target: str, metric: str) -> float:
        key = (model, target, metric)
        return estimates.value(("pixel_folds", *key)) - estimates.value((PROTOCOL, *key))

    aucs = [gap(model, "cancer", "auc") for model in MODELS]
    auc = max((g for g in aucs if not math.isnan(g)), default=math.nan)
    r2 = gap("msi_from_he", "weighted", "r2")
    if math.isnan(auc) and math.isnan(r2):
        words = "Patients were held out; random pixels were not tried."
        known = not math.isnan(results.metric("all", "msi_from_he", "weighted", "r2"))
        return Mark(
            "leakage", GREEN if known else GREY, words if known else "Nothing was held out.", link
        )
    level = max(_level(auc, GAP), _level(r2, R2_GAP), key=(GREEN, AMBER, RED).index)
    parts = [f"{n} by {v:+.3f}" for v, n in ((auc, "AUC"), (r2, "R²")) if not math.isnan(v)]
    words = f"Holding out random pixels instead would change {' and '.join(parts)}."
    return Mark("leakage", level, words, link)


def novelty(beyond: Mapping[str, float | None]) -> Mark:
    """How many held-out specimens look unlike those that the models were trained on."""
    known = [share for share in beyond.values() if share is not None]
    if not known:
        words = "No specimen was compared with the others."
        return Mark("novelty", GREY, words, "novelty")
    far = sum(share >= FAR for share in known)
    level = GREEN if not far else RED if far / len(known) >= MANY else AMBER
    words = f"{far or 'None'} of {_count(len(known), 'specimen')} {'look' if far > 1 else 'looks'} "
    return Mark("novelty", level, f"{words}unlike the others.", "novelty")


def notices(results: Results, states: Sequence[State]) -> Mark:
    """Warnings, and specimens that failed."""
    severity = results.table(NOTICES_TABLE)["severity"].astype(str)
    warnings = int((severity == "warning").sum())
    failed = sum(state.state == "failed" for state in states)
    words = f"{_count(warnings, 'warning')}, {_count(failed, 'failed specimen')}."
    if states and failed / len(states) >= MOST:
        level = RED
    else:
        level = AMBER if warnings or failed else GREEN
    return Mark("notices", level, words[0].upper() + words[1:], "notices")


def _level(value: float, limits: tuple[float, float]) -> str:
    """By an amber and a red limit; what is not known is no reason for doubt."""
    if math.isnan(value) or value < limits[0]:
        return GREEN
    return RED if value >= limits[1] else AMBER


def _first(*values: object) -> float:
    """The first number that is known; NaN where none is."""
    for value in values:
        if isinstance(value, int | float) and not math.isnan(value):
            return float(value)
    return math.nan


def _count(n: int, noun: str) -> str:
    return f"{n or 'no'} {noun}{'' if n == 1 else 's'}"
