"""Reference ions as a divisor, and the transforms: what they are, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.config import RunConfig, load_config
from msiscale.errors import InputError
from msiscale.grid import Block, blocks
from msiscale.msi import open_source
from msiscale.msi.cube import bin_spectra, cube_block
from msiscale.msi.normalisation import (
    TRANSFORMS,
    UNITS,
    Scaling,
    inverse_transform,
    normalisation,
)

AXIS = np.array([150.0, 281.2, 400.0, 505.5, 760.6])
WHOLE = Block(0, 3, 0, 4)


@pytest.fixture
def image(write):
    """3 x 4 pixels, processed; pixel 5 lacks both references, pixel 6 has one, twice."""
    rng = np.random.default_rng(2)
    xy = [(x, y) for y in range(1, 4) for x in range(1, 5)]
    spectra = []
    for i in range(12):
        mz = AXIS * (1 + 1e-6 * rng.uniform(-2, 2, 5))
        value = rng.integers(1, 1000, 5).astype(np.float32)
        if i == 5:
            mz, value = mz[[0, 2, 3]], value[[0, 2, 3]]
        if i == 6:
            mz = np.array([150.0, 281.2, 281.2002, 400.0])
            value = np.array([5, 30, 12, 8], np.float32)
        spectra.append((mz, value))
    return write(xy=xy, spectra=spectra)


def by_hand(image, reference: tuple[float, ...]) -> np.ndarray:
    out = []
    for mz, value in image.spectra:
        near = np.zeros(len(mz), bool)
        for ion in reference:
            near |= np.abs(mz / ion - 1) <= 5e-6
        out.append(value[near].sum() if near.any() else np.nan)
    return np.array(out, np.float32).reshape(3, 4)


@pytest.mark.parametrize("reference", [(281.2,), (760.6, 281.2), (281.2, 281.2)])
def test_the_divisor_is_the_summed_intensity_of_the_reference_ions(image, reference) -> None:
    source = open_source(str(image.path))
    axis = AXIS[[0, 2]]  # not on the axis: they are looked for in the spectrum as measured
    values, factor = cube_block(source, axis, WHOLE, normalise="reference", reference_mz=reference)
    expected = by_hand(image, reference)
    np.testing.assert_array_equal(factor, expected)
    raw, _ = cube_block(source, axis, WHOLE)
    np.testing.assert_array_equal(values, raw / expected[..., None])
    assert np.isnan(factor[1, 1]) and np.isnan(values[1, 1]).all()  # not measured, never 0 or inf
    assert np.isfinite(values[np.isfinite(expected)]).all()
    assert factor[1, 2] == (42 if 281.2 in reference else 0)


def test_a_reference_that_is_nowhere_leaves_nothing(image) -> None:
    source = open_source(str(image.path))
    values, factor = cube_block(source, AXIS, WHOLE, normalise="reference", reference_mz=(333.0,))
    assert np.isnan(values).all() and np.isnan(factor).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("normalise", ["none", "tic", "reference"])
def test_ragged_and_shared_axes_give_the_same_bits_in_any_blocks(
    write, normalise, transform, monkeypatch
) -> None:
    rng = np.random.default_rng(3)
    mz = np.sort(np.concatenate([AXIS * (1 + s * 1e-6) for s in (-3, 0, 2)]))
    xy = [(x, y) for y in range(1, 4) for x in range(1, 5)]
    spectra = [(mz, rng.random(len(mz)).astype(np.float32)) for _ in xy]
    spectra[4] = (mz, np.zeros_like(spectra[4][1]))
    options = {"normalise": normalise, "transform": transform}
    if normalise == "reference":
        options["reference_mz"] = (281.2, 505.5)
    found = []
    for mode in ("processed", "continuous"):
        source = open_source(str(write(mode, xy=xy, spectra=spectra, mode=mode).path))
        whole = cube_block(source, AXIS, WHOLE, **options)
        found.append(whole)
        monkeypatch.setattr("msiscale.msi.cube._CELLS", 7)
        for block in blocks(source.shape, (2, 3)):
            part = cube_block(source, AXIS, block, **options)
            for a, b in zip(part, whole, strict=True):
                np.testing.assert_array_equal(a, b[block.slices])
        monkeypatch.undo()
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert np.isnan(found[0][1][1, 0]) == (normalise != "none")


@pytest.mark.parametrize("normalise", ["none", "tic", "rms", "median", "reference"])
def test_transforms_are_of_the_normalised_intensity_in_the_stated_unit(image, normalise) -> None:
    source = open_source(str(image.path))
    options = {"normalise": normalise}
    if normalise == "reference":
        options["reference_mz"] = (281.2,)
    plain, factor = cube_block(source, AXIS, WHOLE, **options)
    for transform, function in (("log", np.log1p), ("sqrt", np.sqrt)):
        values, same = cube_block(source, AXIS, WHOLE, transform=transform, **options)
        np.testing.assert_array_equal(same, factor)
        assert values.dtype == np.float32
        exact = function(plain.astype(np.float64) / UNITS[normalise])
        np.testing.assert_allclose(values, exact, rtol=1e-6)
        back = inverse_transform(values, transform, UNITS[normalise])
        np.testing.assert_allclose(back, plain, rtol=1e-5)


def test_without_a_transform_the_numbers_are_those_of_the_division(image) -> None:
    source = open_source(str(image.path))
    spectra = source.read(np.arange(12))
    values, _ = cube_block(source, AXIS, WHOLE, normalise="tic")
    expected = bin_spectra(spectra, AXIS, 5.0) / normalisation(spectra, "tic")[:, None]
    np.testing.assert_array_equal(values.reshape(12, 5), expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=20),
    st.sampled_from(["log", "sqrt"]),
    st.sampled_from(sorted(UNITS)),
)
def test_transforms_keep_the_order_and_can_be_undone(values, transform, normalise) -> None:
    reference = (500.0,) if normalise == "reference" else ()
    scaling = Scaling(normalise, reference, transform)
    plain = np.sort(np.array([values], np.float32), axis=1)
    done = scaling.apply(plain, np.ones(1, np.float32))
    assert (np.diff(done) >= 0).all() and (done >= 0).all()
    back = inverse_transform(done, transform, scaling.unit)
    np.testing.assert_allclose(back, plain, rtol=1e-4, atol=1e-6 * scaling.unit)


def test_what_a_model_predicts_below_zero_is_no_intensity() -> None:
    np.testing.assert_array_equal(inverse_transform([-1.0, 0.0, np.nan], "log", 1), [0, 0, np.nan])
    np.testing.assert_array_equal(inverse_transform([-2.0, 3.0], "sqrt", 0.5), [0, 4.5])
    np.testing.assert_array_equal(inverse_transform([-2.0, 3.0], "none", 1), [-2, 3])
    with pytest.raises(ValueError, match="none, log, sqrt"):
        inverse_transform([1.0], "cube", 1)


def test_scalings_that_are_none() -> None:
    for words in (("max",), ("tic", (), "cube"), ("reference",), ("tic", (281.2,))):
        with pytest.raises(ValueError, match=r"none of|go with"):
            Scaling(*words)
    assert Scaling("tic").unit == 1 and Scaling("tic", (), "log").unit == 1e-4


def test_options(tmp_path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('normalise = "reference"\nreference_mz = [281.2, 505]\ntransform = "log"\n')
    config = load_config(str(path))
    assert (config.reference_mz, config.transform) == ((281.2, 505), "log")
    for words in (
        {"normalise": "reference"},
        {"reference_mz": (281.2,)},
        {"normalise": "reference", "reference_mz": (-1.0,)},
        {"recalibrate_ppm": 0.0},
    ):
        with pytest.raises(InputError, match=r"reference_mz|recalibrate_ppm"):
            RunConfig(**words)
