"""The sections of the cohort's page, each with what it shows and the tables that it reads."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
from PIL import Image

from msiscale.report.biomarker_table import LISTED, biomarker_certainty, biomarkers
from msiscale.report.class_gallery import ends
from msiscale.report.data import (
    BIOMARKERS,
    IONS,
    METRICS,
    MODELS,
    OUTSIDE,
    PROTOCOL,
    REGISTERED,
    CsvTable,
    Results,
)
from msiscale.report.enough import ENOUGH
from msiscale.report.evidence import (
    BELIEVE,
    BETWEEN,
    averaged,
    left_out,
)
from msiscale.report.figures import figure_path
from msiscale.report.headline import COLOUR, Estimates
from msiscale.report.ion_current import ION_CURRENT
from msiscale.report.ion_gallery import identified, ion_classes, ion_tiers, scored, shown
from msiscale.report.novelty import NOVELTY
from msiscale.report.specimen import data_uri, encoded
from msiscale.report.tables import HtmlTable, Section, cell, chosen, filled, frame, number, words
from msiscale.store import exists, join, read_bytes

IDENTIFIED = CsvTable(
    "annotations",
    "mz formula* adduct* names* flags? isotope_of? isobars? matrix_ion?",
    "msiscale annotate",
)
SCORES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "prevalence": "prevalence",
    "accuracy": "accuracy",
    "majority_accuracy": "accuracy of the majority class",
    "balanced_accuracy": "balanced accuracy",
    "dice": "Dice at 0.5",
    "dice_chosen": "Dice at the threshold",
    "threshold": "threshold",
}
_IDENTIFIED = {
    "mz": "m/z",
    "names": "names",
    "formula": "formula",
    "adduct": "adduct",
    "fdr": "FDR",
    "msm": "MSM",
    "chaos": "spatial chaos",
    "spatial": "spatial correlation",
    "spectral": "spectral correlation",
    "n_specimens": "specimens",
    "ppm_error": "error (ppm)",
    "flags": "flags",
    "isobars": "isobars",
}
_IONS = {
    "mz": "m/z",
    "identification": "identification",
    "tier": "tier",
    "mean": "mean",
    "pearson": "r",
    "spearman": "r of ranks",
    "r2": "R²",
    "patient_r2": "R² within patients",
    "patient_r2_low": "its interval from",
    "patient_r2_high": "to",
    "excess": "r over moved",
    "q": "q",
    "explained": "explained of its pattern",
    "moran": "Moran's I",
    "ssim": "SSIM",
    "colour_pearson": "r of colour alone",
    "colour_r2": "R² of colour alone",
    "tissue_r2": "R² of the tissue's mean",
    "class_r2": "R² of the annotated classes",
}
_MODES = 20
_REGIONS = 50
MOST_IONS = 500  #: rows of the table of ions, which scrolls
BIOMARKER_FIGURES = "figures/biomarker-{}.png"
_MOST_FIGURES = 6


def headline(results: Results) -> HtmlTable:
    """Means over patients with their intervals, a row a model; pooled metrics of one patient."""
    estimates = Estimates(results)
    rows = [
        [called, *(estimates.shown((results.protocol, model, "cancer", m)) for m in SCORES)]
        for model, called in _models(results).items()
    ]
    return HtmlTable(["cancer predicted", *SCORES.values()], rows)


def pooled(results: Results) -> HtmlTable:
    """Metrics of all pixels, a row a model, where `headline` has means over patients."""
    estimates, rows = Estimates(results), []
    for model, called in _models(results).items():
        cells = []
        for metric in SCORES:
            found = estimates.pooled((results.protocol, model, "cancer", metric))
            value = number(results.metric("all", model, "cancer", metric))
            if found is not None and found.trusted:
                value += f" ({number(found.low)} to {number(found.high)})"
            cells.append(value)
        rows.append([called, *cells])
    shown = estimates.over_patients(results.protocol)
    return HtmlTable(["cancer predicted", *SCORES.values()], rows if shown else [])


def per_specimen(results: Results) -> HtmlTable:
    """Metrics of what was left out, a row a specimen and model."""
    table = results.table(METRICS)
    here = table[(table["protocol"] == results.protocol) & (table["target"] == "cancer")]
    known = set(here["specimen"])
    rows = [row for n in results.specimens if n in known for row in specimen_metrics(results, n)]
    return HtmlTable(["specimen", "cancer predicted", *SCORES.values()], rows)


def specimen_metrics(results: Results, name: str) -> list[list[str]]:
    """Metrics of a specimen that was left out, a row a model that has any."""
    rows = []
    for model, called in _models(results).items():
        values = [results.metric(name, model, "cancer", metric) for metric in SCORES]
        if not all(math.isnan(v) for v in values):
            rows.append([name, called, *map(number, values)])
    return rows


def _models(results: Results) -> dict[str, str]:
    """Models of cancer in words, colour alone among them where the run has it."""
    known = (results.table(METRICS)["model"] == COLOUR[0]).any()
    return {**MODELS, **({COLOUR[0]: "from colour alone"} if known else {})}


def mode_table(results: Results) -> pd.DataFrame:
    """Pooled metrics of `msi_from_he`: a row a mode, a column a metric."""
    rows = _mode_rows(results)
    rows = rows[rows["specimen"] == "all"]
    return rows.pivot_table(index="target", columns="metric", values="value", dropna=False)


def specimen_r2(results: Results) -> pd.DataFrame:
    """R² of every mode (rows) in every specimen (columns)."""
    rows = _mode_rows(results)
    rows = rows[(rows["specimen"] != "all") & (rows["metric"] == "r2")]
    return rows.pivot_table(index="target", columns="specimen", values="value", dropna=False)


def _mode_rows(results: Results) -> pd.DataFrame:
    table = results.table(METRICS)
    return table[
        (table["protocol"] == results.protocol)
        & (table["model"] == "msi_from_he")
        & table["target"].str.startswith("mode_").fillna(False).astype(bool)
    ]


def modes(results: Results) -> HtmlTable:
    """The first modes with everything that metrics.csv says of them."""
    return frame(mode_table(results).head(_MODES).reset_index())


def weighted(results: Results) -> HtmlTable:
    """Variance-weighted metrics of the MSI predicted from H&E, a row a specimen."""
    table = results.table(METRICS)
    rows = table[
        (table["protocol"] == results.protocol)
        & (table["model"] == "msi_from_he")
        & (table["target"] == "weighted")
    ]
    wide = rows.pivot_table(index="specimen", columns="metric", values="value", dropna=False)
    colour = [results.metric(str(n), COLOUR[1], "weighted", "r2") for n in wide.index]
    if not all(map(math.isnan, colour)):
        wide["r2_of_colour_alone"] = colour
    order = [n for n in ["all", *results.specimens] if n in wide.index]
    return frame(wide.loc[order].reset_index())


def lipids(results: Results) -> HtmlTable:
    """The surest lipids of ``msiscale annotate``."""
    return chosen(results.table(IDENTIFIED).head(LISTED), _IDENTIFIED)


_UNREAD = ("specimen", "matrix")  # of a specimen's registration


def registration(results: Results) -> HtmlTable:
    """``registration.csv`` without its matrix and the columns that say nothing here."""
    return filled(results.table(REGISTERED).drop(columns="matrix", errors="ignore"))


def registration_of(row: Mapping[Any, Any]) -> HtmlTable:
    """A specimen's row of ``registration.csv``, a line a value."""
    pairs = [[words(str(k)), cell(v)] for k, v in row.items() if k not in _UNREAD]
    return HtmlTable(["registration", "value"], [p for p in pairs if p[1] not in ("", "–")])


