"""What every worker is started with, as environment variables and as Dask configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask

from msiscale.log import OURS

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

# a worker that must not take a GPU sees none
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
GPU = {"GPU": 1}


@contextmanager
def worker_environ() -> Iterator[None]:
    """`WORKER_ENVIRONMENT` here, for the processes that start meanwhile."""
    # what is in the environment wins over Dask's configuration, and any cluster that was started
    # in this process before has left its own values in it
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def dask_settings(no_workers_s: float) -> dict[str, Any]:
    """Dask configuration of scheduler and workers; tasks without a worker fail after a time."""
    timeout = "distributed.scheduler.no-workers-timeout"
    return {
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.worker.memory.spill": False,  # spilling would pickle to disk
        "distributed.worker.memory.target": False,
        "distributed.comm.timeouts.connect": "60s",
        timeout: dask.config.get(timeout, None) or f"{no_workers_s:g}s",
    }


def as_environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """Environment of a worker or scheduler that starts elsewhere, with `settings` in it."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, Mapping)}
    names = {key: "DASK_" + key.upper().replace(".", "__").replace("-", "_") for key in plain}
    own = {OURS: ""}  # it writes to a log of its own, not to the user's terminal
    return WORKER_ENVIRONMENT | own | {names[key]: str(value) for key, value in plain.items()}
