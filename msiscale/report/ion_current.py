"""The m/z axis on the cohort's page: its window, and how much of the ion current it holds."""

from __future__ import annotations

from msiscale.msi.window import Window
from msiscale.report.data import Results
from msiscale.report.tables import HtmlTable, Section, number

_MOST = 50


def ion_current(results: Results) -> HtmlTable:
    """Share of each specimen's ion current that is on the m/z axis, the least first."""
    shares = results.axis.get("captured", {})
    rows = [[name, number(v)] for name, v in sorted(shares.items(), key=lambda item: item[1])]
    return HtmlTable(["specimen", "share of the ion current"], rows[:_MOST])


def mz_window(results: Results) -> str:
    """The window around an m/z, in words."""
    facts = results.axis.get("window")
    return str(Window(**facts)) if facts else ""


ION_CURRENT = Section(
    "axis",
    "m/z axis",
    """\
<h2 id="axis">Ion current on the m/z axis</h2>
<p class="note">A window of {{ mz_window }} around each m/z counts. Signal outside is in no image and no model.</p>
{{ cells(ion_current, "Share of the ion current inside the windows, the smallest first.", "This needs the ingest stage.") }}
""",  # noqa: E501
    (ion_current, mz_window),
    unless=lambda r: "" if r.axis.get("captured") else "the spectra are not on an axis yet",
)
