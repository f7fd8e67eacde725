from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from msiscale.errors import InputError
from msiscale.report import write_report
from msiscale.report.html import number

_VOID = {"meta", "img", "br", "hr", "link", "input"}


class _Page(HTMLParser):
    """Tags, their attributes and text; fails where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page(drawn_folder: Path) -> _Page:
    path = write_report(str(drawn_folder))
    assert path == str(drawn_folder / "report.html")
    return _Page(Path(path).read_text(encoding="utf-8"))


def test_nothing_outside_is_referred_to_and_no_script_runs(page: _Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value is not None
                assert value.startswith("data:image/png;base64," if tag == "img" else "#")
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for t, a in page.tags if t == "a" and a["href"]} <= ids


def test_every_embedded_picture_opens_and_has_words(page: _Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 * 4 + 3  # three specimens of four figures, three of the cohort
    for attributes in images:
        assert attributes["alt"]
        data = base64.b64decode(str(attributes["src"]).split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as image:
            image.verify()


def test_what_users_wrote_is_escaped(page: _Page, drawn_folder: Path) -> None:
    raw = (drawn_folder / "report.html").read_text(encoding="utf-8")
    assert "slides/<b>x</b>.svs" not in raw
    assert "<i>Tumor" not in raw
    text = " ".join(page.text)
    assert "slides/<b>x</b>.svs: will not open & cannot be read" in text
    assert "<i>Tumor</i>" in text


def test_the_numbers_of_the_run_are_there(page: _Page) -> None:
    text = re.sub(r"\s+", " ", "".join(page.text))
    assert "5 specimens: 4 done, 1 failed" in text
    for words in ("0.970", "0.880", "0.120", "pixel folds", "PC 34:1", "760.5851", "48", "12.340"):
        assert words in text
    assert "efficientnet-lite0" in text


@pytest.mark.parametrize(
    "missing",
    [
        ["biomarkers.csv", "biomarkers_by_specimen.csv"],
        ["metrics.csv", "predictions.zarr"],
        ["registration.csv", "run.json", "figures"],
        ["cohort.zarr", "ledger"],
    ],
)
def test_missing_parts_are_said_to_be_missing(
    drawn_folder: Path, tmp_path: Path, missing: list[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(drawn_folder, out, ignore=shutil.ignore_patterns(*missing))
    page = _Page(Path(write_report(str(out))).read_text(encoding="utf-8"))
    assert "msiscale report" in page.text


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    text = Path(write_report(str(tmp_path))).read_text(encoding="utf-8")
    for words in ("0 specimens", "No metrics yet", "No biomarkers yet", "No registration yet"):
        assert words in text


def test_a_spoilt_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"metrics\.csv: no column protocol"):
        write_report(str(tmp_path))


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0.12345, 12.0, 1234.5678, 1e-9, float("nan"), None, True)] == [
        "0.123",
        "12",
        "1.23e+03",
        "1e-09",
        "–",
        "–",
        "True",
    ]