def secondary(results: Results) -> HtmlTable:
    """Predicted cancer outside the annotation, the largest first."""
    table = results.table(OUTSIDE)
    if "area_um2" in table:
        table = table.sort_values("area_um2", ascending=False, kind="stable")
    return filled(table.head(_REGIONS))


def biomarker_figures(results: Results) -> list[str]:
    """Figures of the strongest m/z, as data URIs."""
    if results.table(BIOMARKERS).empty:
        return []
    ranks = range(1, _MOST_FIGURES + 1)
    urls = [join(results.out, BIOMARKER_FIGURES.format(rank)) for rank in ranks]
    return [smaller(url) for url in urls if exists(url)]


def smaller(url: str) -> str:
    """A figure of the run as a data URI, smaller than it lies in ``figures/``."""
    with Image.open(io.BytesIO(read_bytes(url))) as image:
        return data_uri(encoded(image.convert("RGB"), "WEBP", 80), "webp")


def ions(results: Results) -> HtmlTable:
    """Ions by the correlation of their images, the best first."""
    table = scored(results).head(MOST_IONS)
    scores = [
        c for c in _IONS if c in table and c not in ("mz", "identification", "tier", "mean", "q")
    ]
    table = table.assign(**{c: table[c].astype(float).round(3) + 0.0 for c in scores})
    empty = [c for c in ("identification", "tier") if c in table and not table[c].any()]
    return chosen(table.drop(columns=empty), _IONS)


