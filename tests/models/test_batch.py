"""What tells specimens apart, from their sums: against the rows themselves, and known truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.decomposition import PCA as ReferencePCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from msiscale.models import Moments
from msiscale.models.batch import COLUMNS, batch_records
from msiscale.msi import bin_spectra
from msiscale.msi.normalisation import Scaling, normalisation
from msiscale.msi.spectra import Spectra, starts
from msiscale.simulate.chemistry import Instrument, design, measure


def value(records, of="msi", specimen="all", target="all", metric="between_specimens"):
    found = [
        r["value"]
        for r in records
        if (r["of"], r["specimen"], r["target"], r["metric"]) == (of, specimen, target, metric)
    ]
    assert len(found) == 1
    return found[0]


def rows(seed=0, n=(300, 200, 400, 250), p=12, q=10, shift=1.0):
    """Features and intensities of four specimens, the last two of one patient."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(q, q))
    features, spectra = {}, {}
    for i, count in enumerate(n):
        spectra[f"s{i}"] = rng.normal(size=(count, q)) @ mix + shift * rng.normal(size=q)
        features[f"s{i}"] = rng.normal(size=(count, p)) + 0.3 * shift * rng.normal(size=p)
    return features, spectra, {"s0": "a", "s1": "b", "s2": "c", "s3": "c"}


def sums_of(features, spectra):
    return {s: Moments.of(features[s], spectra[s], dtype=np.float64) for s in spectra}


def modes_of(spectra, k):
    fitted = ReferencePCA(k, svd_solver="full").fit(np.concatenate(list(spectra.values())))
    return fitted.components_, fitted.mean_


def shares(blocks, patients):
    """Shares of the sums of squares of one variable, from its values in each specimen."""
    whole = np.concatenate(list(blocks.values()))
    total = ((whole - whole.mean()) ** 2).sum()
    within = sum(((b - b.mean()) ** 2).sum() for b in blocks.values())
    owners = {
        p: np.concatenate([b for s, b in blocks.items() if patients[s] == p])
        for p in set(patients.values())
    }
    between = sum(len(b) * (b.mean() - whole.mean()) ** 2 for b in owners.values())
    return 1 - within / total, between / total, (total - within - between) / total


def test_shares_are_those_of_the_rows():
    features, spectra, patients = rows()
    components, mean = modes_of(spectra, 6)
    found = batch_records(sums_of(features, spectra), components, mean, patients)
    assert all(list(r) == COLUMNS for r in found)
    scores = {s: (x - mean) @ components.T for s, x in spectra.items()}
    directions, centre = modes_of(features, 6)
    own = {s: (x - centre) @ directions.T for s, x in features.items()}
    for of, blocks in (("msi", scores), ("features", own)):
        for i in range(6):
            expected = shares({s: b[:, i] for s, b in blocks.items()}, patients)
            for metric, one in zip(
                ("between_specimens", "between_patients", "within_patients"), expected, strict=True
            ):
                got = value(found, of, target=f"mode_{i:03d}", metric=metric)
                assert got == pytest.approx(one, abs=1e-9)
    weights = np.concatenate(list(scores.values())).var(axis=0)
    each = [value(found, target=f"mode_{i:03d}") for i in range(6)]
    assert value(found) == pytest.approx(weights @ each / weights.sum())


