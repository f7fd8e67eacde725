"""The same input gives the same answer, however the work is cut, shared out or interrupted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from commands import CHOICES, CHOSEN, UNREPORTED, environment, msiscale

from msiscale.pipeline import run

pytestmark = pytest.mark.usefixtures("shared_cluster")
TABLES = ("metrics.csv", "biomarkers.csv", "registration.csv")


def same(a: Path, b: Path) -> None:
    for table in TABLES:
        assert (a / table).read_bytes() == (b / table).read_bytes(), table
    for store in ("cohort.zarr", "predictions.zarr"):
        one = xr.open_datatree(str(a / store), engine="zarr", consolidated=False)
        two = xr.open_datatree(str(b / store), engine="zarr", consolidated=False)
        for path, node in one.items():
            for name, values in node.data_vars.items():
                np.testing.assert_array_equal(values, two[path][name], err_msg=f"{path}/{name}")


def test_another_block_size_and_number_of_workers(
    cohort: Path, finished: Path, tmp_path: Path
) -> None:
    words = {"stages": UNREPORTED, "workers": 2, "block": 12, **CHOSEN}
    assert not run(str(cohort), str(tmp_path / "run"), **words).failed
    same(finished, tmp_path / "run")


def test_killed_half_way_and_resumed(cohort: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", str(cohort), "--out", str(out), "--workers", "1", "--block", "16", *CHOICES]
    command = [str(Path(sys.executable).parent / "msiscale"), *words]
    first = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.DEVNULL, env=environment()
    )
    ledger = out / "ledger" / "features"
    deadline = time.monotonic() + 200
    while len(list(ledger.glob("*/*.json"))) < 5:  # blocks of the second specimen
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    subprocess.run(["pkill", "-KILL", "-s", str(first.pid)], check=True)
    first.wait()
    time.sleep(1)  # its workers are of the same session
    half = {p: p.stat().st_mtime_ns for p in ledger.glob("*/*.json")}
    assert not (out / "metrics.csv").exists()
    assert not run(str(cohort), str(out), stages=UNREPORTED, block=16, **CHOSEN).failed
    for path, stamp in half.items():
        assert path.stat().st_mtime_ns == stamp, "a finished block was done again"
    same(finished, out)


def test_a_finished_run_does_nothing_again(cohort: Path, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "cohort.zarr").rglob("*") if p.is_file()}
    metrics = (finished / "metrics.csv").stat().st_mtime_ns
    said = msiscale("run", cohort, "--out", finished, *CHOICES)
    assert said.code == 0, said.err
    after = {p: p.stat().st_mtime_ns for p in (finished / "cohort.zarr").rglob("*") if p.is_file()}
    assert after == before and (finished / "metrics.csv").stat().st_mtime_ns == metrics


def test_metrics_have_the_columns_and_the_headline(finished: Path) -> None:
    table = pd.read_csv(finished / "metrics.csv")
    columns = ["protocol", "fold", "specimen", "model", "target", "metric", "value", "why"]
    assert list(table.columns) == columns
    assert set(table["protocol"]) == {"leave_one_patient_out"}
    pooled = table[table["specimen"] == "all"].set_index(["model", "target", "metric"])["value"]
    for model in ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"):
        for metric in ("auc", "average_precision", "prevalence", "majority_accuracy", "dice"):
            assert 0 <= pooled[model, "cancer", metric] <= 1
    assert pooled["cancer_from_msi", "cancer", "auc"] > 0.8
    assert np.isfinite(pooled["msi_from_he", "mode_000", "r2"])
    assert np.isfinite(pooled["msi_from_he", "weighted", "r2"])


def test_ctrl_c_stops_in_one_line(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", str(cohort), "--out", str(out), "--workers", "1", *CHOICES]
    command = [str(Path(sys.executable).parent / "msiscale"), *words]
    process = subprocess.Popen(
        command, start_new_session=True, stderr=subprocess.PIPE, text=True, env=environment()
    )
    deadline = time.monotonic() + 100
    while not list((out / "ledger" / "peaks").glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in err.splitlines()[-1] and "Traceback" not in err


def test_a_lost_chunk_is_named_and_its_stage_can_be_redone(
    cohort: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    lost = next(p for p in (out / "cohort.zarr/S02/features/c").rglob("*") if p.is_file())
    lost.unlink()
    shutil.rmtree(out / "ledger" / "fit")
    words = [cohort, "--out", out, *CHOICES]
    said = msiscale("fit", *words)
    assert said.code == 3  # the others are done without it
    assert "S02/features/c" in said.err and f"verify {out} --redo" in said.err
    assert "Traceback" not in said.err
    found = msiscale("verify", out, "--redo")
    assert found.code == 0 and "S02: stage features: cohort.zarr/S02/features/c" in found.out
    for stage in ("features", "fit"):
        said = msiscale(stage, *words)
        assert said.code == 0, said.err
    same(finished, out)
