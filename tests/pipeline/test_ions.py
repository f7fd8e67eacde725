"""``ions.csv`` against plain NumPy and SciPy, on what the store of a small cohort holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from commands import CHOICES, msiscale
from scipy.ndimage import binary_erosion
from scipy.stats import pearsonr, rankdata, spearmanr
from skimage.metrics import structural_similarity

from msiscale.pipeline.ion_sums import SUMS, ion_sums
from msiscale.pipeline.ions import OfSpecimen, chunks, scores
from msiscale.store import Ledger, open_group, put, read

pytestmark = pytest.mark.usefixtures("shared_cluster")
NAMES = ("S01", "S02", "S03")
LOPO, FOLDS = "leave_one_patient_out", "pixel_folds"
Part = tuple[np.ndarray, np.ndarray, np.ndarray]
BOTH = [*CHOICES[:-1], f"{LOPO},{FOLDS}"]


@pytest.fixture(scope="module")
def within(
    cohort: Path, finished: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The finished run, validated in pixel folds too."""
    out = tmp_path_factory.mktemp("ions") / "run"
    shutil.copytree(finished, out)
    for stage in ("fit", "ions"):
        said = msiscale(stage, cohort, "--out", out, *BOTH)
        assert said.code == 0, said.err
    return out


def by_hand(out: Path, name: str, protocol: str, which: str = "predicted_scores") -> list[Part]:
    """Measured, predicted, and predicted by the tissue's mean: (pixels, m/z) of each fold."""
    group = open_group(str(out / "predictions.zarr" / name))
    if protocol != LOPO:
        group = group[protocol]
    cube = read(open_group(str(out / "cohort.zarr" / name)), "intensity").astype(float)
    guess = read(group, which).astype(float)
    components, mean = (read(group, n).astype(float) for n in ("components", "mean"))
    fold = read(group, "fold") if "fold" in group else np.where(np.isfinite(guess[..., 0]), 0, -1)
    if components.ndim == 2:
        components, mean = components[None], mean[None]
    found: list[Part] = []
    for k in np.unique(fold[fold >= 0]):
        here = fold == k
        predicted = guess[here] @ components[k] + mean[k]
        found.append((cube[here], predicted, np.broadcast_to(mean[k], predicted.shape)))
    return found


def explained(truth: list[np.ndarray], guess: list[np.ndarray]) -> np.ndarray:
    rss = sum(((t - g) ** 2).sum(0) for t, g in zip(truth, guess, strict=True))
    return 1 - rss / sum(((t - t.mean(0)) ** 2).sum(0) for t in truth)


