"""An ion that was absent from training, from ions of its class."""

from __future__ import annotations

import numpy as np
import pytest

from msiscale.biomarkers.absent import Chemistry, absent_image, likeness, weights_of
from msiscale.errors import InputError

PC = [Chemistry("PC", c, d) for c in (32, 34, 36, 38) for d in (0, 1, 2, 4)]
OTHERS = [Chemistry("SM ;O2", c, 1) for c in (34, 36, 42)]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("PC 34:1 [M+H]+", Chemistry("PC", 34, 1, "[M+H]+")),
        ("PC O-36:4 [M+Na]+", Chemistry("PC O-", 36, 4, "[M+Na]+")),
        ("SM 34:1;O2 [M+H]+", Chemistry("SM ;O2", 34, 1, "[M+H]+")),
        ("TG(52:3)", Chemistry("TG", 52, 3)),
        ("SM 34:1;O2; PE-Cer 37:1;O2 [M+H]+", Chemistry("SM ;O2", 34, 1, "[M+H]+")),
    ],
)
def test_names_are_read(name: str, found: Chemistry) -> None:
    assert Chemistry.of(name) == found


@pytest.mark.parametrize("name", ["cholesterol [M+H]+", "", "PC"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="carbons and double bonds"):
        Chemistry.of(name)


def test_a_trained_ion_is_most_like_itself() -> None:
    kernel = likeness(PC + OTHERS, PC + OTHERS)
    assert np.array_equal(kernel, kernel.T) and (np.diag(kernel) == 1).all()
    assert (kernel[: len(PC), len(PC) :] == 0).all()
    assert (np.linalg.eigvalsh(kernel) > -1e-9).all()
    for i, ion in enumerate(PC):
        weights = weights_of(ion, PC + OTHERS)
        assert weights.argmax() == i and weights.sum() == pytest.approx(1)
        assert (weights[len(PC) :] == 0).all()


def test_a_class_without_neighbours_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"PE 34:1: no trained ion is of this class; the trained classes are PC, SM",
    ):
        weights_of(Chemistry("PE", 34, 1), PC + OTHERS)
    with pytest.raises(InputError, match="the trained classes are none"):
        weights_of(PC[0], [])


def test_an_image_that_changes_with_the_chain_is_found_between_its_neighbours() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 30, 20))
    trained = [Chemistry("PC", 34, d) for d in (0, 1, 3, 4)]
    turn = {d: np.cos(d / 3) * first + np.sin(d / 3) * second for d in range(5)}
    images = np.stack([(5 + d) * turn[d] + 3 for d in (0, 1, 3, 4)], axis=-1)
    images[0, 0] = np.nan
    found = absent_image(Chemistry("PC", 34, 2), trained, images)
    known = np.isfinite(found)
    assert known.sum() == 599
    r = np.corrcoef(found[known], turn[2][known])[0, 1]
    mean = np.corrcoef(absent_image(Chemistry("PC", 80, 9), trained, images)[known], turn[2][known])
    assert r > 0.97 and mean[0, 1] > 0.9
    still = np.concatenate([images, np.ones((30, 20, 1))], axis=-1)
    again = absent_image(Chemistry("PC", 34, 2), [*trained, PC[0]], still)
    assert np.isfinite(again[known]).all()
