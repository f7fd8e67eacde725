"""Schedulers that were there before: found, checked, over TLS."""

from __future__ import annotations

import json
from pathlib import Path

import dask
import pytest
from distributed import Client

from msiscale import __version__
from msiscale.cluster import connect as connect_to
from msiscale.cluster import cpu_workers, has_gpu, task_device
from msiscale.errors import InputError

from .conftest import Start, begin_scheduler, configured, wait_for


def test_a_scheduler_file_an_address_and_the_environment(start: Start, scheduler_file: Path):
    words = ["--scheduler-file", scheduler_file, "--nthreads", "1", "--no-dashboard"]
    start("worker", *words)
    start("worker", *words, "--resources", "GPU=1")
    address = json.loads(scheduler_file.read_text())["address"]
    with connect_to(scheduler=str(scheduler_file)) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.scheduler.address == address
        assert has_gpu(client)
        assert len(cpu_workers(client)) == 1
        assert client.submit(task_device, resources={"GPU": 1}, pure=False).result() == "cuda"
        assert client.submit(task_device, workers=cpu_workers(client)).result() == "cpu"
    with connect_to(scheduler=address) as client:
        assert len(client.nthreads()) == 2
    with dask.config.set(dask.config.collect_env({"DASK_SCHEDULER_ADDRESS": address})):
        with connect_to() as client:
            assert client.scheduler.address == address
        # one that is asked for by name is started all the same
        with connect_to(cluster="local", workers=1) as client:
            assert client.scheduler.address != address


def test_other_versions_are_named(start: Start, scheduler_file: Path, tmp_path: Path):
    # a worker whose msiscale is another one, as its packages' metadata say
    fake = tmp_path / "site" / "msiscale-0.0.1.dist-info"
    fake.mkdir(parents=True)
    (fake / "METADATA").write_text("Metadata-Version: 2.1\nName: msiscale\nVersion: 0.0.1\n")
    words = ["--scheduler-file", scheduler_file, "--nthreads", "1", "--no-dashboard"]
    start("worker", *words, env={"PYTHONPATH": str(fake.parent)})
    with pytest.raises(InputError) as error, connect_to(scheduler=str(scheduler_file)):
        pass
    said = str(error.value)
    assert "has msiscale 0.0.1 on Python" in said
    assert f"install there what runs here: msiscale {__version__} on Python" in said
    assert said.count("worker tcp://") == 1
    assert "the scheduler has" not in said  # it has the same


def test_a_worker_without_msiscale_is_named(monkeypatch):
    from msiscale.cluster.versions import check_versions

    def facts(**packages: str) -> dict:
        return {"packages": {"python": "3.11.7.final.0", **packages}}

    class Found:
        scheduler = type("Address", (), {"address": "tcp://there:1"})

        def get_versions(self, packages: list[str]) -> dict:
            assert packages == ["msiscale"]
            workers = {f"tcp://w{i}:1": facts() for i in range(5)}
            return {
                "client": facts(msiscale="0.1.0"),
                "scheduler": facts(msiscale="0.1.0"),
                "workers": workers | {"tcp://w9:1": facts(msiscale="0.1.0")},
            }

    with pytest.raises(InputError) as error:
        check_versions(Found())  # type: ignore[arg-type]
    assert "worker tcp://w0:1 has msiscale missing on Python 3.11; " in str(error.value)
    assert "and 2 more; install there" in str(error.value)


def refused(scheduler: str, said: str) -> None:
    with pytest.raises(InputError, match=said), connect_to(scheduler=scheduler):
        pass


def test_tls_from_the_environment_and_plain_refused(start: Start, tmp_path, certificates):
    env = {"DASK_CONFIG": str(certificates / "dask-tls.yaml")}
    file = begin_scheduler(start, tmp_path / "scheduler.json", env=env)
    address = json.loads(file.read_text())["address"]
    assert address.startswith("tls://")
    start("worker", address, "--nthreads", "1", "--no-dashboard", env=env)
    with dask.config.set(configured(certificates)), connect_to(scheduler=address) as client:
        assert client.submit(sum, [1, 2]).result() == 3

    plain = address.replace("tls://", "tcp://")
    with pytest.raises(OSError):
        Client(plain, timeout="2s")
    for scheduler in (address, plain):  # no certificates; no encryption
        refused(scheduler, "no Dask scheduler could be reached")


def test_a_plain_scheduler_is_refused_when_encryption_is_required(scheduler_file, certificates):
    address = json.loads(scheduler_file.read_text())["address"]
    with dask.config.set(configured(certificates)):
        refused(address, "encryption required")


def test_a_local_cluster_speaks_tls_where_dask_is_configured_for_it(certificates):
    with dask.config.set(configured(certificates)), connect_to(workers=1) as client:
        addresses = [client.scheduler.address, *client.nthreads()]
        assert [a.partition(":")[0] for a in addresses] == ["tls", "tls"]
        assert client.submit(sum, [1, 2]).result() == 3
        plain = client.scheduler.address.replace("tls://", "tcp://")
        with (
            dask.config.set({"distributed.comm.require-encryption": False}),
            pytest.raises(OSError),
        ):
            Client(plain, timeout="2s")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"client.key": None}, "distributed.comm.tls.client.key: not set"),
        ({"ca-file": "nowhere.pem"}, "distributed.comm.tls.ca-file = nowhere.pem: no such file"),
    ],
)
def test_half_a_tls_configuration(certificates, change, said):
    changed = {f"distributed.comm.tls.{name}": value for name, value in change.items()}
    with (
        dask.config.set(configured(certificates) | changed),
        pytest.raises(InputError, match=said),
        connect_to(workers=1),
    ):
        pass


def test_a_cluster_that_lost_tls_is_refused():
    from msiscale.cluster.security import check_encrypted

    class Plain:
        scheduler = type("Address", (), {"address": "tcp://10.0.0.1:8786"})

    check_encrypted(Plain(), wanted=False)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="configured for TLS, but this scheduler is not"):
        check_encrypted(Plain(), wanted=True)  # type: ignore[arg-type]


def test_no_worker_in_time(start: Start, scheduler_file: Path, monkeypatch):
    from msiscale.cluster import client as module

    monkeypatch.setattr(module, "WAIT_S", 0.5)
    refused(str(scheduler_file), r"no worker came within 0.5 s")
    # a worker, but no GPU one
    start("worker", "--scheduler-file", scheduler_file, "--nthreads", "1", "--no-dashboard")
    with Client(scheduler_file=str(scheduler_file)) as client:
        wait_for(lambda: bool(client.nthreads()))
        with pytest.raises(InputError, match=r"x: no GPU worker came within 0.2 s"):
            module._await_workers(client, "x", 0.2, gpu=True)
