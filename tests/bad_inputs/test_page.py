"""docs/bad-inputs.md is what the tests say."""

from __future__ import annotations

import re

from bad_inputs.page import KINDS, PAGE, page, rows


def test_the_tables_of_the_page_are_the_rows_of_the_tests() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run `PYTHONPATH=tests python -m bad_inputs.page`"


def test_every_row_is_a_test_of_its_own() -> None:
    every = [(KINDS[kind], row.id) for kind in KINDS for row in rows(kind)]
    assert len(every) == len(set(every)) >= 60
    assert len(re.findall(r"\| `\w+` \|$", PAGE.read_text(encoding="utf-8"), re.M)) == len(every)
