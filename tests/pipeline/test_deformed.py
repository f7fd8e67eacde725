"""A slide that is deformed against its MSI: found, used by every stage, undone by `none`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from scipy import ndimage

from msiscale.grid import apply
from msiscale.pipeline import run
from msiscale.pipeline.verify import verify
from msiscale.placing import GridMap, indices, places
from msiscale.slide.reader import open_reader
from msiscale.store import StoredSpecimen

pytestmark = pytest.mark.usefixtures("shared_cluster")
NAME, MPP, UM = "S01", 4.0, 100.0
WORDS = {
    "mpp": MPP,
    "encoder": "stains",
    "window": 512,
    "stages": ("ingest", "register", "features"),
}


def truth(cohort: Path, shape: tuple[int, int]) -> GridMap:
    """Where the MSI truly lies on the deformed slide: a smooth wave of one pixel at most."""
    matrix = np.array(json.loads((cohort / "truth" / f"{NAME}.json").read_text())["matrix"])
    y, x = (np.linspace(0, 1, n + 1) for n in shape)
    wave = np.stack(
        [
            np.sin(2 * np.pi * y)[:, None] * np.sin(np.pi * x),
            np.sin(np.pi * y)[:, None] * np.sin(2 * np.pi * x),
        ],
        axis=-1,
    )
    return GridMap(matrix, 1.2 * wave)


@pytest.fixture(scope="module")
def deformed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GridMap]:
    """The manifest of one specimen whose slide is deformed, with its matrix; and the truth."""
    folder = tmp_path_factory.mktemp("deformed") / "cohort"
    shutil.copytree(cohort.parent, folder)
    table = pd.read_csv(folder / "manifest.csv", dtype=str).set_index("specimen").loc[[NAME]]
    (folder / f"{NAME}_matrix.json").write_text((folder / "truth" / f"{NAME}.json").read_text())
    table = table.drop(columns=["landmarks"]).assign(matrix=f"{NAME}_matrix.json", mpp=MPP)
    table.to_csv(folder / "manifest.csv")
    shape = zarr.open_group(folder / "truth" / f"{NAME}.zarr", mode="r")["tissue"].shape
    placing = truth(folder, shape)
    slide = open_reader(str(folder / f"{NAME}.tiff"), mpp=MPP)
    height, width = slide.shape
    old = slide.read(0, 0, 0, height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    straight = apply(np.linalg.inv(placing.matrix), np.stack([x, y], axis=-1))
    there = apply(placing.matrix, indices(placing, straight)) - 0.5
    new = [
        ndimage.map_coordinates(
            old[..., c], [there[..., 1], there[..., 0]], order=1, mode="nearest"
        )
        for c in range(3)
    ]
    tifffile.imwrite(
        folder / f"{NAME}.tiff", np.stack(new, axis=-1), photometric="rgb", tile=(256, 256)
    )
    return folder / "manifest.csv", placing


def test_it_is_found_used_and_undone(
    deformed: tuple[Path, GridMap], cohort: Path, tmp_path: Path
) -> None:
    manifest, placing = deformed
    plain, bent, straight = tmp_path / "plain", tmp_path / "bent", tmp_path / "straight"
    run(str(manifest), str(plain), **WORDS)
    found = run(str(manifest), str(bent), refine="bspline", **WORDS)
    assert not found.failed
    stored, without = (StoredSpecimen.of(str(out), NAME) for out in (bent, plain))
    assert "deformation" in stored and "deformation" not in without

    # nearer to the truth, over the tissue
    at = np.argwhere(stored.tissue)[:, ::-1]
    miss = [
        float(np.hypot(*(places(p, at) - places(placing, at)).T).mean() * MPP / UM)
        for p in (without.placing, stored.placing)
    ]
    assert miss[1] < 0.6 * miss[0], miss
    table = pd.read_csv(bent / "registration.csv").set_index("specimen")
    assert 0.2 < table.loc[NAME, "deformation_px"] < 1.2

    # and so are the features to those of the slide before it was deformed
    shutil.copytree(manifest.parent, tmp_path / "cohort")
    shutil.copy(cohort.parent / f"{NAME}.tiff", tmp_path / "cohort" / f"{NAME}.tiff")
    run(str(tmp_path / "cohort" / "manifest.csv"), str(straight), **WORDS)
    whole = StoredSpecimen.of(str(straight), NAME)
    arrays = [s.features[...] for s in (whole, without, stored)]
    known = np.logical_and.reduce([np.isfinite(a).all(axis=-1) for a in arrays])
    sizes = np.maximum(arrays[0][known].std(axis=0), 1e-6)
    off = [float(np.sqrt((((a - arrays[0])[known] / sizes) ** 2).mean())) for a in arrays[1:]]
    assert off[1] < 0.8 * off[0], off
    cancer = [np.nan_to_num(s.cancer) for s in (without, stored)]
    assert (cancer[0] != cancer[1]).any()  # the outlines lie on the slide
    assert (without.read("preview") != stored.read("preview")).any()

    # nothing is left to do, and nothing is missing
    before = {p: p.stat().st_mtime_ns for p in (bent / "cohort.zarr").rglob("c*") if p.is_file()}
    run(str(manifest), str(bent), refine="bspline", **WORDS)
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert not verify(str(bent)).damages
    shutil.rmtree(bent / "cohort.zarr" / NAME / "deformation")
    assert any("deformation" in str(p) for p in verify(str(bent)).damages)

    # without it all is as if it had never been there
    run(str(manifest), str(bent), **WORDS)
    again = StoredSpecimen.of(str(bent), NAME)
    assert "deformation" not in again
    np.testing.assert_array_equal(again.features[...], arrays[1])
    np.testing.assert_array_equal(again.cancer, without.cancer)