def correlated(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    cov, u, v = (
        sum(((p - p.mean(0)) * (q - q.mean(0))).sum(0) for p, q in zip(x, y, strict=True))
        for x, y in ((a, b), (a, a), (b, b))
    )
    return cov / np.sqrt(u * v)


@pytest.mark.parametrize("protocol", [LOPO, FOLDS])
def test_every_ion_is_scored_as_plain_numpy_scores_it(within: Path, protocol: str) -> None:
    table = pd.read_csv(within / "ions.csv", keep_default_na=False, na_values=[""])
    table = table[table["protocol"] == protocol]
    mz = read(open_group(str(within / "cohort.zarr" / "S01")), "mz")
    np.testing.assert_allclose(table["mz"], mz, rtol=1e-11)
    parts = [part for name in NAMES for part in by_hand(within, name, protocol)]
    truth, guess, constant = (list(of) for of in zip(*parts, strict=True))
    coloured = [p for name in NAMES for p in by_hand(within, name, protocol, "colour_scores")]
    colour = [guess for _, guess, _ in coloured]
    held = [open_group(str(within / "predictions.zarr" / name)) for name in NAMES]
    supported = np.array([read(g if protocol == LOPO else g[protocol], "supported") for g in held])
    everywhere = supported.reshape(-1, len(mz)).all(axis=0)
    assert everywhere.mean() > 0.5
    ranked = [[rankdata(t, axis=0) for t in of] for of in (truth, guess)]
    wanted = {
        "mean": np.concatenate(truth).mean(0),
        "sd": np.sqrt(np.mean(np.concatenate([(t - t.mean(0)) ** 2 for t in truth]), axis=0)),
        "r2": explained(truth, guess),
        "pearson": correlated(truth, guess),
        "spearman": correlated(*ranked),
        "colour_r2": explained(truth, colour),
        "colour_pearson": correlated(truth, colour),
        "tissue_r2": explained(truth, constant),
        "pixels": np.full(len(mz), sum(map(len, truth))),
        "specimens": np.full(len(mz), 3),
    }
    for column, values in wanted.items():
        found = table[column].to_numpy(float)
        np.testing.assert_allclose(found[everywhere], values[everywhere], rtol=2e-3, atol=2e-4)
    assert (table["tissue_r2"].dropna() < 0.05).all()
    assert table["pearson"].max() > 0.5  # the planted chemistry is seen


def test_patients_and_baselines_are_as_plain_numpy_has_them(within: Path) -> None:
    table = pd.read_csv(within / "ions.csv")
    table = table[table["protocol"] == LOPO].reset_index()
    held = {name: by_hand(within, name, LOPO)[0] for name in NAMES}
    r2 = np.array([explained([t], [g]) for t, g, _ in held.values()])
    r = np.array([correlated([t], [g]) for t, g, _ in held.values()])
    centred = [explained([t], [g - g.mean(0) + t.mean(0)]) for t, g, _ in held.values()]
    classes, alike, similar = {}, [], []
    for name, (truth, guess, _) in held.items():
        cohort = open_group(str(within / "cohort.zarr" / name))
        mask = np.isfinite(read(open_group(str(within / "predictions.zarr" / name)), "scores"))
        mask, cube = mask[..., 0], read(cohort, "intensity").astype(float)
        fraction = read(cohort, "cancer")[mask]
        classes[name] = np.where(np.isnan(fraction), 2, fraction < 0.5)
        dev = np.where(mask[..., None], cube - truth.mean(0), np.nan)
        pairs = [dev[:, 1:] * dev[:, :-1], dev[1:] * dev[:-1]]
        both = np.concatenate([p.reshape(-1, p.shape[2]) for p in pairs])
        alike.append(np.nanmean(both, axis=0) / (dev[mask] ** 2).mean(0))
        image = np.zeros_like(cube)
        image[mask] = guess
        i = int(table["patient_pearson"].argmax())
        span = float(np.ptp(truth[:, i]))
        a, b = np.where(mask, cube[..., i], 0), image[..., i]
        found = structural_similarity(a, b, win_size=7, data_range=span, full=True)[1]
        similar.append(found[binary_erosion(mask, np.ones((7, 7)))])
    rss = np.zeros(len(table))
    for name, (truth, _, _) in held.items():
        others = [n for n in NAMES if n != name]
        known = np.concatenate([classes[n] for n in others])
        theirs = np.concatenate([held[n][0] for n in others])
        means = [theirs[known == c].mean(0) for c in (0, 1)] + [theirs.mean(0)]
        rss += ((truth - np.stack(means)[classes[name].astype(int)]) ** 2).sum(0)
    tss = sum(((t - t.mean(0)) ** 2).sum(0) for t, _, _ in held.values())
    wanted = {
        "patient_r2": r2.mean(0),
        "patient_r2_sd": r2.std(0, ddof=1),
        "patient_pearson": r.mean(0),
        "explained": np.mean(centred, axis=0),
        "class_r2": 1 - rss / tss,
        "moran": np.mean(alike, axis=0),
    }
    full = (table["patients"] == 3) & (table["mean"] > table["mean"].median())
    assert full.sum() > 20
    for column, values in wanted.items():
        np.testing.assert_allclose(table[column][full], values[full], rtol=5e-3, atol=1e-3)
    assert table["ssim"][i] == pytest.approx(np.concatenate(similar).mean(), abs=1e-3)
    np.testing.assert_allclose(
        table["excess"], table["patient_pearson"] - table["moved_pearson"], atol=1e-6
    )
    assert set(table["tier"].dropna()) <= {"A", "B", "C"} and (table["class_r2"] <= 1).all()


def test_what_is_stored_of_parts_gives_the_r2_of_the_metrics(within: Path) -> None:
    metrics = pd.read_csv(within / "metrics.csv")
    asked = (metrics["protocol"] == FOLDS) & (metrics["target"] == "weighted")
    asked &= (metrics["model"] == "msi_from_he") & (metrics["metric"] == "r2")
    for name in NAMES:
        group = open_group(str(within / "predictions.zarr" / name / FOLDS))
        cube = read(open_group(str(within / "cohort.zarr" / name)), "intensity")
        fold, guess = read(group, "fold"), read(group, "predicted_scores")
        assert set(np.unique(fold)) == {-1, 0, 1, 2, 3, 4}
        assert np.array_equal(np.isfinite(guess).all(axis=2), fold >= 0)
        rss = tss = 0.0
        for k in range(5):
            components, mean = read(group, "components")[k], read(group, "mean")[k]
            truth = (cube[fold == k] - mean) @ components.T
            rss += ((truth - guess[fold == k]) ** 2).sum()
            tss += ((truth - truth.mean(0)) ** 2).sum()
        (value,) = metrics.loc[asked & (metrics["specimen"] == name), "value"]
        assert 1 - rss / tss == pytest.approx(value, abs=1e-3)


def test_colour_is_scored_where_it_predicted(within: Path, tmp_path: Path) -> None:
    for name in ("cohort.zarr", "predictions.zarr"):
        shutil.copytree(within / name / "S02", tmp_path / name / "S02")
    group = open_group(str(tmp_path / "predictions.zarr" / "S02"), "a")
    poor = read(group, "predicted_scores") * 0.5
    put(group, "colour_scores", poor, ("y", "x", "component"))
    ((truth, guess, _),) = by_hand(tmp_path, "S02", LOPO, "colour_scores")
    n = truth.shape[1]
    of = OfSpecimen.of([ion_sums(str(tmp_path), "S02", LOPO, 0, n)])
    assert of.sums.shape == (n, len(SUMS))
    found = scores(LOPO, np.arange(n, dtype=float), [""] * n, {"S02": of}, {"S02": "P2"})
    supported = read(group, "supported")
    assert found.loc[~supported, "r2"].isna().all()
    for i in np.flatnonzero(supported)[::7]:
        r = pearsonr(truth[:, i], guess[:, i]).statistic
        assert found["colour_pearson"][i] == pytest.approx(r, abs=1e-4)
        # a prediction that is scaled about its mean keeps its order
        rho = spearmanr(truth[:, i], by_hand(tmp_path, "S02", LOPO)[0][1][:, i]).statistic
        assert found["spearman"][i] == pytest.approx(rho, abs=2e-3)
    expected = explained([truth], [guess])[supported]
    np.testing.assert_allclose(found["colour_r2"][supported], expected, rtol=2e-3, atol=2e-4)


def test_identified_ions_have_their_names(within: Path) -> None:
    table = pd.read_csv(within / "ions.csv", keep_default_na=False)
    named = table[table["identification"] != ""]
    known = pd.read_csv(within / "biomarkers.csv", keep_default_na=False)
    known = known[known["annotation"] != ""]
    assert len(named) == 2 * len(known)
    best = known.iloc[0]
    row = named.iloc[np.abs(named["mz"] - best["mz"]).argmin()]
    assert row["identification"] == f"{best['annotation']} {best['adduct']}"


def test_names_with_a_false_discovery_rate_take_their_place(
    cohort: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    mz = read(open_group(str(out / "cohort.zarr" / "S01")), "mz")
    rows = {"mz": mz[[3, 8, 9]] * (1 + 1e-6), "names": ["PC 1:0", "PC 2:0", ""]}
    table = pd.DataFrame({**rows, "adduct": "[M+H]+", "msm": 0.5, "fdr": [0.05, 0.5, 0.05]})
    table.to_csv(out / "annotations.csv", index=False)
    Ledger(str(out)).write("annotate", "cohort", "other", "done", specimens=list(NAMES))
    said = msiscale("ions", cohort, "--out", out, *CHOICES)
    assert said.code == 0, said.err
    found = pd.read_csv(out / "ions.csv", keep_default_na=False)["identification"]
    assert found[3] == "PC 1:0 [M+H]+" and (found != "").sum() == 1


def test_the_predictions_open_as_a_tree_of_xarray(within: Path) -> None:
    tree = xr.open_datatree(within / "predictions.zarr", engine="zarr", consolidated=False)
    here = tree["S01/pixel_folds"]
    assert here["components"].dims == ("folds", "component", "mz")
    assert here["fold"].shape == tree["S01/predicted_scores"].shape[:2]


def test_a_task_is_as_deep_as_its_specimen_allows() -> None:
    assert chunks((20, 22), 300) == [(0, 256), (256, 300)]
    assert chunks((600, 400), 130) == [(0, 64), (64, 128), (128, 130)]
    assert chunks((2000, 2000), 64) == [(0, 64)]


def test_ions_are_not_scored_again_for_nothing(cohort: Path, within: Path) -> None:
    before = (within / "ions.csv").stat().st_mtime_ns
    assert msiscale("ions", cohort, "--out", within, *BOTH).code == 0
    assert (within / "ions.csv").stat().st_mtime_ns == before
