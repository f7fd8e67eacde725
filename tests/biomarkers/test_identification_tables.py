"""From peaks to identified ions: candidates, scores, rates and flags, where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from msiscale.biomarkers.candidates import Candidates, candidates
from msiscale.biomarkers.classes import builtin_lipids
from msiscale.biomarkers.identification_tables import identification_tables
from msiscale.biomarkers.ion_scores import Peaks, score_ions
from msiscale.biomarkers.isotopes import isotope_pattern
from msiscale.biomarkers.masses import ADDUCTS, ion_counts, ion_mz
from msiscale.biomarkers.msm import score

SHAPE = (18, 20)
TRUE = [
    ("C42H82NO8P", "[M+H]+"),
    ("C42H82NO8P", "[M+K]+"),
    ("C44H80NO8P", "[M+H]+"),
    ("C39H79N2O6P", "[M+H]+"),
    ("C55H102O6", "[M+Na]+"),
    ("C41H78NO8P", "[M+H]+"),
]
STRAY = 650.123  # an ion without isotopes


def _table() -> pd.DataFrame:
    names = ("PC", "SM", "PE", "TG")
    every = builtin_lipids()
    return every[every["lipid_class"].isin(names)].iloc[::3].reset_index(drop=True)


def _lipids() -> pd.DataFrame:
    every = builtin_lipids()
    planted = every[every["formula"].isin([f for f, _ in TRUE])]
    return pd.concat([_table(), planted]).drop_duplicates("name", ignore_index=True)


def _peaks(seed: int) -> Peaks:
    """All isotopes of the ions of TRUE, an ion without any, and stray peaks; 0.5 ppm of error."""
    rng = np.random.default_rng(seed)
    parts = []
    ions = [isotope_pattern(ion_counts(f, ADDUCTS[a]) or {}, 1) for f, a in TRUE]
    spots = [(p.mz, p.intensity) for p in ions] + [(np.array([STRAY]), np.array([100.0]))]
    for mz, share in spots:
        field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2)
        image = 200 * np.exp(field / field.std() * 0.6).ravel()
        for at, height in zip(mz, share, strict=True):
            count = rng.poisson(image * height / 100)
            pixel = np.flatnonzero(count)
            error = 1 + 0.5e-6 * rng.standard_normal(pixel.size)
            parts.append(Peaks(at * error, pixel, count[pixel].astype(np.float32)))
    stray = rng.integers(0, SHAPE[0] * SHAPE[1], 3000)
    height = rng.exponential(5, stray.size).astype(np.float32)
    parts.append(Peaks(rng.uniform(480, 900, stray.size), stray, height))
    return Peaks.joined(parts)


def _read(peaks: Peaks, size: int = 500) -> Iterator[Peaks]:
    return (
        peaks.take(np.arange(i, min(i + size, len(peaks.mz))))
        for i in range(0, len(peaks.mz), size)
    )


def _axis() -> np.ndarray:
    mono = [ion_mz(f, a) for f, a in TRUE]
    return np.sort([*(m + 1.00335 * k for m in mono for k in range(3)), STRAY])


@pytest.fixture(scope="module")
def found() -> Candidates:
    return candidates(_lipids(), _axis(), polarity="+", ppm=3, decoys=20)


@pytest.fixture(scope="module")
def scores(found: Candidates) -> dict[str, np.ndarray]:
    sampled = np.ones(SHAPE, bool)
    return {
        f"s{i}": score_ions(partial(_read, _peaks(i)), found.mz, found.theory, sampled, ppm=3)
        for i in range(3)
    }


def test_each_ion_is_there_once_and_only_where_there_is_a_peak(found: Candidates) -> None:
    targets = found.targets
    assert len(set(found.ions)) == len(found.ions) == len(found.mz)
    assert not targets.duplicated(["formula", "adduct"]).any()
    near = np.array([np.abs(_axis() / m - 1).min() for m in targets["mz"]]) <= 3e-6
    np.testing.assert_array_equal(near, targets["ion"] >= 0)
    row = targets.set_index(["formula", "adduct"]).loc[TRUE[0]]
    assert found.ions[row["ion"]] == "C42H83NO8P+"
    assert row["names"].split("; ")[0] == "PC 34:1"
    assert found.mz[row["ion"], 0] == pytest.approx(row["mz"], rel=1e-9)
    assert set(found.decoys["formula"]) <= set(targets["formula"])
    assert set(found.decoys["adduct"]).isdisjoint(targets["adduct"])


def test_scores_are_those_of_the_images(found: Candidates, scores: dict[str, np.ndarray]) -> None:
    peaks = _peaks(0)
    row = found.targets.set_index(["formula", "adduct"]).loc[TRUE[0]]
    images = np.zeros((4, SHAPE[0] * SHAPE[1]))
    for k, centre in enumerate(found.mz[row["ion"]]):
        inside = np.abs(peaks.mz - centre) <= centre * 3e-6
        np.add.at(images[k], peaks.pixel[inside], peaks.intensity[inside].astype(float))
    plain = score(images.reshape(4, *SHAPE), found.theory[row["ion"]])
    own = scores["s0"][row["ion"]]
    np.testing.assert_allclose(own[:3], [plain.chaos, plain.spatial, plain.spectral], rtol=1e-9)
    assert own[4] == pytest.approx(images[0].sum())
    assert abs(own[3]) < 0.2


@pytest.mark.parametrize("budget", [50, 2000, 10**9])
@pytest.mark.parametrize("part", [37, 10_000])
def test_the_scores_do_not_depend_on_what_is_held(
    found: Candidates, scores: dict[str, np.ndarray], budget: int, part: int
) -> None:
    if budget == 50 and part == 37:
        part = 1000  # a pass an ion, each of many parts: slow, and no other case
    again = score_ions(
        partial(_read, _peaks(1), part),
        found.mz[::4],
        found.theory[::4],
        np.ones(SHAPE, bool),
        ppm=3,
        budget=budget,
    )
    np.testing.assert_array_equal(again, scores["s1"][::4])


def test_lipids_are_found_and_what_has_no_isotopes_is_not(
    found: Candidates, scores: dict[str, np.ndarray]
) -> None:
    cohort, single = identification_tables(found, scores, ppm=3, decoys=20)
    sure = cohort[cohort["fdr_metaspace"] <= 0.2]
    named = set(zip(sure["formula"], sure["adduct"], strict=True))
    assert set(TRUE) <= named
    first = cohort[cohort["primary"]]
    best = set(zip(first["formula"], first["adduct"], strict=True))
    assert set(TRUE) <= best
    assert (np.abs(cohort["mz"] / STRAY - 1) > 3e-6).all()
    assert cohort["fdr"].is_monotonic_increasing
    assert (cohort["fdr"] >= cohort["fdr_metaspace"] - 1e-12).all()
    assert set(single["specimen"]) == {"s0", "s1", "s2"}
    one = single.set_index(["formula", "adduct"]).loc[[TRUE[0]]]
    row = cohort.set_index(["formula", "adduct"]).loc[TRUE[0]]
    assert row["msm"] == pytest.approx(one["msm"].mean())
    assert row["n_specimens"] == 3
    np.testing.assert_allclose(one["msm"], one[["chaos", "spatial", "spectral"]].prod(axis=1))


def test_isobars_isotopes_and_matrix_ions_are_flagged(
    found: Candidates, scores: dict[str, np.ndarray]
) -> None:
    # PC 34:1 with sodium is 3.1 ppm from PC 36:4 with a proton, which is here
    matrix = pd.DataFrame({"mz": [ion_mz(*TRUE[3])], "name": ["a cluster"]})
    wide = candidates(_lipids(), _axis(), polarity="+", ppm=5, decoys=5)
    again = score_ions(lambda: _read(_peaks(0)), wide.mz, wide.theory, np.ones(SHAPE, bool), ppm=5)
    cohort, _ = identification_tables(wide, {"s0": again}, ppm=5, decoys=5, matrix=matrix)
    rows = cohort.set_index(["formula", "adduct"])
    sodium = rows.loc[("C42H82NO8P", "[M+Na]+")]
    assert "isobar" in sodium["flags"]
    assert "C44H80NO8P [M+H]+" in sodium["isobars"]
    assert not sodium["primary"]
    assert rows.loc[("C44H80NO8P", "[M+H]+"), "primary"]
    cluster = rows.loc[TRUE[3]]
    assert cluster["matrix_ion"] == "a cluster"
    assert "matrix" in cluster["flags"]
    assert not cluster["primary"]


def test_the_isotope_of_a_stronger_ion_is_flagged() -> None:
    """A made-up formula whose ion lies on the M+2 of PC 34:1: two hydrogens more, 11 ppm off."""
    heavier = _lipids()
    planted = heavier[heavier["formula"] == "C42H82NO8P"].iloc[:1]
    fake = planted.assign(name="other", formula="C42H84NO8P", mass=planted["mass"] + 2.01565)
    table = pd.concat([planted, fake], ignore_index=True)
    wide = candidates(table, None, polarity="+", adducts=["[M+H]+"], ppm=15, decoys=1)
    values = score_ions(
        lambda: _read(_peaks(0)), wide.mz, wide.theory, np.ones(SHAPE, bool), ppm=15
    )
    cohort, _ = identification_tables(wide, {"s0": values}, ppm=15, decoys=1)
    row = cohort.set_index("formula").loc["C42H84NO8P"]
    assert row["isotope_of"] == "C42H82NO8P [M+H]+"
    assert "isotope" in row["flags"]


def test_nothing_found_gives_empty_tables() -> None:
    none = candidates(_lipids(), np.array([111.1]), polarity="+", decoys=2)
    assert len(none.ions) == 0
    assert (none.targets["ion"] == -1).all()
