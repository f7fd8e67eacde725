"""What a page holds: exact places, bounded sizes, and what it starts from."""

from __future__ import annotations

import base64
import gzip
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from commands import msiscale
from PIL import Image

from msiscale.cohort import read_manifest
from msiscale.errors import InputError
from msiscale.grid import apply
from msiscale.pipeline.withdraw import withdraw
from msiscale.place import images, place, slides
from msiscale.place.content import content, start_of
from msiscale.registration import read_landmarks
from msiscale.report import write_report
from msiscale.slide.reader import open_reader
from msiscale.store import Ledger, StoredSpecimen

MOST = 15e6  # bytes of a page


def levels(found: dict[str, Any]) -> np.ndarray:
    """The images of a page, unpacked."""
    packed = found["packed"]
    ((name, dtype, shape, offset),) = packed["arrays"]
    assert (name, dtype) == ("levels", "uint8")
    raw = gzip.decompress(base64.b64decode(packed["data"]))
    width, height = found["msi"]["size"]
    step = found["msi"]["step"]
    flat = np.frombuffer(raw, np.uint8, int(np.prod(shape)), offset).reshape(shape)
    return flat.reshape(-1, -(-height // step), -(-width // step))


def decoded(picture: dict[str, Any]) -> np.ndarray:
    data = base64.b64decode(picture["uri"].split(",", 1)[1])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_every_specimen_has_a_page_and_the_list_names_them(pages) -> None:
    assert pages.placed.failed == {}
    assert [*pages.placed.pages] == ["S01", "S02", "S03"]
    text = Path(pages.placed.index).read_text()
    for name in pages.placed.pages:
        assert pages.page(name).stat().st_size < MOST
        assert f'href="{name}.html"' in text
    assert "refused" in text


def test_pages_start_from_what_is_known(pages) -> None:
    starts = {name: pages.content(name)["start"] for name in ("S01", "S02", "S03")}
    assert starts["S01"]["kind"] == "given" and starts["S02"]["kind"] == "found"
    for name in ("S01", "S02"):
        truth, at = pages.truth(name), [[0.0, 0.0], [21.0, 19.0]]
        miss = apply(np.array(starts[name]["matrix"]), at) - apply(truth, at)
        assert np.abs(miss).max() * 4 / 100 < 1
    table = pd.read_csv(pages.manifest, keep_default_na=False).set_index("specimen")
    given = np.hstack(read_landmarks(str(pages.manifest.parent / table.loc["S01", "landmarks"])))
    np.testing.assert_array_equal(pages.content("S01")["pairs"], given)
    assert starts["S03"]["kind"] == "refused" and "was refused" in starts["S03"]["says"]


def test_the_first_place_without_any_is_middle_on_middle(pages) -> None:
    specimen = next(s for s in read_manifest(str(pages.manifest)) if s.name == "S03")
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    stored = StoredSpecimen.of(str(pages.out), "S01")  # of which nothing was refused
    start, pairs = start_of(stored, specimen, slide, {})
    assert start["kind"] == "none" and pairs == []
    matrix = np.array(start["matrix"])
    height, width = slide.shape
    # pixels are centred on whole indices, the slide begins at 0
    np.testing.assert_allclose(apply(matrix, [10.5, 9.5]), [width / 2, height / 2])
    np.testing.assert_allclose(matrix[:2, :2], np.eye(2) * 100 / 4)


def test_a_refused_place_is_the_start(pages, tmp_path: Path) -> None:
    shutil.copytree(pages.out / "cohort.zarr" / "S03", tmp_path / "cohort.zarr" / "S03")
    stored = StoredSpecimen.of(str(tmp_path), "S03")
    matrix = [[25.0, 1.0, 30.0], [-1.0, 25.0, 40.0], [0.0, 0.0, 1.0]]
    stored = StoredSpecimen.of(str(tmp_path), "S03")
    import zarr

    group = zarr.open_group(stored.url, mode="r+")
    group.attrs["placement"] = {"why": "the images hardly agree", "matrix": matrix}
    specimen = next(s for s in read_manifest(str(pages.manifest)) if s.name == "S03")
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    start, _ = start_of(stored, specimen, slide, {"status": "failed"})
    assert start == {
        "matrix": matrix,
        "kind": "refused",
        "says": "the place that the images gave, which was refused: the images hardly agree",
    }


def test_images_are_those_of_the_cube(pages) -> None:
    found = pages.content("S01")
    shown, listed = levels(found), found["msi"]["images"]
    stored = StoredSpecimen.of(str(pages.out), "S01")
    cube, mz = np.asarray(stored.intensity[...]), stored.mz
    assert [i["kind"] for i in listed].count("ion") == min(24, len(mz))
    assert [i["kind"] for i in listed[:4]] == ["total", "mode", "mode", "mode"]
    for image, info in zip(shown, listed, strict=True):
        known = np.isfinite(cube[..., 0])
        np.testing.assert_array_equal(image == 255, ~known)
        if info["kind"] == "ion":
            values = cube[..., int(np.argmin(np.abs(mz - info["mz"])))]
            back = np.nanmax(values) * (image[known] / 254.0) ** 2
            np.testing.assert_allclose(back, values[known], atol=np.nanmax(values) / 100)


def test_the_ions_are_those_that_vary_most(pages) -> None:
    stored = StoredSpecimen.of(str(pages.out), "S01")
    roots = np.sqrt(np.asarray(stored.intensity[...]).reshape(-1, len(stored.mz)))
    best = np.argsort(-np.nanvar(roots.astype(float), axis=0), kind="stable")[:5]
    assert images.strongest(stored, 5) == sorted(best.tolist())


def test_a_large_msi_is_averaged_in_place() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 5, 2))
    values[:2, :2] = np.nan
    small = images.averaged(values, 2)
    assert small.shape == (4, 3, 2)
    assert np.isnan(small[0, 0]).all()
    np.testing.assert_allclose(small[1, 1], values[2:4, 2:4].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(small[3, 2], values[6, 4], rtol=1e-6)


def test_a_page_of_a_large_msi_is_bounded(pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "PIXELS", 120)
    monkeypatch.setattr(images, "BYTES", 900)
    stored = StoredSpecimen.of(str(pages.out), "S01")
    found = images.images(stored, 24)
    assert found["step"] == 2
    assert found["levels"].shape == (4 + images.FEWEST_IONS, 110)


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A slide of 6300 x 4200 with a coloured square on which pixels can be told."""
    image = np.full((4200, 6300, 3), 240, np.uint8)
    image[1000:1600, 2000:3200] = (180, 60, 120)
    path = tmp_path / "marked.tif"
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb")
    return path


def test_pictures_lie_exactly_where_they_say(marked: Path) -> None:
    slide = open_reader(str(marked), mpp=0.5)
    found = slides.pictures(slide)
    assert len(found) == 2  # the whole, and the tissue more finely
    for picture in found:
        shown = decoded(picture).astype(int)
        assert max(shown.shape) <= slides.WHOLE + 1
        red = shown[..., 1] < 150
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        edges = {
            "x": (columns[0], columns[-1] + 1),
            "y": (rows[0], rows[-1] + 1),
        }
        for axis, (low, high) in {"x": (2000, 3200), "y": (1000, 1600)}.items():
            step = picture[f"d{axis}"]
            there = [picture[axis] + edge * step for edge in edges[axis]]
            assert np.abs(np.subtract(there, (low, high))).max() <= step  # a pixel of the JPEG
    assert found[1]["dx"] < 0.5 * found[0]["dx"]
    whole = decoded(found[0])
    assert whole.shape[1] * found[0]["dx"] == pytest.approx(6300, abs=found[0]["dx"])


def test_a_picture_of_noise_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "noise.tif", noise, photometric="rgb")
    monkeypatch.setattr(slides, "BYTES", 40_000)
    (picture,) = slides.pictures(open_reader(str(tmp_path / "noise.tif"), mpp=1.0))
    assert len(base64.b64decode(picture["uri"].split(",", 1)[1])) <= 40_000
    assert picture["dx"] * decoded(picture).shape[1] == pytest.approx(1200, abs=picture["dx"])


def test_pages_are_not_made_again_for_nothing(pages, scheduler: str) -> None:
    before = {name: pages.page(name).stat().st_mtime_ns for name in pages.placed.pages}
    again = place(str(pages.manifest), str(pages.out), scheduler=scheduler)
    assert again.failed == {}
    assert {name: pages.page(name).stat().st_mtime_ns for name in before} == before


def test_one_specimen_by_the_command(pages, tmp_path: Path, scheduler: str) -> None:
    shutil.copytree(pages.out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "place")
    Ledger(str(tmp_path / "run")).forget("place", ["S01", "S02", "S03", "cohort"])
    words = ("--specimen", "S02", "--ions", "3", "--scheduler", scheduler)
    said = msiscale("place", pages.manifest, "--out", tmp_path / "run", *words)
    assert said.code == 0, said.err
    made = sorted(p.name for p in (tmp_path / "run" / "place").iterdir())
    assert made == ["S02.html", "index.html"]
    assert "index.html in a browser" in said.out
    said = msiscale("place", pages.manifest, "--out", tmp_path / "run", "--specimen", "S9")
    assert said.code == 1 and "no specimen 'S9' in it" in said.err


def test_the_report_links_to_the_page_and_withdrawal_deletes_it(pages, tmp_path: Path) -> None:
    out = Path(shutil.copytree(pages.out, tmp_path / "run"))
    report = Path(write_report(str(out))).read_text()
    assert '<a href="place/S01.html">Place S01 by hand</a>' in report
    withdraw(str(out), ["S03"])
    assert not (out / "place" / "S03.html").exists()
    assert not (out / "place" / "index.html").exists()
    assert (out / "place" / "S01.html").exists()
    assert "S03.html" not in Path(write_report(str(out))).read_text()


def test_the_list_of_pages_is_no_specimen(pages, tmp_path: Path, scheduler: str) -> None:
    table = pd.read_csv(pages.manifest, dtype=str, keep_default_na=False)
    table.loc[0, "specimen"] = "Index"
    for column in ("msi", "slide", "annotation", "landmarks"):
        table[column] = [str(pages.manifest.parent / v) if v else "" for v in table[column]]
    table.head(1).to_csv(tmp_path / "manifest.csv", index=False)
    found = place(str(tmp_path / "manifest.csv"), str(tmp_path / "run"), scheduler=scheduler)
    assert "rename the specimen" in found.failed["Index"]
    with pytest.raises(InputError, match="1 to 200"):
        place(str(tmp_path / "manifest.csv"), str(tmp_path / "run"), ions=0)


def test_names_and_files_are_words_only(pages) -> None:
    specimen = next(s for s in read_manifest(str(pages.manifest)) if s.name == "S01")
    found = content(StoredSpecimen.of(str(pages.out), "S01"), specimen, {}, ions=1)
    assert found["slide"]["file"] == Path(specimen.slide).name  # no folder of this machine
    assert str(pages.manifest.parent) not in pages.page("S01").read_text()
