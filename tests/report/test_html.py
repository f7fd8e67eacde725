"""The pages as text: what they refer to, what they hold, and that words from outside stay words."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bokeh.models import Quad, VBar
from PIL import Image

from msiscale.errors import InputError
from msiscale.report import apart, write_page, write_report, write_thumbnail
from msiscale.report.data import Results
from msiscale.report.plots import cohort_plots
from msiscale.report.tables import number
from msiscale.report.thumbnails import SIDE_OF_MANY

# a specimen on a page takes a second: where one will do, the others have no data
REST = ("s2", "s3", "wide")
_VOID = {"meta", "img", "br", "hr", "link", "input"}


class _Page(HTMLParser):
    """Tags, their attributes, text and scripts; fails where tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
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
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.text))

    @property
    def policy(self) -> dict[str, str]:
        """Directives of the page's Content-Security-Policy."""
        (whole,) = [
            str(a["content"])
            for _, a in self.tags
            if a.get("http-equiv") == "Content-Security-Policy"
        ]
        return {p.split()[0]: p.split(" ", 1)[-1] for p in map(str.strip, whole.split(";"))}


@pytest.fixture(scope="module")
def page(drawn_folder: Path) -> _Page:
    path = write_report(str(drawn_folder))
    assert path == str(drawn_folder / "report.html")
    return _Page(Path(path).read_text(encoding="utf-8"))


def test_nothing_outside_is_referred_to(page: _Page) -> None:
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        assert tag != "script" or "src" not in attributes
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href"):
                assert value is not None
                assert value.startswith("data:image/" if tag == "img" else "#")
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {a["href"][1:] for t, a in page.tags if t == "a" and a["href"]} <= ids


def test_only_scripts_of_known_digest_run(page: _Page) -> None:
    allowed = page.policy["script-src"].split()
    assert page.policy["default-src"] == "'none'"

    def digest(script: str) -> str:
        made = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return f"'sha256-{made}'"

    run = [text for attributes, text in page.scripts if "type" not in attributes]
    (library,) = [text for attributes, text in page.scripts if attributes.get("id") == "library"]
    run.append(gzip.decompress(base64.b64decode(library)).decode())
    assert sorted(map(digest, run)) == sorted(allowed)


