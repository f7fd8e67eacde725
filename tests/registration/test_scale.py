"""Given registrations against the pixel sizes: right ones pass, others are told what they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiscale.cohort import Specimen
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import PixelSize, apply, scaling
from msiscale.pipeline import placement
from msiscale.registration import Registration, fit_landmarks, read_landmarks
from msiscale.registration.scale import Sizes, contradiction, nearly, scale_error

SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
SIZES = Sizes(PixelSize(0.42, 0.42), PixelSize(50.0, 50.0), (9000, 12000), (40, 60))


def right(sizes: Sizes, degrees: float = 20.0, mirror: bool = False, by: float = 1.0) -> np.ndarray:
    """MSI indices to level-0 pixels, `by` times too large."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ scaling(-1.0 if mirror else 1.0, 1.0)
    found = scaling(by / sizes.mpp.x, by / sizes.mpp.y) @ turn @ sizes.pixel_um.scaling
    if sizes.slide and sizes.msi:
        middle = apply(found, [(n - 1) / 2 for n in sizes.msi[::-1]])
        found[:2, 2] = np.array(sizes.slide[::-1]) / 2 - middle
    return found


@given(
    st.floats(0, 360),
    st.booleans(),
    st.tuples(st.floats(0.2, 4), st.floats(0.2, 4)),
    st.tuples(st.floats(5, 200), st.floats(5, 200)),
    st.floats(0.5, 1.5),
)
def test_a_map_is_refused_by_its_scale_alone(degrees, mirror, mpp, um, by) -> None:
    sizes = Sizes(PixelSize(*mpp), PixelSize(*um))
    matrix = right(sizes, degrees, mirror, by)
    np.testing.assert_allclose(sizes.stretches(matrix), by, rtol=1e-9)
    if abs(abs(by - 1) - 0.08) > 1e-6:
        assert (contradiction(matrix, sizes) is None) == (abs(by - 1) < 0.08)


UM = scaling(0.42, 0.42)
MEANT = [
    ("its slide coordinates were µm", UM @ right(SIZES)),
    ("its slide coordinates were mm", scaling(1e-3, 1e-3) @ UM @ right(SIZES)),
    *(
        (f"a level or copy at 1/{n}", scaling(1 / n, 1 / n) @ right(SIZES))
        for n in (2, 4, 8, 16, 32, 64)
    ),
    ("its MSI coordinates were µm", right(SIZES) @ scaling(1 / 50, 1 / 50)),
    ("both its coordinates were µm", UM @ right(SIZES) @ scaling(1 / 50, 1 / 50)),
    ("it took the slide to the MSI", np.linalg.inv(right(SIZES))),
    ("it took a copy of the slide at 1/4", np.linalg.inv(scaling(0.25, 0.25) @ right(SIZES))),
]  # fmt: skip


@pytest.mark.parametrize(("words", "matrix"), MEANT, ids=[words for words, _ in MEANT])
def test_what_the_numbers_may_mean_is_said(words: str, matrix: np.ndarray) -> None:
    said = contradiction(matrix, SIZES)
    assert said is not None and words in said and "stated as 50 x 50" in said
    assert "0.42 µm a slide pixel are stated, the MSI would need about " in said


def test_exchanged_axes_show_where_pixels_are_not_square_or_the_slide_is_long() -> None:
    oblong = Sizes(PixelSize(0.5, 0.5), PixelSize(50.0, 150.0))
    said = contradiction(right(oblong, 0.0) @ SWAP, oblong)
    assert said is not None and "x and y of the MSI were exchanged" in said
    long = Sizes(PixelSize(0.5, 0.5), PixelSize(50.0, 50.0), (3000, 20000), (28, 190))
    assert contradiction(right(long, 1.0), long) is None
    for matrix in (SWAP @ right(long, 1.0), right(long, 1.0) @ SWAP):
        said = contradiction(matrix, long)
        assert said is not None and "exchanged" in said and "lies on the slide" in said


def test_a_matrix_beside_the_slide() -> None:
    beside = right(SIZES)
    beside[0, 2] += 40000
    assert "nothing of the MSI lies on the slide" in str(contradiction(beside, SIZES))
    beside[0, 2] -= 40000 - 6000  # a part of it does
    assert contradiction(beside, SIZES) is None


def test_a_deviation_that_may_be_the_rounding_of_mpp_is_told() -> None:
    said = nearly(right(SIZES, by=1.05), SIZES)
    assert said is not None and "0.4 µm a slide pixel would fit where 0.42 are stated" in said
    assert nearly(right(SIZES, by=1.02), SIZES) is None
    assert nearly(right(SIZES) @ scaling(1.05, 0.95), SIZES) is None  # no mpp would mend it


