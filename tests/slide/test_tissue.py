from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msiscale.slide.reader import open_reader
from msiscale.slide.tissue import off_slide, tissue_mask, tissue_pixels


def test_real_slides(shared_data: Path) -> None:
    slides = shared_data / "slides"
    mask, downsample = tissue_mask(open_reader(slides / "tcga-cr-7395-01a-01-ts1.svs", mpp=0.5))
    assert mask.shape == (223, 278) and downsample == (16.0, 16.0)
    assert 0.55 < mask.mean() < 0.70
    assert mask[150, 150] and not mask[:20, :150].any() and not mask[200:, :40].any()
    assert not mask[128, 175]  # the tear in the middle is no tissue
    mask, _ = tissue_mask(open_reader(slides / "cmu-1-small-region.svs"))
    assert 0.30 < mask.mean() < 0.45
    assert mask[120, 60] and mask[170, 90] and not mask[:150, :8].any()


def test_a_picture_that_is_all_tissue_is_not_split(shared_data: Path) -> None:
    mask, _ = tissue_mask(open_reader(shared_data / "slides/he_patch.png", mpp=0.5))
    assert mask.all()


def test_empty_glass_has_none() -> None:
    rng = np.random.default_rng(0)
    for white in (250, 240, 225):
        noise = np.clip(white + rng.normal(0, 3, (80, 90, 3)), 0, 255).astype(np.uint8)
        assert not tissue_pixels(noise).any()
    assert not tissue_pixels(np.zeros((9, 9, 3), np.uint8)).any()  # the scanner's black filling


def test_dust_goes_and_lumina_are_filled(tmp_path: Path) -> None:
    pixels = np.full((200, 200, 3), 245, np.uint8)
    pixels[50:150, 50:150] = (220, 150, 190)
    pixels[90:98, 90:98] = 245  # 64 x 64 µm
    pixels[110:140, 60:90] = 245  # 240 x 240 µm
    pixels[10:16, 10:16] = (120, 60, 160)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    mask, downsample = tissue_mask(open_reader(tmp_path / "a.png", mpp=8.0))
    assert downsample == (1.0, 1.0)
    assert mask[90:98, 90:98].all() and not mask[113:137, 63:87].any() and not mask[:40].any()
    assert abs(int(mask.sum()) - (100 * 100 - 30 * 30)) < 500


def test_a_black_canvas_is_no_slide_and_black_inside_is() -> None:
    pixels = np.full((60, 80, 3), 240, np.uint8)
    pixels[20:40, 20:60] = (150, 90, 180)
    pixels[28:32, 30:34] = 0  # ink within
    assert not off_slide(pixels).any()
    pixels[:, :10] = (3, 2, 5)
    pixels[50:] = 0
    found = off_slide(pixels)
    assert found[:, :11].all() and found[49:].all() and not found[:49, 11:].any()
    assert not tissue_pixels(pixels)[:, :9].any()


def test_the_canvas_of_a_real_turned_picture(shared_data: Path) -> None:
    folder = shared_data / "paired" / "roempp_mouse_bladder"
    if not folder.is_dir():
        pytest.skip("shared/data/paired is not here")
    slide = open_reader(folder / "optical_turned.png", mpp=3.043)
    pixels = slide.read(0, 0, 0, *slide.shape)
    found = off_slide(pixels)
    assert found[0, 0] and found[-1, -1] and not found[250, 500]
    assert 0.394 < found.mean() < 0.402  # 39.5 % are canvas, and a rim
    mask, _ = tissue_mask(slide)
    plain, _ = tissue_mask(open_reader(folder / "optical.tif", mpp=2.74))
    one, other = float(mask.sum()), float(plain.sum())  # both of pixels of 8 µm
    assert abs(one / other - 1) < 0.03
