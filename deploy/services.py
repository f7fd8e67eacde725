"""The services of the compose file as plain processes: an S3 server, a scheduler, workers.

The tests and the fault benchmark use them from Python (`s3_server`, `dask_cluster`); by hand::

    python deploy/services.py up DIR [--workers 2] [--s3]
    python deploy/services.py down DIR

Everything listens on the loopback interface only and lives under one folder. The S3 server is
Ceph's radosgw over one monitor and one storage daemon (Debian packages radosgw, ceph-mon, ceph-osd,
ceph-mgr, ceph-common): SigV4, create-only PUT and strong consistency as in production.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import obstore
import psutil
from obstore.store import S3Store

from msiscale.cluster import WORKER_ENVIRONMENT
from msiscale.errors import InputError

LOOPBACK = "127.0.0.1"
CEPH = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph")
PACKAGES = "radosgw ceph-mon ceph-osd ceph-mgr ceph-common"
REGION = "us-east-1"
KEY, SECRET = "testkey", "testsecret123"  # of a server that only this machine reaches

# `mon host` with v1 only and no global public address: the daemons of one host otherwise look for
# each other on addresses that they do not listen on
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{mon_port}]
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
run dir = {folder}/run
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
crash dir = {folder}/log
ms bind msgr2 = false
[mon.a]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 2
[osd.0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd data = {folder}/osd
osd objectstore = {backend}
memstore device bytes = 2147483648
bluestore block size = 4294967296
bluestore fsck on mount = false
osd memory target = 939524096
bluestore cache autotune = false
bluestore cache size = 67108864
osd scrub begin hour = 23
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw thread pool size = 64
rgw dns name = localhost
rgw enable usage log = false
rgw enable gc threads = true
rgw crypt require ssl = false
"""


@dataclass(frozen=True)
class S3:
    """A running S3 server: where it answers and the key that it accepts."""

    endpoint: str
    key: str
    secret: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of processes that use the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
        }

    def store(
        self, bucket: str, *, prefix: str | None = None, secret: str | None = None
    ) -> S3Store:
        """The bucket as an object store; another `secret` is refused by the server."""
        return S3Store(
            bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            access_key_id=self.key,
            secret_access_key=secret or self.secret,
            region=REGION,
            client_options={"allow_http": True},
        )

    def make_bucket(self, name: str) -> str:
        """Create a bucket; its ``s3://`` URL.

        The request has no body: radosgw refuses a LocationConstraint with the name of the region.
        """
        url = obstore.sign(self.store(name), "PUT", "", timedelta(minutes=5))
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=60).close()
        except urllib.error.HTTPError as error:
            raise InputError(
                f"bucket {name}: the S3 server answered {error.code}; see {self.folder / 'log'}"
            ) from None
        return f"s3://{name}"


def missing_ceph() -> str | None:
    """Why the S3 server cannot be started here, or None."""
    absent = [name for name in CEPH if shutil.which(name) is None]
    if not absent:
        return None
    return (
        f"the S3 server needs {', '.join(absent)}: "
        f"apt-get install --no-install-recommends {PACKAGES}"
    )


@contextmanager
def s3_server(folder: str | Path, *, backend: str = "memstore") -> Iterator[S3]:
    """An S3 server under a new folder, stopped at the end.

    Parameters
    ----------
    folder
        A new folder: configuration, data, logs, pid files.
    backend
        ``memstore`` keeps the objects in memory (2 GiB); ``bluestore`` in a file of 4 GiB, and
        what it has acknowledged is still there when the server is killed.

    Raises
    ------
    InputError
        Ceph is not installed, the folder exists, or a daemon does not start.
    """
    try:
        yield start_s3(folder, backend=backend)
    finally:
        stop_s3(folder)