@pytest.mark.filterwarnings("ignore:.*landmarks fit to")
def test_the_error_of_a_scale_is_that_of_repeated_fits() -> None:
    rng = np.random.default_rng(3)
    xy = rng.uniform(0, 30, (12, 2)) * [1, 0.3]
    truth = right(SIZES)
    stretches, told = [], []
    for _ in range(400):
        slide = apply(truth, xy) + rng.normal(0, 100, xy.shape)
        found = fit_landmarks(slide, xy, mpp=SIZES.mpp, pixel_um=SIZES.pixel_um, kind="affine")
        linear = (SIZES.mpp.scaling @ found.matrix @ np.linalg.inv(SIZES.pixel_um.scaling))[:2, :2]
        along = np.linalg.svd((xy - xy.mean(axis=0)) * 50)[2][-1]
        true = (SIZES.mpp.scaling @ truth @ np.linalg.inv(SIZES.pixel_um.scaling))[:2, :2]
        stretches.append((linear - true)[0] @ along)
        told.append(scale_error(xy, found.residual_um, SIZES.pixel_um))
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(np.std(stretches), rel=0.12)


@pytest.mark.filterwarnings("ignore:.*landmarks fit to")
@pytest.mark.parametrize("seed", range(6))
def test_landmarks_that_are_clicked_carelessly_are_not_refused(seed: int) -> None:
    """Few, near each other, off by half an MSI pixel: a stretch may be off by more than 8 %."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(10, 24, (6, 2))
    slide = apply(right(SIZES), xy) + rng.normal(0, 60, xy.shape)
    found = fit_landmarks(slide, xy, mpp=SIZES.mpp, pixel_um=SIZES.pixel_um)
    error = scale_error(xy, found.residual_um, SIZES.pixel_um)
    assert contradiction(found.matrix, SIZES, 0.08 + 2 * error) is None


def given_registration(one: Specimen, sizes: Sizes) -> Registration:
    """As of a slide whose coordinates count from its corner."""
    slide = SimpleNamespace(shape=sizes.slide, bounds=(0, 0), mpp=sizes.mpp)
    return placement.given(one, slide, sizes)  # type: ignore[arg-type]


def specimen(**files: str) -> Specimen:
    return Specimen("A", "a.imzML", "a.svs", "A", **files)


CASE = Sizes(PixelSize(0.499, 0.499), PixelSize(50.0, 50.0), (2967, 2220), (18, 18))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("lm_um.csv", "slide coordinates were µm"),
        ("lm_level2.csv", "level or copy at 1/4"),
        ("um.json", "slide coordinates were µm"),
        ("inverse.json", "it took the slide to the MSI"),
    ],
)
def test_the_cases_of_scale(shared_data: Path, file: str, words: str) -> None:
    path = shared_data / "cases" / "slides" / "registration_scale" / file
    if not path.is_file():
        pytest.skip("shared/data/cases is not here")
    column = "landmarks" if file.endswith(".csv") else "matrix"
    with pytest.raises(InputError, match=words):
        given_registration(specimen(**{column: str(path)}), CASE)


PAIRED = [
    ("msight_mouse_bladder", "matrix.json", 2.41, 25.0, (1920, 2560), (163, 274)),
    ("roempp_mouse_bladder", "matrix.json", 2.74, 10.0, (482, 904), (134, 260)),
    ("roempp_mouse_bladder", "matrix_turned.json", 3.04, 10.0, (558, 1042), (134, 260)),
]


@pytest.mark.parametrize(("folder", "file", "mpp", "um", "slide", "msi"), PAIRED)
def test_real_matrices_and_landmarks_pass(
    shared_data: Path, folder: str, file: str, mpp: float, um: float, slide, msi
) -> None:
    own = shared_data / "paired" / folder
    if not own.is_dir():
        pytest.skip("shared/data/paired is not here")
    sizes = Sizes(PixelSize(mpp, mpp), PixelSize(um, um), slide, msi)
    found = given_registration(specimen(matrix=str(own / file)), sizes)
    assert found.matrix.tolist() == json.loads((own / file).read_text())
    if file == "matrix.json":
        given_registration(specimen(landmarks=str(own / "landmarks.csv")), sizes)
    wrong = Sizes(PixelSize(0.17, 0.17), PixelSize(um, um), slide, msi)
    with pytest.raises(InputError, match=r"0\.17 µm a slide pixel are stated"):
        given_registration(specimen(matrix=str(own / file)), wrong)


def test_exchanged_columns_of_landmarks_are_seen_where_they_leave_the_picture(
    shared_data: Path, tmp_path: Path
) -> None:
    own = shared_data / "paired" / "msight_mouse_bladder"
    if not own.is_dir():
        pytest.skip("shared/data/paired is not here")
    slide_xy, msi_xy = read_landmarks(str(own / "landmarks.csv"))
    file = tmp_path / "swapped.csv"
    table = np.column_stack([slide_xy, msi_xy[:, ::-1]])
    np.savetxt(file, table, delimiter=",", header="slide_x,slide_y,msi_x,msi_y", comments="")
    sizes = Sizes(PixelSize(2.41, 2.41), PixelSize(25.0, 25.0), (1920, 2560), (163, 274))
    with pytest.raises(InputError, match="msi_x and msi_y were exchanged"):
        given_registration(specimen(landmarks=str(file)), sizes)


def test_a_rounded_mpp_warns_with_what_would_fit(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps(right(SIZES, by=1.06).tolist()))
    with pytest.warns(MsiscaleWarning, match=r"0\.3962 µm a slide pixel would fit"):
        given_registration(specimen(matrix=str(file)), SIZES)
