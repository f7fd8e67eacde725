"""How many patients are enough: the learning curve of the run, and the power to find biomarkers."""

from __future__ import annotations

from typing import Any

from msiscale.report.data import CsvTable, Results
from msiscale.report.tables import HtmlTable, Section, frame, number, with_interval

LEARNING = CsvTable("learning", "kind* patients value low high n", "msiscale power")
POWER = CsvTable("power", "between* sd effect patients level power needed", "msiscale power")


def learning_curve(results: Results) -> HtmlTable:
    """R² by number of training patients, measured and then expected."""
    table = results.table(LEARNING)
    bounds = zip(table["value"], table["low"], table["high"], strict=True)
    shown: dict[str, Any] = {
        "training patients": table["patients"].astype(int),
        "": table["kind"],
        "R² of the spectrum (95 % interval)": [with_interval(v, (a, b)) for v, a, b in bounds],
        "patients held out": table["n"].astype(int),
    }
    return frame(table.assign(**shown)[[*shown]])


def power_by_effect(results: Results) -> HtmlTable:
    """Power of m/z that differ between patients as half of them do, a row an effect."""
    table = results.table(POWER)
    typical = table[table["between"] == "typical"]
    wide = typical.pivot(index=["effect", "needed"], columns="patients", values="power")
    wide = wide.rename(columns=lambda n: f"{n:.0f} patients").reset_index()
    needed = [number(v) if v == v else "above 1,000" for v in wide["needed"]]
    return frame(
        wide.assign(needed=needed).rename(
            columns={"effect": "AUC", "needed": "patients for a power of 0.8"}
        )
    )


ENOUGH = Section(
    "enough",
    "How many patients",
    """\
{% if study or learning_curve.rows or power_by_effect.rows %}
<h2 id="enough">How many patients are enough</h2>
{% if learning_curve.rows %}
<p class="note">Measured: patients join the training one after another, and every patient is held out once. Expected: a curve fitted to these
means and extended. Its interval holds if the curve keeps its form and further patients are like these.</p>
{% endif %}
{{ cells(learning_curve, "R² of the spectrum predicted from H&E, mean over the patients held out.", "Not asked for: msiscale power.") }}
{% if power_by_effect.rows %}
<p class="note">Power is the probability of finding an m/z at a false-discovery rate of 5 % among the m/z tested here. It assumes the median spread between
patients; power.csv also has m/z that vary more.</p>
{{ cells(power_by_effect, "Power to find a biomarker, by its AUC and the number of patients.", "") }}
{% endif %}
{% endif %}
""",  # noqa: E501
    (learning_curve, power_by_effect),
    (LEARNING, POWER),
    lambda r: (
        ""
        if r.is_study or learning_curve(r).rows or power_by_effect(r).rows
        else "fewer than two specimens can be compared"
    ),
)
