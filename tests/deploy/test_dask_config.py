"""deploy/dask.yaml: every key is one that Dask has, and a real scheduler and worker obey it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
import yaml
from dask.utils import parse_timedelta
from distributed import Client

from msiscale.cluster import WORKER_ENVIRONMENT

FREE = ("nanny", "pre-spawn-environ")  # its keys are names of variables


@pytest.fixture(scope="module")
def config(deploy: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((deploy / "dask.yaml").read_text()))


def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        here = (*path, key)
        if isinstance(value, dict) and here[-2:] != FREE:
            yield from leaves(value, here)
        else:
            yield here


def test_every_key_is_one_of_dask(config: dict[str, Any]) -> None:
    folder = Path(distributed.__file__).parent
    defaults = set(leaves(yaml.safe_load((folder / "distributed.yaml").read_text())))
    ours = set(leaves(config))
    assert len(ours) >= 10
    assert ours <= defaults


def test_values_are_what_dask_takes(config: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    folder = Path(distributed.__file__).parent
    schema = yaml.safe_load((folder / "distributed-schema.yaml").read_text())
    jsonschema.validate(config, schema)
    scheduler, comm = config["distributed"]["scheduler"], config["distributed"]["comm"]
    for text in (
        scheduler["no-workers-timeout"],
        scheduler["worker-ttl"],
        *comm["timeouts"].values(),
        *comm["retry"]["delay"].values(),
    ):
        assert parse_timedelta(text) > 0
    # a connection is given up before its worker is
    assert parse_timedelta(comm["timeouts"]["tcp"]) < parse_timedelta(scheduler["worker-ttl"])


def test_workers_environment_is_that_of_a_local_cluster(config: dict[str, Any]) -> None:
    assert config["distributed"]["nanny"]["pre-spawn-environ"] == WORKER_ENVIRONMENT


def test_scheduler_and_worker_obey(config: dict[str, Any], services: Any) -> None:
    scheduler = config["distributed"]["scheduler"]

    def of_scheduler(dask_scheduler: Any) -> tuple[int, float, float, list[str]]:
        origins = dask.config.get(
            "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"
        )
        return (
            dask_scheduler.allowed_failures,
            dask_scheduler.no_workers_timeout,
            dask_scheduler.worker_ttl,
            origins,
        )

    def of_worker(dask_worker: Any) -> tuple[dict[str, str], Any, Any]:
        memory = dask_worker.memory_manager
        return dict(os.environ), memory.memory_target_fraction, memory.memory_spill_fraction

    with Client(services.address, timeout="30s") as client:
        assert client.run_on_scheduler(of_scheduler) == (
            scheduler["allowed-failures"],
            parse_timedelta(scheduler["no-workers-timeout"]),
            parse_timedelta(scheduler["worker-ttl"]),
            ["localhost:8787", "127.0.0.1:8787"],
        )
        ((environment, target, spill),) = client.run(of_worker).values()
    for name, value in WORKER_ENVIRONMENT.items():
        assert os.environ.get(name, value) == environment[name]
    assert target is False
    assert spill is False
