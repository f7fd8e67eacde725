"""The pages in a real Chromium: nothing fails, nothing is fetched, and clicks do what they say."""

from __future__ import annotations

import importlib.util
import io
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.resources import files
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
from msiscale.report.specimen import data_uri, encoded
from msiscale.report.thumbnails import PATH, SIDE_OF_MANY, Thumbnail, map_of
from msiscale.store import Ledger, write_bytes, write_json

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
    ),
]
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
VIEWPORTS = {"390": NARROW, "1400": WIDE, "2560": {"width": 2560, "height": 1300}}
MANY = 300
AT_FIRST = 12  # rows of the gallery
HEAP = 60e6  # bytes that the first screen of a large cohort may take
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAPER = (703, 1031)  # CSS pixels of A4 between margins of 12 mm
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

    def violations(self) -> list[str]:
        """What axe-core finds, with the first element of each."""
        if self.page.evaluate("typeof axe") == "undefined":
            self.page.evaluate(axe())
        words = f"axe.run(document, {{ runOnly: {RULES} }})"
        found = self.page.evaluate(words)["violations"]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found]

    def saved(self, locator: Any) -> tuple[str, bytes]:
        """Name and content of the file that a button gives."""
        with self.page.expect_download() as download:
            locator.click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    def focus(self) -> str:
        return self.page.evaluate(
            "document.activeElement.className || document.activeElement.tagName"
        )


def axe() -> str:
    """The script of axe-core."""
    if importlib.util.find_spec("axe_playwright_python") is None:
        pytest.skip("axe-playwright-python is not installed")
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


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
    page.locator("#gallery a", has_text="B").click()
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
    for _ in range(18):  # each panel is a stop too, and what saves them
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


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", VIEWPORTS)
def test_nothing_is_wider_than_the_window(
    seen: Seen, run: Path, tmp_path: Path, width: str, theme: str
) -> None:
    """Screenshots of the report and of a specimen, to be looked at, at every width and theme."""
    seen.page.emulate_media(color_scheme=theme)
    seen.open(run / "report.html", VIEWPORTS[width])
    pictures = [tmp_path / f"{name}-{width}-{theme}.png" for name in ("report", "specimen")]
    seen.page.screenshot(path=pictures[0])
    seen.page.locator("details.specimen summary").first.click()
    seen.view()
    seen.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    seen.until(
        "document.querySelectorAll('.viewer').length ="
        "= document.querySelectorAll('.viewer[data-ready=yes]').length"
    )
    assert seen.overflow() <= 0
    seen.page.locator("details.specimen").first.screenshot(path=pictures[1])
    assert all(picture.stat().st_size > 30_000 for picture in pictures)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", ["390", "1400"])
def test_axe_finds_no_violation(seen: Seen, run: Path, width: str, theme: str) -> None:
    seen.page.emulate_media(color_scheme=theme)
    seen.open(run / "report.html", VIEWPORTS[width])
    assert seen.violations() == []
    seen.page.locator("details.specimen summary").first.click()
    seen.view()
    seen.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert seen.violations() == []


def test_axe_finds_nothing_on_the_page_of_a_specimen(seen: Seen, many: Path) -> None:
    seen.open(many / "report" / "S000.html")
    seen.view()
    assert seen.violations() == []


@pytest.mark.parametrize("width", ["390", "1400"])
def test_one_specimen_without_a_label_makes_sense(
    seen: Seen, alone_folder: Path, tmp_path: Path, width: str
) -> None:
    write_report(str(alone_folder))
    seen.open(alone_folder / "report.html", VIEWPORTS[width])
    said = seen.page.locator("main").inner_text()
    assert "nothing is known about another patient" in said
    assert "measured m/z" in said and "AUC from" not in said
    assert seen.page.locator("#gallery .tile").count() == 3
    assert seen.overflow() <= 0
    seen.page.screenshot(path=tmp_path / f"alone-{width}.png")
    assert seen.violations() == []


