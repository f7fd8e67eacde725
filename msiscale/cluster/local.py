"""A cluster of worker processes on this machine, its GPUs among them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Nanny, Scheduler, SpecCluster
from distributed.security import Security

from msiscale.cluster import machine
from msiscale.cluster.environment import GPU, NO_GPU
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

OPTIONS = ("host", "memory_limit", "local_directory")


def local_cluster(settings: Settings, security: Security | None) -> SpecCluster:
    """One-threaded workers: one a CPU, and one a GPU that alone may use it."""
    settings.check_options(OPTIONS)
    gpus = machine.gpus()
    if settings.gpu is not None:
        if settings.gpu_workers > len(gpus):
            raise InputError(
                f"{settings.source}: [gpu] workers = {settings.gpu_workers}, but this machine "
                f"has {len(gpus)} that torch can use"
            )
        gpus = gpus[: settings.gpu_workers]
    count = settings.workers or machine.cpus()
    host = settings.options.get("host", "127.0.0.1")
    protocol = "tls://" if security else "tcp://"
    common = {
        "nthreads": 1,
        "memory_limit": machine.memory() // (count + len(gpus)),
        "silence_logs": 40,
        "security": security,
        "protocol": protocol,
        "host": host,
        "dashboard_address": "127.0.0.1:0",
        **settings.options,
    }

    def worker(**more: Any) -> dict[str, Any]:
        return {"cls": Nanny, "options": common | more}

    cpu = worker(env=NO_GPU) if gpus else worker()
    workers = {f"cpu-{i}": cpu for i in range(count)}
    for i, name in enumerate(gpus):
        workers[f"gpu-{i}"] = worker(env={"CUDA_VISIBLE_DEVICES": name}, resources=GPU)
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": host,
            "port": 0,
            "protocol": protocol,
            "security": security,
            "dashboard": True,
            "dashboard_address": settings.dashboard,
        },
    }
    with deaf_children():
        return SpecCluster(workers, scheduler, worker=cpu, silence_logs=40, security=security)


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C: this one stops them in good order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
