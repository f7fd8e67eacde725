"""The pages in a real Chromium: what is clicked, typed and touched is what is saved and read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
import zarr
from placing import TABLET, WIDE, Seen

from msiscale.grid import PixelSize, apply
from msiscale.pipeline import run
from msiscale.registration import fit_landmarks, read_landmarks, read_matrix
from msiscale.slide.annotations import read_annotation

CORNERS = ([2.0, 2.5], [18.6, 3.0], [17.0, 16.4], [3.3, 15.0])
POLYGON = np.array([[150.0, 140.0], [420.0, 160.0], [400.0, 380.0], [170.0, 330.0]])


def off_px(matrix: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance of two placements over the MSI of the phantom, in its pixels of 100 µm."""
    at = np.stack(np.meshgrid(np.arange(22), np.arange(20)), axis=-1)
    return float(np.hypot(*np.moveaxis(apply(matrix, at) - apply(truth, at), -1, 0)).mean() * 0.04)


def copied(pages: Any, folder: Path) -> tuple[Path, Path]:
    """Cohort and run of one's own: the manifest and the results."""
    shutil.copytree(pages.manifest.parent, folder / "cohort")
    shutil.copytree(pages.out, folder / "run")
    return folder / "cohort" / "manifest.csv", folder / "run"


def given(manifest: Path, name: str, column: str, file: Path) -> None:
    """Put a saved file beside the manifest and its name into a column."""
    shutil.copy(file, manifest.parent)
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    table.loc[name, column] = file.name
    table.to_csv(manifest)


def test_eight_clicks_place_what_was_refused(
    seen: Seen, pages: Any, tmp_path: Path, scheduler: str
) -> None:
    table = pd.read_csv(pages.out / "registration.csv").set_index("specimen")
    assert table.loc["S03", "refused"] == 1
    seen.open(pages.page("S03"))
    truth = pages.truth("S03")
    assert off_px(seen.matrix, truth) > 1
    for i, corner in enumerate(CORNERS):  # in either order
        first = ("slide", apply(truth, corner)), ("msi", corner)
        for side, xy in first if i % 2 == 0 else first[::-1]:
            seen.click(side, side, xy)
    assert seen.run("app.state.complete.length") == 4
    assert off_px(seen.matrix, truth) < 0.3
    assert seen.page.locator(".verdict").inner_text() == "4 pairs: affine map, by least squares."
    shown = seen.matrix
    manifest, out = copied(pages, tmp_path)
    file = seen.download("landmarks", tmp_path)
    assert file.name == "S03_landmarks.csv"
    assert "column landmarks" in seen.page.locator(".saved").inner_text()
    given(manifest, "S03", "landmarks", file)
    result = run(str(manifest), str(out), stages=("register",), scheduler=scheduler)
    assert result.failed == {}
    table = pd.read_csv(out / "registration.csv").set_index("specimen")
    assert table.loc["S03", ["refused", "method", "landmarks"]].tolist() == [0, "affine", 4]
    found = np.array(zarr.open_group(out / "cohort.zarr" / "S03").attrs["matrix"])
    np.testing.assert_allclose(found, shown, rtol=1e-9, atol=1e-7)
    assert off_px(found, truth) < 0.3


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_fit_is_that_of_register(seen: Seen, pages: Any, n: int, mirrored: bool) -> None:
    seen.open(pages.page("S02"))
    rng = np.random.default_rng(n + 10 * mirrored)
    msi = rng.uniform(0, 300, (n, 2))
    sign = -1.0 if mirrored and n > 2 else 1.0
    matrix = np.array([[sign * 180.0, 31.0, 9000.0], [sign * -28.0, 205.0, 30000.0], [0, 0, 1]])
    slide = apply(matrix, msi) + rng.normal(0, 40, (n, 2))
    mpp, pixel = PixelSize(0.26, 0.25), PixelSize(60.0, 50.0)
    known = fit_landmarks(slide, msi, mpp=mpp, pixel_um=pixel)
    pairs = json.dumps(
        [{"slide": a, "msi": b} for a, b in zip(slide.tolist(), msi.tolist(), strict=True)]
    )
    found = seen.page.evaluate(
        f"""(() => {{
          const pairs = {pairs}, {{ fit }} = placing;
          const {{ kind, matrix, left }} = fit.fit(pairs, [0.25, 0.26], [50, 60]);
          const off = fit.residuals(matrix, pairs, [0.25, 0.26]);
          const rms = {{ rms: fit.rms(off), left_rms: fit.rms(left) }};
          return {{ kind, matrix, left: left.map(String), ...rms }};
        }})()"""
    )
    assert found["kind"] == known.method
    np.testing.assert_allclose(found["matrix"], known.matrix[:2], rtol=1e-9, atol=1e-9)
    assert found["rms"] == pytest.approx(known.residual_um, rel=1e-9, abs=1e-9)
    if n == 2:
        assert set(found["left"]) == {"NaN"} and np.isnan(known.left_out_um)
    else:
        assert found["left_rms"] == pytest.approx(known.left_out_um, rel=1e-9)