def test_the_auc_is_that_of_gaussians_a_known_distance_apart():
    rng = np.random.default_rng(1)
    k, n = 8, 4000
    mix = rng.normal(size=(k, k))
    shift = np.array([0.0, 0.7, 2.0])
    spectra = {
        f"s{i}": (rng.normal(size=(n, k)) + np.eye(k)[0] * d) @ mix for i, d in enumerate(shift)
    }
    patients = {s: s for s in spectra}
    features = {s: rng.normal(size=(n, 2)) for s in spectra}
    found = batch_records(sums_of(features, spectra), np.eye(k), np.zeros(k), patients)
    pairs = norm.cdf(np.array([0.7, 2.0, 1.3]) / np.sqrt(2))
    assert value(found, metric="pairwise_auc") == pytest.approx(pairs.mean(), abs=0.01)
    assert value(found, metric="pairwise_auc_least") == pytest.approx(pairs.min(), abs=0.02)
    assert value(found, metric="pairwise_auc_most") == pytest.approx(pairs.max(), abs=0.01)
    accuracy = norm.cdf(np.array([0.7, 2.0, 1.3]) / 2).mean()
    assert value(found, metric="pairwise_accuracy") == pytest.approx(accuracy, abs=0.01)
    own = value(found, specimen="s0", metric="pairwise_auc")
    assert own == pytest.approx(pairs[:2].mean(), abs=0.02)
    # and that of a classifier on rows that it has not seen
    x, y = np.concatenate([spectra["s0"], spectra["s2"]]), np.repeat([0, 1], n)
    fitted = LinearDiscriminantAnalysis().fit(x[::2], y[::2])
    tested = roc_auc_score(y[1::2], fitted.decision_function(x[1::2]))
    assert value(found, metric="pairwise_auc_most") == pytest.approx(tested, abs=0.015)


def test_specimens_of_one_distribution_are_not_told_apart():
    rng = np.random.default_rng(2)
    spectra = {f"s{i}": rng.normal(size=(250, 40)) for i in range(5)}
    features = {s: rng.normal(size=(250, 60)) for s in spectra}
    patients = {s: s for s in spectra}
    found = batch_records(sums_of(features, spectra), np.eye(40), np.zeros(40), patients)
    for of in ("msi", "features"):
        assert value(found, of, metric="pairwise_auc") < 0.58  # 0.66 with the bias of 40 modes
        assert value(found, of) < 0.02
        assert value(found, of, metric="mostly_batch") == 0


def test_modes_that_are_mostly_batch_are_flagged():
    rng = np.random.default_rng(3)
    spectra = {}
    for i in range(4):
        x = rng.normal(size=(200, 5))
        x[:, 3] += 10.0 * i
        spectra[f"s{i}"] = x
    features = {s: np.zeros((200, 0)) for s in spectra}
    sums = {s: Moments.of(features[s], spectra[s]) for s in spectra}
    found = batch_records(sums, np.eye(5), np.zeros(5), {s: s for s in spectra})
    flags = [value(found, target=f"mode_{i:03d}", metric="mostly_batch") for i in range(5)]
    assert flags == [0, 0, 0, 1, 0] and value(found, metric="mostly_batch") == 0.2
    assert not [r for r in found if r["of"] == "features"]  # there are none


def test_sums_of_parts_and_any_units_say_the_same():
    features, spectra, patients = rows(4)
    components, mean = modes_of(spectra, 5)
    whole = batch_records(sums_of(features, spectra), components, mean, patients)
    cut = {
        s: Moments.of(features[s][:70], spectra[s][:70], dtype=np.float64)
        + Moments.of(features[s][70:], spectra[s][70:], dtype=np.float64)
        for s in spectra
    }
    scaled = {
        s: Moments.of(1e3 * features[s], 1e-4 * spectra[s], dtype=np.float64) for s in spectra
    }
    for other in (
        batch_records(cut, components, mean, patients),
        batch_records(scaled, components, 1e-4 * mean, patients),
    ):
        for a, b in zip(whole, other, strict=True):
            assert a["value"] == pytest.approx(b["value"], abs=1e-6)


def test_a_mode_that_does_not_vary_and_few_pixels_do_no_harm():
    rng = np.random.default_rng(5)
    spectra = {f"s{i}": np.c_[rng.normal(size=(12, 8)), np.full((12, 1), 3.0)] for i in range(2)}
    features = {s: rng.normal(size=(12, 30)) for s in spectra}
    found = batch_records(
        sums_of(features, spectra), np.eye(9), np.zeros(9), {"s0": "a", "s1": "b"}
    )
    assert all(np.isfinite(r["value"]) for r in found)
    assert value(found, metric="modes_used") == 2  # of 22 degrees of freedom
    assert value(found, target="mode_008") == 0


