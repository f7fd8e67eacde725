"""The first lines of the report in words: the cohort, and the headline that one can repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from msiscale.report.data import MODELS, Results, State
from msiscale.report.headline import (
    COLOUR,
    DOUBT,
    Estimates,
    digits,
    with_interval,
)
from msiscale.report.ion_gallery import scored
from msiscale.report.thumbnails import Thumbnail

ASKED = "cancer_from_he"  #: the question of the report; the other predictions stand beside it
GUESS = {"auc": 0.5, "r2": 0.0}


def cohort_line(states: Sequence[State], seen: Mapping[str, Thumbnail]) -> list[str]:
    """What was analysed: patients, specimens, MSI pixels and mm² of tissue, as far as is known."""
    patients = {s.patient for s in states if s.patient}
    found = [_count(len(patients), "patient")] if patients else []
    found.append(_count(len(states), "specimen"))
    if pixels := sum(one.pixels for one in seen.values()):
        found.append(f"{pixels:,} MSI pixels")
    if area := sum(one.tissue_mm2 for one in seen.values()):
        found.append(f"{area:,.0f} mm² of tissue" if area >= 10 else f"{area:.2g} mm² of tissue")
    return found


def progress(states: Sequence[State]) -> str:
    """How many specimens are done, in a sentence."""
    counts = {s: sum(x.state == s for x in states) for s in ("failed", "incomplete")}
    done = len(states) - sum(counts.values())
    if not states:
        return "There is no specimen yet."
    if done == len(states):
        return "Every specimen is done." if done > 1 else "The specimen is done."
    rest = [f"{n} {what}" for what, n in counts.items() if n]
    return f"{done} done, {', '.join(rest)}."


def sentences(results: Results) -> Iterator[str]:
    """The headline, to be read aloud; nothing where nothing was held out."""
    estimates, held = Estimates(results), results.protocol
    yield from _of_cancer(results, estimates)
    if not results.is_study:
        yield from _of_ions(results)
    mean = estimates.mean((held, "msi_from_he", "weighted", "r2"))
    if mean is not None and not math.isnan(mean.value):
        other = _beside(estimates, (held, COLOUR[1], "weighted", "r2"), "Colour alone reaches")
        yield (
            f"H&E predicts the MSI with an R² of {with_interval(mean, 'r2')}; "
            f"a patient's own mean spectrum would reach 0.{other}"
        )


def _of_ions(results: Results) -> Iterator[str]:
    table = scored(results)
    if table.empty:
        return
    said = (
        f"Half of the {len(table):,} ion images predicted from H&E reach a correlation of "
        f"{table['pearson'].median():.2f} or more with the measured ones."
    )
    if "colour_pearson" in table and table["colour_pearson"].notna().any():
        said += f" Colour alone reaches {table['colour_pearson'].median():.2f}."
    yield said


def _of_cancer(results: Results, estimates: Estimates) -> Iterator[str]:
    key = (results.protocol, ASKED, "cancer", "auc")
    mean = estimates.mean(key)
    if mean is None or math.isnan(mean.value):
        return
    yield (
        "In patients that the models had not seen, H&E alone told cancer from other tissue with "
        f"an AUC of {digits(mean.value)}."
    )
    over = f"This is the mean over {_count(mean.patients, 'patient')}"
    if not math.isnan(mean.low):
        low, high = digits(max(mean.low, 0.0)), digits(min(mean.high, 1.0))
        over += f" (95 % interval {low} to {high}{'' if mean.trusted else f', {DOUBT}'})"
    colour = (results.protocol, COLOUR[0], "cancer", "auc")
    yield f"{over}. Guessing would give 0.5.{_beside(estimates, colour, 'Colour alone gives')}"
    others = [
        f"{digits(one.value)} {MODELS[model]}"
        for model in MODELS
        if model != ASKED
        and (one := estimates.mean((results.protocol, model, *key[2:]))) is not None
        and not math.isnan(one.value)
    ]
    if others:
        yield f"The AUC is {' and '.join(others)}."


def _beside(estimates: Estimates, key: tuple[str, str, str, str], words: str) -> str:
    """What the simple baseline of a score gives, as a sentence after another."""
    one = estimates.mean(key)
    return "" if one is None or math.isnan(one.value) else f" {words} {digits(one.value)}."


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
