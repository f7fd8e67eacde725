"""The model of `benchmarks scaling`, and its measurements on the smallest of cases."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common.places import status_mib  # noqa: E402
from benchmarks.common.progress import Progress  # noqa: E402
from benchmarks.scaling import cohort, fit, scheduler, workers  # noqa: E402
from benchmarks.scaling.model import (  # noqa: E402
    Assumed,
    Constants,
    bottlenecks,
    cohort_cost,
    cores_a_gpu,
    efficiency,
    features_core_s,
    fit_bytes,
    fit_core_s,
    folds_of,
    halo_factor,
    ideal_wall,
    network_mpix,
    tasks_a_specimen,
    window_px,
)
from benchmarks.scaling.plan import copies, replicate  # noqa: E402

MEASURED = Constants(
    network_mpix_s=0.5,
    other_cpu_share=0.2,
    spectra_s=4000.0,
    register_s=3.0,
    intensity_bytes=1.0,
    features_bytes=2.0,
    msi_bytes=5000.0,
    scheduler_s=0.002,
    client_s=0.001,
)


def test_efficiency_of_perfect_and_of_useless_workers():
    assert efficiency(30.0, 15.0, 2) == 1.0
    assert efficiency(30.0, 30.0, 2) == 0.5


def test_ideal_wall_takes_tasks_in_order():
    assert ideal_wall([1.0] * 8, 2) == 4.0
    assert ideal_wall([1.0, 1.0, 4.0], 2) == 5.0  # the long one comes last and alone
    assert ideal_wall([3.0], 10) == 3.0


def test_ideal_wall_is_never_below_its_two_bounds():
    times = np.random.default_rng(0).gamma(2.0, 1.0, 200)
    for n in (1, 7, 50):
        assert ideal_wall(times, n) >= max(times.sum() / n, times.max()) - 1e-9


def test_windows_of_a_block_are_equal_and_no_larger_than_asked():
    assert window_px(6400, 3264) == 3200
    assert window_px(3000, 3264) == 3000
    assert window_px(6529, 3264) == pytest.approx(6529 / 3)
    assert halo_factor(288, 144) == 4.0


def test_cost_grows_with_what_it_counts():
    a = Assumed()
    one, many = (cohort_cost(n, 0, a, MEASURED) for n in (100, 1000))
    assert all(many[k] == pytest.approx(10 * one[k]) for k in ("gpu_hours", "stored_tb"))
    slides = cohort_cost(0, 30_000, a, MEASURED)
    assert slides["stored_tb"] == 0
    hours = 30_000 * features_core_s(a.slide_mm2, a, MEASURED) / 3600
    assert slides["cpu_core_hours"] == pytest.approx(hours)
    dear = cohort_cost(0, 30_000, replace(a, core_hour=1.0), MEASURED)
    assert dear["cpu_price"] == pytest.approx(dear["cpu_core_hours"])


def test_the_fit_grows_with_the_patients_beyond_those_left_out_one_by_one():
    a = Assumed()
    assert folds_of(50) == 51 and folds_of(51) == folds_of(1000) == 21
    few, many, more = (fit_core_s(n, a) for n in (50, 500, 1000))
    assert more["classifiers"] == pytest.approx(2 * many["classifiers"])
    assert more["linear"] < 2 * many["linear"]
    assert few["classifiers"] == pytest.approx(50 * 40_000 * 51 * a.pixel_fold_s)
    assert fit_bytes(1000, a) == pytest.approx(1000 * 40_000 * 2024 * 4 * 18)


def test_a_gpu_is_fed_by_the_cores_that_its_pixels_need():
    a = Assumed(gpu_mpix_s=10.0)
    beside = features_core_s(a.paired_mm2, a, MEASURED) * MEASURED.other_cpu_share
    gpu_s = network_mpix(a.paired_mm2, a) / a.gpu_mpix_s
    assert cores_a_gpu(a, MEASURED) == pytest.approx(beside / gpu_s)


def test_bottlenecks_scale_with_the_task_and_the_store():
    a = Assumed()
    found = bottlenecks(a, MEASURED, 1e9)
    core = found["core"]
    assert core["scheduler"] == pytest.approx(core["task_s"] / 0.002)
    assert core["client"] == pytest.approx(2 * core["scheduler"])
    assert bottlenecks(a, MEASURED, 2e9)["core"]["store"] == pytest.approx(2 * core["store"])
    assert found["gpu"]["store"] < core["store"]  # a faster worker asks the store for more
    assert tasks_a_specimen(a)["features"] == 16


def test_run_of_simulated_workers_on_a_real_scheduler(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    )
    with (
        scheduler.scheduler(tmp_path) as (address, process),
        scheduler.simulated(address, 6) as sims,
    ):
        assert address.startswith("tcp://127.0.0.1:")
        found = scheduler.submit(address, [0.01] * 40)
        assert found["wall_s"] >= ideal_wall([0.01] * 40, 6)
        assert scheduler.cpu_s(process) > 0
        now, peak = (status_mib(key, process.pid) for key in ("VmRSS", "VmHWM"))
        assert peak >= now > 10
        assert len(sims) == scheduler.PROCESSES
        pids = [process.pid, *(s.pid for s in sims)]
    assert not [p for p in pids if psutil.pid_exists(p)]


def test_durations_are_scaled_down_and_never_up():
    long = scheduler._tasks([10.0], 10, 10)
    assert len(long) == 10 * scheduler.BLOCKS
    assert long.sum() / 10 == pytest.approx(scheduler.IDEAL_S)
    assert set(scheduler._tasks([0.001], 10, 10)) == {0.001}


def test_medians_leave_out_disturbed_runs_while_there_are_others():
    def run(wall, others):
        return {
            s: workers.Stage(wall, wall, wall, 0.0, others, {"x": [wall]}) for s in workers.STAGES
        }

    runs = {1: [run(10.0, 0.0), run(90.0, 1.5)], 2: [run(5.0, 0.0), run(80.0, 1.0)]}
    assert workers.summary(runs)["features.efficiency_2_workers"] == 1.0
    all_disturbed = {1: [run(10.0, 1.0)], 2: [run(10.0, 1.0)]}
    found = workers.summary(all_disturbed)
    assert found["features.efficiency_2_workers"] == 0.5
    assert found["features.others_cores"] == 1.0


def test_copies_of_a_run_are_named_by_their_specimens(tmp_path):
    source, out = tmp_path / "one", tmp_path / "many"
    for file in ("ledger/peaks/S01.json", "cohort.zarr/S01/y/c/0", "cohort.zarr/zarr.json"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text(file)
    replicate(source, out, ["S01", "C00001"], lambda path: True)
    found = sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file())
    assert found == [
        "cohort.zarr/C00001/y/c/0",
        "cohort.zarr/S01/y/c/0",
        "cohort.zarr/zarr.json",
        "ledger/peaks/C00001.json",
        "ledger/peaks/S01.json",
    ]
    manifest = source / "manifest.csv"
    manifest.write_text("specimen,patient,msi,slide\nS01,P1,a.imzML,a.tiff\n")
    lines = copies(manifest, ["S01", "C00001"]).read_text().splitlines()
    assert lines[1:] == ["S01,S01,a.imzML,a.tiff", "C00001,C00001,a.imzML,a.tiff"]


@pytest.mark.slow(reason="starts two workers, twice, with all that they import")
def test_the_fit_of_a_few_patients_is_that_of_the_plain_way(tmp_path):
    found = fit.measure(tmp_path, [4, 6], 14, 18, 3, Progress("fit"))
    assert found["fit.max_relative_difference"] < 1e-10
    assert found["fit.loads.n4"] == 12 and found["fit.loads.n6"] == 18
    assert found["fit.cpu_s.n6"] > 0 < found["fit.client_peak_mib.n6"]


def test_an_exponent_is_that_of_the_steepest_step():
    assert cohort.exponents({10: 5.0, 100: 50.0, 1000: 5000.0}) == pytest.approx(2.0)
    assert cohort.exponents({30: 4.0, 300: 4.0}) == 0.0


def test_figures_of_cohorts_name_stage_and_size():
    cost = {"wall_s": 1.0, "cpu_s": 2.0, "client_cpu_s": 0.5, "client_peak_mib": 300.0}
    small = {"fit": {**cost, "worker_peak_mib": 500.0}}
    large = {"fit": {**small["fit"], "cpu_s": 20.0, "client_peak_mib": 310.0}}
    found = cohort.figures({30: small, 300: large})
    assert found["cohort.exponent.fit"] == pytest.approx(1.0)
    assert found["cohort.client_exponent.fit"] == 0.0
    assert found["cohort.cpu_s.fit.n300"] == 20.0
    assert (found["cohort.client_peak_mib.n30"], found["cohort.client_peak_mib.n300"]) == (300, 310)


def test_a_smaller_cohort_is_the_beginning_of_a_larger_one(tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("specimen,msi\nS01,a\nS02,b\nS03,c\n")
    assert cohort.first(manifest, 2).read_text().splitlines() == ["specimen,msi", "S01,a", "S02,b"]
