"""Figures and the report of a run, from its store; matplotlib and Bokeh, which are heavy, come in
when something is drawn."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["write_figures", "write_page", "write_report", "write_thumbnail"]


def write_figures(out_url: str, specimen: str) -> list[str]:
    """Draw the figures of one specimen; see `msiscale.report.figures.write_figures`."""
    from msiscale.report import figures

    return figures.write_figures(out_url, specimen)


def write_thumbnail(out_url: str, specimen: str) -> list[str]:
    """Write a specimen's small picture; see `msiscale.report.html.write_thumbnail`."""
    from msiscale.report import html

    return html.write_thumbnail(out_url, specimen)


def write_page(out_url: str, specimen: str, *, parts: Sequence[str] | None = None) -> str:
    """Write the page of one specimen; see `msiscale.report.html.write_page`."""
    from msiscale.report import html

    return html.write_page(out_url, specimen, parts=parts)


def write_report(out_url: str, *, pages: bool = True, parts: Sequence[str] | None = None) -> str:
    """Write ``report.html``; see `msiscale.report.html.write_report`."""
    from msiscale.report import html

    return html.write_report(out_url, pages=pages, parts=parts)
