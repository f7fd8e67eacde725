"""The report: HTML that needs no network, the cohort's page and, of a large one, the specimens'."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import quote

from bokeh.resources import INLINE
from markupsafe import Markup

from msiscale.report import tables
from msiscale.report.apart import is_apart
from msiscale.report.biomarker_table import biomarkers
from msiscale.report.box_plots import box_plots
from msiscale.report.data import MODELS, OUTSIDE, Results, State
from msiscale.report.document import embedded
from msiscale.report.evidence import left_out
from msiscale.report.figures import FIGURES, figure_path
from msiscale.report.first import cohort_line, progress, sentences
from msiscale.report.frame import framed, script_digest, templates
from msiscale.report.gallery import PAGES, anchor, rows
from msiscale.report.headline import notes
from msiscale.report.headline import table as headline_table
from msiscale.report.ion_pairs import best_pairs
from msiscale.report.plots import cohort_plots
from msiscale.report.sections import (
    FIRST,
    NOTICES,
    SCORES,
    SECTIONS,
    TABLES,
    absent,
    registration_of,
    shown_ions,
    shown_of_classes,
    smaller,
    specimen_metrics,
    verdict,
)
from msiscale.report.specimen import content
from msiscale.report.tables import Section
from msiscale.report.thumbnails import PALETTES, seen_of
from msiscale.report.trust import marks
from msiscale.report.viewer import INTENSITY, PROBABILITY, viewer
from msiscale.store import exists, join, listing, remove, write_bytes

BY_HAND = "place"  #: the folder of the pages of `msiscale place`
SCRIPTS = ("unpack", "loader", "save", "first", "report")  #: in the order in which they run
_OVERLAYS = ("registration", "placement")
_HEADING = re.compile(r'<h([23]) id="([\w-]+)">(.*?)</h\1>')
_CAPTIONS = {
    "figure1": "Cancer as annotated (A) and as predicted with this patient left out (B-D). "
    "Grey is tissue without a value; the white line is the annotation.",
    "figure2": "The mode of the MSI that H&E predicts best in this specimen (A measured, B "
    "predicted, one scale), and the spectra of one pixel (C; predictions below zero are clipped).",
    "ions": "The ions whose images H&E predicts best, middling and worst over all specimens: "
    "measured and predicted, each pair on the measured scale.",
    "ion_classes": "The ions of each class of lipid that H&E predicts best and worst over all "
    "specimens: measured and predicted, each pair on the measured scale.",
    "biomarkers": "Measured ion images of the strongest m/z; the white line is the annotation.",
    "registration": "The slide laid onto the MSI grid, with the border of its tissue, of the "
    "measured pixels and of the annotation: where these borders part, the registration is off.",
    "placement": "How the automatic registration was found.",
}


def write_report(
    out_url: str,
    *,
    pages: bool = True,
    parts: Sequence[str] | None = None,
    results: Results | None = None,
) -> str:
    """Write ``report.html`` from what is in the store and in ``figures/``, and return its path.

    A cohort of more than `apart.TOGETHER` specimens, or of larger ones, has a page a specimen in
    ``report/``, beside it. Missing parts are said to be missing.

    Parameters
    ----------
    out_url
        The run's ``--out``.
    pages
        Whether to write those of the specimens too; else they have been (`write_page`).
    parts
        As of `Results`.
    results
        What is known of the run already; default: it is read.

    Returns
    -------
    str
        Of the cohort's page.
    """
    results = results or Results(out_url, parts)
    apart = is_apart(results)
    kept = {f"{name}.html" for name in results.specimens} if apart else set()
    for name in set(listing(join(out_url, PAGES))) - kept:
        remove(join(out_url, PAGES, name))
    states = results.states()
    if apart and pages:
        for state in states:
            page_of(results, state)
    page = join(out_url, "report.html")
    write_bytes(page, render(results, states, apart=apart).encode())
    return page


def write_page(out_url: str, specimen: str, *, parts: Sequence[str] | None = None) -> str:
    """Write ``report/<specimen>.html`` and return its path."""
    results = Results(out_url, parts)
    (state,) = results.states([specimen])
    return page_of(results, state)


def page_of(results: Results, state: State) -> str:
    """Write ``report/<specimen>.html`` from what is known already, and return its path."""
    shown = of_specimen(results, state, apart=True)
    title = f"{state.specimen} – msiscale report"
    page = _template(
        "page.html.j2",
        **_frame_of(title, drawn=shown["content"] is not None),
        specimen=shown,
        probability=PROBABILITY,
        intensity=INTENSITY,
    )
    url = join(results.out, PAGES, f"{state.specimen}.html")
    write_bytes(url, page.encode())
    return url


def render(results: Results, states: list[State], *, apart: bool) -> str:
    """The cohort's page as text. Every value from outside is escaped."""
    drawn = cohort_plots(results)
    plots = embedded(drawn) if drawn else {}
    seen = seen_of(results)
    study = results.is_study
    kept = [s for s in SECTIONS if study or not s.unless(results)]
    ids = {section.id for section in kept}
    found = marks(results, states, seen)
    first = [s for s in (NOTICES, *(() if study else FIRST)) if s in kept]
    return _template(
        "report.html.j2",
        **_frame_of("msiscale report"),
        run=results.run,
        states=states,
        cohort=cohort_line(states, seen),
        progress=progress(states),
        sentences=[*sentences(results)],
        marks=[m if m.link in ids else replace(m, link="absent") for m in found],
        apart=apart,
        rows=rows(results, states, seen, apart=apart),
        pairs=best_pairs(results),
        boxes=box_plots(results),
        palettes=PALETTES,
        failures=tables.failures(states),
        verdict=verdict(results),
        headline=headline_table(results),
        notes=[*notes(results)],
        held_out=results.held_out_words,
        first=[(s, _shown(s, results, plots)) for s in first],
        sections=[(s, _shown(s, results, plots)) for s in kept if s not in first],
        absent=absent(results),
        models=[f"AUC {words}" for words in MODELS.values()] if results.labelled else [],
        left_out=left_out(results),
        plots=plots,
        missing=[(f"{t.name}.csv", t.made_by) for t in TABLES if results.table(t).empty],
        stages=tables.stages(results.run),
        facts=tables.facts(results.run),
        specimens=[] if apart else [of_specimen(results, s) for s in states],
        probability=PROBABILITY,
        intensity=INTENSITY,
    )


