"""Morphology of the phantom: shares, outlines, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from shapely.geometry import Polygon

from msiscale.simulate.cohort import fractions
from msiscale.simulate.tissue import Section, grow, mean_of_cells, outlines, raster_step

PIXELS, PIXEL_UM = (20, 22), 100.0


@pytest.fixture(scope="module", params=[0, 1, 2])
def section(request: pytest.FixtureRequest) -> Section:
    return grow(np.random.default_rng(request.param), PIXELS, PIXEL_UM)[0]


def test_step_divides_the_pixel_and_stays_bounded() -> None:
    for pixels, pixel_um in (((40, 44), 100.0), ((10, 10), 35.0), ((400, 500), 100.0)):
        step = raster_step(pixels, pixel_um)
        assert pixel_um / step == pytest.approx(round(pixel_um / step))
        cells = round(pixel_um / step)
        assert pixels[0] * pixels[1] * cells**2 < 40_000_000


def test_shares(section: Section) -> None:
    assert 0.65 < section.tissue.mean() < 0.9
    assert 0.12 < section.cancer.sum() / section.tissue.sum() < 0.37
    assert not (section.cancer & ~section.tissue).any()
    assert not (section.epithelium & section.lumen).any()
    assert not (section.epithelium & ~section.tissue).any()


def test_tumour_is_crowded_with_nuclei(section: Section) -> None:
    benign = section.tissue & ~section.cancer
    inside, outside = section.nuclei[section.cancer].mean(), section.nuclei[benign].mean()
    assert inside > 1.5 * outside > 0


def test_fractions_add_up(section: Section) -> None:
    maps = fractions(section, PIXELS)
    parts = maps["stroma"] + maps["epithelium"] + maps["tumour_epithelium"] + maps["lumen"]
    np.testing.assert_allclose(parts, maps["tissue"], atol=1e-6)
    assert all(m.shape == PIXELS and m.dtype == np.float32 for m in maps.values())
    assert float(maps["cancer"].sum()) == pytest.approx(
        section.cancer.sum() * (section.step_um / PIXEL_UM) ** 2, rel=1e-4
    )


def test_outlines_enclose_the_mask(section: Section) -> None:
    rings = outlines(section.cancer, section.step_um)
    assert all((ring[0] == ring[-1]).all() for ring in rings)
    area = sum(Polygon(ring).area for ring in rings)
    assert area == pytest.approx(section.cancer.sum() * section.step_um**2, rel=0.01)


def test_mean_of_cells() -> None:
    raster = np.arange(24, dtype=np.float64).reshape(4, 6)
    expected = [[raster[:2, :3].mean(), raster[:2, 3:].mean()]]
    np.testing.assert_allclose(mean_of_cells(raster, (2, 2))[:1], expected)


def test_null_has_no_tumour_morphology() -> None:
    ratios = []
    for seed in range(4):
        section, _ = grow(np.random.default_rng(seed), PIXELS, PIXEL_UM, tumour=False)
        benign = section.tissue & ~section.cancer
        assert section.cancer.any()
        ratios.append(section.nuclei[section.cancer].mean() / section.nuclei[benign].mean())
    assert 0.6 < np.mean(ratios) < 1.6
