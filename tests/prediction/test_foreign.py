"""A slide unlike the training is flagged, one of its kind that was not trained on is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msiscale.features.encoders import load_encoder
from msiscale.features.extract import extract_block
from msiscale.grid import Block
from msiscale.models.joint import LinearMap
from msiscale.models.moments import Moments, leave_one_out, reciprocal
from msiscale.models.novelty import LEVELS, Limits, Novelty, foreign, histogram, pooled_quantiles
from msiscale.models.ridge import RidgePath
from msiscale.prediction.grid import grid_of
from msiscale.regridding import covered_by_half
from msiscale.simulate import simulate
from msiscale.slide.reader import open_reader
from msiscale.slide.tissue import tissue_mask
from msiscale.slide.working import working

pytestmark = pytest.mark.slow(reason="five slides, and three of them twice")
MPP, PIXEL = 4.0, 100.0


def features(path: Path) -> np.ndarray:
    """(y, x, channel) of a slide's tissue, as `predict_block` has them."""
    slide = open_reader(path, mpp=MPP)
    shape, matrix = grid_of(slide, PIXEL)
    whole = Block(0, shape[0], 0, shape[1])
    tissue = covered_by_half(*tissue_mask(slide), matrix, whole)
    image, encoder = working(slide, MPP), load_encoder("efficientnet-lite0")
    return extract_block(image, matrix, whole, tissue, encoder, window=512)[0]


def distribution(sums: Moments) -> Novelty:
    """As `FoldModel.maps` leads to it."""
    path = RidgePath.of(sums, least_scale=0.5)
    axes = reciprocal(path.scale)[:, None] * path.vectors
    return Novelty.of(LinearMap(axes, -(sums.mean_x @ axes), path.values))


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five phantom slides; the last also inverted and in another stain."""
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    simulate(folder, specimens=5, seed=3, pixels=(40, 44), mpp=MPP)
    slides = [folder / f"S0{i}.tiff" for i in range(1, 6)]
    slide = open_reader(slides[-1])
    pixels = slide.read(0, 0, 0, *slide.shape)
    grey = 255 - pixels.mean(axis=-1, keepdims=True)
    brown = (255 - grey * np.array([0.3, 0.8, 1.2])).clip(0, 255).astype(np.uint8)
    for name, image in (("inverted", 255 - pixels), ("brown", brown)):
        Image.fromarray(image).save(folder / f"{name}.png")
        slides.append(folder / f"{name}.png")
    return slides


def test_another_stain_and_inverted_colours_are_flagged(slides: list[Path]) -> None:
    *training, new, inverted, brown = map(features, slides)
    sums = [Moments.of(f[np.isfinite(f[..., 0])]) for f in training]
    counts: dict[str, list[np.ndarray]] = {"distance": [], "unexplained": []}
    for held_out, others in zip(training, leave_one_out(sums), strict=True):
        distance, unexplained = distribution(others).measure(held_out)
        counts["distance"].append(histogram(distance))
        counts["unexplained"].append(histogram(foreign(unexplained, 1.0)))
    found = []
    for parts in counts.values():
        units = {str(i): c for i, c in enumerate(parts)}
        levels = pooled_quantiles(units, {u: u for u in units}, [float(v) for v in LEVELS])
        found.append(dict(zip(LEVELS, levels, strict=True)))
    limits, novelty = Limits(*found, by="leave_one_patient_out"), distribution(Moments.merge(sums))

    def flagged(f: np.ndarray) -> float:
        unlike = limits.exceeded(*novelty.measure(f), 1.0)
        return float(unlike[np.isfinite(f[..., 0])].mean())

    shares = {name: flagged(f) for name, f in [("new", new), ("inv", inverted), ("brown", brown)]}
    assert shares["new"] < 0.25 and shares["brown"] > 0.5, shares
    assert shares["inv"] > 2 * shares["new"], shares