def start_s3(folder: str | Path, *, backend: str = "memstore") -> S3:
    """Start the server of `s3_server`, which stays until `stop_s3`."""
    if why := missing_ceph():
        raise InputError(why)
    if backend not in ("memstore", "bluestore"):
        raise InputError(f"backend {backend!r}: choose memstore or bluestore")
    home = Path(folder).resolve()
    if home.exists():
        raise InputError(f"{home}: exists already; name a new folder")
    for part in ("mon", "osd", "rgw", "run", "log"):
        (home / part).mkdir(parents=True)
    fsid, mon_port, port = str(uuid.uuid4()), free_port(), free_port()
    conf = home / "ceph.conf"
    conf.write_text(
        CONFIGURATION.format(folder=home, fsid=fsid, mon_port=mon_port, port=port, backend=backend)
    )

    def ceph(*command: str, timeout: float = 60) -> None:
        _ceph(home, command, timeout)

    monitors = ["--addv", "a", f"[v1:{LOOPBACK}:{mon_port}]"]
    ceph("monmaptool", "--create", "--clobber", "--fsid", fsid, *monitors, f"{home}/monmap")
    ceph("ceph-mon", "-c", str(conf), "-i", "a", "--mkfs", "--monmap", f"{home}/monmap")
    ceph("ceph-mon", "-c", str(conf), "-i", "a")
    disk = str(uuid.uuid4())
    ceph("ceph", "-c", str(conf), "--connect-timeout", "60", "osd", "new", disk)
    ceph("ceph-osd", "-c", str(conf), "-i", "0", "--mkfs", "--osd-uuid", disk)
    _start_storage(home, conf)
    ceph("radosgw", "-c", str(conf), "-n", "client.rgw.a")
    user = ["user", "create", "--uid=test", "--display-name=test"]
    keys = [f"--access-key={KEY}", f"--secret={SECRET}"]
    ceph("radosgw-admin", "-c", str(conf), *user, *keys)
    _until(lambda: _answers(port), 60, f"the S3 server does not answer; see {home / 'log'}")
    return S3(f"http://{LOOPBACK}:{port}", KEY, SECRET, home)


def _start_storage(home: Path, conf: Path, attempts: int = 5) -> None:
    """Start the storage daemon, again where it spoke before it knew the monitor's cluster.

    Ceph 16 then sends an empty fsid, is refused with "wrong fsid" and ends.
    """
    command = ("ceph-osd", "-c", str(conf), "-i", "0")
    for _ in range(attempts - 1):
        with suppress(InputError):
            _ceph(home, command, 60)
            return
        time.sleep(0.5)
    _ceph(home, command, 60)


def stop_s3(folder: str | Path) -> None:
    """Stop the daemons by their pid files, the gateway first."""
    run = Path(folder).resolve() / "run"
    for name in ("client.rgw.a", "osd.0", "mon.a"):
        file = run / f"{name}.pid"
        if file.is_file():
            _end(int(file.read_text()), signal.SIGTERM)


def _ceph(home: Path, command: Sequence[str], timeout: float) -> None:
    # the daemons go to the background: with pipes this would wait for them to close
    log = home / "log" / "start.log"
    with log.open("ab") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=file, timeout=timeout, check=False, cwd=home
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{command[0]} did not end in {timeout:.0f} s; see {log}") from None
    if done.returncode:
        raise InputError(f"{command[0]} ended with status {done.returncode}; see {log}")


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://{LOOPBACK}:{port}", timeout=2).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _until(true: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise InputError(otherwise)
        time.sleep(0.05)


def _end(pid: int, first: signal.Signals, patience: float = 20) -> None:
    """Signal a process that is not our child, then kill it if it has not gone."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.send_signal(first)
        try:
            process.wait(patience)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(patience)


@dataclass
class Worker:
    """A ``dask worker``: the nanny, leader of its own process group, and the worker under it."""

    name: str
    nanny: subprocess.Popen[bytes]
    log: Path

    def pid(self) -> int | None:
        """Process that computes, or None while there is none."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.nanny.pid).children():
                # beside it the nanny has a resource tracker, and a dying one has no command
                if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(
                    child.cmdline()
                ):
                    return child.pid
        return None

    @property
    def alive(self) -> bool:
        return self.nanny.poll() is None


