"""The report: HTML that needs no network, the cohort's page and, of a large one, the specimens'."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from bokeh.resources import INLINE
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from msiscale.report import evidence, tables
from msiscale.report.data import MODELS, OPTIONAL, PROTOCOL, Results, State
from msiscale.report.figures import FIGURES, figure_path
from msiscale.report.plots import as_document, cohort_plots
from msiscale.report.specimen import (
    THUMBNAIL,
    bounds_of,
    content,
    data_uri,
    encoded,
    picture,
)
from msiscale.report.viewer import INTENSITY, PROBABILITY, viewer
from msiscale.store import at_once, exists, join, listing, read_bytes, remove, write_bytes

TOGETHER = 12  #: specimens that one file holds, at most
TOGETHER_BYTES = 16 << 20  #: of them, about
PAGES = "report"  #: the folder of the specimens' own pages
THUMBNAILS = "figures/thumbnail_{}.jpg"
BIOMARKER_FIGURES = "figures/biomarker-{}.png"
_OVERLAYS = ("registration", "placement")
_MOST_FIGURES = 6
_CAPTIONS = {
    "figure1": "Cancer as annotated (A) and as predicted with this patient left out (B-D). "
    "Grey is tissue without a value; the white line is the annotation.",
    "figure2": "The mode of the MSI that H&E predicts best in this specimen (A measured, B "
    "predicted, one scale), and the spectra of one pixel (C; predictions below zero are clipped).",
    "ions": "Measured ion images of the strongest m/z; the white line is the annotation.",
    "registration": "The slide laid onto the MSI grid, with the border of its tissue, of the "
    "measured pixels and of the annotation: where they part, the registration is off.",
    "placement": "How the automatic registration found its place.",
}
_MAKES = {
    "metrics": "msiscale fit, on two patients or more",
    "biomarkers": "msiscale biomarkers, on annotated specimens",
    "registration": "msiscale register",
    "intervals": "msiscale fit, on two patients or more",
    "comparisons": "msiscale fit, on two annotated patients or more",
    "reliability": "msiscale fit, on annotated specimens",
    "robustness": "msiscale robustness with --jitter or --null",
    "switches": "msiscale ablate",
    "batch": "msiscale fit, on two specimens or more",
    "calibration": "msiscale ingest --recalibrate",
    "annotations": "msiscale annotate",
    "secondary_regions": "msiscale regions, after a fit",
}


def write_report(out_url: str, *, pages: bool = True) -> str:
    """Write ``report.html`` from what is in the store and in ``figures/``; returns its path.

    A cohort of more than `TOGETHER` specimens, or of larger ones, has a page a specimen in
    ``report/``, beside it. Missing parts are said to be missing.

    Parameters
    ----------
    pages : whether to write those of the specimens too; else they have been (`write_page`)
    """
    results = Results(out_url)
    apart = is_apart(results)
    kept = {f"{name}.html" for name in results.specimens} if apart else set()
    for name in set(listing(join(out_url, PAGES))) - kept:
        remove(join(out_url, PAGES, name))
    states = results.states()
    if apart and pages:
        for state in states:
            _write_page(results, state)
    page = join(out_url, "report.html")
    write_bytes(page, render(results, states, apart=apart).encode())
    return page


def write_page(out_url: str, specimen: str) -> str:
    """Write ``report/<specimen>.html`` and return its path."""
    results = Results(out_url)
    (state,) = [s for s in results.states([specimen]) if s.specimen == specimen]
    return _write_page(results, state)


def _write_page(results: Results, state: State) -> str:
    shown = section(results, state)
    title = f"{state.specimen} – msiscale report"
    page = _template("page.html.j2").render(
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
    made = _thumbnail(Results(out_url), specimen)
    if not made:
        return []
    url = join(out_url, THUMBNAILS.format(specimen))
    write_bytes(url, base64.b64decode(made.split(",", 1)[1]))
    return [url]


def is_apart(results: Results) -> bool:
    """Whether each specimen has a page of its own."""
    if len(results.specimens) > TOGETHER:
        return True
    return sum(_about(results, name) for name in results.specimens) > TOGETHER_BYTES


def _about(results: Results, name: str) -> int:
    data = results.cohort(name)
    if data is None or "tissue" not in data:
        return 0
    return bounds_of(data).bytes


def render(results: Results, states: list[State], *, apart: bool) -> str:
    """The cohort's page as text. Every value from outside is escaped."""
    rows = at_once(lambda s: _row(results, s, apart), states)
    return _template("report.html.j2").render(
        **_frame_of("msiscale report"),
        run=results.run,
        states=states,
        counts={s: sum(x.state == s for x in states) for s in ("done", "failed", "incomplete")},
        apart=apart,
        rows=rows,
        failures=tables.failures(states),
        headline=tables.headline(results),
        protocols=evidence.protocols(results),
        leaks={PROTOCOL, "pixel_folds"} <= set(evidence.present(results)),
        comparisons=evidence.comparisons(results),
        jitter=evidence.jitter(results),
        nulls=evidence.nulls(results),
        switches=evidence.switches(results),
        batch=evidence.batch(results),
        batch_by_specimen=evidence.batch_by_specimen(results),
        calibration=tables.calibration(results),
        per_specimen=tables.per_specimen(results),
        modes=tables.modes(results),
        weighted=tables.weighted(results),
        plots=_plots(results),
        registration=tables.registration(results),
        biomarkers=tables.biomarkers(results),
        n_biomarkers=len(results.biomarkers),
        biomarker_figures=_biomarker_figures(results),
        annotations=tables.lipids(results),
        n_annotations=len(results.table("annotations")),
        secondary=tables.secondary(results),
        n_secondary=len(results.table("secondary_regions")),
        missing=_missing(results),
        stages=tables.stages(results.run),
        facts=tables.facts(results.run),
        sections=[] if apart else [section(results, s) for s in states],
        probability=PROBABILITY,
        intensity=INTENSITY,
    )