def test_every_section_has_a_link_of_its_own(seen: Seen, run: Path) -> None:
    seen.open(run / "report.html")
    page = seen.page
    heads = page.evaluate("[...document.querySelectorAll('main h2')].map((h) => h.id)")
    links = page.evaluate(
        "[...document.querySelectorAll('main h2 a.link')].map((a) => a.getAttribute('href'))"
    )
    assert heads and links == [f"#{name}" for name in heads]
    page.goto((run / "report.html").as_uri() + "#specimen-2")
    page.wait_for_selector("details.specimen[open] .viewer[data-ready=yes]")


def test_colours_can_be_chosen_and_are_kept(seen: Seen, run: Path) -> None:
    page, ground = seen.page, "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    seen.open(run / "report.html")
    light = page.evaluate(ground)
    button = page.locator("#theme")
    assert button.inner_text() == "Colours: system"
    button.press("Enter")
    button.press("Enter")
    assert button.inner_text() == "Colours: dark"
    dark = page.evaluate(ground)
    assert light == "rgb(255, 255, 255)" != dark
    words = (
        "Bokeh.documents[0].roots()[0].xaxis?.axis_label_text_color"
        " ?? Bokeh.documents[0].roots()[0].below[0].axis_label_text_color"
    )
    assert page.evaluate(words) == "#e8ecf2"  # plots follow
    seen.open(run / "report.html")
    assert page.evaluate(ground) == dark
    page.emulate_media(color_scheme="dark")
    button.press("Enter")
    assert button.inner_text() == "Colours: system" and page.evaluate(ground) == dark


def test_a_figure_is_kept_as_png_svg_and_csv(seen: Seen, run: Path) -> None:
    seen.open(run / "report.html")
    row = seen.page.locator("#gallery .row").first
    name, text = seen.saved(row.get_by_role("button", name="CSV of A"))
    assert name == "A.csv"
    table = pd.read_csv(io.BytesIO(text)).set_index(["row", "column"])
    truth = zarr.open_group(run / "predictions.zarr" / "A")
    for column, model in (("from MSI", "cancer_from_msi"), ("from H&E", "cancer_from_he")):
        known = np.argwhere(np.isfinite(np.asarray(truth[model])))
        assert len(known) == table[column].notna().sum()
        y, x = known[len(known) // 3]
        assert table[column][y, x] == pytest.approx(float(truth[model][y, x]), abs=0.0051)
    name, svg = seen.saved(row.get_by_role("button", name="SVG of A"))
    assert name == "A.svg" and svg.count(b"<image") == 4 and b"<path" in svg
    name, png = seen.saved(row.get_by_role("button", name="PNG of A"))
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG" and image.width > 4 * image.height > 400
    plot = seen.page.get_by_role("button", name="CSV of auc")
    _, text = seen.saved(plot)
    aucs = pd.read_csv(io.BytesIO(text))
    assert set(aucs["set"]) == {"from MSI", "from H&E", "from predicted MSI"}
    assert aucs.loc[aucs["set"] == "from MSI", "auc"].max() == pytest.approx(0.99)
    _, png = seen.saved(seen.page.get_by_role("button", name="PNG of auc"))
    with Image.open(io.BytesIO(png)) as image:
        assert len(image.convert("RGB").getcolors(1 << 20)) > 10
    seen.page.get_by_text("All metrics by specimen").click()
    _, text = seen.saved(seen.page.get_by_role("button", name="CSV of the table: By spec").first)
    assert text.startswith(b"specimen,cancer predicted,AUC")


def test_what_the_panels_show_is_kept_as_a_table(opened: Seen, run: Path) -> None:
    opened.click("cancer_from_he", 30, 50)
    buttons = opened.page.locator(".viewer").first.get_by_role("button")
    _, text = opened.saved(buttons.filter(has_text="CSV").first)
    table = pd.read_csv(io.BytesIO(text)).set_index(["row", "column"])
    truth = float(zarr.open_group(run / "predictions.zarr" / "A")["cancer_from_he"][30, 50])
    assert table["cancer from H&E"][30, 50] == pytest.approx(truth, abs=0.002)
    assert table["annotated cancer"][30, 50] == 1
    _, text = opened.saved(buttons.filter(has_text="CSV").last)
    spectra = pd.read_csv(io.BytesIO(text))
    measured = spectra.loc[spectra["spectrum"] == "measured", "mz"]
    np.testing.assert_allclose(np.sort(measured), MZ)
    assert set(spectra["spectrum"]) == {"measured", "predicted"}
    _, png = opened.saved(buttons.filter(has_text="PNG").first)
    with Image.open(io.BytesIO(png)) as image:
        assert image.width > 2 * image.height


def test_no_figure_is_cut_on_paper(seen: Seen, run: Path, tmp_path: Path) -> None:
    seen.open(run / "report.html")
    page = seen.page
    page.locator("details.specimen summary").first.click()
    seen.view()
    page.evaluate(
        "window.addEventListener('afterprint', () => { window.wasPrinted = window.shownPrinted; });"
        "window.addEventListener('beforeprint', () => { window.shownPrinted ="
        " document.querySelectorAll('.printed').length; })"
    )
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PAPER[0], "height": PAPER[1]})
    tall = page.evaluate(
        "[...document.querySelectorAll('figure, .row, .card')].filter((e) => e.offsetParent)"
        ".map((e) => [e.className, e.offsetHeight, getComputedStyle(e).breakInside])"
    )
    assert len(tall) > 5
    for name, height, cut in tall:
        assert height < PAPER[1], name
        assert cut == "avoid", name
    assert seen.overflow() <= 0
    for hidden in ("nav", ".save", "#theme", ".controls"):
        assert not page.locator(hidden).first.is_visible()
    page.emulate_media(media="screen")
    made = page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert made.startswith(b"%PDF")
    plots = page.locator(".plot").count() + 7  # panels of a specimen
    assert page.evaluate("window.wasPrinted") == plots > 0  # as pictures, which fit the paper
    assert page.locator(".printed").count() == 0


