"""Predictions at the features' own cells are, averaged, those of the MSI grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder
from msiscale.features.extract import extract_block
from msiscale.grid import Block, Floats, translation
from msiscale.prediction.blocks import predict_features
from msiscale.prediction.grid import check_pixel, grid_of, group_means, onto_grid
from msiscale.prediction.model import load_model
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working

STRIDE, MPP = 32, 1.0


def predicted(model_url: str, slide: Path, shape: tuple[int, int], matrix: Floats) -> xr.Dataset:
    """What `predict_block` finds of one block, the whole slide being wanted."""
    model, whole = load_model(model_url), Block(0, shape[0], 0, shape[1])
    image = working(open_reader(slide), MPP)
    encoder = load_encoder("efficientnet-lite0")
    features, coverage = extract_block(image, matrix, whole, np.ones(shape, bool), encoder)
    pixel_um = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    found = predict_features(model, features, coverage, pixel_um)
    dims = ("y", "x", "component")
    arrays = {name: (dims[: v.ndim], v) for name, v in found.items()}
    return xr.Dataset(arrays, attrs={"matrix": matrix.tolist()})


@pytest.fixture(scope="module")
def fine(model_url: str, slide: Path) -> xr.Dataset:
    shape, matrix = grid_of(open_reader(slide), STRIDE * MPP)
    return predicted(model_url, slide, shape, matrix)


LINEAR = ("cancer_from_he_log_odds", "cancer_from_predicted_msi_log_odds", "predicted_scores")


def test_cells_averaged_are_the_prediction_of_the_msi_grid(
    fine: xr.Dataset, model_url: str, slide: Path
) -> None:
    shape, matrix = grid_of(open_reader(slide), 3 * STRIDE * MPP)
    coarse = predicted(model_url, slide, shape, matrix)
    assert float(coarse["coverage"].min()) < 1  # pixels partly off the slide are among them
    for name in LINEAR:
        values = coarse[name].values
        scale = np.nanstd(values)
        assert np.isfinite(values).all() and scale > 0.1
        np.testing.assert_allclose(
            onto_grid(fine, name, matrix, shape), values, rtol=0, atol=2e-5 * scale
        )


def test_so_it_is_through_a_registration_that_turns(
    fine: xr.Dataset, model_url: str, slide: Path
) -> None:
    turned = translation(250, 180) @ np.array([[80, -60, 0], [60, 80, 0], [0, 0, 1.0]])
    coarse = predicted(model_url, slide, (9, 8), turned)
    for name in LINEAR:
        values = coarse[name].values
        assert np.isfinite(values).sum() > values.size / 2
        found = onto_grid(fine, name, turned, (9, 8))
        np.testing.assert_allclose(found, values, rtol=0, atol=2e-5 * np.nanstd(values))
    probability = onto_grid(fine, "cancer_from_he", turned, (9, 8))
    other = coarse["cancer_from_he"].values  # the sigmoid is not linear, and need not agree
    assert np.nanmax(np.abs(probability - other)) > 1e-3


def test_what_was_not_predicted_does_not_count(fine: xr.Dataset) -> None:
    off = fine.copy(deep=True)
    name = "cancer_from_he_log_odds"
    off[name][0:3, 0:2] = np.nan
    shape, matrix = (2, 2), np.array([[96.0, 0, 48], [0, 96, 48], [0, 0, 1]])
    found = onto_grid(off, name, matrix, shape)
    values, weight = fine[name].values[:3, 2], fine["coverage"].values[:3, 2]
    assert found[0, 0] == pytest.approx(np.average(values, weights=weight), rel=1e-5)
    off[name][0:3, 0:3] = np.nan
    assert np.isnan(onto_grid(off, name, matrix, shape)[0, 0])


@pytest.mark.parametrize("pixel_um", [4.0, 7.0])
def test_a_grid_finer_than_the_features_is_refused(pixel_um: float) -> None:
    with pytest.raises(
        InputError, match=r"one value every 8 µm \(16 px of 0.5 µm\).*give 8 or more"
    ):
        check_pixel(pixel_um, 16, 0.5, 50.0)


def test_cells_the_training_and_all_coarser_grids_are_served() -> None:
    for pixel_um in (None, 8.0, 7.9, 50.0, 1000.0):  # a level may be 2 % finer than asked for
        check_pixel(pixel_um, 16, 0.5, 50.0)
    check_pixel(100.0, 32, 4.0, 100.0)  # the training's own, though finer than its cells
    with pytest.raises(InputError, match="positive"):
        check_pixel(-1.0, 16, 0.5, 50.0)


def test_finer_pixels_are_measured_in_groups_of_about_one_msi_pixel() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 70, 2)).astype(np.float32)
    features[:8, :9] = np.nan
    coverage = rng.uniform(0.5, 1, (64, 70)).astype(np.float32)
    assert group_means(features, coverage, 50.0, 50.0) is features
    assert group_means(features, coverage, 100.0, 50.0) is features
    found = group_means(features, coverage, 12.5, 50.0)  # 4 x 4
    np.testing.assert_array_equal(np.isnan(found), np.isnan(features))
    np.testing.assert_allclose(
        found[12:16, 8:12],
        np.broadcast_to(
            np.average(
                features[12:16, 8:12].reshape(-1, 2), axis=0, weights=coverage[12:16, 8:12].ravel()
            ),
            (4, 4, 2),
        ),
        rtol=1e-5,
    )
    partly = np.average(  # of the 4 x 4 group, what there is
        features[4:8, 9:12].reshape(-1, 2), axis=0, weights=coverage[4:8, 9:12].ravel()
    )
    np.testing.assert_allclose(found[5, 10], partly, rtol=1e-5)