def _plots(results: Results) -> dict[str, Any]:
    made = cohort_plots(results)
    return as_document(made) if made else {}


def _missing(results: Results) -> list[tuple[str, str]]:
    """Tables that the run does not have, and what makes them."""
    return [
        (f"{name}.csv", how)
        for name, how in _MAKES.items()
        if (results.table(name) if name in OPTIONAL else getattr(results, name)).empty
    ]


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
        "auc": [number(results.metric(name, m, "cancer", "auc")) for m in MODELS],
        "r2": number(results.metric(name, "msi_from_he", "weighted", "r2")),
        "residual": number(_registered(results, name).get("residual_px")),
        "words": f"{name} {state.patient} {state.reason}".lower(),
    }


def anchor(results: Results, name: str) -> str:
    """Where the one page has a specimen."""
    return f"specimen-{results.specimens.index(name) + 1}"


def _registered(results: Results, name: str) -> dict[Any, Any]:
    table = results.registration
    rows = table[table["specimen"] == name].to_dict("records")
    return rows[0] if rows else {}


def _stored_thumbnail(results: Results, name: str) -> str:
    url = join(results.out, THUMBNAILS.format(name))
    if exists(url):
        return data_uri(read_bytes(url), "jpeg")
    return _thumbnail(results, name)


def _thumbnail(results: Results, name: str) -> str:
    data = results.cohort(name)
    return "" if data is None else picture(data, THUMBNAIL)


def section(results: Results, state: State) -> dict[str, Any]:
    """Everything that the page shows of one specimen."""
    name = state.specimen
    shown = content(results, name)
    outside = results.table("secondary_regions")
    metrics = tables.specimen_metrics(results, name)
    registered = _registered(results, name)
    return {
        "anchor": anchor(results, name),
        "name": name,
        "patient": state.patient,
        "state": state,
        "metrics": tables.Table(
            ["cancer predicted", *tables.METRICS.values()], [row[1:] for row in metrics]
        ),
        "registration": tables.registration_of(registered),
        "secondary": tables.frame(outside[outside["specimen"] == name]),
        "content": shown,
        "made": viewer(shown) if shown else {},
        "overlays": _pictures(results, name, _OVERLAYS),
        "pictures": _pictures(results, name, [k for k in FIGURES if k not in _OVERLAYS]),
    }


def _pictures(results: Results, name: str, kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Figures of a specimen, smaller than they lie in ``figures/``."""
    urls = {kind: figure_path(results.out, kind, name) for kind in kinds}
    return [(_CAPTIONS[kind], _smaller(url)) for kind, url in urls.items() if exists(url)]


def _biomarker_figures(results: Results) -> list[str]:
    if results.biomarkers.empty:
        return []
    ranks = range(1, _MOST_FIGURES + 1)
    urls = [join(results.out, BIOMARKER_FIGURES.format(rank)) for rank in ranks]
    return [_smaller(url) for url in urls if exists(url)]


def _smaller(url: str) -> str:
    with Image.open(io.BytesIO(read_bytes(url))) as image:
        return data_uri(encoded(image.convert("RGB"), "WEBP", 80), "webp")


@cache
def _library() -> tuple[str, str]:
    """Bokeh's script, compressed, as text; and its digest for the page's policy."""
    (script,) = [s for s in INLINE.js_raw if "root.Bokeh" in s]
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")
    return packed, _digest(script)


def _digest(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _own(name: str) -> str:
    text = files("msiscale.report").joinpath(name).read_text(encoding="utf-8")
    assert "</script" not in text
    return text


def _frame_of(title: str, *, drawn: bool = True) -> dict[str, Any]:
    """What every page has: its style, its scripts if something is drawn on it, and the policy that
    lets no other run."""
    library, digest = _library()
    scripts = [_own("loader.js"), _own("report.js")] if drawn else []
    digests = [digest, *map(_digest, scripts)] if drawn else []
    allowed = " ".join(f"'{d}'" for d in digests) or "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return {
        "title": title,
        "style": _own("report.css"),
        "library": library,
        "scripts": scripts,
        "policy": f"{policy}; base-uri 'none'; form-action 'none'",
    }


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("msiscale", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Bokeh defines a model where it is first met: the order of the keys has a meaning
    made.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    return made


def _template(name: str) -> Any:
    return _environment().get_template(name)