def test_what_register_refuses_gives_no_map(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S02"))
    line = [[float(i), 2.0 * i] for i in range(5)]
    pairs = json.dumps([{"slide": [a * 25, b * 25], "msi": [a, b]} for a, b in line])
    assert seen.run(f"placing.fit.fit({pairs}, app.mpp, [100, 100])") is None
    same = json.dumps([{"slide": [5, 5], "msi": [1, 1]}] * 3)
    assert seen.run(f"placing.fit.fit({same}, app.mpp, [100, 100])") is None


def test_figures_and_warnings_follow_every_change(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S01"))
    rows = seen.page.locator(".pairs tbody tr")
    n = len(pages.content("S01")["pairs"])
    assert rows.count() == n
    numbers = seen.page.locator(".numbers")
    before = numbers.inner_text()
    assert seen.page.locator(".warnings li").count() == 0
    slide, msi = seen.run("[app.state.now.pairs[0].slide, app.state.now.pairs[0].msi]")
    start = seen.at("slide", "slide", slide)
    seen.drag(start, (start[0] + 90, start[1] + 60))
    assert numbers.inner_text() != before
    moved = seen.run("app.state.now.pairs[0].slide")
    scale = seen.run("app.views.slide.k * app.mpp[0]")
    np.testing.assert_allclose(np.subtract(moved, slide), np.array([90, 60]) / scale, rtol=1e-6)
    assert seen.run("app.state.now.pairs[0].msi") == msi
    said = " ".join(seen.page.locator(".warnings li").all_inner_texts())
    assert "stretched" in said or "look at pair" in said
    seen.page.keyboard.press("Control+z")
    assert numbers.inner_text() == before
    seen.page.keyboard.press("Control+y")
    assert seen.run("app.state.now.pairs[0].slide") == moved
    seen.do("undo")
    assert numbers.inner_text() == before
    seen.page.get_by_label("delete pair 1", exact=True).click()
    assert rows.count() == n - 1


def test_a_scale_against_the_pixel_sizes_is_warned_of(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S02"))
    wide = apply(np.diag([1.2, 1.2, 1.0]) @ pages.truth("S02"), CORNERS)
    for slide, msi in zip(wide, CORNERS, strict=True):
        seen.run(f"(app.state.add('slide', {slide.tolist()}), app.state.add('msi', {msi}))")
    seen.run("app.refresh()")
    said = seen.page.locator(".warnings").inner_text()
    assert "4.00 µm a slide pixel are stated, this would need 3.3" in said


def test_turn_mirror_and_shift_the_msi_as_a_whole(seen: Seen, pages: Any, tmp_path: Path) -> None:
    seen.open(pages.page("S03"))
    if np.linalg.det(seen.matrix[:2, :2]) < 0:  # the place that was found
        seen.do("mirror")
    start, middle = seen.matrix, [10.5, 9.5]
    seen.page.locator("[data-set=step]").select_option("90")
    seen.do("right")
    about = apply(start, middle)
    np.testing.assert_allclose(apply(seen.matrix, middle), about)
    # y points down: to the right is clockwise, x to y
    one = apply(start, [11.5, 9.5]) - about
    np.testing.assert_allclose(
        apply(seen.matrix, [11.5, 9.5]) - about, [-one[1], one[0]], atol=1e-9
    )
    seen.do("left")
    np.testing.assert_allclose(seen.matrix, start, atol=1e-9)
    seen.do("mirror")
    np.testing.assert_allclose(apply(seen.matrix, [0, 4]), apply(start, [21, 4]), atol=1e-9)
    assert "mirror image" in seen.page.locator(".numbers").inner_text()
    mirrored = seen.matrix
    seen.use("move")
    here = seen.at("slide", "msi", middle)
    seen.drag(here, (here[0] + 40, here[1] - 25))
    k = seen.run("app.views.slide.k * app.mpp[0]")
    moved = apply(seen.matrix, middle) - apply(mirrored, middle)
    np.testing.assert_allclose(moved, np.array([40, -25]) / k, rtol=1e-6)
    before = seen.matrix
    seen.page.keyboard.down("Shift")
    there = seen.at("slide", "msi", middle)
    seen.drag((there[0] + 80, there[1]), (there[0], there[1] + 80))
    seen.page.keyboard.up("Shift")
    turn = seen.matrix[:2, :2] @ np.linalg.inv(before[:2, :2])
    np.testing.assert_allclose(turn, [[0, -1], [1, 0]], atol=0.02)
    file = seen.download("matrix", tmp_path)
    assert file.name == "S03_matrix.json"
    np.testing.assert_array_equal(read_matrix(str(file)).matrix, seen.matrix)
    # pairs on top of what was done by hand: a mirror image is kept with two of them
    for corner in ([3.0, 3.0], [17.0, 15.0]):
        slide = apply(seen.matrix, corner).tolist()
        seen.run(f"(app.state.add('slide', {slide}), app.state.add('msi', {corner}))")
    seen.run("app.refresh()")
    assert "Two pairs do not tell a mirror image" in seen.page.locator(".warnings").inner_text()


def test_all_by_keys(seen: Seen, pages: Any, tmp_path: Path) -> None:
    seen.open(pages.page("S03"))
    page, key = seen.page, seen.page.keyboard
    seen.canvas("slide").focus()
    assert "slide" in page.evaluate(
        "document.activeElement.getAttribute('aria-label').toLowerCase()"
    )
    middle = seen.run("app.panels.slide.toSlide(app.panels.slide.size.map((v) => v / 2))")
    key.press("n")
    for press in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        key.press(press)
    k = seen.run("app.views.slide.k * app.mpp[0]")
    at = np.array(middle) + np.array([2, 10]) / k
    np.testing.assert_allclose(seen.run("app.state.now.pairs[0].slide"), at, rtol=1e-9)
    assert "Pair 1: now click the same place in the MSI" in page.locator(".hint").inner_text()
    key.press("Tab")  # past the last point, on to the next panel
    assert page.evaluate("document.activeElement === document.querySelectorAll('canvas')[1]")
    key.press("n")
    key.press("ArrowUp")
    assert seen.run("app.state.complete.length") == 1
    key.press("n")
    key.press("Shift+ArrowLeft")
    assert seen.run("app.selected") == {"kind": "pair", "i": 1, "side": "msi"}
    key.press("Shift+Tab")
    assert seen.run("app.selected") == {"kind": "pair", "i": 0, "side": "msi"}
    key.press("Shift+Tab")  # before the first: back to the slide
    assert page.evaluate("document.activeElement === document.querySelector('canvas')")
    key.press("n")
    key.press("Shift+ArrowLeft")
    assert seen.run("app.state.complete.length") == 2
    key.press("Delete")
    assert seen.run("app.state.now.pairs.length") == 1
    key.press("Control+z")
    assert seen.run("app.state.now.pairs.length") == 2
    zoom = seen.run("app.views.slide.k")
    key.press("+")
    assert seen.run("app.views.slide.k") == pytest.approx(1.5 * zoom)
    key.press("-")
    key.press("o")
    assert seen.run("app.opacity") == pytest.approx(0.5)
    before = seen.matrix
    for press in ("g", "r", "m"):
        key.press(press)
    assert np.linalg.det(seen.matrix[:2, :2]) * np.linalg.det(before[:2, :2]) < 0
    key.press("Shift+ArrowRight")
    key.press("Control+z")
    key.press("d")
    for presses in (("n",), ("n", *("Shift+ArrowRight",) * 5), ("n", *("Shift+ArrowDown",) * 5)):
        for press in presses:
            key.press(press)
    key.press("Enter")
    assert seen.run("app.state.now.outlines.length") == 1
    page.locator("[data-save=landmarks]:not([data-choose])").focus()
    with page.expect_download() as waiting:
        key.press("Enter")
    waiting.value.save_as(tmp_path / "landmarks.csv")
    assert len(read_landmarks(str(tmp_path / "landmarks.csv"))[0]) == 2


def test_every_control_can_be_reached_and_has_a_name(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S02"))
    page = seen.page
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, input, select, canvas, summary')]"
        ".filter((e) => e.checkVisibility() && !e.disabled).length"
    )
    reached = set()
    for _ in range(wanted + 2):
        page.keyboard.press("Tab")
        shown = page.evaluate(
            """(() => {
              const e = document.activeElement, style = getComputedStyle(e);
              if (e === document.body) return null;
              const name = e.getAttribute("aria-label") || e.textContent.trim()
                || e.labels?.[0]?.textContent.trim();
              const kinds = "a, button, input, select, canvas, summary";
              const all = [...document.querySelectorAll(kinds)];
              return [all.indexOf(e), Boolean(name), style.outlineStyle];
            })()"""
        )
        if shown:
            reached.add(shown[0])
            assert shown[1] and shown[2] == "solid", shown
    assert len(reached) == wanted


CONTRAST = """(() => {
  const luminance = (c) => {
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    if (["SCRIPT", "OPTION", "OPTGROUP"].includes(e.tagName)) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(e).color).slice(0, 3)), luminance(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([e.outerHTML.slice(0, 80), ratio]);
  }
  return found;
})()"""


def test_text_has_contrast(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S01"))
    seen.page.locator("#keys summary").click()
    assert seen.page.evaluate(CONTRAST) == []
    seen.page.goto(Path(pages.placed.index).as_uri())
    assert seen.page.evaluate(CONTRAST) == []


def test_wheel_drag_and_pinch_move_both_panels(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S02"))
    seen.do("whole")
    k = seen.run("app.views.slide.k")
    xy = apply(pages.truth("S02"), [5.0, 5.0])
    here = tuple(round(v) for v in seen.at("msi", "slide", xy))
    seen.page.mouse.move(*here)
    seen.page.mouse.wheel(0, -300)
    seen.page.wait_for_timeout(200)
    assert seen.run("app.views.slide.k") > 1.3 * k and seen.run("app.views.msi === app.views.slide")
    np.testing.assert_allclose(
        seen.at("msi", "slide", xy), here, atol=1
    )  # it stays under the mouse
    before = seen.run("app.views.slide.x")
    seen.drag(here, (here[0] + 50, here[1]))
    assert seen.run("app.views.slide.x") < before
    assert seen.run("app.state.now.pairs.length") == 0  # a drag is no click
    seen.page.locator("[data-set=linked]").uncheck()
    k = seen.run("app.views.slide.k")
    seen.page.mouse.move(*here)
    seen.page.mouse.wheel(0, -300)
    seen.page.wait_for_timeout(200)
    assert seen.run("app.views.slide.k") == k and seen.run("app.views.msi.k") > k
    seen.page.locator("[data-set=linked]").check()
    seen.do("whole")
    k = seen.run("app.views.slide.k")
    box = seen.canvas("slide").bounding_box()
    cx, cy = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = seen.page.context.new_cdp_session(seen.page)

    def fingers(kind: str, *offsets: float) -> None:
        points = [{"x": cx + d, "y": cy, "id": i} for i, d in enumerate(offsets)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", -30)
    fingers("touchStart", -30, 30)
    for d in (40, 50, 60):
        fingers("touchMove", -d, d)
    fingers("touchEnd")
    assert seen.run("app.views.slide.k") == pytest.approx(2 * k, rel=0.05)
    assert seen.run("app.state.now.pairs.length") == 0
    seen.page.touchscreen.tap(cx, cy)
    assert seen.run("app.state.now.pairs.length") == 1


def test_one_panel_takes_both_points(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S02"))
    seen.page.locator("[data-set=overlay]").check()
    assert seen.canvas("msi").is_hidden()
    truth = pages.truth("S02")
    for corner in CORNERS[:3]:
        seen.click("slide", "slide", apply(truth, corner))
        seen.click("slide", "msi", corner)
    assert seen.run("app.state.complete.length") == 3
    assert off_px(seen.matrix, truth) < 0.3


def test_images_of_the_msi_can_be_chosen(seen: Seen, pages: Any) -> None:
    seen.open(pages.page("S01"))
    shown = seen.page.locator(".shown")
    pixels = "[...app.shown.getContext('2d').getImageData(0, 0, 22, 20).data].join()"
    assert shown.inner_text() == "total ion current"
    total = seen.run(pixels)
    ions = [i for i in pages.content("S01")["msi"]["images"] if i["kind"] == "ion"]
    box = seen.page.locator("[data-set=mz]")
    box.fill(f"{ions[5]['mz'] + 0.01}")
    box.press("Enter")
    assert shown.inner_text() == ions[5]["label"]
    one = seen.run(pixels)
    seen.page.locator("[data-set=image]").select_option("modes")
    three = seen.run(pixels)
    seen.page.locator("[data-set=image]").select_option(label="mode 1 of the MSI")
    seen.page.locator("[data-set=colours]").select_option("grey")
    assert len({total, one, three, seen.run(pixels)}) == 4


def outlined(seen: Seen) -> None:
    """Draw the polygon by clicks, and close it by a double click."""
    seen.use("outlines")
    for corner in POLYGON[:-1]:
        seen.click("slide", "slide", corner)
    x, y = seen.at("slide", "slide", POLYGON[-1])
    seen.page.mouse.dblclick(round(x), round(y))


def test_outlines_become_the_annotation(
    seen: Seen, pages: Any, tmp_path: Path, scheduler: str
) -> None:
    seen.open(pages.page("S02"))
    seen.do("whole")
    outlined(seen)
    step = 0.51 / seen.run("app.views.slide.k * app.mpp[0]")  # of half a pixel of the screen
    ring = np.array(seen.run("app.state.now.outlines[0].ring"))
    assert ring.shape == POLYGON.shape and np.abs(ring - POLYGON).max() <= step
    # a corner is dragged, and another outline of another class inside it
    start = seen.at("slide", "slide", ring[1])
    seen.drag(start, (start[0] + 20, start[1]))
    seen.page.locator("[data-set=class]").select_option("Benign")
    assert seen.run("app.state.now.outlines[0].name") == "Benign"  # the chosen one
    seen.page.locator("[data-set=class]").select_option("Tumor")
    seen.page.keyboard.press("Escape")
    file = seen.download("outlines", tmp_path)
    assert file.name == "S02.geojson"
    drawn = np.array(seen.run("app.state.now.outlines[0].ring"))
    manifest, out = copied(pages, tmp_path)
    (outline,) = read_annotation(file, (10_000, 10_000))
    assert outline.name == "Tumor"
    polygon = shapely.Polygon(drawn)
    assert outline.polygon.equals_exact(polygon, 0) or outline.polygon.equals(polygon)
    given(manifest, "S02", "annotation", file)
    result = run(str(manifest), str(out), stages=("register",), scheduler=scheduler)
    assert "S02" not in result.failed
    group = zarr.open_group(out / "cohort.zarr" / "S02")
    cancer, matrix = np.asarray(group["cancer"]), np.array(group.attrs["matrix"])
    area = np.nansum(cancer) * abs(np.linalg.det(matrix[:2, :2]))
    corners = apply(matrix, [[-0.5, -0.5], [21.5, -0.5], [21.5, 19.5], [-0.5, 19.5]])
    inside = polygon.intersection(shapely.Polygon(corners)).area
    assert inside > 0 and area == pytest.approx(inside, rel=1e-4)


def test_what_was_saved_is_opened_again(seen: Seen, pages: Any, tmp_path: Path) -> None:
    seen.open(pages.page("S02"))
    seen.do("whole")
    outlined(seen)
    seen.page.locator("[data-set=class]").select_option("")
    seen.page.locator("[data-set=own]").fill("Gleason 4")
    seen.page.locator("[data-set=own]").press("Enter")
    for corner in CORNERS:
        slide = apply(pages.truth("S02"), corner).tolist()
        seen.run(f"(app.state.add('slide', {slide}), app.state.add('msi', {corner}))")
    seen.run("app.refresh()")
    files = [seen.download(kind, tmp_path) for kind in ("landmarks", "matrix", "outlines")]
    now = seen.run("JSON.stringify([app.state.now.pairs, app.state.now.outlines])")
    assert "Gleason 4" in now
    matrix = seen.matrix
    seen.open(pages.page("S02"))
    box = seen.page.locator("input[type=file]")
    for file in (files[1], files[0], files[2]):
        box.set_input_files(file)
        seen.page.locator(".saved", has_text=f"{file.name} is open").wait_for()
    assert seen.run("JSON.stringify([app.state.now.pairs, app.state.now.outlines])") == now
    np.testing.assert_allclose(seen.matrix, matrix, rtol=1e-12)
    bad = tmp_path / "bad.csv"
    bad.write_text("slide_x,slide_y\n1,2\n")
    box.set_input_files(bad)
    seen.page.locator(".saved", has_text="it has no columns").wait_for()


PICKER = """window.written = [];
window.showSaveFilePicker = async ({ suggestedName }) => ({
  name: suggestedName,
  createWritable: async () => ({
    write: async (text) => { window.written.push(text); }, close: async () => {},
  }),
});"""


def test_a_folder_takes_the_file_where_the_browser_can(seen: Seen, pages: Any) -> None:
    seen.page.add_init_script(PICKER)
    seen.open(pages.page("S01"))
    button = seen.page.locator("[data-save=landmarks][data-choose]")
    assert button.is_visible()
    button.click()
    seen.page.locator(".saved", has_text="S01_landmarks.csv is saved").wait_for()
    (text,) = seen.page.evaluate("window.written")
    assert text == seen.run("placing.files.landmarks(app.state.complete, app.content.origin)")


@pytest.mark.parametrize("viewport", [WIDE, TABLET], ids=["1400", "820"])
def test_pages_fit_the_window(
    seen: Seen, pages: Any, tmp_path: Path, viewport: dict[str, int]
) -> None:
    width = viewport["width"]
    wider = "document.documentElement.scrollWidth - window.innerWidth"
    seen.open(pages.page("S01"), viewport)
    outlined(seen)
    seen.use("points")
    seen.page.screenshot(path=tmp_path / f"landmarks-{width}.png", full_page=True)
    assert seen.page.evaluate(wider) <= 0
    seen.open(pages.page("S03"), viewport)
    seen.page.screenshot(path=tmp_path / f"refused-{width}.png", full_page=True)
    seen.page.locator("[data-set=overlay]").check()
    seen.page.screenshot(path=tmp_path / f"overlay-{width}.png", full_page=True)
    assert seen.page.evaluate(wider) <= 0
    seen.page.goto(Path(pages.placed.index).as_uri())
    seen.page.screenshot(path=tmp_path / f"index-{width}.png", full_page=True)
    assert seen.page.evaluate(wider) <= 0
    for name in ("landmarks", "refused", "overlay"):
        assert (tmp_path / f"{name}-{width}.png").stat().st_size > 30_000