# ---- a cohort of many


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of 300 specimens, ten of which failed; pages of only the first and the last."""
    out = tmp_path_factory.mktemp("many") / "out"
    names = [f"S{i:03d}" for i in range(MANY)]
    small = (16, 20)
    for i in (0, MANY - 1):
        exported.specimen(str(out), names[i], i + 1, small, MZ)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (SIDE_OF_MANY, SIDE_OF_MANY, 3), dtype=np.uint8)
    slide = data_uri(encoded(Image.fromarray(noise), "JPEG", 82), "jpeg")
    y, x = np.mgrid[:SIDE_OF_MANY, :SIDE_OF_MANY] / SIDE_OF_MANY
    smooth = np.clip(np.sin(5 * x) * np.cos(4 * y) + rng.normal(0, 0.05, x.shape), 0, 1)
    models = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")
    maps = dict.fromkeys(models, map_of(smooth, 0.0, 1.0, "cividis"))
    size, around = SIDE_OF_MANY, "M10 10L40 12.5L44 40L9.5 36Z"
    thumbnail = Thumbnail(size, size, 4, slide, around, 100_000, 90.0, 0.02, 0.0, maps)
    ledger = Ledger(str(out))
    for i, name in enumerate(names):
        bad = i in FAILED
        words = {"reason": f"{name}.svs: <tag> will not open"} if bad else {}
        ledger.write("ingest", name, "d", "failed" if bad else "done", **words)
        if not bad:
            write_json(str(out / PATH.format(name)), asdict(thumbnail))
            (out / "predictions.zarr" / name).mkdir(parents=True, exist_ok=True)
            (out / "predictions.zarr" / name / "mz").mkdir(exist_ok=True)
    write_bytes(str(out / "metrics.csv"), _metrics(names).to_csv(index=False).encode())
    document = {"specimens": names, "patients": {n: f"P{n[1:]}" for n in names}}
    write_json(str(out / "run.json"), document)
    write_report(str(out), pages=False)
    html.write_page(str(out), names[0])
    return out


def test_an_index_of_300_is_small_and_quick(seen: Seen, many: Path, tmp_path: Path) -> None:
    page = seen.page
    metrics = page.context.new_cdp_session(page)
    metrics.send("Performance.enable")

    def heap() -> float:
        found = metrics.send("Performance.getMetrics")["metrics"]
        return next(m["value"] for m in found if m["name"] == "JSHeapUsedSize")

    page.set_viewport_size(WIDE)
    page.goto((many / "report.html").as_uri())
    page.wait_for_selector("body[data-first=yes]")
    assert page.locator("#gallery .row:visible").count() == AT_FIRST
    assert "300 specimens" in page.locator("#summary").inner_text()
    assert "294 done, 6 failed" in page.locator("#summary").inner_text()
    seen.until("document.body.dataset.ready === 'yes'")
    size, ready = (many / "report.html").stat().st_size, page.evaluate("performance.now()")
    entries = "['first-contentful-paint', 'first screen']"
    times = page.evaluate(
        f"{entries}.map((name) => performance.getEntriesByName(name)[0]?.startTime)"
    )
    print(f"{size / 1e6:.1f} MB, ms: {[*times, ready]}, heap {heap() / 1e6:.0f} MB")  # no bound
    assert size < 12e6
    assert heap() < HEAP
    assert page.locator(".plot[data-drawn=yes]").count() >= 3
    page.screenshot(path=tmp_path / "index-1400.png")
    page.set_viewport_size(NARROW)
    assert seen.overflow() <= 0
    page.screenshot(path=tmp_path / "index-390.png")
    assert [r for r in seen.requests if r.startswith("file:")] == [
        (many / "report.html").as_uri()
    ]  # no specimen's page is loaded


def test_the_gallery_finds_sorts_and_opens(seen: Seen, many: Path) -> None:
    seen.open(many / "report.html")
    page = seen.page
    rows = page.locator("#gallery .row:visible")
    shown = page.locator("#shown")
    assert shown.inner_text() == f"{AT_FIRST} of {MANY} shown"
    page.locator("#find").fill("p00")
    assert (rows.count(), shown.inner_text()) == (10, f"10 of {MANY} shown")
    page.locator("#state").select_option("failed")
    assert rows.locator(".name a").all_inner_texts() == ["S007"]
    assert "failed at ingest" in rows.first.inner_text()
    page.locator("#find").fill("")
    assert rows.count() == len(FAILED)
    page.locator("#state").select_option("")
    page.locator("#sort").select_option(label="AUC from MSI")
    assert rows.first.locator(".name a").inner_text() == f"S{MANY - 1}"  # the least
    turn = page.locator("#turn")
    turn.press("Enter")
    assert turn.inner_text() == "Highest first"
    assert rows.first.locator(".name a").inner_text() == "S000"
    page.locator("#more").press("Enter")
    assert rows.count() == MANY and not page.locator("#more").is_visible()
    rows.first.locator(".name a").click()
    page.wait_for_selector("body[data-ready=yes] .viewer[data-ready=yes]")
    assert page.url.endswith("/report/S000.html")
    page.get_by_text("The whole cohort").click()
    page.wait_for_selector("#gallery")


def test_the_table_of_specimens_sorts(seen: Seen, many: Path) -> None:
    seen.open(many / "report.html")
    page = seen.page
    page.get_by_text("The same as a table").click()
    rows = page.locator("#specimen-list tbody tr:visible")
    assert rows.count() == MANY
    head = page.locator("#specimen-list thead th", has_text="AUC from MSI")
    head.locator("button").press("Enter")
    assert rows.first.locator("a").inner_text() == f"S{MANY - 1}"
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").press("Enter")
    assert rows.first.locator("a").inner_text() == "S000"
    page.locator("#find").fill("s299")
    assert rows.locator("a").all_inner_texts() == ["S299"]


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
