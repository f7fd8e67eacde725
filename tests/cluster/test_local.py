"""The local cluster: sized to the machine, its GPUs taken by their own workers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import dask
import pytest
from distributed import Worker, get_worker

from msiscale.cluster import (
    WORKER_ENVIRONMENT,
    connect,
    cpu_workers,
    has_gpu,
    machine,
    resources_of,
    task_device,
)
from msiscale.pipeline.tasks import Task, run_tasks

GPU = "GPU-fake-of-the-test"


@pytest.fixture(scope="module")
def client():
    """Two CPU workers, and one for a GPU that torch is made to report."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine, "gpus", lambda: [GPU])
            patch.setattr(machine, "cpus", lambda: 2)
            client = stack.enter_context(connect())
        yield client


def where_am_i(i: int) -> tuple[str, str, str | None]:
    return get_worker().address, task_device(), os.environ.get("CUDA_VISIBLE_DEVICES")


def test_a_gpu_has_a_worker_of_its_own(client):
    offered = resources_of(client)
    assert sorted(map(str, offered.values())) == ["{'GPU': 1}", "{}", "{}"]
    assert set(client.nthreads().values()) == {1}
    [gpu] = [address for address, r in offered.items() if r]
    assert has_gpu(client)
    assert sorted(cpu_workers(client)) == sorted(set(offered) - {gpu})

    asked = client.map(where_am_i, range(12), resources={"GPU": 1}, pure=False)
    assert set(client.gather(asked)) == {(gpu, "cuda", GPU)}
    left = client.map(where_am_i, range(12), workers=cpu_workers(client), pure=False)
    assert {(device, seen) for _, device, seen in client.gather(left)} == {("cpu", "")}
    assert task_device() == "cpu"  # not in a task


def test_extraction_goes_to_the_gpu_and_the_rest_does_not(client):
    [gpu] = [address for address, offered in resources_of(client).items() if offered]
    for wants_gpu, devices in ((True, {"cuda"}), (False, {"cpu"})):
        tasks = [Task(str(i), "s", where_am_i, (i,)) for i in range(9)]
        outcome = run_tasks(client, tasks, "t", gpu=wants_gpu)
        assert {device for _, device, _ in outcome.results.values()} == devices
        assert ({worker for _, worker in outcome.spent} == {gpu}) is wants_gpu
        assert any("gpu_s" in spent for spent in outcome.spent.values()) is wants_gpu


def test_workers_are_started_as_they_should_be(client):
    def look(dask_worker: Worker) -> dict[str, object]:
        memory = dask_worker.memory_manager
        return {
            **{name: os.environ.get(name) for name in WORKER_ENVIRONMENT},
            "spill": memory.memory_spill_fraction,
            "target": memory.memory_target_fraction,
            "limit": memory.memory_limit,
        }

    for seen in client.run(look).values():
        share = machine.memory() // 3
        assert seen == {**WORKER_ENVIRONMENT, "spill": False, "target": False, "limit": share}
    timeout = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.no_workers_timeout)
    assert timeout == 120


def test_everything_listens_on_loopback(client):
    hosts = {
        urlsplit(address).hostname for address in (client.scheduler.address, *client.nthreads())
    }
    hosts.add(urlsplit(client.dashboard_link).hostname)
    assert hosts == {"127.0.0.1"}
    bound = client.run_on_scheduler(
        lambda dask_scheduler: [
            s.getsockname()[0] for s in dask_scheduler.http_server._sockets.values()
        ]
    )
    assert bound == ["127.0.0.1"]


def test_without_gpus_there_is_nothing_to_choose(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "gpus", list)
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "7s"}),
        connect(workers=1, performance_report=str(tmp_path / "report.html")) as client,
    ):
        assert (has_gpu(client), cpu_workers(client)) == (False, [])
        assert client.submit(where_am_i, 0).result()[1] == "cpu"
        # the user's own setting is kept
        wait = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.no_workers_timeout)
        assert wait == 7
    assert "where_am_i" in (tmp_path / "report.html").read_text()


def test_nothing_given_is_what_dask_is_configured_for(scheduler: str):
    with dask.config.set({"scheduler-address": scheduler}):
        with connect() as other:
            assert other.scheduler.address == scheduler
        with connect(workers=1) as own:
            assert own.scheduler.address != scheduler


@pytest.mark.parametrize(
    ("cpu", "inner", "memory", "expected"),
    [
        ("max 100000", "max 100000", "max", (8, 64 << 30)),
        ("250000 100000", "max 100000", str(1 << 30), (3, 1 << 30)),
        ("max 100000", "50000 100000", str(1 << 50), (1, 64 << 30)),
    ],
)
def test_limits_of_every_cgroup_around(tmp_path: Path, monkeypatch, cpu, inner, memory, expected):
    (tmp_path / "own").write_text("1:cpu:/elsewhere\n0::/job/step\n")
    (tmp_path / "fs/job/step").mkdir(parents=True)
    (tmp_path / "fs/cpu.max").write_text(cpu + "\n")
    (tmp_path / "fs/job/step/cpu.max").write_text(inner + "\n")
    (tmp_path / "fs/job/memory.max").write_text(memory + "\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "fs")
    monkeypatch.setattr(machine, "OWN_CGROUP", tmp_path / "own")
    monkeypatch.setattr(machine, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "memory_limit", lambda: 64 << 30)
    assert (machine.cpus(), machine.memory()) == expected


@pytest.mark.parametrize(
    ("count", "named", "expected"),
    [(0, None, []), (2, None, ["0", "1"]), (2, "5,GPU-x", ["5", "GPU-x"]), (0, "", [])],
)
def test_gpus_are_those_that_torch_sees(monkeypatch, count, named, expected):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert machine.gpus() == expected
