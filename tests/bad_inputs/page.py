"""``PYTHONPATH=tests python -m bad_inputs.page``: writes the tables of docs/bad-inputs.md anew."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from bad_inputs.rows import Row

PAGE = Path(__file__).parents[2] / "docs" / "bad-inputs.md"
#: Tables of the page, and the modules whose rows they have.
KINDS = {
    "imzml": "test_imzml",
    "cases": "test_msi_cases",
    "hdf5": "test_hdf5",
    "slides": "test_slides",
    "annotations": "test_annotations",
    "painted": "test_painted",
    "annotation_cases": "test_annotation_cases",
    "registration": "test_registration",
    "manifest": "test_manifest",
    "weights": "test_tables",
    "lipids": "test_tables",
    "config": "test_tables",
    "stores": "test_stores",
}
_PART = r"(<!-- {} -->\n).*?(<!-- end -->)"


def rows(kind: str) -> list[Row]:
    """Rows of a table."""
    module = importlib.import_module(f"bad_inputs.{KINDS[kind]}")
    if KINDS[kind] == "test_tables":
        found: list[Row] = getattr(module, kind.upper())
        return found
    return list(module.ROWS)


def table(kind: str) -> str:
    """A table in Markdown."""
    lines = [f"Tests: `tests/bad_inputs/{KINDS[kind]}.py::test_row[…]`", ""]
    lines += ["| what is wrong | msiscale | and says | test |", "|---|---|---|---|"]
    for row in rows(kind):
        said = f"`` {_cell(row.says)} ``" if "`" in row.says else f"`{_cell(row.says)}`"
        said = said if row.says else "nothing"
        wrong = _cell(row.wrong.replace("<", "&lt;"))
        lines.append(f"| {wrong} | {row.does} | {said} | `{row.id}` |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def page(text: str) -> str:
    """The page with its tables as the tests have them."""
    for kind in KINDS:
        text, n = re.subn(
            _PART.format(f"rows: {kind}"),
            lambda m, kind=kind: f"{m[1]}{table(kind)}{m[2]}",
            text,
            flags=re.S,
        )
        assert n == 1, f"the page has {n} tables of {kind}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