def shown_ions(results: Results) -> HtmlTable:
    """Those of the gallery: the best, the middling and the worst."""
    groups = shown(scored(results))
    return _of_ions(pd.concat([some for _, some in groups]) if groups else pd.DataFrame())


def shown_of_classes(results: Results) -> HtmlTable:
    """Those of the gallery of classes of lipid."""
    named = identified(scored(results))
    groups = ends(named) if len(named) else []
    return _of_ions(pd.concat([some for *_, some in groups]) if groups else pd.DataFrame())


def _of_ions(table: pd.DataFrame) -> HtmlTable:
    return chosen(table, _IONS) if len(table) else HtmlTable([], [])


def ion_gallery(results: Results) -> tuple[str, str] | None:
    """Name and picture of the first specimen that has a gallery."""
    return _first(results, "ions")


def class_gallery(results: Results) -> tuple[str, str] | None:
    """Name and picture of the first specimen that has a gallery of classes of lipids."""
    return _first(results, "ion_classes")


def _first(results: Results, kind: str) -> tuple[str, str] | None:
    for name in results.used:
        url = figure_path(results.out, kind, name)
        if exists(url):
            return name, smaller(url)
    return None


def no_label(results: Results) -> str:
    """Why what needs an annotation does not apply; nothing where there is one."""
    return "" if results.labelled else "no specimen is annotated"


MEANINGS = {
    "patients": "A probability of 0.2 means that about 20 % of such pixels are cancer, at the "
    "prevalence of the training patients. Scores were calibrated on training patients left out.",
    "prior": "A probability is the share of such pixels that are cancer, at the prevalence of the "
    "training patients. Class weights were undone; nothing else was calibrated.",
    "none": "A probability assumes that half of all pixels are cancer. Scores were not calibrated "
    "(--calibrate none), so it is not the share of pixels in these patients.",
}


def probability_means(results: Results) -> str:
    """What a probability of this run means; nothing where the run does not say how it was made."""
    parameters = results.run.get("parameters")
    by = parameters.get("calibrate") if isinstance(parameters, dict) else None
    return MEANINGS.get(str(by), "")


NOTICES_TABLE = CsvTable("notices", "specimen field seen assumed severity", "msiscale run")


