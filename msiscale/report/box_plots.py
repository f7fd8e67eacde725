"""Box plots of the strongest m/z as SVG: patients are the points, joined across the two tissues."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from msiscale.grid import Floats
from msiscale.report.data import BIOMARKERS, Results, identification
from msiscale.report.drawing import ticks
from msiscale.report.tables import number
from msiscale.store import exists, join, read_csv_parts

MOST = 6  #: m/z
BOXED = 5  #: patients from which a box is drawn; of fewer the points say it all
GROUPS = ("cancer", "other")
TISSUES = ("annotated cancer", "other tissue")
_TABLE = "biomarkers_by_specimen.csv"
_COLUMNS = ["patient", "mz", "mean_cancer", "mean_other"]
_AT_A_TIME = 100_000  # rows: the table grows with the cohort
_WIDTH, _HEIGHT = 260, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 8, 26
_HALF = 26  # of a box's width


@dataclass(frozen=True)
class BoxPlot:
    """An m/z: what it is called, how it scores, its picture, and the points that are drawn."""

    mz: float
    title: str
    score: str
    svg: Markup
    columns: list[str]
    rows: list[list[str]]


def box_plots(results: Results) -> list[BoxPlot]:
    """Of the strongest m/z that have a mean in both tissues of a patient."""
    table = results.table(BIOMARKERS).head(MOST)
    means = _means(results, [float(mz) for mz in table["mz"]])
    found = []
    for row in table.to_dict("records"):
        mine = means.get(float(row["mz"]))
        if mine is not None and len(mine):
            found.append(_plot(row, mine))
    return found


def _means(results: Results, wanted: list[float]) -> dict[float, pd.DataFrame]:
    """Mean intensity of each patient in both tissues, by m/z."""
    url = join(results.out, _TABLE)
    if not wanted or not exists(url):
        return {}
    parts = []
    for part in read_csv_parts(url, _AT_A_TIME, dtype={"patient": str}, keep_default_na=True):
        if not {*_COLUMNS} <= {*part}:
            return {}
        parts.append(part.loc[part["mz"].isin(wanted), _COLUMNS])
    rows = pd.concat(parts)
    rows = rows.dropna().groupby(["mz", "patient"], sort=True).mean().reset_index()
    return {float(str(mz)): mine for mz, mine in rows.groupby("mz")}


def _plot(row: dict[Any, Any], means: pd.DataFrame) -> BoxPlot:
    names = [str(p) for p in means["patient"]]
    values = means[["mean_cancer", "mean_other"]].to_numpy(float)
    words = [f"AUC {row['auc']:.2f}"]
    if math.isfinite(row.get("q", math.nan)):
        words.append(f"q {row['q']:.2g}")
    rows = [[n, f"{a:.6g}", f"{b:.6g}"] for n, (a, b) in zip(names, values.tolist(), strict=True)]
    title = f"m/z {row['mz']:.4f} {identification(row)}"
    columns = ["patient", *(f"mean intensity, {t}" for t in TISSUES)]
    return BoxPlot(row["mz"], title, ", ".join(words), drawn(title, names, values), columns, rows)


def drawn(title: str, names: list[str], values: Floats) -> Markup:
    """The picture.

    Parameters
    ----------
    title
        What it shows, for those who do not see it.
    names
        Of the patients.
    values
        (patients, 2): means in cancer and in other tissue.

    Returns
    -------
    markupsafe.Markup
        An SVG element whose colours the page's style gives.
    """
    marks = ticks(0.0, float(values.max()) or 1.0)
    top, low = marks[-1], _HEIGHT - _BOTTOM

    def y(value: float) -> str:
        return f"{low - (low - _TOP) * value / top:.1f}"

    width = _WIDTH - _LEFT - _RIGHT
    centres = [_LEFT + width * share for share in (0.28, 0.72)]
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(m)}" y2="{y(m)}"/>'
        f'<text x="{_LEFT - 6}" y="{y(m)}" dy="4" text-anchor="end">{escape(number(m))}</text>'
        for m in marks
    ]
    for x, group, words, mine in zip(centres, GROUPS, TISSUES, values.T, strict=True):
        parts.append(f'<text x="{x:g}" y="{_HEIGHT - 8}" text-anchor="middle">{words}</text>')
        parts.append(_box(x, group, mine, y))
    for (a, b), name in zip(values.tolist(), names, strict=True):
        ends = f'x1="{centres[0]:g}" y1="{y(a)}" x2="{centres[1]:g}" y2="{y(b)}"'
        said = f"{name}: {number(a)} in cancer, {number(b)} in other tissue"
        points = "".join(
            f'<circle class="{group}" cx="{x:g}" cy="{y(v)}" r="3.6"/>'
            for x, group, v in zip(centres, GROUPS, (a, b), strict=True)
        )
        parts.append(f'<g><title>{escape(said)}</title><line class="pair" {ends}/>{points}</g>')
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
    said = escape(f"Box plot of {title}: mean intensity of each patient in both tissues")
    return Markup(f'{head}aria-label="{said}">{"".join(parts)}</svg>')


def _box(x: float, group: str, values: Floats, y: Any) -> str:
    """Quartiles and the whole range of the patients; of a few only the median."""
    low, q1, median, q3, high = np.percentile(values, (0, 25, 50, 75, 100)).tolist()
    left, right = x - _HALF, x + _HALF
    middle = (
        f'<line class="median" x1="{left:g}" x2="{right:g}" y1="{y(median)}" y2="{y(median)}"/>'
    )
    if len(values) < BOXED:
        return middle
    height = float(y(q1)) - float(y(q3))
    size = f'width="{2 * _HALF}" height="{height:.1f}"'
    box = f'<rect class="box {group}" x="{left:g}" y="{y(q3)}" {size}/>'
    whisker = f'<line class="whisker" x1="{x:g}" x2="{x:g}" y1="{{}}" y2="{{}}"/>'
    return whisker.format(y(high), y(q3)) + whisker.format(y(q1), y(low)) + box + middle
