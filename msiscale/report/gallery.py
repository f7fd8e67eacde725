"""The gallery of specimens: a row each, with its H&E, its maps, and how well it was predicted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msiscale.report.data import MODELS, Results, State
from msiscale.report.tables import mz as mz_words
from msiscale.report.tables import number
from msiscale.report.thumbnails import Thumbnail

PAGES = "report"  #: the folder of the specimens' own pages
NAMES = {
    **MODELS,
    "measured": "measured",
    "predicted": "predicted from H&E",
}


def rows(
    results: Results, states: Sequence[State], seen: Mapping[str, Thumbnail], *, apart: bool
) -> list[dict[str, Any]]:
    """A specimen each, in the order of the manifest."""
    places = {name: i for i, name in enumerate(results.specimens, start=1)}
    return [_row(results, s, seen.get(s.specimen), places[s.specimen], apart) for s in states]


def anchor(place: int) -> str:
    """Where the one page has the viewer of a specimen, by its place in the cohort."""
    return f"specimen-{place}"


def _row(
    results: Results, state: State, seen: Thumbnail | None, place: int, apart: bool
) -> dict[str, Any]:
    name = state.specimen
    aucs = {m: results.metric(name, m, "cancer", "auc") for m in MODELS}
    scores = [*aucs.values()] if results.labelled else []
    r2 = results.metric(name, "msi_from_he", "weighted", "r2")
    residual = results.registered(name).get("residual_px", math.nan)
    values = [*scores, r2, float(residual) if isinstance(residual, int | float) else math.nan]
    return {
        "name": name,
        "place": place,
        "link": f"{PAGES}/{quote(name)}.html" if apart else f"#{anchor(place)}",
        "patient": state.patient,
        "state": state.state,
        "stage": state.stage,
        "reason": state.reason,
        "scores": [number(v) for v in scores],
        "r2": number(r2),
        "residual": number(values[-1]),
        "values": ["" if math.isnan(v) else f"{v:.6g}" for v in values],
        "words": f"{name} {state.patient} {state.reason}".lower(),
        "seen": seen,
        "tiles": [] if seen is None else _tiles(name, seen, aucs),
    }


def _tiles(name: str, seen: Thumbnail, aucs: Mapping[str, float]) -> list[dict[str, Any]]:
    """The maps of a row, with what stands below each."""
    found = []
    for which, made in seen.maps.items():
        score = aucs.get(which, math.nan)
        words = f"AUC {score:.3f}" if math.isfinite(score) else ""
        if seen.ion and which == "measured":
            words = f"m/z {mz_words(seen.ion)}"
        what = NAMES[which] if seen.ion else f"cancer predicted {NAMES[which]}"
        alt = ", ".join(filter(None, (f"{name}: {what}", words)))
        found.append({"name": NAMES[which], "score": words, "map": made, "alt": alt})
    return found