def notices(results: Results) -> HtmlTable:
    """What was noticed of the inputs, warnings first; what is the same of several in one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    table = results.table(NOTICES_TABLE).astype(object).fillna("").astype(str)
    for row in table.to_dict("records"):
        key = tuple(row[c] for c in ("severity", "field", "seen", "assumed"))
        rows.setdefault(key, []).append(row["specimen"])
    shown = [
        [severity, _several(names), field, seen, assumed]
        for (severity, field, seen, assumed), names in sorted(
            rows.items(), key=lambda item: item[0][0] != "warning"
        )
    ]
    return HtmlTable(["severity", "specimen", "of", "seen", "assumed"], shown)


def _several(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(filter(None, names[:3])) + more


NOTICES = Section(
    "notices",
    "Notices",
    """\
<h2 id="notices">Notices</h2>
<p class="note">What msiscale found odd about the inputs, and what it assumed. A warning can change results if the assumption is wrong; a note cannot.</p>
{{ cells(notices, "The file behind each notice is named in notices.csv.", "There are no notices.") }}
""",  # noqa: E501
    (notices,),
    (NOTICES_TABLE,),
)
CANCER = Section(
    "cancer",
    "Cancer",
    """\
<h2 id="cancer">Cancer, {{ left_out | replace("the patient", "whole patients") }}</h2>
<p class="note">{% if "patient" in left_out %}Every pixel is predicted by models that saw no specimen of its patient. {% endif %}Compare an accuracy with
that of always answering the majority class, and an average precision with the prevalence: a model without any skill reaches those.
{{ probability_means }} The threshold is the probability at which the training patients, each left out in turn, have the largest Dice.
The second table pools all pixels. It ranks scores of different folds together, so its values can lie outside those of every patient.
Its intervals resample patients, and so need ten patients or more.</p>
{{ cells(headline, averaged ~ ", " ~ left_out ~ ".") }}
{{ cells(pooled, "All pixels pooled, " ~ left_out ~ ".") }}
{{ plot("auc", "AUC by specimen. A specimen whose pixels are all of one class has no AUC.") }}
{% if per_specimen.rows %}
<details><summary>All metrics by specimen</summary>
{{ cells(per_specimen, "By specimen, " ~ left_out ~ ".") }}
</details>
{% else %}
<p class="missing">No metrics yet: run the fit stage.</p>
{% endif %}
{{ plot("reliability", "Calibration: the share of pixels that is cancer, by predicted probability. A calibrated model lies on the diagonal.") }}
""",  # noqa: E501
    (headline, pooled, per_specimen, averaged, left_out, probability_means),
    unless=no_label,
)
PREDICTED = Section(
    "msi",
    "MSI from H&amp;E",
    """\
<h2 id="msi">MSI predicted from H&amp;E</h2>
<p class="note">R² of the modes of the MSI (principal components of the training specimens), predicted from H&amp;E features with
{{ left_out }}. An R² of zero is as good as predicting the mean; below zero is worse.</p>
{{ plot("r2", "R² by mode. Values below -1 are not shown.") }}
{{ cells(weighted, "All modes, weighted by their variance.", "No metrics of the MSI yet: run the fit stage.") }}
{% if modes.rows %}
<details><summary>The first {{ modes.rows | length }} modes</summary>
{{ cells(modes, "All specimens together.") }}
</details>
{% endif %}
""",  # noqa: E501
    (weighted, modes, left_out),
)
ION_IMAGES = Section(
    "ions",
    "Ion images",
    """\
