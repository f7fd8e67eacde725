"""Plots of Bokeh as a page embeds them, the same whatever the process has drawn before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bokeh.document import Document


def embedded(plots: Mapping[str, Any]) -> dict[str, Any]:
    """The document as JSON, and the root of each name."""
    document = Document()
    for plot in plots.values():
        document.add_root(plot)
    ids: dict[str, str] = {}
    doc = _renumbered(document.to_json(deferred=False), ids)
    return {"doc": doc, "roots": {name: ids[plot.id] for name, plot in plots.items()}}


def _renumbered(made: Any, ids: dict[str, str]) -> Any:
    """Models numbered from 1: Bokeh counts on through the process, and the pages would differ."""
    if isinstance(made, list):
        return [_renumbered(value, ids) for value in made]
    if isinstance(made, dict):
        return {
            key: ids.setdefault(value, f"p{len(ids) + 1}")
            if key == "id"
            else _renumbered(value, ids)
            for key, value in made.items()
        }
    return made
