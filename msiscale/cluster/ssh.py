"""Scheduler and workers on hosts reached by SSH."""

from __future__ import annotations

import inspect
from typing import Any

from distributed import SpecCluster
from distributed.deploy.ssh import Scheduler, SSHCluster, Worker
from distributed.security import Security

from msiscale.cluster.environment import GPU, NO_GPU
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

OURS = {"kwargs", "worker_class"}


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
    # spilling, and the paths of TLS, which must be the same on every host
    settings.check_options(set(inspect.signature(SSHCluster).parameters) - OURS, OURS)
    options = dict(settings.options)
    gpu = dict(settings.gpu or {})
    hosts = _hosts(settings, "[options]", options.get("hosts"), 2)
    if settings.workers is None:
        raise InputError(f"{settings.source}: workers: not given; how many a host?")
    login = {
        "connect_options": options.get("connect_options", {}),
        "remote_python": options.get("remote_python"),
    }
    for name, value in login.items():
        if isinstance(value, list):
            raise InputError(f"{settings.source}: [options] {name}: one for all hosts, not a list")
    served = {"dashboard_address": settings.dashboard, **options.get("scheduler_options", {})}
    if security:
        served["protocol"] = "tls://"
    worker = {**options.get("worker_options", {}), "nthreads": 1}
    worker["n_workers"] = settings.workers
    if gpu:
        worker["env"] = {**worker.get("env", {}), **NO_GPU}
    specs = {
        f"{host}-{i}": {"cls": Worker, "options": {"address": host, "kwargs": worker, **login}}
        for i, host in enumerate(hosts[1:])
    }
    for host in _hosts(settings, "[gpu]", gpu.get("hosts"), 1) if gpu else ():
        for i in range(settings.gpu_workers):
            own = {**worker, "n_workers": 1, "resources": GPU}
            own["env"] = {**worker["env"], "CUDA_VISIBLE_DEVICES": str(i)}
            options_of = {"address": host, "kwargs": own, **login}
            specs[f"{host}-gpu-{i}"] = {"cls": Worker, "options": options_of}
    return (
        {"cls": Scheduler, "options": {"address": hosts[0], "kwargs": served, **login}},
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
