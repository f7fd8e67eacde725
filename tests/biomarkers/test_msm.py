from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from msiscale.biomarkers import msm
from msiscale.biomarkers.msm import score, spatial_coherence, spatial_correlation, spectral_match


def test_scores_are_metaspaces(shared_data: Path) -> None:
    golden = json.loads((shared_data / "msm" / "msm_golden.json").read_text())
    with np.load(shared_data / "msm" / "msm_golden.npz") as images:
        for entry in golden:
            found = score(images[f"im{entry['i']}"], images["theo"])
            # their sums are of float32
            assert found.chaos == pytest.approx(entry["chaos"], abs=1e-12)
            assert found.spatial == pytest.approx(entry["spatial"], abs=1e-12)
            assert found.spectral == pytest.approx(entry["spectral"], abs=1e-7)
            assert found.msm == pytest.approx(entry["msm"], abs=1e-7)
    assert len(golden) == 24


def _plainly(image: np.ndarray) -> float:
    """The measure of chaos as it is described, with SciPy's morphology, a level at a time."""
    counts = []
    for i in range(30):
        mask = image > image.max() * i / 30
        mask = ndimage.binary_dilation(mask, ndimage.generate_binary_structure(2, 1))
        mask = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=1)
        counts.append(ndimage.label(mask)[1])
    return 0.0 if not any(counts) else 1 - np.mean(counts) / (image > 0).sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 14), st.integers(2, 14))
def test_chaos_is_as_described(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.poisson(1.0, (height, width)) * rng.random((height, width))
    if not image.any():
        image[0, 0] = 1
    assert spatial_coherence(image) == pytest.approx(_plainly(image), abs=1e-12)


def test_levels_cut_into_parts_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((20, 30))
    whole = spatial_coherence(image)
    monkeypatch.setattr(msm, "_CELLS", 700)
    assert spatial_coherence(image) == whole


def test_degenerate_images() -> None:
    theory = np.array([100.0, 40.0, 10.0])
    nothing = np.zeros((3, 5, 5))
    assert score(nothing, theory).msm == 0
    alone = nothing.copy()
    alone[0] = np.arange(25).reshape(5, 5)
    assert spatial_correlation(alone.reshape(3, -1), theory) == 0  # no isotopes
    one = nothing.copy()
    one[:, 2, 2] = 5
    assert spatial_correlation(one.reshape(3, -1), theory) == 0  # one pixel
    exact = np.stack([alone[0] * t for t in theory])
    assert spectral_match(exact[:1].reshape(1, -1), theory[:1]) == 0  # exactly 1 is degenerate
    against = np.stack([alone[0], alone[0].max() - alone[0], alone[0].max() - alone[0]])
    assert spatial_correlation(against.reshape(3, -1), theory) == 0  # clipped


def test_only_sampled_pixels_count_for_the_correlation() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((2, 6, 6))
    sampled = np.zeros((6, 6), bool)
    sampled[1:5, 1:5] = True
    images[:, ~sampled] = 0
    found = score(images, np.array([100.0, 50.0]), sampled)
    first, second = images[:, sampled]
    assert found.spatial == pytest.approx(max(0.0, np.corrcoef(first, second)[0, 1]))
