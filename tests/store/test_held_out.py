"""Predicted and measured images of pixels that were held out, against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.export.layers import predicted_ions
from msiscale.export.source import open_run
from msiscale.grid import Block
from msiscale.store import HeldOut, Ledger, open_group, put

SHAPE, MZ, K = (70, 90), np.linspace(600, 700, 12), 3  # more than a cell each way
WANTED = slice(2, 9)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One specimen of which two folds held a half each, and nobody the frame."""
    folder = tmp_path_factory.mktemp("held")
    rng = np.random.default_rng(3)
    for store in ("cohort.zarr", "predictions.zarr"):
        open_group(str(folder / store), "a")
    cohort = open_group(str(folder / "cohort.zarr" / "A"), "a")
    cube = rng.gamma(2, 3, (*SHAPE, len(MZ))).astype(np.float32)
    put(cohort, "intensity", cube, ("y", "x", "mz"))
    put(cohort, "norm", np.ones(SHAPE, np.float32), ("y", "x"))
    put(cohort, "mz", MZ, ("mz",))
    open_group(str(folder / "predictions.zarr" / "A"), "a")
    group = open_group(str(folder / "predictions.zarr" / "A" / "spatial_blocks"), "a")
    fold = np.full(SHAPE, -1, np.int16)
    fold[3:, 4:40], fold[3:, 40:80] = 0, 1
    scores = rng.normal(size=(*SHAPE, K)).astype(np.float32)
    scores[fold < 0] = np.nan
    put(group, "fold", fold, ("y", "x"))
    put(group, "predicted_scores", scores, ("y", "x", "component"))
    for name, shape in (("components", (2, K, len(MZ))), ("mean", (2, len(MZ)))):
        dims = ("folds", "component", "mz") if len(shape) == 3 else ("folds", "mz")
        put(group, name, rng.normal(size=shape).astype(np.float32), dims)
    supported = np.ones((2, len(MZ)), bool)
    supported[1, 5] = False
    put(group, "supported", supported, ("folds", "mz"))
    put(group, "mz", MZ, ("mz",))
    for stage in ("ingest", "register", "fit"):
        Ledger(str(folder)).write(stage, "A", "d", "done")
    return folder


def by_hand(out: Path) -> tuple[np.ndarray, ...]:
    group = open_group(str(out / "predictions.zarr" / "A" / "spatial_blocks"))
    fold, scores = np.asarray(group["fold"]), np.asarray(group["predicted_scores"])
    image = np.full((*SHAPE, len(MZ)), np.nan)
    for y, x in np.argwhere(fold >= 0):
        k = fold[y, x]
        image[y, x] = scores[y, x] @ group["components"][k] + group["mean"][k]
    return fold, image


def test_images_are_those_of_the_fold_that_held_a_pixel_out(out: Path) -> None:
    held = HeldOut(str(out), "A", "spatial_blocks")
    assert held.exists and not HeldOut(str(out), "A").exists
    fold, image = by_hand(out)
    found = held.image(held.predicted(WANTED))
    np.testing.assert_allclose(found, image[..., WANTED], rtol=1e-5, atol=1e-5)
    cube = np.asarray(open_group(str(out / "cohort.zarr" / "A"))["intensity"])
    cube[fold < 0] = np.nan
    np.testing.assert_array_equal(held.image(held.measured(WANTED)), cube[..., WANTED])
    mean = np.asarray(held.stored.read("mean"))
    np.testing.assert_array_equal(held.constant(WANTED), mean[fold[fold >= 0], WANTED])
    np.testing.assert_allclose(held.spectrum(20, 60), image[20, 60], rtol=1e-5, atol=1e-5)
    assert held.supported.tolist() == [i != 5 for i in range(len(MZ))]


def test_an_export_reads_the_same_block_by_block(out: Path) -> None:
    (source,) = open_run(str(out)).sources
    layer = predicted_ions(source, [float(MZ[7]), float(MZ[5]), float(MZ[2])])
    assert layer is not None
    block = Block(0, 64, 30, 90)
    _, image = by_hand(out)
    expected = np.maximum(image[block.slices][..., [7, 5, 2]], 0)
    expected[..., 1] = np.nan  # one of the folds does not have it
    np.testing.assert_allclose(layer.read(block), expected, rtol=1e-5, atol=1e-5)
