"""`--head rff:N`: every fold on Fourier features made of its training patients alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import CHOSEN, msiscale

import msiscale as ms
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.models import FourierMap, Moments, fit_fourier_folds, leave_one_group_out
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.prediction import load_model
from msiscale.simulate import simulate
from msiscale.store import open_group, read

STAGES = ("ingest", "register", "features", "fit")
N = 24


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "cohort"
    simulate(folder, specimens=4, seed=3, pixels=(14, 15), mpp=4.0)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def curved(manifest: Path, shared_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose head was linear, and was then changed."""
    out = tmp_path_factory.mktemp("curved") / "run"
    fit(manifest, out)
    before = json.loads((out / "run.json").read_text())
    assert before["parameters"]["head"] == "linear"
    fit(manifest, out, head=f"rff:{N}")
    return out


def fit(manifest: Path, out: Path, **choices: object) -> None:
    few = {"costs": (0.01,), "alphas": (1.0, 10.0), "components": 10}
    result = ms.run(str(manifest), str(out), stages=STAGES, **{**CHOSEN, **few, **choices})
    assert not result.failed, result.failed


def test_another_head_is_fitted_and_nothing_before_it(curved: Path) -> None:
    found = json.loads((curved / "run.json").read_text())
    assert found["parameters"]["head"] == f"rff:{N}"
    redone = {name: part["redone"] for name, part in found["stages"].items()}
    assert redone["fit"] == 1
    model = load_model(str(curved / "model.zarr"))
    assert model.attrs["head"] == f"rff:{N}" and model.attrs["msiscale_model"] == 4
    assert model.fourier is not None and model.fourier.features == N
    assert len(model.novelty.mean) == len(model.fourier.mean)  # of the features of the slide alone
    metrics = pd.read_csv(curved / "metrics.csv")
    whole = metrics[(metrics.specimen == "all") & (metrics.metric == "auc")]
    assert whole["value"].min() > 0.5


def test_a_fold_is_what_its_training_patients_give_in_memory(curved: Path) -> None:
    cohort = curved / "cohort.zarr"
    names = sorted(open_group(str(cohort)).group_keys())
    rows = {}
    for name in names:
        table = PixelRows.open(str(cohort / name), "", min_coverage=0.5)
        rows[name] = [(table.rows("features", c), table.rows("intensity", c)) for c in table.cells]
    patients = {n: str(open_group(str(cohort / n)).attrs["patient"]) for n in names}
    (fold,) = [f for f in leave_one_group_out(patients) if f.test == (names[0],)]
    group = open_group(str(curved / "predictions.zarr" / names[0]))
    supported, table = (
        read(group, "supported"),
        PixelRows.open(str(cohort / names[0]), "", min_coverage=0.5),
    )
    (model,) = fit_fourier_folds(
        {n: lambda own=own: own for n, own in rows.items()},
        [fold],
        patients,
        N,
        n_components=10,
        alphas=(1.0, 10.0),
        columns=lambda _: supported,
    )
    expected = np.concatenate([model.predict(x) for x, _ in rows[names[0]]])
    found = np.concatenate(
        [read(group, "predicted_scores")[c.slices][table.mask[c.slices]] for c in table.cells]
    )
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    # and what it was made of has never seen the patient who is held out
    training = Moments.merge(Moments.from_arrays(x) for n in fold.train for x, _ in rows[n])
    seen = FourierMap.load(str(curved / "state.zarr" / "folds" / "0000" / "fourier"))
    np.testing.assert_allclose(seen.mean, training.mean_x, rtol=1e-6)


def test_a_slide_is_predicted_by_it(curved: Path, manifest: Path, tmp_path: Path) -> None:
    slide = manifest.parent / "S01.tiff"
    words = ["--out", tmp_path / "out", "--slide-mpp", "4", "--encoder", str(CHOSEN["encoder"])]
    said = msiscale("predict", curved / "model.zarr", slide, *words)
    assert said.code == 0, said.err
    group = open_group(str(tmp_path / "out" / "predictions.zarr" / "S01"))
    assert np.isfinite(read(group, "predicted_scores")).any()
    own = read(open_group(str(curved / "cohort.zarr" / "S01")), "features")
    model = load_model(str(curved / "model.zarr"))
    x = own[np.isfinite(own).all(axis=-1)]
    assert model.fourier is not None
    both = np.concatenate([x, model.fourier.apply(x)], axis=1)
    expected = both @ model.scores + model.scores_intercept
    np.testing.assert_allclose(model.predict_scores(x), expected, rtol=1e-4, atol=1e-4)


def test_what_was_written_is_noted(curved: Path) -> None:
    said = msiscale("verify", curved)
    assert said.code == 0, said.err


@pytest.mark.slow(
    reason="half a minute for a second way to choose penalties, tested without curves"
)
def test_few_patients_choose_penalties_by_blocks_of_their_tissue(
    cohort: Path, shared_cluster: None, tmp_path: Path
) -> None:
    protocols = ("leave_one_patient_out", "pixel_folds")
    fit(cohort, tmp_path / "run", head="rff:8", pca="all", protocols=protocols)
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert {*protocols} == {*metrics["protocol"]}
    folds = open_group(str(tmp_path / "run" / "state.zarr" / "folds"))
    assert [folds[name].attrs["alpha_by"] for name in sorted(folds.group_keys())] == ["blocks"] * 3
    assert not (tmp_path / "run" / "state.zarr" / "protocols").exists()


@pytest.mark.parametrize("head", ["rff", "rff:0", "rff:-1", "rff:5000", "cubic"])
def test_other_heads_are_refused(head: str) -> None:
    with pytest.raises(InputError, match=r"option head = .*give linear, or rff:N"):
        RunConfig(head=head)


def test_rows_scaled_by_themselves_need_linear_maps() -> None:
    with pytest.raises(InputError, match=r"option head = 'rff:8'.*scaling"):
        RunConfig(head="rff:8", scaling="own")