def _shown(section: Section, results: Results, plots: dict[str, Any]) -> Markup:
    macros = '{% from "macros.html.j2" import cells, data_of, plot with context %}\n'
    values = {make.__name__: make(results) for make in section.values}
    rows_of = {t.name: len(results.table(t)) for t in TABLES}
    template = templates("report").from_string(f"{macros}{linked(section.html)}\n")
    words = {"plots": plots, "rows_of": rows_of, "study": results.is_study}
    return Markup(template.render(**words, **values))


def linked(html: str) -> str:
    """Headings that have an id with a link to themselves, to be copied."""
    link = (
        r'<h\1 id="\2">\3 <a class="link" href="#\2" aria-label="Link to this section">#</a></h\1>'
    )
    return _HEADING.sub(link, html)


def of_specimen(results: Results, state: State, *, apart: bool = False) -> dict[str, Any]:
    """Everything that the page shows of one specimen; `apart`: a page of its own."""
    name = state.specimen
    shown = content(results, name)
    metrics = tables.HtmlTable(
        ["cancer predicted", *SCORES.values()], [row[1:] for row in specimen_metrics(results, name)]
    )
    placed = registration_of(results.registered(name))
    behind = {"figure1": metrics, "registration": placed, "placement": placed}
    behind |= {"ions": shown_ions(results), "ion_classes": shown_of_classes(results)}
    behind["biomarkers"] = biomarkers(results)
    return {
        "anchor": anchor(results.specimens.index(name) + 1),
        "name": name,
        "patient": state.patient,
        "state": state,
        "metrics": metrics,
        "registration": placed,
        "secondary": tables.frame(results.rows(OUTSIDE, name)),
        "left_out": left_out(results),
        "content": shown,
        "made": viewer(shown) if shown else {},
        "behind": {kind: table for kind, table in behind.items() if table.rows},
        "overlays": _pictures(results, name, _OVERLAYS),
        "by_hand": _by_hand(results.out, name, apart=apart),
        "pictures": _pictures(results, name, [k for k in FIGURES if k not in _OVERLAYS]),
    }


def _by_hand(out: str, name: str, *, apart: bool) -> str:
    """Link to the page on which the specimen is placed by hand; "" where there is none."""
    if not exists(join(out, BY_HAND, f"{name}.html")):
        return ""
    return f"{'../' if apart else ''}{BY_HAND}/{quote(name)}.html"


def _pictures(results: Results, name: str, kinds: Sequence[str]) -> list[tuple[str, str, str]]:
    urls = {kind: figure_path(results.out, kind, name) for kind in kinds}
    return [(kind, _CAPTIONS[kind], smaller(url)) for kind, url in urls.items() if exists(url)]


# a run of 500 pages compresses it once
@cache
def _library() -> tuple[str, str]:
    """Bokeh's script, compressed, as text; and its digest for the page's policy."""
    (script,) = [s for s in INLINE.js_raw if "root.Bokeh" in s]
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")
    return packed, script_digest(script)


def _frame_of(title: str, *, drawn: bool = True) -> dict[str, Any]:
    """What every page has: style, and scripts where something is drawn."""
    library, digest = _library() if drawn else ("", "")
    scripts = [f"{name}.js" for name in SCRIPTS] if drawn else []
    return framed(title, ["report.css"], scripts, library=library, digest=digest)


def _template(name: str, **words: Any) -> str:
    return templates("report").get_template(name).render(**words)
