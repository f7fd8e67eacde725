"""The S3 server and the cluster of the tests are what they say they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import pytest
from distributed import Client
from obstore.exceptions import AlreadyExistsError, BaseError

from deploy import services
from deploy.services import S3, Cluster, s3_server
from msiscale.cluster import WORKER_ENVIRONMENT
from msiscale.errors import InputError


def test_an_object_comes_back(s3: S3, bucket: str, fresh: str) -> None:
    store = s3.store(bucket)
    data = bytes(range(256)) * 5000
    obstore.put(store, f"{fresh}/object", data)
    assert bytes(obstore.get(store, f"{fresh}/object").bytes()) == data
    assert bytes(obstore.get_range(store, f"{fresh}/object", start=300, end=310)) == data[300:310]


def test_of_sixteen_that_create_a_name_one_wins(s3: S3, bucket: str, fresh: str) -> None:
    store = s3.store(bucket)

    def create(racer: int) -> bool:
        try:
            obstore.put(store, f"{fresh}/lease", str(racer).encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(create, range(16)))
    assert sum(won) == 1
    assert bytes(obstore.get(store, f"{fresh}/lease").bytes()) == str(won.index(True)).encode()


def test_a_wrong_key_is_refused(s3: S3, bucket: str, fresh: str) -> None:
    obstore.put(s3.store(bucket), f"{fresh}/object", b"data")
    stranger = s3.store(bucket, secret="not-the-secret")
    with pytest.raises(BaseError, match="403"):
        obstore.get(stranger, f"{fresh}/object")
    with pytest.raises(BaseError, match="403"):
        obstore.put(stranger, f"{fresh}/object", b"other")
    assert bytes(obstore.get(s3.store(bucket), f"{fresh}/object").bytes()) == b"data"


def test_without_ceph_the_error_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"radosgw.*apt-get install"), s3_server(tmp_path / "s3"):
        pass
    assert not (tmp_path / "s3").exists()


def test_workers_have_one_thread_and_their_environment(cluster: Cluster) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        assert list(client.nthreads().values()) == [1, 1]
        for name, value in WORKER_ENVIRONMENT.items():
            assert set(client.run(os.getenv, name).values()) == {value}, name
        assert all(a.startswith("tcp://127.0.0.1:") for a in client.nthreads())


def test_a_killed_worker_is_restarted_and_a_killed_machine_is_not(cluster: Cluster) -> None:
    before = [w.pid() for w in cluster.workers]
    killed = cluster.kill_worker(0)
    services._until(lambda: killed.pid() not in (None, before[0]), 60, "it was not restarted")
    cluster.wait()
    gone = cluster.kill_worker(0, signal.SIGKILL, whole=True)
    assert not gone.alive and [w.pid() for w in cluster.workers] == before[1:]
    cluster.mend(2)  # as the fixture would
    with Client(cluster.address, set_as_default=False) as client:
        assert len(client.nthreads()) == 2


def test_a_restarted_scheduler_has_the_same_address(cluster: Cluster) -> None:
    address, scheduler = cluster.address, cluster.scheduler
    cluster.restart_scheduler()
    assert scheduler is not None and scheduler.returncode == -signal.SIGKILL
    assert cluster.address == address
    with Client(address, set_as_default=False) as client:
        assert client.gather(client.map(str, range(3))) == ["0", "1", "2"]
        assert len(client.nthreads()) == 2


def test_the_script_starts_and_ends_a_cluster(tmp_path: Path) -> None:
    def script(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, services.__file__, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    folder = str(tmp_path / "services")
    said = script("up", folder, "--workers", "1")
    assert said.returncode == 0, said.stderr
    address = said.stdout.split()[1]
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
    assert script("down", folder).returncode == 0
    with pytest.raises(OSError):
        Client(address, timeout=2, set_as_default=False)
    again = script("down", folder)
    assert again.returncode == 1 and len(again.stderr.splitlines()) == 1
