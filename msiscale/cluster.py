"""A Dask client from what the user has."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

# glibc gives the pages of every activation back and faults them in again, which costs a forward
# pass 1.6x; only the main arena can be kept from it, and tasks run in another thread than the main
# one BLAS and torch thread a worker: workers are the parallelism, and sums stay reproducible
WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@contextmanager
def connect(scheduler: str | None = None, workers: int | None = None) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a local cluster of one-threaded workers.

    Parameters
    ----------
    scheduler
        ``tcp://host:port`` of a running scheduler; default: a local cluster, closed at the end.
    workers
        Worker processes of the local cluster; default: one a core.
    """
    if scheduler:
        with Client(scheduler, timeout="30s") as client:
            yield client
        return
    count = workers or len(os.sched_getaffinity(0))
    settings = {
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
        "distributed.comm.timeouts.connect": "60s",
    }
    with dask.config.set(settings):
        with _deaf_children():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                silence_logs=40,
            )
        with cluster, Client(cluster) as client:
            yield client


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started inside do not hear Ctrl-C, which a terminal sends to all: this one stops
    them in good order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
