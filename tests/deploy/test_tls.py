"""The test authority: what it makes, and that Dask with it refuses everybody else."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import dask
import pytest
import yaml
from distributed import Client, LocalCluster
from distributed.comm import CommClosedError, connect
from distributed.security import Security

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(scope="module")
def authority(deploy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "a"
    run(deploy, str(folder), "scheduler", "10.1.2.3", "fe80::1")
    return folder


def run(deploy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(deploy / "tls" / "authority.sh"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def security(folder: Path) -> Security:
    config = yaml.safe_load((folder / "dask-tls.yaml").read_text())
    merged = dask.config.merge(dask.config.config, config)
    with dask.config.set({"distributed": merged["distributed"]}):
        return Security()


def test_files_names_and_modes(authority: Path) -> None:
    assert sorted(p.name for p in authority.iterdir()) == [
        "ca.pem",
        "cert.pem",
        "dask-tls.yaml",
        "key.pem",
    ]
    assert stat.S_IMODE((authority / "key.pem").stat().st_mode) == 0o600
    show = ["openssl", "x509", "-in", str(authority / "cert.pem"), "-noout", "-ext"]
    names = subprocess.run([*show, "subjectAltName"], capture_output=True, text=True, check=True)
    for name in (
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "DNS:scheduler",
        "IP Address:10.1.2.3",
        "IP Address:FE80:0:0:0:0:0:0:1",
    ):
        assert name in names.stdout
    constraint = [*show, "basicConstraints"]
    assert "CA:FALSE" in subprocess.run(constraint, capture_output=True, text=True).stdout


def test_dask_reads_it_as_dask_config(authority: Path) -> None:
    """`DASK_CONFIG=dask-tls.yaml` is all that a process needs."""
    script = (
        "import dask, distributed; s = distributed.Security();"
        "print(s.require_encryption, s.tls_ca_file, s.tls_worker_key, s.tls_client_cert,"
        " dask.config.get('distributed.comm.default-scheme'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"DASK_CONFIG": str(authority / "dask-tls.yaml")},
        capture_output=True,
        text=True,
        check=True,
    )
    files = [str(authority / f) for f in ("ca.pem", "key.pem", "cert.pem")]
    assert done.stdout.split() == ["True", *files, "tls"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "usage"),
        (("{new}", "evil\nDNS:other"), "neither a name nor an address"),
        (("{new}", "a,DNS:b"), "neither a name nor an address"),
        (("{old}",), "exists"),
    ],
)
def test_bad_use_is_one_line(
    deploy: Path, authority: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    places = {"new": str(tmp_path / "b"), "old": str(authority)}
    done = run(deploy, *(w.format(**places) for w in words))
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("authority.sh: ")
    assert not (tmp_path / "b" / "key.pem").exists()


def test_only_its_own_certificates_are_let_in(
    deploy: Path, authority: Path, tmp_path: Path
) -> None:
    run(deploy, str(tmp_path / "other"))
    ours, others = security(authority), security(tmp_path / "other")
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tls",
            security=ours,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, security=ours) as client,
    ):
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        assert asyncio.run(greeted(address, ours))
        assert not asyncio.run(greeted(address.replace("tls://", "tcp://"), None))
        assert not asyncio.run(greeted(address, others))
        with pytest.raises(RuntimeError, match="encryption"):
            asyncio.run(greeted(address.replace("tls://", "tcp://"), ours))


async def greeted(address: str, security: Security | None) -> bool:
    """Whether the scheduler shakes hands."""
    arguments = security.get_connection_args("client") if security else {}
    try:
        comm = await connect(address, timeout=2, **arguments)
    except (OSError, CommClosedError):
        return False
    comm.abort()
    return True