@dataclass
class Cluster:
    """A scheduler and its workers, each a process of its own that can be killed."""

    folder: Path
    host: str
    port: int
    env: Mapping[str, str]
    memory_limit: str
    scheduler_words: Sequence[str] = ()
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[Worker] = field(default_factory=list)
    started: int = 0

    @property
    def address(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    def start_scheduler(self) -> None:
        """Start it at the address of the cluster and wait until it answers."""
        words = ["--host", self.host, "--port", str(self.port)]
        words += ["--dashboard-address", f"{self.host}:0", *self.scheduler_words]
        self.scheduler = self._start(["scheduler", *words], f"scheduler-{self._next()}", {})
        _until(self._listens, 60, f"the scheduler does not answer; see {self.folder}")

    def restart_scheduler(self, workers: int | None = None) -> None:
        """Kill the scheduler, and start one at the same address with new workers."""
        count = len(self.workers) if workers is None else workers
        self.kill_scheduler()
        self._stop_workers()
        self.start_scheduler()
        for _ in range(count):
            self.add_worker()
        self.wait()

    def kill_scheduler(self) -> None:
        """SIGKILL: the state of every task is lost."""
        if self.scheduler is not None:
            _kill_group(self.scheduler)

    def add_worker(
        self,
        *,
        env: Mapping[str, str] | None = None,
        host: str | None = None,
        prefix: Sequence[str] = (),
        memory_limit: str | None = None,
    ) -> Worker:
        """Start one more worker; `prefix` runs it elsewhere (``ip netns exec NAME``)."""
        name = f"worker-{self._next()}"
        words = ["--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--name", name]
        words += ["--host", host or self.host, "--memory-limit", memory_limit or self.memory_limit]
        words += ["--local-directory", str(self.folder / name), "--death-timeout", "60"]
        process = self._start(["worker", self.address, *words], name, env or {}, prefix)
        worker = Worker(name, process, self.folder / f"{name}.log")
        self.workers.append(worker)
        return worker

    def kill_worker(
        self, index: int, number: int = signal.SIGKILL, *, whole: bool = False
    ) -> Worker:
        """Signal the process that computes, which its nanny may restart; or the `whole` machine.

        A worker that was killed whole is forgotten, and `add_worker` starts another.
        """
        worker = self.workers[index]
        if whole:
            self.workers.remove(worker)
            with suppress(ProcessLookupError):
                os.killpg(worker.nanny.pid, number)
            worker.nanny.wait(60)
            return worker
        _until(lambda: worker.pid() is not None, 30, f"{worker.name} has no process to kill")
        os.kill(worker.pid() or 0, number)
        return worker

    def wait(self, seconds: float = 90) -> None:
        """Wait until every worker has joined the scheduler, and none that is gone is left."""
        from distributed import Client

        with Client(self.address, timeout="30s", set_as_default=False) as client:
            wanted = {w.name for w in self.workers}

            def joined() -> bool:
                found = client.scheduler_info(n_workers=-1)["workers"].values()
                return {str(w["name"]) for w in found} == wanted

            _until(joined, seconds, f"the workers did not join {self.address}; see {self.folder}")

    def mend(self, workers: int) -> None:
        """Back to a scheduler with `workers` workers, whatever was done to it."""
        if self.scheduler is None or self.scheduler.poll() is not None:
            self.restart_scheduler(workers)
            return
        for worker in [w for w in self.workers if not w.alive]:
            self.workers.remove(worker)
        while len(self.workers) < workers:
            self.add_worker()
        self.wait()

    def stop(self) -> None:
        """End every process of the cluster."""
        self._stop_workers()
        self.kill_scheduler()

    def _next(self) -> int:
        self.started += 1
        return self.started

    def _stop_workers(self) -> None:
        for worker in self.workers:
            _kill_group(worker.nanny)
        self.workers.clear()

    def _listens(self) -> bool:
        if self.scheduler is not None and self.scheduler.poll() is not None:
            raise InputError(f"the scheduler ended at once; see {self.folder}")
        with suppress(OSError), socket.create_connection((self.host, self.port), timeout=2):
            return True
        return False

    def _start(
        self,
        words: Sequence[str],
        name: str,
        env: Mapping[str, str],
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*prefix, sys.executable, "-m", "dask", *words],
                env={**os.environ, **WORKER_ENVIRONMENT, **self.env, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)


@contextmanager
def dask_cluster(
    folder: str | Path,
    *,
    workers: int = 2,
    env: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
    memory_limit: str = "4GiB",
    scheduler_words: Sequence[str] = (),
) -> Iterator[Cluster]:
    """A ``dask scheduler`` with ``dask worker`` processes of one thread, ended at the end.

    Parameters
    ----------
    folder
        Logs and the workers' local folders; made where it is missing.
    env
        Added to the environment of every process (the credentials of an object store).
    host
        Address that scheduler and workers listen on.
    memory_limit
        Of each worker; above 95 % of it the nanny ends and restarts it.
    scheduler_words
        Further options of ``dask scheduler``.
    """
    cluster = start_cluster(
        folder,
        workers=workers,
        env=env,
        host=host,
        memory_limit=memory_limit,
        scheduler_words=scheduler_words,
    )
    try:
        cluster.wait()
        yield cluster
    finally:
        cluster.stop()


def start_cluster(
    folder: str | Path,
    *,
    workers: int = 2,
    env: Mapping[str, str] | None = None,
    host: str = LOOPBACK,
    memory_limit: str = "4GiB",
    scheduler_words: Sequence[str] = (),
) -> Cluster:
    """Start the cluster of `dask_cluster`, which stays until its `stop`; workers may join later."""
    home = Path(folder).resolve()
    home.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(home, host, free_port(), dict(env or {}), memory_limit, scheduler_words)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.add_worker()
    except BaseException:
        cluster.stop()
        raise
    return cluster


def up(folder: Path, *, workers: int, s3: bool) -> None:
    """Start the services and leave them running; ``services.json`` has what `down` ends."""
    if (folder / "services.json").exists():
        raise InputError(f"{folder}: services run there; end them first (down {folder})")
    folder.mkdir(parents=True, exist_ok=True)
    server = start_s3(folder / "s3") if s3 else None
    env = server.env if server else {}
    try:
        cluster = start_cluster(folder / "dask", workers=workers, env=env)
    except BaseException:
        stop_s3(folder / "s3")
        raise
    processes = [w.nanny.pid for w in cluster.workers]
    processes += [cluster.scheduler.pid] if cluster.scheduler else []
    started = {pid: psutil.Process(pid).create_time() for pid in processes}
    (folder / "services.json").write_text(json.dumps({"processes": started}) + "\n")
    print(f"scheduler  {cluster.address}")
    if server:
        server.make_bucket("msiscale")
        print(f"S3         {server.endpoint}, bucket s3://msiscale; for your shell:")
        for name, value in server.env.items():
            print(f"  export {name}={value}")


def down(folder: Path) -> None:
    """End the services that `up` started in a folder."""
    note = folder / "services.json"
    if not note.is_file():
        raise InputError(f"{folder}: no services were started there (services.json is missing)")
    for pid, created in json.loads(note.read_text())["processes"].items():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if psutil.Process(int(pid)).create_time() == created:  # not another that has its number
                os.killpg(int(pid), signal.SIGKILL)
    stop_s3(folder / "s3")
    note.unlink()


def main() -> None:
    """The command line: 0 done, 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="services.py", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("up", "start the services"), ("down", "end them")):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", type=Path, metavar="DIR")
        if name == "up":
            command.add_argument("--workers", type=int, default=2, metavar="N")
            command.add_argument("--s3", action="store_true", help="also an S3 server (Ceph)")
    words = parser.parse_args()
    try:
        if words.command == "up":
            up(words.folder.resolve(), workers=words.workers, s3=words.s3)
        else:
            down(words.folder.resolve())
    except InputError as error:
        print(f"services.py: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
