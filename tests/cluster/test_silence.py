"""A worker that hangs is restarted and its tasks go to others; one that is only busy is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from distributed import Client

from msiscale.cluster import connect, silence
from msiscale.pipeline.tasks import Task, run_tasks


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silence, "SILENT_S", 1.5)
        patch.setattr(silence, "LOOK_S", 0.3)
        with connect(workers=2) as client:
            yield client


def pids(client: Client) -> dict[str, int]:
    """Worker -> process."""
    return dict(client.run(os.getpid))


def holds_the_interpreter(seconds: float) -> float:
    """One call of native code after the other, which let no other thread in meanwhile."""
    began = time.perf_counter()
    digits = 1_000_000
    while time.perf_counter() - began < seconds:
        began_one = time.perf_counter()
        pow(3, digits)
        if time.perf_counter() - began_one < seconds / 2:
            digits *= 2
    return time.perf_counter() - began


def test_a_busy_worker_is_left_alone(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    before = pids(client)
    outcome = run_tasks(client, [Task("a", "a", holds_the_interpreter, (6.0,))], "t")
    assert outcome.results["a"] >= 6 and pids(client) == before
    assert "stands still" not in capfd.readouterr().err


def slow(i: int) -> int:
    time.sleep(0.2)
    return i


def test_a_stopped_worker_is_replaced(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    before = pids(client)
    address, pid = next(iter(before.items()))
    tasks = [Task(str(i), str(i), slow, (i,)) for i in range(30)]
    began = time.monotonic()
    told: list[str] = []

    def first(name: str, *_: object) -> None:
        if not told:
            os.kill(pid, signal.SIGSTOP)
        told.append(name)

    outcome = run_tasks(client, tasks, "t", finished=first)
    assert sorted(map(int, told)) == list(range(30)) and not outcome.failed
    assert time.monotonic() - began < 40
    client.wait_for_workers(2, timeout=30)
    assert pid not in pids(client).values()
    said = capfd.readouterr().err
    assert said.count("stands still") == 1 and address.rpartition("/")[2] in said
    assert "Traceback" not in said
