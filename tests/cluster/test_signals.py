"""A command that is told to end: lease given back, jobs cancelled, a line; then at once."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import CHOICES, environment

from msiscale.cli.signals import heard
from msiscale.simulate import simulate

from .conftest import wait_for


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    simulate(folder, specimens=2, seed=1, pixels=(20, 22), mpp=4.0)
    return folder / "manifest.csv"


def hearing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Command:
    """``python -m msiscale run`` in a process group of its own."""

    def __init__(self, manifest: Path, out: Path, *where: str | Path, **words: Any) -> None:
        self.out, self.log = out, out.with_suffix(".log")
        line = [sys.executable, "-m", "msiscale", "run", manifest, "--out", out, *where]
        with self.log.open("wb") as log:
            given: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": log}
            # a session of its own that hears SIGHUP, though these tests may run under nohup
            given |= {"start_new_session": True, "preexec_fn": hearing}
            command = [str(word) for word in (*line, *CHOICES, "--block", "8")]
            self.process = subprocess.Popen(command, env=environment(), **(given | words))

    def said(self) -> str:
        return self.log.read_text()

    def reach(self, text: str) -> None:
        wait_for(lambda: text in self.said() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def at_work(self) -> None:
        """Until its first records are there."""
        wait_for(lambda: bool(list(self.out.glob("ledger/peaks/*"))))
        assert self.process.poll() is None

    def lease(self) -> int:
        """The beat of the newest lease; -1 where it was given back."""
        newest = max((self.out / "lease").iterdir())
        return int(json.loads(newest.read_text())["beat"])


def queued(folder: Path, home: pytest.MonkeyPatch) -> list[str | Path]:
    """The words of a run on the queue: one job that starts, and more that wait."""
    home.setenv("HOME", str(folder))
    file = folder / "queue.toml"
    file.write_text("kind = 'slurm'\nworkers = 2\n[options]\nmemory = '2 GiB'\ninterface = 'lo'\n")
    return ["--cluster-config", file]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_jobs_go_with_the_command(name, manifest, tmp_path, queue, monkeypatch):
    command = Command(manifest, tmp_path / "run", *queued(tmp_path, monkeypatch))
    command.at_work()
    number = signal.Signals[name]
    os.kill(command.process.pid, number)
    os.kill(command.process.pid, number)  # as a wrapper sends it again: the same one
    assert command.process.wait(60) == 128 + number
    lines = command.said().splitlines()
    assert f"msiscale: {name}: stopping in good order; a second signal ends at once" in lines
    assert lines[-1] == f"msiscale: stopped by {name}; the same command goes on where it stopped"
    assert "Traceback" not in command.said()
    jobs = {f.stem for f in queue.glob("*.sh")}
    assert jobs and jobs == {f.stem for f in queue.glob("*.ended")}
    assert command.lease() == -1
    assert not list((tmp_path / ".msiscale").iterdir())


def test_a_second_signal_ends_at_once(manifest, tmp_path, queue, monkeypatch):
    scancel = queue.parent / "bin" / "scancel"
    scancel.write_text('#!/bin/sh\nkill -TERM -- "-$1"\nexec sleep 300\n')  # a queue that hangs
    command = Command(manifest, tmp_path / "run", *queued(tmp_path, monkeypatch))
    command.at_work()
    command.process.send_signal(signal.SIGTERM)
    command.reach("a second signal ends at once")
    time.sleep(1.2)
    assert command.process.poll() is None
    began = time.monotonic()
    command.process.send_signal(signal.SIGINT)
    assert command.process.wait(30) == 128 + signal.SIGINT
    assert time.monotonic() - began < 5


def test_a_local_run_is_told_with_all_its_workers(manifest, tmp_path):
    """As systemd, a container or a queue does at the end of a job."""
    command = Command(manifest, tmp_path / "run", "--workers", "2")
    command.at_work()
    os.killpg(command.process.pid, signal.SIGTERM)
    assert command.process.wait(60) == 128 + signal.SIGTERM
    assert "Traceback" not in command.said()
    assert command.lease() == -1


def test_a_terminal_that_is_closed(manifest, tmp_path, scheduler):
    """Nobody is there to read the lines, and the stop is a clean one."""
    ours, theirs = pty.openpty()
    own = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "preexec_fn": take_terminal}
    command = Command(manifest, tmp_path / "run", "--scheduler", scheduler, **own)
    os.close(theirs)
    command.at_work()
    os.close(ours)
    assert command.process.wait(60) == 128 + signal.SIGHUP
    assert command.lease() == -1


def take_terminal() -> None:
    """Make the terminal of standard input the one that controls this session."""
    import fcntl
    import termios

    hearing()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_nohup_is_kept():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heard() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert (stop.number, signal.getsignal(signal.SIGHUP)) == (0, signal.SIG_IGN)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
        assert stop.code == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, before)
