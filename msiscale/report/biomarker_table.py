"""The strongest m/z in a table, and how far its p can be trusted, in words."""

from __future__ import annotations

import math

import numpy as np

from msiscale.report.data import BIOMARKERS, Results
from msiscale.report.tables import HtmlTable, chosen, with_interval

LISTED = 30  #: rows of a long table, at most
_MARKS = {
    "mz": "m/z",
    "auc": "AUC (95 % interval)",
    "effect": "effect (log2)",
    "standardized_difference": "standardized difference",
    "p": "p",
    "q": "q",
    "p_t": "p of the t-test",
    "q_t": "q of the t-test",
    "p_dl": "p of DerSimonian and Laird",
    "n_patients": "patients",
    "annotation": "annotation",
    "adduct": "adduct",
    "formula": "formula",
    "ppm_error": "error (ppm)",
    "fdr": "FDR of the name",
    "flags": "flags",
    "alternatives": "other candidates",
    "isotope_of": "isotope of",
}
_RATE = 0.05


def biomarkers(results: Results) -> HtmlTable:
    """The strongest m/z."""
    table = results.table(BIOMARKERS).head(LISTED)
    if "auc_low" in table:
        bounds = zip(table["auc"], table["auc_low"], table["auc_high"], strict=True)
        table = table.assign(auc=[with_interval(a, (low, high)) for a, low, high in bounds])
    return chosen(table, _MARKS)


def biomarker_certainty(results: Results) -> list[str]:
    """Sentences on the smallest p that the patients can give, and on who has no say."""
    found = [f"{text}." for text in results.noticed("biomarkers")]
    table = results.table(BIOMARKERS)
    if not {"p", "n_patients"} <= set(table) or not table["p"].notna().any():
        return found
    n, tested = int(table["n_patients"].max()), int(table["p"].notna().sum())
    needed = _RATE / tested
    if "p_least" in table and table["p_least"].notna().any():
        least = float(np.nanmedian(table["p_least"]))
        able = "which these patients can give" if least <= needed else "which they cannot give"
        found.append(
            f"The smallest p that {n} patients can give here is {least:.2g}: that of an AUC of "
            f"1 in every one of them (median over the m/z; p_least in biomarkers.csv). For q ≤ "
            f"{_RATE:g} a single m/z among {tested} needs p ≤ {needed:.2g}, {able}."
        )
    signs = math.ldexp(2.0, -n)
    found.append(
        f"The t-test has no such bound, but {n} patients may agree by luck: a test that gives "
        f"their effects random signs, in all 2^{n} ways, could give no p below {signs:.2g}."
    )
    return found