def test_every_embedded_picture_opens_and_has_words(page: _Page) -> None:
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    maps = [a for a in images if a.get("class") == "pixels"]
    assert len(maps) == 4 * 3 + 6 * 2  # three of a specimen, and six pairs of ions
    # four slides, three specimens of six figures, two galleries
    assert len(images) - len(maps) == 4 + 3 * 6 + 2
    assert all(a["data-palette"] in ("cividis", "viridis") for a in maps)
    for attributes in images:
        assert attributes["alt"]
        data = base64.b64decode(str(attributes["src"]).split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as image:
            image.verify()


def test_what_users_wrote_is_escaped(page: _Page, drawn_folder: Path) -> None:
    raw = (drawn_folder / "report.html").read_text(encoding="utf-8")
    assert "slides/<b>x</b>.svs" not in raw
    assert "<i>Tumor" not in raw
    assert "slides/<b>x</b>.svs: will not open & cannot be read" in page.words
    assert "<i>Tumor</i>" in page.words


def test_the_numbers_of_the_run_are_there(page: _Page) -> None:
    assert "5 specimens" in page.words and "4 done, 1 failed." in page.words
    for words in ("0.970", "0.880", "0.120", "pixel folds", "PC 34:1", "760.5851", "48", "12.340"):
        assert words in page.words
    assert "efficientnet-lite0" in page.words
    assert "+0.020" in page.words  # the gain from leakage


def test_what_a_panel_draws_is_what_the_store_holds(page: _Page, drawn_folder: Path) -> None:
    (content,) = [
        found
        for attributes, text in page.scripts
        if attributes.get("class") == "content" and (found := json.loads(text))["name"] == "s1"
    ]
    arrays = unpacked(content["packed"])
    import zarr

    cohort = zarr.open_group(drawn_folder / "cohort.zarr" / "s1", mode="r")
    predictions = zarr.open_group(drawn_folder / "predictions.zarr" / "s1", mode="r")
    at = arrays["at"]
    truth = np.asarray(predictions["cancer_from_he"]).ravel()[at]
    seen = np.where(arrays["cancer_from_he"] == 255, np.nan, arrays["cancer_from_he"] / 254)
    np.testing.assert_allclose(seen, truth, atol=0.5 / 254 + 1e-6)
    axis = np.asarray(cohort["mz"])
    ion = content["ions"][0]
    image = np.asarray(cohort["intensity"])[..., np.abs(axis - ion["mz"]).argmin()].ravel()[at]
    levels, top = arrays["ions"][0], arrays["tops"][0]
    seen = np.where(levels == 255, np.nan, top * (levels / 254) ** 2)
    np.testing.assert_allclose(seen, image, atol=top / 127)
    scores = np.asarray(predictions["predicted_scores"]).reshape(-1, 5)[at].T
    seen = np.where(arrays["predicted"] == -32768, np.nan, arrays["predicted"].astype(float))
    seen *= arrays["predicted_step"][:, None]
    np.testing.assert_allclose(seen, scores, atol=1e-3)


def unpacked(packed: dict) -> dict[str, np.ndarray]:
    """What `report.js` makes of `msiscale.report.packing.pack`."""
    data, found = gzip.decompress(base64.b64decode(packed["data"])), {}
    for name, kind, shape, offset in packed["arrays"]:
        dtype, n = np.dtype(kind), int(np.prod(shape))
        raw = data[offset : offset + n * dtype.itemsize]
        if dtype.itemsize == 2:
            raw = np.frombuffer(raw, np.uint8).reshape(2, -1).T.tobytes()
        found[name] = np.frombuffer(raw, dtype).reshape(shape)
    return found


def test_a_large_cohort_has_a_page_a_specimen(
    results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(results_folder, out, ignore=shutil.ignore_patterns("figures", "report*", *REST))
    (out / "report").mkdir()
    (out / "report" / "gone.html").write_text("of a specimen withdrawn since")
    monkeypatch.setattr(apart, "TOGETHER", 3)
    together = Path(write_report(str(out), pages=False)).read_bytes()
    assert {p.name for p in (out / "report").iterdir()} == set()
    write_report(str(out))
    names = {f"{n}.html" for n in ("broken", "s1", "s2", "s3", "wide")}
    assert {p.name for p in (out / "report").iterdir()} == names
    assert (out / "report.html").read_bytes() == together
    index = _Page((out / "report.html").read_text(encoding="utf-8"))
    links = [a["href"] for t, a in index.tags if t == "a" and "report/" in (a["href"] or "")]
    assert {str(link).removeprefix("report/") for link in links} == names
    assert not [a for a, _ in index.scripts if a.get("class") == "content"]
    own = _Page(Path(write_page(str(out), "s1")).read_text(encoding="utf-8"))
    assert [a for a, _ in own.scripts if a.get("class") == "content"]
    assert "0.970" in own.words
    failed = _Page((out / "report" / "broken.html").read_text(encoding="utf-8"))
    assert failed.scripts == []  # nothing to draw: no library
    assert failed.policy["script-src"] == "'none'"
    assert "slides/<b>x</b>.svs: will not open & cannot be read" in failed.words


def test_a_small_cohort_loses_the_pages_of_a_larger_one(drawn_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(drawn_folder, out, ignore=shutil.ignore_patterns(*REST))
    (out / "report").mkdir()
    (out / "report" / "s1.html").write_text("old")
    write_report(str(out))
    assert not list((out / "report").iterdir())


def test_thumbnails_written_before_are_taken(
    results_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(results_folder, out, ignore=shutil.ignore_patterns(*REST))
    (url,) = write_thumbnail(str(out), "s1")
    stored = json.loads(Path(url).read_text(encoding="utf-8"))
    assert max(stored["width"], stored["height"]) <= SIDE_OF_MANY
    assert write_thumbnail(str(out), "broken") == []
    stored["maps"]["cancer_from_he"]["picture"] = "data:image/png;base64,marked"
    Path(url).write_text(json.dumps(stored), encoding="utf-8")
    together = Path(write_report(str(out))).read_text(encoding="utf-8")
    assert "base64,marked" not in together  # of a small cohort they are larger, and made anew
    monkeypatch.setattr(apart, "TOGETHER", 3)
    assert "base64,marked" in Path(write_report(str(out), pages=False)).read_text(encoding="utf-8")


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
    shutil.copytree(drawn_folder, out, ignore=shutil.ignore_patterns(*missing, *REST))
    page = _Page(Path(write_report(str(out))).read_text(encoding="utf-8"))
    for name in missing:
        if name in ("biomarkers.csv", "metrics.csv", "registration.csv"):
            assert f"{name}: msiscale" in page.words


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
        "1235",
        "1e-09",
        "–",
        "–",
        "True",
    ]


def test_the_plots_have_what_the_tables_say(drawn_folder: Path) -> None:
    plots = cohort_plots(Results(str(drawn_folder)))
    assert set(plots) == {
        "auc",
        "protocols",
        "r2",
        "ion_r",
        "volcano",
    }  # the others' tables are missing
    share = [0.3 / (k + 1) for k in range(5)]
    (source,) = [r.data_source for r in plots["r2"].renderers if isinstance(r.glyph, VBar)]
    np.testing.assert_allclose(source.data["top"], share)
    low, high = plots["protocols"].x_range.start, plots["protocols"].x_range.end
    assert low < 0.87 and high > 0.99  # the least and the largest AUC


def test_one_specimen_without_a_label_is_first_class(alone_folder: Path) -> None:
    page = _Page(Path(write_report(str(alone_folder))).read_text(encoding="utf-8"))
    words = page.words
    assert (
        "One specimen: blocks of it were held out; nothing is known about another patient." in words
    )
    (line,) = re.findall(r"Not applicable here: [^.]*\.", words)
    assert line == (
        "Not applicable here: Cancer, Biomarkers, Secondary regions, because no "
        "specimen is annotated; How many patients, Between specimens, because fewer than two "
        "specimens can be compared; Novelty, because no patient was held out; "
        "m/z axis, because the spectra are not on an axis yet."
    )
    for empty in (
        "No metrics yet",
        "No biomarkers yet",
        "Not asked for: msiscale",
        "AUC from",
        "There is none, or",
    ):
        assert empty not in words
    heads = [a["id"] for tag, a in page.tags if tag == "h2"]
    assert heads == [
        *("summary", "specimens", "best-ions", "notices", "ions", "msi", "viewers"),
        *("believe", "registration", "run"),
    ]
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= ids
    slide, measured, predicted, *others = [a["alt"] for tag, a in page.tags if tag == "img"]
    assert slide == "s3: H&E" and str(measured).startswith("s3: measured, m/z")
    assert predicted == "s3: predicted from H&E"
    assert any("s3: H&E beside ion images" in str(words) for words in others)
    assert "blocks of the specimen left out" in words and "patient left out" not in words
    plots = cohort_plots(Results(str(alone_folder)))
    assert {"r2", "ion_r"} <= set(plots)
    table = pd.read_csv(alone_folder / "ions.csv")
    (bars,) = [r.data_source for r in plots["ion_r"].renderers if isinstance(r.glyph, Quad)]
    assert sum(bars.data["n"]) == table["pearson"].notna().sum()
    best = table.sort_values("pearson", na_position="first").iloc[-1]
    assert f"{best['mz']:.4f}" in words and f"{best['pearson']:.3f}" in words
    (content,) = [json.loads(t) for a, t in page.scripts if a.get("class") == "content"]
    assert len(content["modes"]) == 5  # measured and predicted spectra of any pixel


def test_a_study_keeps_its_sections_and_has_the_ions_folded(page: _Page) -> None:
    heads = [a["id"] for tag, a in page.tags if tag == "h2"]
    assert heads == [
        *("summary", "specimens", "best-ions", "strongest", "notices", "viewers", "cancer"),
        *("believe", "msi", "ions", "biomarkers", "enough", "secondary", "registration"),
        *("between", "novelty", "axis", "run"),
    ]
    assert "In patients that the models had not seen" not in page.words  # no interval, no headline
    assert "Registration: good 4 of 4 specimens lie within 1 MSI pixel." in page.words
    assert "Not applicable here" not in page.words
    assert "Images of the best, the median and the worst, and the table" in page.words
