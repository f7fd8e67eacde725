"""Scheduler and workers on hosts reached by SSH."""

from __future__ import annotations

import asyncio
import inspect
import secrets
import shlex
import sys
from contextlib import suppress
from typing import Any

from distributed import SpecCluster
from distributed.deploy.ssh import Process, Scheduler, SSHCluster, Worker
from distributed.security import Security

from msiscale.cluster.environment import GPU, NO_GPU
from msiscale.cluster.security import CERTIFICATES, HOME, in_memory
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

OURS = {"kwargs", "worker_class"}
PARTS = dict(zip(("cert", "key"), CERTIFICATES, strict=True))
# Dask's configuration as environment variables, and the file of each
FILES = {
    f"DASK_DISTRIBUTED__COMM__TLS__{role}__{part.upper()}": name
    for role in ("SCHEDULER", "WORKER", "CLIENT")
    for part, name in PARTS.items()
} | {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": CERTIFICATES[0]}


class Secured(Process):
    """A process on a host to which the certificates of the run are brought first.

    They go through the connection into a folder of the user's home that nobody else may read; the
    command of the process names the folder.
    """

    def __init__(self, *words: Any, security: Security, **options: Any) -> None:
        super().__init__(*words, **options)  # type: ignore[no-untyped-call]
        self.security: Any = security
        self.folder = f"{HOME}/tls-{secrets.token_hex(8)}"

    async def start(self) -> None:
        import asyncssh

        dask: Any = self  # Dask's class that this goes before
        async with asyncssh.connect(dask.address, **dask.connect_options) as host:
            enter = f"umask 077 && mkdir -p {self.folder} && cd {self.folder}"
            for part, name in PARTS.items():
                text = getattr(self.security, f"tls_client_{part}")
                await host.run(f"{enter} && cat > {name}", input=text, check=True)
            folder = str((await host.run(f"cd {self.folder} && pwd", check=True)).stdout).strip()
        named = {variable: f"{folder}/{name}" for variable, name in FILES.items()}
        named["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] = "True"
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in named.items())
        # what Dask puts before the program is `env NAME=VALUE`
        dask.remote_python = f"{variables} {dask.remote_python or sys.executable}"
        await super().start()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        connection: Any = self.connection
        if connection:
            with suppress(Exception):  # a host that is gone keeps what nobody can use any more
                await asyncio.wait_for(connection.run(f"rm -rf {self.folder}"), 10)
        await super().close()  # type: ignore[no-untyped-call]


class SecuredScheduler(Secured, Scheduler):
    """The scheduler, with the certificates of the run."""


class SecuredWorker(Secured, Worker):
    """The workers of a host, with the certificates of the run."""


def ssh_cluster(settings: Settings, security: Security | None) -> SpecCluster:
    """The scheduler on the first of `hosts`, workers on the others, and on those of ``[gpu]``."""
    settings.need("asyncssh", "asyncssh", "ssh")
    scheduler, workers = ssh_specs(settings, security)
    return SpecCluster(workers, scheduler, name="SSHCluster", security=security)


def ssh_specs(
    settings: Settings, security: Security | None
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What Dask starts on which host."""
    # its configuration goes along on the remote command line: the worker environment, no
    # spilling, and the paths of TLS where it is configured, which must be the same on every host
    settings.check_options(set(inspect.signature(SSHCluster).parameters) - OURS, OURS)
    options = dict(settings.options)
    gpu = dict(settings.gpu or {})
    hosts = _hosts(settings, "[options]", options.get("hosts"), 2)
    if settings.workers is None:
        raise InputError(f"{settings.source}: workers: not given; how many a host?")
    login: dict[str, Any] = {
        "connect_options": options.get("connect_options", {}),
        "remote_python": options.get("remote_python"),
    }
    for name, value in login.items():
        if isinstance(value, list):
            raise InputError(f"{settings.source}: [options] {name}: one for all hosts, not a list")
    cls_of_scheduler: type = Scheduler
    cls_of_worker: type = Worker
    if in_memory(security):
        login["security"] = security
        cls_of_scheduler, cls_of_worker = SecuredScheduler, SecuredWorker
    served = {"dashboard_address": settings.dashboard, **options.get("scheduler_options", {})}
    if security:
        served["protocol"] = "tls://"
    # a worker's HTTP server, which stays for the health, would listen on all interfaces
    worker = {"dashboard_address": "127.0.0.1:0", **options.get("worker_options", {})}
    worker["nthreads"] = 1
    worker["n_workers"] = settings.workers
    if gpu:
        worker["env"] = {**worker.get("env", {}), **NO_GPU}
    specs = {
        f"{host}-{i}": {
            "cls": cls_of_worker,
            "options": {"address": host, "kwargs": worker, **login},
        }
        for i, host in enumerate(hosts[1:])
    }
    for host in _hosts(settings, "[gpu]", gpu.get("hosts"), 1) if gpu else ():
        for i in range(settings.gpu_workers):
            own = {**worker, "n_workers": 1, "resources": GPU}
            own["env"] = {**worker["env"], "CUDA_VISIBLE_DEVICES": str(i)}
            options_of = {"address": host, "kwargs": own, **login}
            specs[f"{host}-gpu-{i}"] = {"cls": cls_of_worker, "options": options_of}
    return (
        {"cls": cls_of_scheduler, "options": {"address": hosts[0], "kwargs": served, **login}},
        specs,
    )


def _hosts(settings: Settings, table: str, hosts: Any, least: int) -> list[str]:
    if (
        not isinstance(hosts, list)
        or len(hosts) < least
        or not all(isinstance(host, str) for host in hosts)
    ):
        what = "the scheduler's host, then the workers'" if least > 1 else "those with GPUs"
        raise InputError(f"{settings.source}: {table} hosts: give a list: {what}")
    return hosts
