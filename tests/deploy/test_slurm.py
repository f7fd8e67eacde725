"""The files of deploy/slurm on a real SLURM: workers come and go, and no job stays behind."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import CHOICES, environment, installed
from obstore.store import LocalStore
from slurm_node import Slurm, missing_slurm, slurm_node

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue (PyPI) is not installed")

from benchmarks.faults.compare import compare, snapshot
from msiscale.simulate import simulate

pytestmark = pytest.mark.slow(reason="a run a test, on a real SLURM")

WORDS = [w.replace("own:small_encoder:small", "own:waiting_encoder:waiting") for w in CHOICES]
WORDS += ["--block", "8"]
PATIENCE_S = 240.0  # for a first block of features, on a machine that has other work
GONE_S = 30.0  # within which the jobs of a run that was told to end are gone


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """One node of 4 CPUs, of which the machine may have fewer: its jobs mostly wait."""
    if why := missing_slurm():
        pytest.skip(why)
    with slurm_node(tmp_path_factory.mktemp("slurm") / "node", cpus=4) as node:
        yield node


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("queued")
    simulate(folder, specimens=3, seed=1, pixels=(16, 16), mpp=4.0)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def of_folder(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The run that nothing happens to, on this machine."""
    out = tmp_path_factory.mktemp("undisturbed")
    said = installed("run", cohort, "--out", out, "--workers", "2", *WORDS)
    assert said.code == 0, said.err
    return snapshot(LocalStore(out))


class Queued:
    """A run whose workers are jobs, by the file of deploy/slurm with the numbers of a test."""

    def __init__(
        self,
        slurm: Slurm,
        folder: Path,
        cohort: Path,
        *,
        workers: tuple[int, int] = (1, 2),
        walltime: str = "00:30:00",
        wait_s: float = 2.0,
    ) -> None:
        self.slurm, self.folder, self.cohort = slurm, folder, cohort
        self.out, self.log = folder / "results", folder / "said"
        self.config = folder / "cluster.toml"
        self.before = set(slurm.jobs())
        self.env = environment() | slurm.env | {"WAIT_S": str(wait_s)}
        self.env.pop("TMPDIR", None)  # SLURM gives none
        given = Path(__file__).parents[2] / "deploy" / "slurm" / "cluster.toml"
        text = given.read_text().partition("# A second pool")[0]
        for name, value in {
            "minimum": workers[0],
            "maximum": workers[1],
            "wait": '"2 minutes"',
            "walltime": f'"{walltime}"',
            "log_directory": f'"{folder}/logs"',
        }.items():
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
            assert found == 1, name
        self.config.write_text(f'{text}\ninterface = "lo"\n')

    @property
    def command(self) -> list[str]:
        program = str(Path(sys.executable).parent / "msiscale")
        words = ["run", str(self.cohort), "--out", str(self.out), "--cluster", "slurm"]
        return [program, *words, "--cluster-config", str(self.config), *WORDS]

    def start(self) -> subprocess.Popen[bytes]:
        """The command, on this machine, in a session of its own."""
        with self.log.open("wb") as file:
            words = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
            return subprocess.Popen(
                self.command, cwd=self.folder, env=self.env, start_new_session=True, **words
            )

    def said(self) -> str:
        logs = [self.log, *self.folder.glob("*.log"), *sorted(self.folder.glob("logs/*"))[:2]]
        return "\n".join(p.read_text()[-1500:] for p in logs if p.is_file())

    def jobs(self, *states: str) -> list[str]:
        """Of this run."""
        return [job for job in self.slurm.jobs(*states) if job not in self.before]

    def alive(self) -> list[str]:
        return [job for job in self.slurm.alive() if job not in self.before]

    def done(self, seconds: float) -> bool:
        """Wait until the first block of features is recorded: workers are at work."""
        records = self.out / "ledger" / "features"
        return self.slurm.until(lambda: any(records.rglob("*.json")), seconds)

    def stays_gone(self) -> bool:
        """Whether its jobs end in time, and none begins later."""
        gone = self.slurm.until(lambda: not self.alive(), GONE_S)
        time.sleep(5)
        return gone and not self.alive()


