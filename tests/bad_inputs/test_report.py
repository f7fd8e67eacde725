"""What users wrote is text in the report, wherever it stands: nothing of it becomes a tag."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from msiscale.report import write_report
from msiscale.store import Ledger, write_bytes, write_json

HOSTILE = (
    "<script id=hostile>alert(1)</script>",
    "</script><b id=hostile>",
    '"><img id=hostile src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!--<script id=hostile>",
    "]]><svg id=hostile onload=alert(1)>",
    "{{ 7 * 7 }}{% raise %}&lt;b id=hostile&gt;",
    "javascript:alert(1)",
)


class Page(HTMLParser):
    """Every tag with its attributes, and all text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts = "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append((self.tags[-1][1], data))
        else:
            self.text += data


def table(*columns: str, **more: object) -> pd.DataFrame:
    return pd.DataFrame({**dict.fromkeys(columns, HOSTILE), **more})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a run in which every string is hostile."""
    out = tmp_path_factory.mktemp("out")
    ledger = Ledger(str(out))
    names = [f"s{i}" for i in range(len(HOSTILE))]
    for name, text in zip(names, HOSTILE, strict=True):
        ledger.write("ingest", name, "key", "failed", reason=text)
    write_json(
        str(out / "run.json"),
        {
            "manifest": HOSTILE[0],
            "started": HOSTILE[1],
            "parameters": {text: text for text in HOSTILE},
            "versions": {HOSTILE[3]: HOSTILE[4]},
            "specimens": dict(zip(names, HOSTILE, strict=True)),
            "failed": dict(zip(names, HOSTILE, strict=True)),
        },
    )
    registration = table("method", specimen=names)
    write_bytes(str(out / "registration.csv"), registration.to_csv(index=False).encode())
    n = len(HOSTILE)
    numbers = {c: [0.5] * n for c in ("auc", "effect", "p", "q", "ppm_error")}
    marks = table(
        "annotation", "adduct", "formula", "alternatives", mz=range(100, 100 + n), **numbers
    )
    marks["n_patients"], marks["isotope_of"] = 3, float("nan")
    marks["standardized_difference"] = 0.1
    write_bytes(str(out / "biomarkers.csv"), marks.to_csv(index=False).encode())
    return Path(write_report(str(out))).read_text(encoding="utf-8")


def test_no_tag_and_no_attribute_comes_from_them(page: str) -> None:
    parsed = Page(page)
    assert not [tag for tag, attributes in parsed.tags if attributes.get("id") == "hostile"]
    for tag, attributes in parsed.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href"):
            assert not (attributes.get(name) or "").startswith("javascript:")


def test_they_are_there_as_text(page: str) -> None:
    text = Page(page).text
    for words in HOSTILE:
        assert words in text


def test_nothing_in_a_script_ends_it(page: str) -> None:
    scripts = Page(page).scripts
    for attributes, text in scripts:
        if attributes.get("type") == "application/json":
            json.loads(text)
            assert "<" not in text
        elif not attributes.get("type"):
            assert "hostile" not in text


def test_the_policy_lets_no_script_run_that_is_not_ours(page: str) -> None:
    (policy,) = [
        str(a["content"])
        for _, a in Page(page).tags
        if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    script = [part for part in policy.split(";") if "script-src" in part]
    assert not any("unsafe" in part or "*" in part for part in script)
