"""Figures and the report of a run, from its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msiscale.report.figures import write_figures as write_figures
    from msiscale.report.html import write_page as write_page
    from msiscale.report.html import write_report as write_report
    from msiscale.report.html import write_thumbnail as write_thumbnail

__all__ = ["write_figures", "write_page", "write_report", "write_thumbnail"]


def __getattr__(name: str) -> Any:
    """Each from its module when it is first asked for: matplotlib and Bokeh are heavy."""
    if name not in __all__:
        raise AttributeError(name)
    from msiscale.report import figures, html

    return getattr(figures if name == "write_figures" else html, name)