@pytest.fixture
def queue(slurm: Slurm, tmp_path: Path, cohort: Path) -> Iterator[Callable[..., Queued]]:
    """``queue(workers=…)``: a run to start; its jobs do not outlive the test."""
    made: list[Queued] = []

    def make(**numbers: Any) -> Queued:
        made.append(Queued(slurm, tmp_path, cohort, **numbers))
        return made[-1]

    yield make
    if left := [job for queued in made for job in queued.alive()]:
        slurm.tell("scancel", "--full", *left)
        slurm.until(lambda: not set(left) & set(slurm.alive()), GONE_S)


def ended(process: subprocess.Popen[bytes], seconds: float) -> int:
    """The exit status; one that does not end is killed."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def test_workers_come_as_there_is_work_and_go_at_the_end(
    slurm: Slurm, queue: Callable[..., Queued], of_folder: dict[str, str]
) -> None:
    queued = queue(workers=(1, 3))
    process = queued.start()
    try:
        assert slurm.until(lambda: len(queued.jobs("RUNNING")) > 1, 120), queued.said()
        assert ended(process, 400) == 0, queued.said()
    finally:
        process.kill()
    assert slurm.until(lambda: not queued.alive(), GONE_S)
    difference = compare(of_folder, snapshot(LocalStore(queued.out)))
    assert not difference, difference


def test_workers_that_are_cancelled_or_out_of_time_are_asked_for_again(
    slurm: Slurm, queue: Callable[..., Queued], of_folder: dict[str, str]
) -> None:
    """Each has a minute, and one goes before."""
    queued = queue(workers=(2, 2), walltime="00:01:00", wait_s=3)
    process = queued.start()
    try:
        assert queued.done(PATIENCE_S), queued.said()
        slurm.tell("scancel", queued.jobs("RUNNING")[0])
        assert ended(process, 500) == 0, queued.said()
    finally:
        process.kill()
    assert slurm.until(lambda: not queued.alive(), GONE_S)
    assert len(queued.jobs()) > 3
    assert queued.jobs("TIMEOUT") and queued.jobs("CANCELLED")
    difference = compare(of_folder, snapshot(LocalStore(queued.out)))
    assert not difference, difference


def test_a_head_job_that_is_cancelled_takes_its_workers_along(
    slurm: Slurm, queue: Callable[..., Queued], tmp_path: Path, cohort: Path
) -> None:
    """Some of its workers do not fit the node, and wait."""
    queued = queue(workers=(5, 5), wait_s=5)
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    script = Path(__file__).parents[2] / "deploy" / "slurm" / "head.sbatch"
    variables = {"MSISCALE_VENV": str(venv.parent), "CLUSTER_CONFIG": str(queued.config)}
    submitted = subprocess.run(
        ["sbatch", "--parsable", script, cohort, queued.out, *WORDS],
        cwd=tmp_path,
        env=queued.env | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    head = submitted.stdout.strip()
    assert queued.done(PATIENCE_S), queued.said()
    assert queued.jobs("PENDING") and len(queued.jobs("RUNNING")) > 1
    slurm.tell("scancel", head)
    assert queued.stays_gone(), (queued.alive(), queued.said())
    assert "Traceback" not in queued.said()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_run_that_is_told_to_end_takes_its_jobs_along(
    queue: Callable[..., Queued], number: signal.Signals
) -> None:
    queued = queue(workers=(5, 5), wait_s=5)
    process = queued.start()
    try:
        assert queued.done(PATIENCE_S), queued.said()
        assert queued.jobs("PENDING") and queued.jobs("RUNNING")
        process.send_signal(number)
        assert ended(process, 60) != 0
    finally:
        process.kill()
    assert queued.stays_gone(), (queued.alive(), queued.said())
    assert "Traceback" not in queued.log.read_text()


def test_a_session_that_closes_takes_its_jobs_along(
    slurm: Slurm, queue: Callable[..., Queued], tmp_path: Path
) -> None:
    """The terminal goes, as when the ssh connection breaks."""
    queued = queue(workers=(5, 5), wait_s=5)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(queued.command[0], queued.command, queued.env)
    try:
        assert queued.done(PATIENCE_S), queued.said()
        assert queued.jobs("PENDING") and queued.jobs("RUNNING")
    finally:
        os.close(terminal)
    assert slurm.until(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid, 60)
    assert queued.stays_gone(), queued.alive()
