"""Scheduler and workers as pods, through the Dask operator of dask-kubernetes."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Mapping
from typing import Any

from distributed.security import Security

from msiscale.cluster.environment import NO_GPU, as_environment, dask_settings
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

# parts of the resource that is made; the others say how to reach it
OF_SPEC = ("image", "resources", "env", "scheduler_service_type", "idle_timeout")
OF_POOL = ("image", "resources", "env")
OURS = {
    "asynchronous",
    "create_mode",
    "custom_cluster_spec",
    "jupyter",
    "kwargs",
    "loop",
    "n_workers",
    "shutdown_on_close",
    "worker_command",
}
WORKER = ["dask", "worker", "--nthreads", "1"]


def kubernetes_cluster(settings: Settings, security: Security | None) -> Any:
    """A ``DaskCluster`` resource, with a worker group more for the GPUs; deleted at the end."""
    lowest, highest = settings.range
    if security:
        raise InputError(
            f"{settings.source}: Dask is configured for TLS, which dask-kubernetes does not "
            "speak; deploy the cluster with its certificates and give --scheduler tls://…"
        )
    if settings.gpu is not None and lowest < highest:
        raise InputError(
            f"{settings.source}: the Dask operator would scale idle GPU workers away; give workers "
            "in place of minimum and maximum, or leave [gpu] out"
        )
    operator = _operator(settings)
    spec = cluster_spec(settings)
    reach = {k: v for k, v in settings.options.items() if k not in (*OF_SPEC, "name")}
    cluster = operator.KubeCluster(custom_cluster_spec=spec, **{"quiet": True, **reach})
    try:
        if settings.gpu is not None:
            cluster.add_worker_group("gpu", custom_spec=gpu_spec(settings))
        if lowest < highest:
            cluster.adapt(lowest, highest)
    except BaseException:
        cluster.close()
        raise
    return cluster


def cluster_spec(settings: Settings) -> dict[str, Any]:
    """The ``DaskCluster`` resource: the worker environment, one thread a worker, no spilling."""
    operator = _operator(settings)
    known = set(inspect.signature(operator.KubeCluster).parameters) - OURS
    settings.check_options(known, OURS)
    if not isinstance(settings.options.get("image"), str):
        raise InputError(f"{settings.source}: [options] image: not given; one that has msiscale")
    parts = _parts(settings, OF_SPEC, settings.options)
    if settings.gpu is not None:
        parts["env"] = parts["env"] | NO_GPU
    spec: dict[str, Any] = operator.make_cluster_spec(
        # its own: dask-kubernetes would join, and in the end delete, one of the same name
        f"{settings.options.get('name', 'msiscale')}-{uuid.uuid4().hex[:8]}",
        worker_command=WORKER,
        n_workers=settings.range[0],
        **parts,
    )
    scheduler = spec["spec"]["scheduler"]["spec"]["containers"][0]
    # distributed no longer installs the dask-scheduler that dask-kubernetes writes here
    scheduler["args"] = ["dask", "scheduler", *scheduler["args"][1:]]
    return spec


def gpu_spec(settings: Settings) -> dict[str, Any]:
    """The worker group of the GPU pool; each worker offers ``GPU=1``."""
    options = {**settings.options, **(settings.gpu or {})}
    spec: dict[str, Any] = _operator(settings).make_worker_spec(
        worker_command=[*WORKER, "--resources", "GPU=1"],
        n_workers=settings.gpu_workers,
        **_parts(settings, OF_POOL, options),
    )
    return spec


def _parts(
    settings: Settings, names: tuple[str, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    parts = {k: v for k, v in options.items() if k in names}
    env = parts.get("env", {})
    if not isinstance(env, dict):
        raise InputError(f"{settings.source}: env: give a table, NAME = 'value'")
    ours = as_environment(dask_settings(settings.wait_s))
    return {**parts, "env": ours | {name: str(value) for name, value in env.items()}}


def _operator(settings: Settings) -> Any:
    module = "dask_kubernetes.operator.kubecluster.kubecluster"
    return settings.need(module, "dask-kubernetes", "kubernetes")
