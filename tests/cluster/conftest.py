"""Real schedulers and workers, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dask
import pytest
import yaml

from msiscale.cluster import WORKER_ENVIRONMENT

AUTHORITY = Path(__file__).parents[2] / "deploy" / "tls" / "authority.sh"
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start("scheduler" | "worker", …)``: the command of Dask; stopped at the end."""
    running: list[subprocess.Popen] = []

    def begin(
        part: str,
        *words: str | Path,
        env: dict[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> subprocess.Popen:
        command = [*before, sys.executable, "-m", f"distributed.cli.dask_{part}", *map(str, words)]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,  # not the checkout, whose metadata would be found first
            env=os.environ | (env or {}),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(process)
        return process

    yield begin
    for process in reversed(running):
        process.terminate()
    for process in running:
        process.wait(timeout=30)


@pytest.fixture
def scheduler_file(start: Start, tmp_path: Path) -> Path:
    """The scheduler file of a scheduler on loopback."""
    return begin_scheduler(start, tmp_path / "scheduler.json")


def begin_scheduler(start: Start, file: Path, env: dict[str, str] | None = None) -> Path:
    """Start a scheduler and wait until its file is there."""
    words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file]
    start("scheduler", *words, env=env)
    wait_for(lambda: file.exists() and file.read_text().strip().endswith("}"))
    return file


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Until `condition` holds; a failure when it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def flat(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """A nested configuration by dotted names, so that setting it leaves its neighbours."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= (
            flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
        )
    return found


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder made by the project's test authority."""
    folder = tmp_path / "tls"
    subprocess.run(["sh", AUTHORITY, folder, "localhost"], check=True, capture_output=True)
    return folder


def configured(folder: Path) -> dict[str, Any]:
    """The Dask configuration of a test authority."""
    return flat(yaml.safe_load((folder / "dask-tls.yaml").read_text()))


@pytest.fixture(autouse=True)
def quick_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No Dask settings of the machine, and connections that fail fail soon."""
    for name in list(os.environ):
        if name.startswith("DASK_") or name in WORKER_ENVIRONMENT:
            monkeypatch.delenv(name)
    with dask.config.set({"distributed.comm.timeouts.connect": "3s"}):
        yield


@pytest.fixture
def queue(tmp_path, monkeypatch) -> Path:
    """``sbatch`` that runs a job at once and ``scancel``; the folder of their records."""
    bin_, log = tmp_path / "bin", tmp_path / "jobs"
    bin_.mkdir()
    log.mkdir()
    commands = {
        "sbatch": 'cp "$1" "$LOG/$$.new"\n'
        'setsid sh -c \'mv "$1" "$LOG/$$.sh"; exec sh "$LOG/$$.sh" >"$LOG/$$.log" 2>&1\''
        ' job "$LOG/$$.new" &\necho "Submitted batch job $!"\n',
        "scancel": 'touch "$LOG/$1.ended"; kill -TERM -- "-$1" 2>/dev/null\n',
    }
    for name, text in commands.items():
        (bin_ / name).write_text("#!/bin/sh\n" + text)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))
    return log
