"""Nobody else in it: who has not the certificates of a local run is refused at its ports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from distributed import Client

from msiscale.cluster import connect

INTRUDER = """
import os, sys
from distributed import Client
from distributed.security import Security
security = Security.temporary() if sys.argv[2] == "own" else None
try:
    with Client(sys.argv[1], security=security, timeout="5s") as client:
        print("in as", client.submit(os.getuid).result(timeout=5))
except Exception as error:
    print("refused:", type(error).__name__)
"""


OTHERS: set[tuple[str, int]] = set()  # at which clusters of other tests listen


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    OTHERS.update(listening())
    with connect(workers=1) as client:
        yield client


def listening() -> set[tuple[str, int]]:
    """Addresses at which this process and those it has started listen."""
    me = psutil.Process()
    return {
        (found.laddr.ip, found.laddr.port)
        for process in (me, *me.children(recursive=True))
        for found in process.net_connections("inet")
        if found.status == psutil.CONN_LISTEN
    }


def test_it_listens_on_loopback_alone_and_by_tls(client: Client) -> None:
    found = listening() - OTHERS
    assert {ip for ip, _ in found} == {"127.0.0.1"}
    # scheduler, worker and nanny, but for the pages of scheduler and worker
    assert len(found) == 5
    pages = {client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port)}
    pages |= set(client.run(lambda dask_worker: dask_worker.http_server.port).values())
    for ip, port in found:
        if port not in pages:
            with pytest.raises(OSError), Client(f"tcp://{ip}:{port}", timeout="2s"):
                pass


def intruding(address: str, whose: str, user: str) -> str:
    """What comes of a client in another process, of this user or of nobody."""
    command = [sys.executable, "-c", INTRUDER, address, whose]
    if user == "nobody":
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    environment = os.environ | {"HOME": "/nonexistent"}
    words = {"capture_output": True, "text": True, "timeout": 120, "check": False, "cwd": "/"}
    done = subprocess.run(command, env=environment, **words)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition(":")[0].strip()


@pytest.mark.parametrize("user", ["this", "nobody"])
def test_who_has_not_the_certificates_is_refused(client: Client, scheduler: str, user: str) -> None:
    if user == "nobody" and not may_be_nobody():
        pytest.skip("only root may be somebody else, by setpriv, and Python must be theirs to read")
    place = client.scheduler.address.partition("://")[2]
    assert intruding(scheduler, "none", user).startswith("in as")  # where the door is open
    assert intruding(f"tcp://{place}", "none", user) == "refused"
    assert intruding(f"tls://{place}", "own", user) == "refused"
    assert client.submit(os.getuid).result() == os.getuid()  # and the owner goes on


def may_be_nobody() -> bool:
    if os.getuid() or not shutil.which("setpriv"):
        return False
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable]
    return (
        subprocess.run([*command, "-c", "import distributed"], cwd="/", check=False).returncode == 0
    )
