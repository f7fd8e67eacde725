"""Landmark fits against known maps, and the lines for unusable ones."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import PixelSize, apply
from msiscale.registration import fit_landmarks, read_landmarks, read_matrix, write_matrix

SIZES = {"mpp": PixelSize(0.5, 0.5), "pixel_um": PixelSize(100.0, 100.0)}
POINTS = np.array([[2.0, 3.0], [40.0, 5.0], [38.0, 30.0], [4.0, 28.0], [20.0, 15.0]])


def rotation(degrees: float, scale: float, mirror: bool) -> np.ndarray:
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s, 500.0], [s, c, -80.0], [0, 0, 1]]) * [[scale], [scale], [1]]
    return matrix @ np.diag([-1.0, 1.0, 1.0]) if mirror else matrix


@given(st.floats(-360, 360), st.floats(5, 300), st.booleans(), st.sampled_from(["affine", "auto"]))
def test_exact_pairs_give_the_map_back(angle, scale, mirror, kind) -> None:
    truth = rotation(angle, scale, mirror)
    found = fit_landmarks(apply(truth, POINTS), POINTS, **SIZES, kind=kind)
    np.testing.assert_allclose(found.matrix, truth, atol=1e-6 * scale)
    assert found.residual_um < 1e-3


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, 37])
@pytest.mark.parametrize("mirror", [False, True])
def test_similarity_finds_turns_and_mirror_images(degrees: float, mirror: bool) -> None:
    truth = rotation(degrees, 200.0, mirror)
    found = fit_landmarks(apply(truth, POINTS), POINTS, **SIZES, kind="similarity")
    np.testing.assert_allclose(found.matrix, truth, atol=1e-6)
    assert found.record()["mirrored"] == int(mirror)


def test_affine_is_the_least_squares_solution_and_residuals_are_in_um_and_pixels() -> None:
    rng = np.random.default_rng(0)
    slide = apply(rotation(20, 200, False), POINTS) + rng.normal(0, 20, POINTS.shape)
    found = fit_landmarks(slide, POINTS, **SIZES)
    design = np.column_stack([POINTS, np.ones(len(POINTS))])
    expected, *_ = np.linalg.lstsq(design, slide, rcond=None)
    np.testing.assert_allclose(found.matrix[:2], expected.T, rtol=1e-9)
    distance = np.linalg.norm(apply(found.matrix, POINTS) - slide, axis=1) * 0.5
    assert found.residual_um == pytest.approx(np.sqrt((distance**2).mean()))
    assert found.residual_px == pytest.approx(found.residual_um / 100)
    assert found.left_out_um > found.residual_um


def test_a_swapped_pair_warns() -> None:
    slide = apply(rotation(0, 200, False), POINTS)
    slide[[0, 1]] = slide[[1, 0]]
    with pytest.warns(MsiscaleWarning, match="MSI pixels"):
        fit_landmarks(slide, POINTS, **SIZES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_landmarks(apply(rotation(0, 200, False), POINTS), POINTS, **SIZES)


@pytest.mark.parametrize(
    ("points", "word"), [(POINTS[:1], "1 landmark"), (np.repeat(POINTS[:1], 4, 0), "one line")]
)
def test_too_few_or_degenerate_landmarks(points: np.ndarray, word: str) -> None:
    with pytest.raises(InputError, match=word):
        fit_landmarks(points * 10, points, **SIZES)


def test_landmark_files(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("slide_x,slide_y,msi_x,msi_y\n1,2,3,4\n5,6,7,8\n")
    slide, msi = read_landmarks(str(path))
    assert slide.tolist() == [[1, 2], [5, 6]] and msi.tolist() == [[3, 4], [7, 8]]
    path.write_text("slide_x,slide_y,msi_x,msi_y\n1,2,3,four\n")
    with pytest.raises(InputError, match="row 2"):
        read_landmarks(str(path))
    path.write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="slide_x"):
        read_landmarks(str(path))


def test_matrix_files(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    truth = rotation(90, 200, True)
    path.write_text(write_matrix(truth))
    np.testing.assert_array_equal(read_matrix(str(path)).matrix, truth)
    path.write_text(json.dumps(truth.tolist()))
    np.testing.assert_array_equal(read_matrix(str(path)).matrix, truth)
    for bad in ("[[1,0],[0,1]]", "{}", "[[1,0,0],[0,0,0],[0,0,1]]", "nonsense"):
        path.write_text(bad)
        with pytest.raises(InputError, match=r"m\.json"):
            read_matrix(str(path))
