"""A cohort that changes: one added, one gone, one mended; nobody else is read again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import zarr
from click.testing import CliRunner

from msiscale.cli import cli, main
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.pipeline import run
from msiscale.pipeline.check import check
from msiscale.pipeline.status import status
from msiscale.pipeline.withdraw import withdraw
from msiscale.simulate import simulate
from msiscale.store import remove

CHOICES: dict[str, Any] = {
    "encoder": "own:small_encoder:small",
    "mpp": 4.0,
    "window": 512,
    "components": 10,
    "alphas": (1.0,),
    "costs": (1e-4,),
    "shifts": 100,
    "protocols": ("leave_one_patient_out",),
}
FITTED = ("ingest", "register", "features", "fit", "biomarkers")  # figures take seconds
# one name begins with another; the one that goes is too long to be in a compressed chunk by chance
A, B, GONE = "S1", "case-3.b", "case-3.b_2nd"
PATIENT = "patient.who-goes"
TABLES = ("metrics.csv", "biomarkers.csv", "biomarkers_by_specimen.csv", "registration.csv")


class Bench:
    """Three specimens, and the cluster that all tests share: a run takes seconds."""

    def __init__(self, folder: Path, scheduler: str) -> None:
        self.folder, self.scheduler, self.manifests = folder, scheduler, 0
        simulate(folder, specimens=3, seed=1, pixels=(12, 14), mpp=4.0)
        rows = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
        rows["specimen"], rows["patient"] = [A, B, GONE], ["P1", "P2", PATIENT]
        self.rows = rows.set_index("specimen", drop=False)

    def manifest(self, *names: str, **cells: dict[str, str]) -> Path:
        """The manifest of some specimens, in that order; ``column={specimen: value}`` differs."""
        rows = self.rows.loc[list(names)].copy()
        for column, values in cells.items():
            for name, value in values.items():
                rows.loc[name, column] = value
        self.manifests += 1
        path = self.folder / f"manifest{self.manifests}.csv"
        rows.to_csv(path, index=False)
        return path

    def run(self, manifest: Path, out: Path, **choices: Any) -> list[str]:
        """Who failed."""
        words = {"stages": FITTED, **CHOICES, **choices}
        return list(run(str(manifest), str(out), scheduler=self.scheduler, **words).failed)

    def ingest(self, manifest: Path, out: Path, **choices: Any) -> list[str]:
        return self.run(manifest, out, stages=("ingest",), **choices)

    def spectra(self, name: str) -> Path:
        return (self.folder / self.rows.msi[name]).with_suffix(".ibd")


def rewrite(file: Path, data: bytes, stat: os.stat_result) -> None:
    """Other content, the same time."""
    file.write_bytes(data)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.fixture(scope="module")
def bench(scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("changes") / "cohort", scheduler)


@pytest.fixture(scope="module")
def first(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of A and B, whose axis the others keep."""
    out = tmp_path_factory.mktemp("first") / "run"
    assert bench.run(bench.manifest(A, B), out) == []
    return out


