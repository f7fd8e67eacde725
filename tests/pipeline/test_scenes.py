"""``#scene=N`` after a slide's name, from the manifest to the results."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from msiscale.cohort import read_manifest
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.pipeline.check import check
from msiscale.pipeline.context import identity
from msiscale.pipeline.twins import twins
from msiscale.slide.reader import open_reader
from msiscale.store import split_scene

CONFIG = RunConfig(encoder="own:small_encoder:small", mpp=4.0)


def test_the_fragment() -> None:
    assert split_scene("a/b.czi#scene=12") == ("a/b.czi", 12)
    assert split_scene("s3://a/b#1.tif") == ("s3://a/b#1.tif", None)
    for odd in ("0", "-1", "a", "", "1.5", "٣"):
        with pytest.raises(InputError, match="from 1"):
            split_scene(f"a.czi#scene={odd}")


@pytest.fixture
def scenes(copied: Path) -> Path:
    """The cohort with S01's slide in a file after a smaller image, and S02's own."""
    table = pd.read_csv(copied, dtype=str, keep_default_na=False).set_index("specimen")
    source = copied.parent / table.loc["S01", "slide"]
    slide = open_reader(source)
    pixels = slide.read(0, 0, 0, *slide.shape)
    size = {"resolution": (10_000 / slide.mpp.x, 10_000 / slide.mpp.y), "resolutionunit": 3}
    with tifffile.TiffWriter(source.with_name("two.tiff")) as file:
        for image in (pixels[: slide.shape[0] // 2], pixels):
            file.write(image, photometric="rgb", metadata=None, **size)
    table.loc["S01", "slide"] = str(source.with_name("two.tiff").relative_to(copied.parent))
    table.to_csv(copied)
    return copied


def named(manifest: Path, specimen: str, slide: str) -> None:
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False).set_index("specimen")
    table.loc[specimen, "slide"] = slide
    table.to_csv(manifest)


def test_check_says_which_image_and_the_manifest_chooses(scenes: Path) -> None:
    slide = pd.read_csv(scenes, dtype=str).set_index("specimen").loc["S01", "slide"]
    said = [n for n in check(str(scenes), CONFIG).notices if n.specimen == "S01"]
    (notice,) = [n for n in said if n.field == "slide"]
    assert "image 2 (" in notice.text and "#scene=1 is image 1" in notice.text
    named(scenes, "S01", f"{slide}#scene=2")
    checked = check(str(scenes), CONFIG)
    assert checked.problems == []
    assert not [n for n in checked.notices if n.specimen == "S01" and n.field == "slide"]
    named(scenes, "S01", f"{slide}#scene=3")
    assert any("has no image 3" in line for line in check(str(scenes), CONFIG).problems)
    named(scenes, "S01", f"{slide}#scene=x")
    assert "from 1" in read_manifest(str(scenes)).problems["S01"]
    named(scenes, "S01", f"{slide}x#scene=1")
    assert "correct the path" in read_manifest(str(scenes)).problems["S01"]


def test_scenes_are_other_slides(scenes: Path) -> None:
    slide = pd.read_csv(scenes, dtype=str).set_index("specimen").loc["S01", "slide"]
    path = str(scenes.parent / slide)
    assert identity(f"{path}#scene=1") != identity(f"{path}#scene=2")
    for a, b, same in (
        ("#scene=1", "#scene=2", 0),
        ("", "#scene=2", 1),
        ("#scene=2", "#scene=2", 1),
    ):
        named(scenes, "S01", slide + a)
        named(scenes, "S03", slide + b)
        assert len(twins(read_manifest(str(scenes))).problems) == same


def test_a_folder_of_dicom_is_known_by_what_it_holds(tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "scan"
    folder.mkdir()
    shutil.copyfile(shared_data / "slides/boxes_0.dcm", folder / "1.dcm")
    before = identity(str(folder))
    data = np.fromfile(folder / "1.dcm", np.uint8)
    data[-1] ^= 1
    data.tofile(folder / "1.dcm")
    assert identity(str(folder)) != before
