"""The pages in a real Chromium: nothing fails, nothing is fetched, and clicks do what they say."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import exported
import numpy as np
import pandas as pd
import pytest
import zarr
from exported import MZ, PIXEL, SHAPE
from PIL import Image

from msiscale.report import html, write_report
from msiscale.report.specimen import encoded
from msiscale.store import Ledger, write_bytes, write_json

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
    ),
]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MANY = 500
FAILED = range(7, MANY, 50)
# what a specimen's panels show, and where
VIEW = """() => {
  const doc = Bokeh.documents.find((d) => d.get_model_by_name("x_range"));
  const x = doc.get_model_by_name("x_range"), y = doc.get_model_by_name("y_range");
  const figures = doc.roots().filter((f) => f.x_range === x && f.y_range === y);
  const alpha = {}, images = {}, spectra = {};
  for (const n of ["cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi",
                   "measured", "predicted"]) {
    alpha[n] = doc.get_model_by_name(`${n}_image`).glyph.global_alpha.value
      ?? doc.get_model_by_name(`${n}_image`).glyph.global_alpha;
    images[n] = [...doc.get_model_by_name(`${n}_map`).data.image[0]].map(
      (v) => Number.isNaN(v) ? null : v);
  }
  for (const n of ["measured", "predicted"]) {
    const { mz, value } = doc.get_model_by_name(`${n}_spectrum`).data;
    spectra[n] = [...mz].map((v, i) => [v, value[i]]);
  }
  return {x: [x.start, x.end], y: [y.start, y.end], linked: figures.length, alpha, images, spectra};
}"""


@dataclass
class Seen:
    """A page, and what went wrong on it."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, path: Path, viewport: dict[str, int] = WIDE) -> None:
        self.page.set_viewport_size(viewport)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)

    def view(self) -> dict[str, Any]:
        self.page.wait_for_selector(".viewer[data-ready=yes]")
        return self.page.evaluate(VIEW)

    def click(self, panel: str, y: int, x: int) -> None:
        """The middle of an MSI pixel, in a panel that shows the whole."""
        host = self.page.locator(f"[data-panel={panel}]").first
        host.scroll_into_view_if_needed()
        box = host.bounding_box()
        at = {
            "x": box["width"] * (x + 0.5) / SHAPE[1],
            "y": box["height"] * (y + 0.5) / SHAPE[0],
        }
        host.click(position=at)

    def until(self, expression: str) -> None:
        """Waits for it; playwright's own way needs eval, which the page's policy forbids."""
        end = time.monotonic() + 20
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, expression
            self.page.wait_for_timeout(50)

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def focus(self) -> str:
        return self.page.evaluate(
            "document.activeElement.className || document.activeElement.tagName"
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def seen(chromium: Any) -> Iterator[Seen]:
    """A page on which no error may be logged and to which nothing may be fetched."""
    page = chromium.new_page()
    seen = Seen(page)
    page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda r: seen.requests.append(r.url))
    yield seen
    page.close()
    assert seen.errors == []
    assert [r for r in seen.requests if not r.startswith(("file:", "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two specimens and one that failed, in one file."""
    out = tmp_path_factory.mktemp("browser") / "out"
    exported.build(str(out))
    for i, name in enumerate("AB"):
        group = zarr.open_group(out / "predictions.zarr" / name)
        rng = np.random.default_rng(i)
        scores = np.asarray(group["predicted_scores"]) + rng.normal(0, 0.5, (*SHAPE, 3))
        made = group.create_array(
            "scores", data=scores.astype(np.float32), dimension_names=("y", "x", "component")
        )
        assert made.shape == (*SHAPE, 3)
    write_bytes(str(out / "metrics.csv"), _metrics(["A", "B"]).to_csv(index=False).encode())
    Ledger(str(out)).write("ingest", "C", "d", "failed", reason="C.svs: will not open")
    write_report(str(out))
    return out


def _metrics(names: list[str]) -> pd.DataFrame:
    rows = []
    for i, name in enumerate([*names, "all"]):
        for j, model in enumerate(
            ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")
        ):
            auc = 0.99 - 0.05 * j - 0.3 * i / (len(names) + 1)
            for protocol, more in (("leave_one_patient_out", 0.0), ("pixel_folds", 0.005)):
                rows.append([protocol, "0", name, model, "cancer", "auc", auc + more])
        for k in range(3):
            row = ["leave_one_patient_out", "0", name, "msi_from_he", f"mode_{k:03d}", "r2"]
            rows.append([*row, 0.5 - 0.2 * k])
        row = ["leave_one_patient_out", "0", name, "msi_from_he", "weighted", "r2", 0.3]
        rows.append(row)
    columns = ["protocol", "fold", "specimen", "model", "target", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def opened(seen: Seen, run: Path) -> Seen:
    """Specimen A, its panels drawn."""
    seen.open(run / "report.html")
    seen.page.locator("details.specimen summary").first.click()
    seen.view()
    return seen


def test_panels_are_drawn_when_a_specimen_is_opened(seen: Seen, run: Path) -> None:
    seen.open(run / "report.html")
    page = seen.page
    assert page.locator(".plot[data-drawn=yes]").count() >= 3
    assert page.locator(".viewer[data-ready=yes]").count() == 0
    page.locator("#specimen-list a", has_text="B").click()
    page.wait_for_selector("details.specimen[open] .viewer[data-ready=yes]")
    assert page.locator(".viewer[data-ready=yes]").count() == 1
    assert page.locator("[data-panel][data-drawn=yes]").count() == 7
    assert "C.svs: will not open" in page.locator("table.failures").inner_text()


def test_a_click_shows_both_spectra_of_the_pixel(opened: Seen, run: Path) -> None:
    y, x = 30, 50
    opened.click("cancer_from_he", y, x)
    opened.until("document.querySelector('.pixel').textContent.startsWith('row 30, column 50')")
    cube = np.asarray(zarr.open_group(run / "cohort.zarr" / "A")["intensity"])
    group = zarr.open_group(run / "predictions.zarr" / "A")
    view = opened.view()
    measured = dict(map(tuple, view["spectra"]["measured"]))
    assert set(measured) == set(MZ)
    truth = dict(zip(MZ, cube[y, x], strict=True))
    for mz, value in truth.items():
        assert measured[mz] == pytest.approx(value, abs=float(np.nanmax(cube)) / 100)
    guess = np.asarray(group["mean"]) + np.asarray(group["predicted_scores"])[y, x] @ np.asarray(
        group["components"]
    )
    predicted = dict(map(tuple, view["spectra"]["predicted"]))
    for mz, value in zip(np.asarray(group["mz"]), np.maximum(guess, 0), strict=True):
        assert predicted[mz] == pytest.approx(value, abs=0.01)
    words = opened.page.locator(".pixel").first.inner_text()
    assert f"cancer from H&E {np.asarray(group['cancer_from_he'])[y, x]:.2f}" in words
    assert "annotated 1.00" in words
    opened.click("cancer_from_he", y, SHAPE[1] - 2)
    assert "no tissue there" not in words


def test_the_choice_of_an_mz_changes_the_ion_image(opened: Seen, run: Path) -> None:
    cube = np.asarray(zarr.open_group(run / "cohort.zarr" / "A")["intensity"])
    first = opened.view()["images"]["measured"]
    options = opened.page.locator(".choice").first
    labels = options.locator("option").all_inner_texts()
    assert labels[0].startswith("800.5000 PC 34:1")  # the strongest biomarker
    options.select_option(label=next(t for t in labels if t.startswith("600.2")))
    second = opened.view()["images"]["measured"]
    for image, index in ((first, 4), (second, 1)):
        shown = np.array(image, float).reshape(SHAPE)
        known = np.isfinite(shown) & np.isfinite(cube[..., index])
        assert known.sum() > 0.9 * known.size
        top = np.nanmax(cube[..., index])
        np.testing.assert_allclose(shown[known], cube[..., index][known], atol=top / 100)
    opened.page.locator("input.any").first.fill("500")
    opened.page.locator("input.any").first.press("Enter")
    third = np.array(opened.view()["images"]["measured"], float).reshape(SHAPE)
    known = np.isfinite(third)
    np.testing.assert_allclose(third[known], cube[..., 0][known], atol=float(np.nanmax(cube)) / 100)
    assert opened.page.locator(".chosen").first.inner_text().startswith("m/z 500.1000")
    options.select_option(label=next(t for t in labels if t.startswith("700.3000 ")), timeout=2000)
    assert "no prediction" in opened.page.locator(".ions .message").first.inner_text()


def test_the_opacity_of_every_map_follows_the_slider(opened: Seen) -> None:
    assert set(opened.view()["alpha"].values()) == {0.8}
    slider = opened.page.locator("input.opacity").first
    slider.focus()
    for _ in range(30):
        slider.press("ArrowLeft")
    assert set(opened.view()["alpha"].values()) == {0.5}
    assert opened.page.locator(".percent").first.inner_text() == "50 %"


def test_all_panels_zoom_and_move_together(opened: Seen) -> None:
    whole = opened.view()
    assert whole["linked"] == 6  # one pair of ranges for every panel
    assert whole["x"] == [0, SHAPE[1] * PIXEL[1]]
    opened.page.locator("button.in").first.click()
    near = opened.view()
    assert np.ptp(near["x"]) == pytest.approx(np.ptp(whole["x"]) / 2)
    assert np.ptp(near["y"]) == pytest.approx(np.ptp(whole["y"]) / 2)
    panel = opened.page.locator("[data-panel=cancer_from_msi]").first
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = opened.page.mouse
    mouse.move(*middle)
    mouse.down()
    mouse.move(middle[0] + 40, middle[1], steps=5)
    mouse.up()
    moved = opened.view()
    assert moved["x"][0] < near["x"][0]
    assert np.ptp(moved["x"]) == pytest.approx(np.ptp(near["x"]))
    opened.page.locator("button.whole").first.click()
    assert opened.view()["x"] == whole["x"]
    before = opened.page.evaluate("window.scrollY")
    mouse.move(*middle)
    mouse.wheel(0, 200)  # without Ctrl the page scrolls, and the panels stay
    opened.until(f"window.scrollY > {before}")
    assert opened.view()["x"] == whole["x"]


def test_everything_can_be_reached_and_done_by_keys(opened: Seen) -> None:
    page = opened.page
    page.locator("input.opacity").first.focus()
    reached = []
    for _ in range(14):  # each panel is a stop too
        page.keyboard.press("Tab")
        reached.append(opened.focus())
    order = ["in", "out", "whole", "at", "at", "panels", "choice", "any"]
    assert [name for name in reached if name in order] == order
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.panels')).outlineStyle") == "none"
    )
    page.locator(".panels").first.focus()
    page.keyboard.press("ArrowLeft")  # by keys, so that the focus is seen
    assert (
        page.evaluate("getComputedStyle(document.querySelector('.panels')).outlineStyle") == "solid"
    )
    page.locator("input.at").nth(0).fill("30")
    page.locator("input.at").nth(0).press("Enter")
    page.locator("input.at").nth(1).fill("50")
    page.locator("input.at").nth(1).press("Enter")
    said = page.locator(".pixel").first
    assert said.inner_text().startswith("row 30, column 50")
    page.locator(".panels").first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert said.inner_text().startswith("row 29, column 52")
    whole = opened.view()["x"]
    page.keyboard.press("+")
    assert np.ptp(opened.view()["x"]) == pytest.approx(np.ptp(whole) / 2)
    page.keyboard.press("0")
    assert opened.view()["x"] == whole
    page.locator("[data-panel=predicted]").first.click()  # and the ion images take the same keys
    row = int(page.locator("input.at").nth(0).input_value())
    page.keyboard.press("ArrowDown")
    assert page.locator("input.at").nth(0).input_value() == str(row + 1)


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["1280", "390"])
def test_nothing_is_wider_than_the_window(
    seen: Seen, run: Path, tmp_path: Path, viewport: dict[str, int]
) -> None:
    seen.open(run / "report.html", viewport)
    seen.page.locator("details.specimen summary").first.click()
    seen.view()
    seen.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen.until(
        "document.querySelectorAll('.viewer').length ="
        "= document.querySelectorAll('.viewer[data-ready=yes]').length"
    )
    assert seen.overflow() <= 0
    picture = tmp_path / f"report-{viewport['width']}.png"
    seen.page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 50_000


# ---- a cohort of many


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of 500 specimens, ten of which failed; pages of only the first and the last."""
    out = tmp_path_factory.mktemp("many") / "out"
    names = [f"S{i:03d}" for i in range(MANY)]
    small = (16, 20)
    for i in (0, MANY - 1):
        exported.specimen(str(out), names[i], i + 1, small, MZ)
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    thumbnail = encoded(Image.fromarray(noise), "JPEG", 82)
    ledger = Ledger(str(out))
    for i, name in enumerate(names):
        bad = i in FAILED
        words = {"reason": f"{name}.svs: <tag> will not open"} if bad else {}
        ledger.write("ingest", name, "d", "failed" if bad else "done", **words)
        if not bad:
            write_bytes(str(out / html.THUMBNAILS.format(name)), thumbnail)
            (out / "predictions.zarr" / name).mkdir(parents=True, exist_ok=True)
            (out / "predictions.zarr" / name / "mz").mkdir(exist_ok=True)
    write_bytes(str(out / "metrics.csv"), _metrics(names).to_csv(index=False).encode())
    document = {"specimens": names, "patients": {n: f"P{n[1:]}" for n in names}}
    write_json(str(out / "run.json"), document)
    write_report(str(out), pages=False)
    html.write_page(str(out), names[0])
    return out


def test_an_index_of_500_is_small_and_quick(seen: Seen, many: Path, tmp_path: Path) -> None:
    assert (many / "report.html").stat().st_size < 5e6
    seen.open(many / "report.html")
    page = seen.page
    assert "500 specimens: 490 done, 10 failed" in page.locator("body").inner_text()
    assert page.locator(".plot[data-drawn=yes]").count() >= 3
    page.screenshot(path=tmp_path / "index-1280.png")
    page.set_viewport_size(NARROW)
    assert seen.overflow() <= 0
    page.screenshot(path=tmp_path / "index-390.png")
    assert [r for r in seen.requests if r.startswith("file:")] == [
        (many / "report.html").as_uri()
    ]  # no specimen's page is loaded


def test_the_index_finds_sorts_and_opens(seen: Seen, many: Path) -> None:
    seen.open(many / "report.html")
    page = seen.page
    rows = page.locator("#specimen-list tbody tr:visible")
    shown = page.locator("#shown")
    assert shown.inner_text() == "500 of 500 shown"
    page.locator("#find").fill("p00")
    assert (rows.count(), shown.inner_text()) == (10, "10 of 500 shown")
    page.locator("#state").select_option("failed")
    assert rows.locator("a").all_inner_texts() == ["S007"]
    page.locator("#find").fill("")
    assert rows.count() == 10
    page.locator("#state").select_option("")
    head = page.locator("#specimen-list thead th", has_text="AUC, MSI")
    head.locator("button").press("Enter")
    assert rows.first.locator("a").inner_text() == f"S{MANY - 1}"  # the least
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert rows.first.locator("a").inner_text() == "S000"
    rows.first.locator("a").click()
    page.wait_for_selector("body[data-ready=yes] .viewer[data-ready=yes]")
    assert page.url.endswith("/report/S000.html")
    page.get_by_text("The whole cohort").click()
    page.wait_for_selector("#specimen-list")


def test_hostile_words_stay_words(seen: Seen, tmp_path: Path) -> None:
    """Were one of them run, the policy would log an error or the title would change."""
    bad = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    out = tmp_path / "out"
    exported.specimen(str(out), "A", 1, (16, 20), MZ)
    table = pd.DataFrame({"mz": MZ, "auc": 0.9, "effect": 1.0, "annotation": bad, "adduct": bad})
    write_bytes(str(out / "biomarkers.csv"), table.to_csv(index=False).encode())
    write_json(str(out / "run.json"), {"specimens": ["A"], "patients": {"A": bad}, "started": bad})
    write_report(str(out))
    seen.open(out / "report.html")
    seen.page.locator("details.specimen summary").first.click()
    seen.view()
    assert seen.page.title() == "msiscale report"
    assert "<img src=x" in seen.page.locator(".chosen").first.inner_text()
    assert seen.page.locator("img[src=x]").count() == 0