<h2 id="ions">Ion images predicted from H&amp;E</h2>
<p class="note">Every m/z over the pixels that were held out, with {{ left_out }}: r is the correlation of its measured and its predicted image. R² is 1
for a perfect image and 0 for one that is flat at the specimen's mean.</p>
{% macro images() %}
{% if ion_gallery %}
<figure data-figure="ions of {{ ion_gallery[0] }}"><img src="{{ ion_gallery[1] }}" alt="{{ ion_gallery[0] }}: H&amp;E beside ion images, measured and predicted"><figcaption>{{ ion_gallery[0] }}: the ions that are predicted best, middling and worst, each pair on the measured scale.</figcaption>{{ data_of(shown_ions) }}</figure>
{% endif %}
{% if class_gallery %}
<details><summary>The best and the worst ion of each class of lipid</summary>
<figure data-figure="ions by class of {{ class_gallery[0] }}"><img src="{{ class_gallery[1] }}" alt="{{ class_gallery[0] }}: by class of lipid, ion images, measured and predicted" loading="lazy" decoding="async"><figcaption>{{ class_gallery[0] }}: the ions of each class of lipid that are predicted best and worst, each pair on the measured scale.</figcaption>{{ data_of(shown_of_classes) }}</figure>
</details>
{% endif %}
{% endmacro %}
{% macro table() %}
{% if ion_tiers.rows %}
<p class="note">H&amp;E predicts an ion of tier A well: its q is 0.05 or less, and its mean R² within patients is 0.3 or more with an interval above 0. Tier B is predicted in part: the same q,
and a mean r of 0.2 or more. Tier C is not predicted. The test compares r in each patient with that of the same prediction moved over the tissue; the patient is the unit. With fewer than
three patients there is no test and no tier A; tier B then needs an R² of 0.3 or more in every patient. Moran's I measures how alike neighbouring pixels of the measured image are.</p>
{{ cells(ion_tiers, "Ions by tier.") }}
{{ cells(ion_classes, "Identified ions by class of lipid.", "No ion has a name.") }}
{% endif %}
{{ cells(ions, "Every m/z by r, the best first. All protocols are in ions.csv.", "No m/z is scored: nothing was held out, or the stages fit and ions have not run.") }}
{% endmacro %}
{% if study %}
{{ plot("ion_r", "How many m/z are predicted how well.") }}
{% if ions.rows %}
<details><summary>Images of the best, the median and the worst, and the table</summary>
{{ images() }}
{{ table() }}
</details>
{% else %}
{{ table() }}
{% endif %}
{% else %}
{{ images() }}
<div class="beside">
<div class="half">{{ plot("ion_r", "How many m/z are predicted how well.") }}</div>
<div class="half">{{ table() }}</div>
</div>
{% endif %}
""",  # noqa: E501
    (
        *(ions, ion_tiers, ion_classes, ion_gallery, class_gallery),
        *(shown_ions, shown_of_classes, left_out),
    ),
)
STRONGEST = Section(
    "biomarkers",
    "Biomarkers",
    """\
<h2 id="biomarkers">Biomarkers</h2>
{% if study or biomarkers.rows %}
<p class="note">Measured m/z by how well they tell cancer from other annotated tissue, strongest first. AUC and effect are means over the specimens of a patient, then over patients.
The unit of p and q (Benjamini and Hochberg) is the patient; they need three patients, and hold even where patients differ. p is that of a t-test, never below what chance within the patients allows.
The p of the t-test alone and that of DerSimonian and Laird stand beside it; the latter is too small where patients differ. A name only matches the mass, polarity and adduct; it is not confirmed.</p>
{{ plot("volcano", "Every m/z by its effect and its certainty.") }}
{{ cells(biomarkers, "The strongest of " ~ rows_of.biomarkers ~ " m/z. All are in biomarkers.csv.", "No biomarkers yet: run the biomarkers stage on annotated specimens.") }}
{% for sentence in biomarker_certainty %}
<p class="note">{{ sentence }}</p>
{% endfor %}
{% if biomarker_figures %}
<details><summary>Images and box plots of the strongest {{ biomarker_figures | length }}</summary>
{% for data in biomarker_figures %}
<figure data-figure="biomarker {{ loop.index }}"><img src="{{ data }}" alt="images and box plots of biomarker {{ loop.index }}" loading="lazy" decoding="async">{{ data_of(biomarkers) }}</figure>
{% endfor %}
</details>
{% endif %}
{% endif %}
{% if study or lipids.rows %}
<h3 id="lipids">Lipids, with a false-discovery rate</h3>
{{ cells(lipids, "The most certain of " ~ rows_of.annotations ~ " ions, with the false-discovery rate from decoy adducts. All are in annotations.csv.", "Not asked for: msiscale annotate.") }}
{% endif %}
""",  # noqa: E501
    (biomarkers, biomarker_certainty, biomarker_figures, lipids),
    (IDENTIFIED,),
    lambda r: "" if len(lipids(r).rows) else no_label(r),
)
SECONDARY = Section(
    "secondary",
    "Secondary regions",
    """\
