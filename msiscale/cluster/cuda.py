"""A worker a GPU of this machine, placed by dask-cuda."""

from __future__ import annotations

import inspect
from typing import Any

from distributed import LocalCluster
from distributed.security import Security

from msiscale.cluster.environment import GPU
from msiscale.cluster.local import deaf_children
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

OURS = {
    "args",
    "asynchronous",
    "dashboard_address",
    "kwargs",
    "loop",
    "n_workers",
    "processes",
    "protocol",
    "resources",
    "security",
    "self",
    "threads_per_worker",
    "worker_class",
    "worker_kwargs",
}


def cuda_cluster(settings: Settings, security: Security | None) -> LocalCluster:
    """``dask_cuda.LocalCUDACluster`` whose workers offer ``GPU=1`` and have one thread."""
    local_cuda = settings.need("dask_cuda", "dask-cuda", "cuda").LocalCUDACluster
    if settings.gpu is not None:
        raise InputError(
            f"{settings.source}: [gpu]: every worker of kind cuda has a GPU; remove it"
        )
    settings.check_options(_names(local_cuda) | _names(LocalCluster), OURS)
    with deaf_children():
        cluster: LocalCluster = local_cuda(
            n_workers=settings.workers,
            threads_per_worker=1,
            resources=GPU,
            dashboard_address=settings.dashboard,
            security=security,
            silence_logs=40,
            **settings.options,
        )
    return cluster


def _names(cls: Any) -> set[str]:
    return set(inspect.signature(cls.__init__).parameters) - OURS
