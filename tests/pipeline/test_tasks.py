"""Tasks on a real cluster: order, retries, killed workers, and when the run stops."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster

from msiscale.errors import InputError, MsiscaleWarning, RunStopped, SpecimenError, StoreError
from msiscale.pipeline import tasks as module
from msiscale.pipeline.tasks import Task, ordered, run_tasks
from msiscale.store import LostChunk
from msiscale.work import kind_of


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)


def double(i: int) -> dict[str, int]:
    return {"i": 2 * i, "spectra": 1}


def fails_until(folder: str, name: str, times: int, error: Exception) -> str:
    tries = len([f for f in os.listdir(folder) if f.startswith(name)])
    Path(folder, f"{name}-{tries}").touch()
    if tries < times:
        raise error
    return "well"


def kills_once(folder: str) -> str:
    flag = Path(folder) / "killed"
    if not flag.exists():
        flag.touch()
        os._exit(9)
    return "alive"


def test_each_specimen_is_told_of_when_its_last_task_is_done(client: Client) -> None:
    told: dict[str, dict[str, dict[str, int]]] = {}
    tasks = [Task(f"{s}/{i}", s, double, (i,), 5) for s in "abc" for i in range(5)]
    outcome = run_tasks(client, tasks, "t", finished=lambda name, r, why: told.update({name: r}))
    assert sorted(told) == ["a", "b", "c"] and not outcome.results
    found = {k: v["i"] for results in told.values() for k, v in results.items()}
    assert found == {task.name: 2 * task.args[0] for task in tasks}
    ((worker,),) = {tuple({w for _, w in outcome.spent})}
    assert worker.startswith("tcp://")
    assert sum(spent["spectra"] for spent in outcome.spent.values()) == 15


def test_a_failure_that_may_pass_is_tried_again_and_not_for_ever(
    client: Client, tmp_path: Path
) -> None:
    folder, error = str(tmp_path), StoreError("503")
    tasks = [
        Task("a", "a", fails_until, (folder, "a", 2, error)),
        Task("b", "b", fails_until, (folder, "b", 99, error)),
        Task("c", "c", fails_until, (folder, "c", 99, InputError("bad file"))),
        Task("d", "d", fails_until, (folder, "d", 99, ValueError("bug"))),
    ]
    outcome = run_tasks(client, tasks, "t")
    assert outcome.results == {"a": "well"}
    assert outcome.failed == {"b": "StoreError: 503", "c": "bad file", "d": "ValueError: bug"}
    tries = [f[0] for f in os.listdir(folder)]
    assert {n: tries.count(n) for n in "abcd"} == {"a": 3, "b": module.ATTEMPTS, "c": 1, "d": 1}
    assert outcome.retries == 2 + module.ATTEMPTS - 1


def test_a_killed_worker_costs_nothing_but_time(client: Client, tmp_path: Path) -> None:
    tasks = [Task("k", "k", kills_once, (str(tmp_path),))]
    tasks += [Task(f"n{i}", "n", double, (i,)) for i in range(6)]
    outcome = run_tasks(client, tasks, "t")
    assert not outcome.failed and outcome.results["k"] == "alive"


def warns(fails: bool) -> str:
    for text in ("a.tif: odd", "a.tif: odd", "s3://me:secret@lab/b.tif: odder\n"):
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
    warnings.warn("of a library", FutureWarning, stacklevel=2)
    if fails:
        raise InputError("bad")
    return "well"


def test_what_a_task_warns_of_is_told_once_also_of_one_that_fails(client: Client) -> None:
    told: list[tuple[str, str]] = []
    tasks = [Task(name, name, warns, (name == "b",)) for name in "ab"]
    outcome = run_tasks(client, tasks, "t", noticed=lambda *words: told.append(words))
    assert (outcome.results, outcome.failed) == ({"a": "well"}, {"b": "bad"})
    lines = ["a.tif: odd", "s3://***@lab/b.tif: odder "]
    assert sorted(told) == [(name, text) for name in "ab" for text in lines]
    told.clear()
    reports = ordered(client, tasks, "t", noticed=lambda *words: told.append(words))
    assert [report.failure for report in reports] == [None, "bad"] and len(told) == 4


def test_results_come_in_order(client: Client) -> None:
    import time

    def late(i: int) -> int:
        time.sleep(0.3 if i == 0 else 0.0)
        return i

    tasks = [Task(str(i), "", late, (i,)) for i in range(40)]
    assert [report.result for report in ordered(client, tasks, "t")] == list(range(40))


def test_no_room_stops_the_run(client: Client) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunStopped, match="No space left"):
        run_tasks(client, [Task("a", "a", full)], "t")


def test_a_cluster_without_workers_is_not_waited_for_for_ever() -> None:
    with (
        LocalCluster(n_workers=0, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
        dask.config.set({"msiscale.patience-s": 1}),
        pytest.raises(RunStopped, match=r"for 1 s there has been no worker.*same command"),
    ):
        run_tasks(client, [Task("a", "a", double, (1,))], "t")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("x"), "input"),
        (SpecimenError("x", "s"), "input"),
        (LostChunk("x"), "input"),
        (RunStopped("x"), "stop"),
        (OSError(errno.ENOSPC, "full"), "stop"),
        (StoreError("503"), "passing"),
        (ConnectionResetError(), "passing"),
        (MemoryError(), "passing"),
        (FileNotFoundError(2, "no"), "error"),
        (ValueError("x"), "error"),
    ],
)
def test_kinds(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