def test_one_specimen_has_none_to_differ_from_and_sums_are_asked_for_once():
    features, spectra, patients = rows(6)
    sums = sums_of(features, spectra)
    assert batch_records({"s0": sums["s0"]}, np.eye(10), np.zeros(10), patients) == []

    asked = []

    class Once(Mapping):
        def __getitem__(self, name):
            asked.append(name)
            return sums[name]

        def __iter__(self):
            return iter(sums)

        def __len__(self):
            return len(sums)

    batch_records(Once(), np.eye(10), np.zeros(10), patients)
    assert asked == list(sums)


def phantom(specimen: float, seed: int = 0, count: int = 4) -> tuple[list[Spectra], np.ndarray]:
    """Spectra of some specimens that differ by `specimen` times what is usual; the ions."""
    chemistry = design(np.random.default_rng(seed), lipids=40)
    found = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        gland = rng.uniform(0, 1, (14, 16))
        maps = {"tissue": np.ones((14, 16)), "stroma": 1 - gland, "epithelium": gland}
        maps |= {
            name: np.zeros((14, 16))
            for name in ("cancer", "tumour_epithelium", "lumen", "nuclei", "immune")
        }
        instrument = Instrument(specimen=specimen, noise_peaks=5)
        measured = measure((seed, i), chemistry, maps, instrument, tumour=False)
        spectra = [s for row in range(14) for s in measured.spectra(row)]
        mz, intensity = (np.concatenate(part) for part in zip(*spectra, strict=True))
        found.append(Spectra(mz, intensity, starts([len(m) for m, _ in spectra])))
    return found, np.sort(chemistry.mz[: len(chemistry.ions)])


def checked(specimens: list[Spectra], mz: np.ndarray, scaling: Scaling):
    blocks = {}
    for i, spectra in enumerate(specimens):
        factor = normalisation(spectra, scaling.normalise)
        blocks[f"s{i}"] = scaling.apply(bin_spectra(spectra, mz, 8.0), factor)
    components, mean = modes_of(blocks, 10)
    sums = {s: Moments.of(None, b) for s, b in blocks.items()}
    return batch_records(sums, components, mean, {s: s for s in blocks})


def test_specimen_effects_are_seen_and_normalisation_lowers_them():
    found = {
        (effect, how): checked(*phantom(effect), Scaling(how))
        for effect in (0.0, 1.0)
        for how in ("none", "tic")
    }
    share = {key: value(records) for key, records in found.items()}
    auc = {key: value(records, metric="pairwise_auc") for key, records in found.items()}
    assert share[0.0, "tic"] < 0.02 and auc[0.0, "tic"] < 0.6
    # what a common factor does is gone; that lipids differ by 15 % each is not
    assert share[1.0, "none"] > share[1.0, "tic"] > 3 * share[0.0, "tic"]
    assert auc[1.0, "tic"] > 0.9


def test_a_common_factor_is_seen_and_normalised_away():
    specimens, mz = phantom(0.0)
    bright = [
        Spectra(s.mz, s.intensity * np.float32(gain), s.start)
        for s, gain in zip(specimens, (1, 2, 0.5, 1.5), strict=True)
    ]
    for how, transform in (("tic", "none"), ("rms", "log"), ("median", "sqrt")):
        scaling = Scaling(how, (), transform)
        for a, b in zip(checked(bright, mz, scaling), checked(specimens, mz, scaling), strict=True):
            assert a["value"] == pytest.approx(b["value"], abs=2e-3), a
    raw = checked(bright, mz, Scaling("none"))
    assert value(raw) > 0.3 and value(raw, metric="pairwise_auc") > 0.7
