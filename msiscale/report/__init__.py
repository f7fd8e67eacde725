"""Figures and the report of a run, from its store; matplotlib and Bokeh, which are heavy, come in
when something is drawn."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msiscale.report.apart import is_apart
    from msiscale.report.data import Results
    from msiscale.report.figures import write_figures
    from msiscale.report.html import page_of, write_page, write_report
    from msiscale.report.thumbnails import write_thumbnail

__all__ = [
    "Results",
    "is_apart",
    "page_of",
    "write_figures",
    "write_page",
    "write_report",
    "write_thumbnail",
]

_HOME = {
    "Results": "data",
    "is_apart": "apart",
    "write_figures": "figures",
    "write_thumbnail": "thumbnails",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"msiscale.report.{_HOME.get(name, 'html')}"), name)
    raise AttributeError(f"module 'msiscale.report' has no attribute {name!r}")
