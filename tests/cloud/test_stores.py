"""Google's and Azure's stores, and S3 that ignores conditions: what msiscale asks of a store.

Azurite (npm: azurite) and moto (PyPI: moto[server]) are started where their commands are found.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import CHOICES, Said, installed
from google_bucket import Bucket, google
from obstore.store import LocalStore

from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.proxy import Fault, FaultProxy
from deploy.services import free_port
from msiscale.errors import InputError
from msiscale.simulate import simulate
from msiscale.store import create_array, open_group, remote
from msiscale.store.lease import held
from msiscale.store.objects import (
    create_bytes,
    exists,
    is_file,
    listing,
    local_copy,
    open_file,
    read_bytes,
    remove,
    size_and_state,
    write_bytes,
)

LAB = "lab"
# of the account that every Azurite has; it is no secret
ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@dataclass(frozen=True)
class Store:
    """A bucket, and the environment of those who use it."""

    url: str
    env: dict[str, str]
    google: Bucket | None = field(default=None, compare=False)


def command_of(name: str, package: str) -> str:
    """The command of a server; without it the test is skipped."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on PATH ({package})")
    return found


@contextmanager
def serving(port: int, *command: str | Path) -> Iterator[None]:
    """A server on loopback, until the end."""
    with subprocess.Popen(
        [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            end = time.monotonic() + 60
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert process.poll() is None and time.monotonic() < end, command
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(30)


def make_container(url: str) -> None:
    """Create Azurite's container, by a request that its key signs."""
    version, now = "2021-08-06", formatdate(usegmt=True)
    text = "\n".join(
        [
            "PUT",
            *[""] * 11,
            f"x-ms-date:{now}",
            f"x-ms-version:{version}",
            f"/{ACCOUNT}/{ACCOUNT}/{LAB}",
            "restype:container",
        ]
    )
    key = base64.b64decode(AZURITE_KEY)
    made = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
    headers = {
        "x-ms-date": now,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{made}",
    }
    address = f"{url}/{ACCOUNT}/{LAB}?restype=container"
    request = urllib.request.Request(address, method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def azurite() -> Iterator[Store]:
    """A container of Azurite, kept in memory."""
    port = free_port()
    words = ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    server = command_of("azurite-blob", "npm install --global azurite")
    with serving(port, server, *words, "--silent", "--inMemoryPersistence"):
        url = f"http://127.0.0.1:{port}"
        make_container(url)
        env = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": url}
        yield Store(f"az://{LAB}", env)


@contextmanager
def unconditional_s3() -> Iterator[Store]:
    """A bucket of moto, which checks no signature, behind a proxy that drops If-None-Match."""
    port = free_port()
    server = command_of("moto_server", "PyPI: moto[server]")
    behind = f"http://127.0.0.1:{port}"
    with serving(port, server, "-H", "127.0.0.1", "-p", str(port)), FaultProxy(behind) as proxy:
        signed = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request"
        headers = {"Authorization": f"{signed}, SignedHeaders=host, Signature=none"}
        make = urllib.request.Request(f"{behind}/{LAB}", method="PUT", headers=headers)
        urllib.request.urlopen(make, timeout=60).close()
        proxy.inject(Fault("unconditional"))
        env = {
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": proxy.url,
        }
        yield Store(f"s3://{LAB}", env)


def entered(monkeypatch: pytest.MonkeyPatch, store: Store) -> Store:
    """The store in the environment of this process and of what it starts."""
    for name, value in store.env.items():
        monkeypatch.setenv(name, value)
    remote._client.cache_clear()
    return store


AZURE = pytest.param("az", marks=pytest.mark.slow(reason="Azurite takes seconds to start"))


@pytest.fixture(params=["gs", AZURE])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A bucket that has nothing in it yet."""
    if request.param == "az":
        with azurite() as found:
            yield entered(monkeypatch, found)
    else:
        with google(LAB) as (bucket, env):
            yield entered(monkeypatch, Store(f"gs://{LAB}", env, bucket))


def test_files_come_back(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSISCALE_CACHE", str(tmp_path / "cache"))
    data = np.random.default_rng(1).bytes(300_000)
    odd = f"{store.url}/a folder/né 50%+x.bin"
    assert not exists(odd) and not is_file(odd) and listing(f"{store.url}/a folder") == []
    with pytest.raises(FileNotFoundError):
        read_bytes(odd)
    write_bytes(odd, data)
    write_bytes(f"{store.url}/a folder/deeper/empty", b"")
    assert read_bytes(odd) == data and read_bytes(f"{store.url}/a folder/deeper/empty") == b""
    assert listing(f"{store.url}/a folder") == ["deeper", "né 50%+x.bin"]
    size, state = size_and_state(odd)
    assert size == len(data)
    with open_file(odd) as file:
        file.seek(-10, 2)
        assert file.read(20) == data[-10:]
        file.seek(1234)
        assert file.read(5) == data[1234:1239]
    assert Path(local_copy(odd)).read_bytes() == data
    write_bytes(odd, data[::-1])
    assert size_and_state(odd)[1] != state
    assert remove(f"{store.url}/a folder") and not exists(f"{store.url}/a folder")
    assert not remove(odd)


def test_many_names_are_listed_by_pages(store: Store) -> None:
    names = [f"n{i:03}" for i in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_bytes(f"{store.url}/many/{n}", b"x"), names))
    assert listing(f"{store.url}/many") == names
    if store.google is not None:
        assert store.google.calls["GET list-type"] > 1
    assert remove(f"{store.url}/many") and listing(f"{store.url}/many") == []


def test_of_sixteen_that_create_a_name_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        said = list(
            pool.map(lambda i: create_bytes(f"{store.url}/one", str(i).encode()), range(16))
        )
    assert sum(said) == 1
    assert read_bytes(f"{store.url}/one") == str(said.index(True)).encode()


def test_two_deletions_at_once_are_none_too_many(store: Store) -> None:
    for _ in range(3):
        for name in "abc":
            write_bytes(f"{store.url}/gone/{name}", b"x")
        with ThreadPoolExecutor(4) as pool:
            assert any(pool.map(lambda _: remove(f"{store.url}/gone"), range(4)))
        assert not exists(f"{store.url}/gone")


def test_a_lease_and_the_next(store: Store) -> None:
    out = f"{store.url}/run"
    refusal = pytest.raises(InputError, match="another run is writing")
    with held(out) as lease, refusal, held(out):
        pass
    with held(out) as newer:
        assert newer.generation == lease.generation + 1


def test_an_array_comes_back(store: Store) -> None:
    """A shard of 24 MiB, which is sent in parts."""
    values = np.random.default_rng(2).random((3, 1024, 1024)).astype(np.float32) + 1
    values = np.tile(values, (2, 1, 1))
    group = open_group(f"{store.url}/cube.zarr", "a")
    array = create_array(
        group, "values", values.shape, ("a", "y", "x"), chunks=(6, 256, 256), shards=values.shape
    )
    array[...] = values
    found = open_group(f"{store.url}/cube.zarr", "r")["values"]
    assert isinstance(found, zarr.Array)
    assert np.array_equal(np.asarray(found[...]), values)
    assert np.array_equal(np.asarray(found[4, 300:310, 700:]), values[4, 300:310, 700:])
    if store.google is not None:
        assert store.google.calls["POST uploads"] and not store.google.uploads


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort and its run, in a folder."""
    folder = tmp_path_factory.mktemp("local")
    simulate(folder / "cohort", specimens=3, seed=1, pixels=(12, 14), mpp=4.0)
    said = run(str(folder / "cohort" / "manifest.csv"), str(folder / "run"))
    assert said.code == 0, said.err
    return folder


def run(manifest: str, out: str) -> Said:
    return installed("run", manifest, "--out", out, "--workers", "2", *CHOICES)


@pytest.mark.slow(reason="a run in a folder, and one a store")
def test_a_run_is_that_of_a_folder(store: Store, local: Path) -> None:
    cohort = local / "cohort"
    for path in sorted(p for p in cohort.rglob("*") if p.is_file() and "truth" not in p.parts):
        write_bytes(f"{store.url}/cohort/{path.relative_to(cohort).as_posix()}", path.read_bytes())
    said = run(f"{store.url}/cohort/manifest.csv", f"{store.url}/run")
    assert said.code == 0, said.err
    of_folder = snapshot(LocalStore(local / "run"))
    assert {"metrics.csv", "biomarkers.csv"} <= of_folder.keys()
    difference = compare(of_folder, snapshot(remote.client(f"{store.url}/run")))
    assert not difference, difference
    again = installed("verify", f"{store.url}/run")
    assert again.code == 0, again.err


def refused(store: Store, manifest: Path) -> None:
    said = installed("run", manifest, "--out", f"{store.url}/run", "--workers", "1", *CHOICES)
    assert said.code == 1
    assert len(said.err.splitlines()) == 1, said.err
    assert f"{store.url}/run" in said.err and "no create-only writes" in said.err
    assert listing(f"{store.url}/run") == []  # nothing is left there


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    simulate(folder, specimens=1, seed=1, pixels=(8, 8), mpp=4.0)
    return folder / "manifest.csv"


def test_a_store_that_ignores_conditions_is_refused(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with google(LAB, conditions="ignored") as (_, env):
        refused(entered(monkeypatch, Store(f"gs://{LAB}", env)), manifest)


@pytest.mark.slow(reason="moto takes seconds to start")
def test_s3_that_ignores_conditions_is_refused(
    manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with unconditional_s3() as store:
        refused(entered(monkeypatch, store), manifest)


def test_a_store_that_does_not_implement_conditions_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(remote.RETRY, "retry_timeout", timedelta(seconds=1))
    with google(LAB, conditions="refused") as (_, env):
        store = entered(monkeypatch, Store(f"gs://{LAB}", env))
        with pytest.raises(OSError, match="no create-only writes"), held(f"{store.url}/run"):
            pass
