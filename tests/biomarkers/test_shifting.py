from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats

from msiscale.biomarkers.association import rank_auc
from msiscale.biomarkers.shifting import LEAST, moved_auc, moved_labels, spread_and_chance


def _smooth(rng: np.random.Generator, length: float) -> np.ndarray:
    return ndimage.gaussian_filter(rng.standard_normal((60, 60)), length)[15:45, 15:45]


def _specimen(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:30j, -1:1:30j]
    tissue = x**2 + y**2 < 0.9
    label = _smooth(rng, 3)
    return tissue, tissue & (label > np.quantile(label[tissue], 0.8))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_places_keep_the_annotation_whole_or_mostly(seed: int, shifts: int) -> None:
    tissue, cancer = _specimen(seed)
    labels = moved_labels(cancer, tissue, shifts, seed=seed)
    np.testing.assert_array_equal(labels[0], cancer[tissue])
    sizes = labels.sum(axis=1)
    assert len(labels) == shifts + 1
    assert (sizes >= LEAST * sizes[0]).all()
    assert (sizes <= sizes[0]).all()
    assert len(np.unique(labels, axis=0)) == len(labels)
    np.testing.assert_array_equal(labels, moved_labels(cancer, tissue, shifts, seed=seed))


def test_a_whole_rectangle_keeps_every_pixel_of_the_annotation() -> None:
    cancer = np.zeros((6, 7), bool)
    cancer[1:3, 2:5] = True
    labels = moved_labels(cancer, np.ones((6, 7), bool), 10_000)
    assert len(labels) > 6 * 7 / 2
    assert (labels.sum(axis=1) == 6).all()


def test_one_class_has_no_place_to_go() -> None:
    tissue, cancer = _specimen(0)
    for alone in (cancer & ~cancer, tissue):
        assert moved_labels(alone, tissue, 50).shape == (1, tissue.sum())


def test_all_m_z_and_places_at_once_are_the_aucs_one_by_one() -> None:
    rng = np.random.default_rng(0)
    tissue, cancer = _specimen(1)
    labels = moved_labels(cancer, tissue, 20)
    values = rng.integers(0, 5, (9, int(tissue.sum()))).astype(np.float32)  # many ties
    auc = moved_auc(values, labels)
    for i, label in enumerate(labels):
        np.testing.assert_allclose(auc[i], rank_auc(values, label), atol=1e-6)
    np.testing.assert_array_equal(moved_auc(values[3:5], labels[:7]), auc[:7, 3:5])


def test_a_smooth_annotation_on_smooth_images_is_not_taken_for_an_effect() -> None:
    """Where the test of pixels rejects nearly always, the moved annotation rejects at its rate."""
    own, pixels, spreads = [], [], []
    for seed in range(50):
        rng = np.random.default_rng(1000 + seed)
        tissue, cancer = _specimen(seed)
        images = np.stack([_smooth(rng, 3)[tissue] for _ in range(8)])
        labels = moved_labels(cancer, tissue, 100, seed=seed)
        auc = moved_auc(images, labels)
        sd, p = spread_and_chance(auc)
        own.append(p)
        pixels.append(stats.mannwhitneyu(images[:, labels[0]], images[:, ~labels[0]], axis=1)[1])
        spreads.append((auc[0] - 0.5) / sd)
    assert np.mean(np.concatenate(pixels) < 0.05) > 0.5
    assert np.mean(np.concatenate(own) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.std(np.concatenate(spreads)) == pytest.approx(1, abs=0.2)


def test_a_real_effect_stands_out() -> None:
    rng = np.random.default_rng(5)
    tissue, cancer = _specimen(3)
    labels = moved_labels(cancer, tissue, 200)
    image = cancer[tissue] + 0.3 * rng.standard_normal((1, int(tissue.sum())))
    sd, p = spread_and_chance(moved_auc(image, labels))
    assert p[0] == pytest.approx(1 / len(labels))
    assert 0 < sd[0] < 0.25


def test_too_few_places_tell_nothing() -> None:
    sd, p = spread_and_chance(np.full((5, 3), 0.6, np.float32))
    assert np.isnan(sd).all()
    assert np.isnan(p).all()
