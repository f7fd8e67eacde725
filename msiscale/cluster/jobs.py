"""Workers as jobs of a queue (SLURM, PBS, Grid Engine), through dask-jobqueue."""

from __future__ import annotations

import inspect
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import dask
from distributed import SpecCluster
from distributed.core import Status
from distributed.security import Security

from msiscale.cluster.adaptive import PoolAdaptive
from msiscale.cluster.environment import NO_GPU, as_environment, dask_settings
from msiscale.cluster.security import HOME
from msiscale.cluster.settings import Settings
from msiscale.errors import InputError

CLASSES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}
# what msiscale decides, and what would lead around it
OURS = {
    "asynchronous",
    "dashboard_address",
    "job_cls",
    "loop",
    "n_workers",
    "nanny",
    "protocol",
    "scheduler",
    "scheduler_cls",
    "security",
}
# other names of options that dask-jobqueue no longer wants
OLD = {"extra", "env_extra", "header_skip", "job_extra", "self", "job_kwargs", "base_class_kwargs"}


def queue_cluster(settings: Settings, security: Security | None) -> SpecCluster:
    """The scheduler here, and the jobs asked for: CPU workers, and the GPU pool."""
    lowest, highest = settings.range
    cls = queue_class(settings)
    command = shlex.split(cls.job_cls.submit_command)[0]
    if shutil.which(command) is None:
        raise InputError(
            f"{settings.source}: {command} is not on this machine; start msiscale where jobs of "
            "the queue are submitted"
        )
    cluster = idle_cluster(settings, security)
    try:
        fixed = gpu_jobs(settings, cluster)
        cluster.worker_spec.update(fixed)
        cluster.sync(_settled, cluster)
        processes = cluster.new_spec["options"]["processes"]
        # also where the size is fixed: a job whose time is up is asked for again
        cluster.adapt(
            Adaptive=PoolAdaptive,
            minimum=lowest,
            maximum=highest,
            fixed=fixed,
            job_of=partial(_job_of, processes=processes),
            processes=processes,
        )
    except BaseException:
        cluster.close()
        raise
    return cluster


async def _settled(cluster: SpecCluster) -> None:
    await cluster  # raises when a job cannot be submitted, which scaling does not


def _job_of(worker: str, processes: int) -> str:
    return worker.rpartition("-")[0] if processes > 1 else worker


def idle_cluster(settings: Settings, security: Security | None) -> SpecCluster:
    """The cluster object with its scheduler, before any job; ``job_script()`` shows a job."""
    cls = queue_class(settings)
    settings.check_options(known_options(cls), OURS)
    options = {k: v for k, v in settings.options.items() if k != "scheduler_options"}
    given = _configured(settings, settings.options, "scheduler_options", {})
    made: SpecCluster = cls(
        n_workers=0,
        job_cls=_failing_well(cls.job_cls),
        security=security,
        scheduler_options={"dashboard_address": settings.dashboard, **given},
        **job_options(settings, options, gpu=False),
    )
    return made


def _failing_well(job_cls: Any) -> Any:
    """A job that could not be submitted says so; as it is, closing the cluster trips over it."""

    class Job(job_cls):  # type: ignore[misc]  # of no type here
        async def start(self) -> None:
            try:
                await super().start()
            except BaseException:
                self.status = Status.failed
                raise

    return Job


def gpu_jobs(settings: Settings, cluster: Any) -> dict[str, dict[str, Any]]:
    """Entries of the cluster's ``worker_spec`` for the GPU pool: a job and a worker a GPU."""
    if settings.gpu is None:
        return {}
    options = {**settings.options, **settings.gpu}
    options.pop("scheduler_options", None)
    options = cluster.new_spec["options"] | job_options(settings, options, gpu=True)
    spec = {"cls": cluster.job_cls, "options": options}
    return {f"{cluster.name}-gpu-{i}": spec for i in range(settings.gpu_workers)}


def job_options(settings: Settings, options: Mapping[str, Any], *, gpu: bool) -> dict[str, Any]:
    """The options of a job: the worker environment, one thread a worker, no spilling."""
    cores = _configured(settings, options, "cores", 1)
    wanted = 1 if gpu else _configured(settings, options, "processes", cores)
    if not gpu and wanted != cores:
        raise InputError(
            f"{settings.source}: [options] processes = {wanted} with cores = {cores}: workers have "
            "one thread, so these are equal; reserve more CPUs by job_cpu or resource_spec"
        )
    environment = as_environment(dask_settings(settings.wait_s))
    # its HTTP server, which stays for the health, would listen on all interfaces
    arguments = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    if gpu:
        arguments += ["--resources", "GPU=1"]
    elif settings.gpu is not None:
        environment |= NO_GPU
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    prologue = _configured(settings, options, "job_script_prologue", [])
    arguments += _configured(settings, options, "worker_extra_args", [])
    return {
        **options,
        "cores": wanted,
        "processes": wanted,
        "job_script_prologue": [*exports, *prologue],
        "worker_extra_args": arguments,
    }


def shared_folder(settings: Settings) -> str:
    """The folder that this machine and the nodes share, for the certificates of the run."""
    return str(_configured(settings, settings.options, "shared_temp_directory", HOME))


def _configured(settings: Settings, options: Mapping[str, Any], name: str, default: Any) -> Any:
    """An option, else what the site's Dask configuration (``jobqueue.yaml``) says of it."""
    section = options.get("config_name", settings.kind)
    found = options.get(name)
    if found is None:
        found = dask.config.get(f"jobqueue.{section}.{name.replace('_', '-')}", None)
    return found or default


def known_options(cls: Any) -> set[str]:
    """Names that the cluster class and its jobs take."""
    found: set[str] = set()
    for owner in (*cls.__mro__, *cls.job_cls.__mro__):
        if owner.__module__.startswith("dask_jobqueue"):
            found |= set(inspect.signature(owner.__init__).parameters)
    return found - OURS - OLD


def queue_class(settings: Settings) -> Any:
    """The class of dask-jobqueue."""
    with _own_signals():
        jobqueue = settings.need("dask_jobqueue", "dask-jobqueue", "jobqueue")
    return getattr(jobqueue, CLASSES[settings.kind])


@contextmanager
def _own_signals() -> Iterator[None]:
    """dask-jobqueue, when imported, makes Ctrl-C an exit with status 0; here it interrupts."""
    heard = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, heard)
