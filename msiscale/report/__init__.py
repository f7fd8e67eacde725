"""Figures and the report of a run, from its store."""

from __future__ import annotations

__all__ = ["write_figures", "write_report"]


def write_figures(out_url: str, specimen: str) -> list[str]:
    """Draw the figures of one specimen; see `msiscale.report.figures.write_figures`."""
    from msiscale.report import figures  # matplotlib is heavy

    return figures.write_figures(out_url, specimen)


def write_report(out_url: str) -> str:
    """Write ``report.html``; see `msiscale.report.html.write_report`."""
    from msiscale.report import html

    return html.write_report(out_url)
