"""Built-in lists for recalibration: against METASPACE's tables, and what they may not do."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from msiscale.biomarkers import builtin_lipids
from msiscale.biomarkers.lock_masses import APART_PPM, LIPID_IONS, MATRICES, lock_masses
from msiscale.biomarkers.masses import ion_mz
from msiscale.errors import InputError
from msiscale.msi.calibration import estimate


@pytest.mark.parametrize(
    ("name", "table", "least"),
    [("dhb", "matrix_dhb_pos", 60), ("chca", "matrix_chca_pos", 20), ("9aa", "matrix_9aa_neg", 9)],
)
def test_matrix_ions_are_in_metaspaces_tables(shared_data, name, table, least) -> None:
    with (shared_data / "lipids" / f"{table}.csv").open() as file:
        known = np.array([float(row["mz"]) for row in csv.DictReader(file)])
    own = lock_masses(name, MATRICES[name][0])
    distance = np.abs(own[:, None] / known - 1).min(axis=1) * 1e6
    assert (distance < 0.1).sum() >= least
    assert not ((distance > 0.1) & (distance < 50)).any()  # nothing is nearly one of them


def test_ions_by_hand() -> None:
    assert np.abs(lock_masses("dhb", "+") - ion_mz("C7H4O3", "[M+H]+")).min() < 1e-6
    assert np.abs(lock_masses("chca", "positive") - 190.04987).min() < 1e-5
    assert np.abs(lock_masses("9aa", "-") - 193.07712).min() < 1e-5


@pytest.mark.parametrize("polarity", ["+", "-"])
def test_lipids_are_the_common_ones_and_apart(polarity) -> None:
    mz = lock_masses("lipids", polarity)
    assert len(mz) == LIPID_IONS and (np.diff(mz) / mz[1:] * 1e6 > APART_PPM).all()
    common = {"+": ("C42H82NO8P", "[M+H]+"), "-": ("C47H83O13P", "[M-H]-")}[polarity]
    assert np.abs(mz / ion_mz(*common) - 1).min() < 1e-9  # PC 34:1, PI 38:4


def test_lists_that_are_none() -> None:
    with pytest.raises(InputError, match="builtin:lipids, builtin:dhb"):
        lock_masses("sugar", "+")
    with pytest.raises(InputError, match=r"polarity \+ only"):
        lock_masses("dhb", "-")


def test_a_list_of_ions_that_are_not_there_is_seldom_believed() -> None:
    """Lipids lie on a comb of mass defects, so other ions of theirs agree on a wrong error."""
    listed, mass = lock_masses("lipids", "+"), builtin_lipids()["mass"].to_numpy()
    corrected = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        there = rng.choice(mass, rng.integers(100, 2000), replace=False)
        there = there + rng.choice([33.0335, 64.016, 44.998])  # adducts that the list has not
        there = there[~(np.abs(there[:, None] / listed - 1).min(axis=1) < 1e-5)]
        peaks = np.concatenate([there, rng.uniform(300, 1000, 300)])
        corrected += not estimate(peaks, listed).note
    assert corrected <= 4