@pytest.fixture(scope="module")
def scratch(bench: Bench, first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three fitted from scratch, on the axis of the first run; with figures and report."""
    out = tmp_path_factory.mktemp("scratch") / "run"
    assert bench.run(bench.manifest(A, B, GONE), out, axis=str(first), stages=None) == []
    return out


def copied(out: Path, folder: Path) -> Path:
    return Path(shutil.copytree(out, folder / "run"))


def arrays(store: Path) -> dict[str, np.ndarray]:
    members = zarr.open_group(store, mode="r").members(max_depth=None)
    return {path: np.asarray(m[...]) for path, m in members if isinstance(m, zarr.Array)}


def same(a: Path, b: Path) -> None:
    """Tables, cubes, maps and model are the same to the last bit, and there are no others."""
    for table in TABLES:
        assert (a / table).read_bytes() == (b / table).read_bytes(), table
    for store in ("predictions.zarr", "model.zarr", "state.zarr/folds"):
        same_store(a / store, b / store)


def same_store(a: Path, b: Path) -> None:
    one, two = arrays(a), arrays(b)
    assert one.keys() == two.keys()
    for path, values in one.items():
        np.testing.assert_array_equal(values, two[path], err_msg=f"{a}/{path}")


def snapshot(out: Path, *names: str) -> dict[str, tuple[bytes, int]]:
    """Records, and all that is stored, of some specimens."""
    places = [out / "cohort.zarr", out / "state.zarr", out / "association"]
    places += [out / "ledger" / s for s in ("peaks", "ingest", "register", "features", "sums")]
    return {
        str(file): (file.read_bytes(), file.stat().st_mtime_ns)
        for place in places
        for name in names
        for file in [*(place / name).rglob("*"), place / f"{name}.json", place / f"{name}.csv"]
        if file.is_file()
    }


def traces(place: Path, *words: str) -> list[str]:
    """Files at or below `place` whose path or content has one of some words."""
    found = [place, *place.rglob("*")]
    return [
        f"{p}: {w}"
        for p in found
        for w in words
        if w in str(p.relative_to(place)) or (p.is_file() and w.encode() in p.read_bytes())
    ]


def test_one_is_added(bench: Bench, first: Path, scratch: Path, tmp_path: Path, capfd) -> None:
    out = copied(first, tmp_path)
    before = snapshot(out, A, B)
    assert len(before) > 50
    assert bench.run(bench.manifest(A, B, GONE), out) == []
    (line,) = [x for x in capfd.readouterr().err.splitlines() if "axis" in x]
    assert f"{GONE} is new" in line and "--new-axis" in line
    assert snapshot(out, A, B) == before
    stages = json.loads((out / "run.json").read_text())["stages"]
    assert {stages[s]["redone"] for s in ("peaks", "ingest", "register", "features")} == {1}
    same(out, scratch)


@pytest.mark.parametrize("how", ["left out", "withdrawn"])
def test_one_goes(
    how: str, bench: Bench, first: Path, scratch: Path, tmp_path: Path, capfd
) -> None:
    """On the axis of the first run, which knew nothing of it: that is the fit from scratch."""
    out = copied(scratch, tmp_path)
    before = snapshot(out, A, B)
    assert (out / "figures" / f"ions_{GONE}.png").exists()
    if how == "withdrawn":
        lines = withdraw(str(out), [GONE])
        assert lines[0].startswith(f"{out}: withdrawn: {GONE}; ") and len(lines) == 2
        assert traces(out, GONE, PATIENT, bench.rows.msi[GONE]) == []
        assert "cohort: done: nothing" in status(str(out))
    capfd.readouterr()
    stages = None if how == "left out" else FITTED
    assert bench.run(bench.manifest(A, B), out, axis=str(first), stages=stages) == []
    assert (f"left out: {GONE}" in capfd.readouterr().err) is (how == "left out")
    assert snapshot(out, A, B) == before
    same(out, first)
    shown = ["report.html", "figures", "predictions.zarr", "model.zarr", "run.json", *TABLES]
    assert [t for part in shown for t in traces(out / part, GONE, PATIENT)] == []
    kept = [x for x in status(str(out)) if x.startswith(f"not in the manifest: {GONE};")]
    assert len(kept) == (how == "left out")


def test_a_withdrawal_is_finished_by_the_same_call(
    bench: Bench, scratch: Path, tmp_path: Path, monkeypatch, capfd
) -> None:
    out = copied(scratch, tmp_path)
    (out / "ledger" / "sums" / f".{GONE}.json.x1.part").write_text("of a write that was killed")
    for allowed in (3, 8, 12):
        left = iter(range(allowed))

        def stops(url: str, left: Iterator[int] = left) -> bool:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return remove(url)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("msiscale.pipeline.withdraw.remove", stops)
            withdraw(str(out), [GONE])
        assert status(str(out))
    withdraw(str(out), [GONE])
    assert traces(out, GONE, PATIENT, bench.rows.msi[GONE]) == []
    with pytest.raises(InputError, match="no specimen"):
        withdraw(str(out), [GONE])
    with pytest.raises(InputError, match="run `msiscale ingest`"):
        bench.run(bench.manifest(A, B), out, stages=("fit",))
    # still in the manifest, it is simply new
    assert bench.ingest(bench.manifest(A, B, GONE), out) == []
    assert any(x.startswith(GONE) and "done" in x for x in status(str(out)))


def test_only_specimens_of_the_run_are_withdrawn(first: Path, tmp_path: Path) -> None:
    out = copied(first, tmp_path)
    (tmp_path / "precious.json").write_text("{}")
    everything = sorted(map(str, tmp_path.rglob("*")))
    others = ("../precious", "..", "/", ".", "", "*", "cohort", "axis", "folds", f"{A}/0-0", "S")
    for name in others:
        with pytest.raises(InputError, match="no specimen"):
            withdraw(str(out), [A, name])
    assert sorted(map(str, tmp_path.rglob("*"))) == everything
    said = CliRunner().invoke(cli, ["withdraw", str(out), A])
    assert said.exit_code == 0 and f"withdrawn: {A};" in said.output and "--new-axis" in said.output
    assert any(line.startswith(f"{B} ") for line in status(str(out)))


def test_another_patient_and_another_order(bench: Bench, scratch: Path, tmp_path: Path) -> None:
    moved = bench.manifest(A, B, GONE, patient={GONE: "P1"})
    assert bench.run(moved, tmp_path / "scratch", axis=str(scratch)) == []
    out = copied(scratch, tmp_path)
    assert bench.run(moved, out, axis=str(scratch)) == []
    same(out, tmp_path / "scratch")
    assert traces(out / "metrics.csv", PATIENT) == [] and traces(out / "cohort.zarr", PATIENT) == []

    before, columns = snapshot(out, A, B, GONE), ["fold", "specimen", "model", "target", "metric"]
    values = pd.read_csv(out / "metrics.csv").set_index(columns)["value"]
    turned = bench.manifest(GONE, B, A, patient={GONE: "P1"})
    assert bench.run(turned, out, axis=str(scratch)) == []
    assert snapshot(out, A, B, GONE) == before
    again = pd.read_csv(out / "metrics.csv").set_index(columns)["value"]
    assert list(again.index) != list(values.index)
    np.testing.assert_allclose(again.loc[values.index], values, atol=1e-4)


def test_a_failure_leaves_no_mark(bench: Bench, tmp_path: Path, capfd) -> None:
    """Once mended, a specimen has the say in the axis that it would have had."""
    everyone = bench.manifest(A, B, GONE)
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "run"
    assert bench.ingest(everyone, undisturbed) == []
    spectra = bench.spectra(B)
    data, stat = spectra.read_bytes(), spectra.stat()
    spectra.write_bytes(data[: len(data) // 2])
    assert bench.ingest(everyone, out) == [B]
    rewrite(spectra, data, stat)
    capfd.readouterr()
    bad_row = bench.manifest(A, B, GONE, mpp={GONE: "nonsense"})
    assert bench.ingest(bad_row, out) == [GONE]
    assert f"found again: {B} could not be used" in capfd.readouterr().err
    assert bench.ingest(everyone, out) == []
    assert f"found again: {GONE} could not be used" in capfd.readouterr().err
    same_store(out / "cohort.zarr", undisturbed / "cohort.zarr")
    same_store(out / "state.zarr" / "axis", undisturbed / "state.zarr" / "axis")
    # a failure that comes after the axis was found changes nothing in it
    assert bench.ingest(bad_row, out) == [GONE]
    assert bench.ingest(everyone, out) == []
    assert "anew" not in capfd.readouterr().err
    same_store(out / "state.zarr" / "axis", undisturbed / "state.zarr" / "axis")


def test_when_the_axis_is_found_anew(bench: Bench, tmp_path: Path, capfd) -> None:
    def mz() -> np.ndarray:
        return arrays(out / "state.zarr" / "axis")["mz"]

    def said() -> str:
        return "".join(x for x in capfd.readouterr().err.splitlines() if "found again" in x)

    out, all_three = tmp_path / "run", tmp_path / "three"
    everyone = bench.manifest(A, B, GONE)
    assert bench.ingest(everyone, all_three) == []
    assert bench.ingest(bench.manifest(A, B), out) == [] and not said()
    kept = mz()
    assert bench.ingest(everyone, out) == [] and not said()
    np.testing.assert_array_equal(mz(), kept)
    # asked for
    assert bench.ingest(everyone, out, new_axis=True) == [] and "--new-axis" in said()
    same_store(out / "cohort.zarr", all_three / "cohort.zarr")
    # another choice
    assert (
        bench.ingest(everyone, out, min_frequency=0.98) == [] and "options have changed" in said()
    )
    assert len(mz()) < len(kept)
    assert bench.ingest(everyone, out) == [] and "options have changed" in said()
    # a write that was cut short
    (out / "ledger" / "axis" / "cohort.json").unlink()
    shutil.rmtree(out / "state.zarr" / "axis" / "support" / "snr")
    assert bench.ingest(everyone, out) == [] and not said()
    same_store(out / "state.zarr" / "axis", all_three / "state.zarr" / "axis")
    # another file
    stat = bench.spectra(A).stat()
    os.utime(bench.spectra(A), ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert bench.ingest(everyone, out) == []
    assert f"the MSI of {A} or its recalibration has changed" in said()
    os.utime(bench.spectra(A), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    same_store(out / "cohort.zarr", all_three / "cohort.zarr")
    # nobody left of those it was found from
    assert bench.ingest(bench.manifest(A), tmp_path / "other") == [] and not said()
    assert bench.ingest(bench.manifest(B), tmp_path / "other") == []
    assert "none of the specimens" in said()


def test_an_axis_too_long_to_fit_is_refused_in_one_line(
    bench: Bench, tmp_path: Path, monkeypatch, capsys
) -> None:
    manifest, out = bench.manifest(A, B), tmp_path / "run"
    words = ["run", str(manifest), "--out", str(out), "--axis", "ppm:100:1000:1"]
    monkeypatch.setattr("sys.argv", ["msiscale", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1 and not out.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in ("ppm:100:1000:1", "2,302,587", "12,000", "coarser"))
    config = RunConfig(axis="ppm:100:1000:0.01", encoder="efficientnet-lite0")
    (line,) = check(str(manifest), config).problems
    assert "12,000" in line
    monkeypatch.setattr("msiscale.pipeline.axis.MAX_COLUMNS", 5)
    with pytest.raises(InputError, match=r"at most 5 .* raise --min-frequency or --snr"):
        bench.ingest(manifest, out)


def test_a_new_axis_or_a_given_one(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave it out"):
        bench.ingest(bench.manifest(A), tmp_path / "run", axis="x.csv", new_axis=True)
