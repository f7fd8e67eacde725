"""The report: HTML that needs no network, the cohort's page and, of a large one, the specimens'."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import quote

from bokeh.resources import INLINE
from markupsafe import Markup

from msiscale.report import tables
from msiscale.report.apart import is_apart
from msiscale.report.data import MODELS, OUTSIDE, Results, State
from msiscale.report.document import embedded
from msiscale.report.evidence import left_out
from msiscale.report.figures import FIGURES, figure_path
from msiscale.report.frame import framed, script_digest, templates
from msiscale.report.headline import notes
from msiscale.report.headline import table as headline_table
from msiscale.report.plots import cohort_plots
from msiscale.report.sections import (
    FIRST,
    NOTICES,
    SCORES,
    SECTIONS,
    TABLES,
    absent,
    registration_of,
    smaller,
    specimen_metrics,
    verdict,
)
from msiscale.report.specimen import THUMBNAIL, content, data_uri, picture
from msiscale.report.tables import Section
from msiscale.report.viewer import INTENSITY, PROBABILITY, viewer
from msiscale.store import at_once, exists, join, listing, read_bytes, remove, write_bytes

PAGES = "report"  #: the folder of the specimens' own pages
BY_HAND = "place"  #: the folder of the pages of `msiscale place`
THUMBNAILS = "figures/thumbnail_{}.jpg"
_OVERLAYS = ("registration", "placement")
_CAPTIONS = {
    "figure1": "Cancer as annotated (A) and as predicted with this patient left out (B-D). "
    "Grey is tissue without a value; the white line is the annotation.",
    "figure2": "The mode of the MSI that H&E predicts best in this specimen (A measured, B "
    "predicted, one scale), and the spectra of one pixel (C; predictions below zero are clipped).",
    "ions": "The ions whose images H&E predicts best, middling and worst over all specimens: "
    "measured and predicted, each pair on the scale of what was measured.",
    "ion_classes": "Of each class of lipid the ion that H&E predicts best and worst over all "
    "specimens: measured and predicted, each pair on the scale of what was measured.",
    "biomarkers": "Measured ion images of the strongest m/z; the white line is the annotation.",
    "registration": "The slide laid onto the MSI grid, with the border of its tissue, of the "
    "measured pixels and of the annotation: where they part, the registration is off.",
    "placement": "How the automatic registration found its place.",
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


def write_thumbnail(out_url: str, specimen: str) -> list[str]:
    """Write a small picture of the slide for the list of specimens; its path, if there is one."""
    url = join(out_url, THUMBNAILS.format(specimen))
    made = _thumbnail(Results(out_url), specimen)
    if not made:
        remove(url)  # of an earlier slide
        return []
    write_bytes(url, base64.b64decode(made.split(",", 1)[1]))
    return [url]


def render(results: Results, states: list[State], *, apart: bool) -> str:
    """The cohort's page as text. Every value from outside is escaped."""
    drawn = cohort_plots(results)
    plots = embedded(drawn) if drawn else {}
    study = results.is_study
    kept = [s for s in SECTIONS if study or not s.unless(results)]
    first = [s for s in (NOTICES, *(() if study else FIRST)) if s in kept]
    return _template(
        "report.html.j2",
        **_frame_of("msiscale report"),
        run=results.run,
        states=states,
        counts={s: sum(x.state == s for x in states) for s in ("done", "failed", "incomplete")},
        apart=apart,
        rows=at_once(lambda s: _row(results, s, apart), states),
        failures=tables.failures(states),
        verdict=verdict(results),
        headline=headline_table(results),
        notes=[*notes(results)],
        held_out=results.held_out_words,
        first=[(s, _shown(s, results, plots)) for s in first],
        sections=[(s, _shown(s, results, plots)) for s in kept if s not in first],
        absent=absent(results),
        models=["AUC, MSI", "AUC, H&E", "AUC, predicted MSI"] if results.labelled else [],
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
    macros = '{% from "macros.html.j2" import cells, plot with context %}\n'
    values = {make.__name__: make(results) for make in section.values}
    rows_of = {t.name: len(results.table(t)) for t in TABLES}
    template = templates("report").from_string(f"{macros}{section.html}\n")
    words = {"plots": plots, "rows_of": rows_of, "study": results.is_study}
    return Markup(template.render(**words, **values))


def _row(results: Results, state: State, apart: bool) -> dict[str, Any]:
    """A specimen in the list."""
    name = state.specimen
    number = tables.number
    return {
        "name": name,
        "link": f"{PAGES}/{quote(name)}.html" if apart else f"#{anchor(results, name)}",
        "patient": state.patient,
        "state": state.state,
        "stage": state.stage,
        "reason": state.reason,
        "picture": _stored_thumbnail(results, name),
        "auc": [number(results.metric(name, m, "cancer", "auc")) for m in MODELS]
        if results.labelled
        else [],
        "r2": number(results.metric(name, "msi_from_he", "weighted", "r2")),
        "residual": number(results.registered(name).get("residual_px")),
        "words": f"{name} {state.patient} {state.reason}".lower(),
    }


def anchor(results: Results, name: str) -> str:
    """Where the one page has a specimen."""
    return f"specimen-{results.specimens.index(name) + 1}"


def _stored_thumbnail(results: Results, name: str) -> str:
    url = join(results.out, THUMBNAILS.format(name))
    if exists(url):
        return data_uri(read_bytes(url), "jpeg")
    return _thumbnail(results, name)


def _thumbnail(results: Results, name: str) -> str:
    data = results.cohort(name)
    return "" if data is None else picture(data, THUMBNAIL)


def of_specimen(results: Results, state: State, *, apart: bool = False) -> dict[str, Any]:
    """Everything that the page shows of one specimen; `apart`: a page of its own."""
    name = state.specimen
    shown = content(results, name)
    return {
        "anchor": anchor(results, name),
        "name": name,
        "patient": state.patient,
        "state": state,
        "metrics": tables.HtmlTable(
            ["cancer predicted", *SCORES.values()],
            [row[1:] for row in specimen_metrics(results, name)],
        ),
        "registration": registration_of(results.registered(name)),
        "secondary": tables.frame(results.rows(OUTSIDE, name)),
        "left_out": left_out(results),
        "content": shown,
        "made": viewer(shown) if shown else {},
        "overlays": _pictures(results, name, _OVERLAYS),
        "by_hand": _by_hand(results.out, name, apart=apart),
        "pictures": _pictures(results, name, [k for k in FIGURES if k not in _OVERLAYS]),
    }


def _by_hand(out: str, name: str, *, apart: bool) -> str:
    """Link to the page on which the specimen is placed by hand; "" where there is none."""
    if not exists(join(out, BY_HAND, f"{name}.html")):
        return ""
    return f"{'../' if apart else ''}{BY_HAND}/{quote(name)}.html"


def _pictures(results: Results, name: str, kinds: Sequence[str]) -> list[tuple[str, str]]:
    urls = {kind: figure_path(results.out, kind, name) for kind in kinds}
    return [(_CAPTIONS[kind], smaller(url)) for kind, url in urls.items() if exists(url)]


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
    scripts = ["unpack.js", "loader.js", "report.js"] if drawn else []
    return framed(title, ["report.css"], scripts, library=library, digest=digest)


def _template(name: str, **words: Any) -> str:
    return templates("report").get_template(name).render(**words)
