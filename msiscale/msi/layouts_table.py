"""The table of layouts in docs/inputs.md; ``python -m msiscale.msi.layouts_table`` writes it."""

from __future__ import annotations

from pathlib import Path

from msiscale.config_schema import between
from msiscale.msi.kinds import pandas_store
from msiscale.msi.layouts import LAYOUTS
from msiscale.msi.trees import KINDS

_MARKS = ("<!-- layouts -->\n", "<!-- end of layouts -->\n")


def table() -> str:
    """The layouts as Markdown."""
    rows = [(layout.name, layout.holds) for layout in LAYOUTS]
    rows += [(kind.name, kind.holds) for kind in (*KINDS, pandas_store.KIND)]
    lines = [f"| {name} | {holds} |" for name, holds in rows if holds]
    return "\n".join(["| layout | how it is recognised |", "|---|---|", *lines, ""])


def with_table(page: str) -> str:
    """The text of a page with the table of now between its marks."""
    return between(_MARKS, table(), page)


if __name__ == "__main__":
    page = Path("docs/inputs.md")
    page.write_text(with_table(page.read_text()))
