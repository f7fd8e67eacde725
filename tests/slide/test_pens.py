from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.morphology import remove_small_objects

from msiscale.grid import scaling, translation
from msiscale.simulate.artefacts import KINDS, soiled
from msiscale.simulate.render import bands, scanner
from msiscale.simulate.tissue import grow
from msiscale.slide import tissue
from msiscale.slide.pens import no_tissue
from msiscale.slide.reader import open_reader
from msiscale.slide.tissue import tissue_mask

MPP, MASK_MPP, MARGIN = 4.0, 8.0, 400.0  # µm
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module", params=[0, 1])
def phantom(request: pytest.FixtureRequest) -> tuple[NDArray[np.uint8], Mask]:
    """A simulated section with glass around it, and its tissue at 8 µm: wide lumina are none."""
    rng = np.random.default_rng(request.param)
    section, stain = grow(rng, (44, 50), 50.0)
    shape = int(44 * 50 + 2 * MARGIN) // 8 * 2, int(50 * 50 + 2 * MARGIN) // 8 * 2
    to_slide = translation(MARGIN / MPP, MARGIN / MPP) @ scaling(1 / MPP)
    image = np.concatenate(list(bands(section, stain, to_slide, shape, MPP, scanner(rng), rng)))
    wide = remove_small_objects(
        section.lumen & section.tissue, max_size=int(10_000 / section.step_um**2)
    )
    layer = (section.tissue & ~wide).astype(np.float32)
    step = MASK_MPP / section.step_um
    offset = (MASK_MPP / 2 - MARGIN) / section.step_um - 0.5
    size = (shape[0] // 2, shape[1] // 2)
    return image, ndimage.affine_transform(layer, [step, step], offset, size, order=1) > 0.5


def found(image: NDArray[np.uint8], folder: Path) -> Mask:
    Image.fromarray(image).save(folder / "slide.png")
    return tissue_mask(open_reader(folder / "slide.png", mpp=MPP))[0]


def overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_tissue_with_and_without_artefacts(
    phantom: tuple[NDArray[np.uint8], Mask], tmp_path: Path, kind: str | None
) -> None:
    image, true = phantom
    if kind is not None:
        image, opaque = soiled(image, MPP, kind, np.random.default_rng(5))
        if "pen" in kind:
            true = true & ~opaque[1::2, 1::2]
    assert overlap(found(image, tmp_path), true) > 0.95


def test_a_section_without_marks_loses_not_one_pixel(
    phantom: tuple[NDArray[np.uint8], Mask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _ = phantom
    mask = found(image, tmp_path)
    monkeypatch.setattr(tissue, "no_tissue", lambda smooth: np.zeros(smooth.shape[:2], bool))
    monkeypatch.setattr(tissue, "_without_edges", lambda mask: mask)
    assert (found(image, tmp_path) == mask).all()


@pytest.mark.parametrize(
    ("name", "mpp"),
    [
        ("slides/cmu-1-small-region.svs", None),
        ("slides/tcga-cr-7395-01a-01-ts1.svs", 0.25),
        ("registration/lung3/CD31.jpg", 3.48),
        ("registration/lung3/Cc10.jpg", 3.48),
        ("paired/roempp_mouse_bladder/optical.tif", 2.74),
    ],
)
def test_real_stains_are_no_ink(
    shared_data: Path, name: str, mpp: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not (shared_data / name).exists():
        pytest.skip(f"shared/data/{name} is not here")
    slide = open_reader(shared_data / name, mpp=mpp)
    mask, _ = tissue_mask(slide)
    monkeypatch.setattr(tissue, "no_tissue", lambda smooth: np.zeros(smooth.shape[:2], bool))
    monkeypatch.setattr(tissue, "_without_edges", lambda mask: mask)
    assert (tissue_mask(slide)[0] ^ mask).mean() < 1e-4


def test_a_section_all_blue_or_green_is_stained_so() -> None:
    rng = np.random.default_rng(0)
    for colour in ((60, 90, 200), (40, 150, 90)):
        pixels = np.full((200, 200, 3), 0.95, np.float32)
        texture = ndimage.gaussian_filter(rng.normal(size=(120, 120)), 1)[..., None]
        pixels[40:160, 40:160] = np.array(colour) / 255 * (1 + 0.5 * texture)
        assert not no_tissue(np.clip(pixels, 0, 1)).any()