<h2 id="secondary">Secondary regions</h2>
<p class="note">Predicted cancer outside the annotation, largest first, with the mean probability of each predictor. Look at these under the microscope.</p>
{{ cells(secondary, "The largest of " ~ rows_of.secondary_regions ~ " regions. All are in secondary_regions.csv; their outlines for QuPath are in regions/.", "There is none, or the stage regions has not run.") }}
""",  # noqa: E501
    (secondary,),
    (OUTSIDE,),
    no_label,
)
REGISTRATION = Section(
    "registration",
    "Registration",
    """\
<h2 id="registration">Registration</h2>
{{ cells(registration, "Residuals of the landmarks, in µm and in MSI pixels. Doubt the maps of a specimen with a residual above one MSI pixel.", "No registration yet.") }}
""",  # noqa: E501
    (registration,),
)
# the page has these, in this order: a new one is a line here
SECTIONS = (
    *(NOTICES, CANCER, BELIEVE, PREDICTED, ION_IMAGES, STRONGEST, ENOUGH),
    *(SECONDARY, REGISTRATION, BETWEEN, NOVELTY, ION_CURRENT),
)
FIRST = (ION_IMAGES, PREDICTED)  # above all else where there is no annotation, or one patient
TABLES = (METRICS, IONS, BIOMARKERS, REGISTERED, *(t for s in SECTIONS for t in s.tables))
# what a run has only where it was asked for: the table, and how to ask
_ASKED = {
    "the slide misplaced, and chance": ("robustness", "--jitter, --null"),
    "corrections between specimens": ("corrections", "--correct"),
    "the published study's choices": ("switches", "msiscale ablate"),
    "lipids with a false-discovery rate": ("annotations", "msiscale annotate"),
    "how many patients are enough": ("learning", "msiscale power"),
    "recalibration of m/z": ("calibration", "--recalibrate"),
}


def verdict(results: Results) -> str:
    """What was held out, and what follows for another patient; nothing of a study."""
    if results.is_study or not results.used:
        return ""
    n, patients = len(results.used), len(results.patients)
    if patients > 1:
        return f"{n} specimens of {patients} patients, none annotated: each patient was left out."
    one, whose = ("One specimen", "it") if n == 1 else (f"One patient, {n} specimens", "each")
    if scored(results).empty or results.protocol == PROTOCOL:
        return f"{one}: nothing was held out; nothing here says how good a prediction is."
    what = f"blocks of {whose}"
    if results.protocol != "spatial_blocks":
        what = f"random pixels of {whose}, beside those that were trained on,"
    return f"{one}: {what} were held out; nothing is known about another patient."


def absent(results: Results) -> str:
    """What does not apply to these results, and what was not asked for, in a line."""
    if results.is_study:
        return ""
    why: dict[str, list[str]] = {}
    for section in SECTIONS:
        if reason := section.unless(results):
            why.setdefault(reason, []).append(section.nav)
    parts = [f"{', '.join(names)}, because {reason}" for reason, names in why.items()]
    found = [f"Not applicable here: {'; '.join(parts)}."] if parts else []
    tables = {t.name: t for t in TABLES}
    asked = [f"{n} ({how})" for n, (t, how) in _ASKED.items() if results.table(tables[t]).empty]
    return " ".join([*found, *([f"Not asked for: {', '.join(asked)}."] if asked else [])])
