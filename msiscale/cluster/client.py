"""A Dask client for a run: of a scheduler that is there, or of a cluster that is started."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
from distributed import Client, performance_report
from distributed.comm.core import CommClosedError
from distributed.security import Security

from msiscale.cluster.cuda import cuda_cluster
from msiscale.cluster.environment import dask_settings, worker_environ
from msiscale.cluster.jobs import CLASSES, queue_cluster, shared_folder
from msiscale.cluster.kubernetes import kubernetes_cluster
from msiscale.cluster.local import local_cluster
from msiscale.cluster.resources import offers_gpu, resources_of
from msiscale.cluster.security import check_encrypted, of_run, plain_is_wanted, tls
from msiscale.cluster.settings import WAIT_S, Settings, Where, settings_of
from msiscale.cluster.silence import watched
from msiscale.cluster.ssh import ssh_cluster
from msiscale.cluster.versions import check_versions
from msiscale.errors import InputError, RunStopped
from msiscale.log import progress, quiet, say
from msiscale.store import is_url, local_path

START: dict[str, Callable[[Settings, Security | None], Any]] = {
    "local": local_cluster,
    "cuda": cuda_cluster,
    "ssh": ssh_cluster,
    "kubernetes": kubernetes_cluster,
    "slurm": queue_cluster,
    "pbs": queue_cluster,
    "sge": queue_cluster,
}
HERE = ("local", "cuda")
# options that an error may show
PLAIN = {"account", "config_name", "hosts", "image", "interface", "memory", "name", "namespace"}
PLAIN |= {"project", "queue", "resource_spec", "walltime"}
# here a worker that ended comes back in seconds, or never
LOCAL_NO_WORKERS_S = 120.0


@contextmanager
def connect(where: Where | None = None, **choices: Any) -> Iterator[Client]:
    """A client that has a worker, and a GPU worker where a GPU pool is asked for.

    Parameters
    ----------
    where, **choices
        Where it runs, and fields of `Where` by name, which win: ``connect(workers=2)``.

    Yields
    ------
    distributed.Client
        The default of what runs inside.

    Raises
    ------
    InputError
        A setting that cannot be used, a scheduler that does not answer or has another msiscale.
    RunStopped
        No worker came within the time to wait.
    KeyboardInterrupt
        The user has stopped the run.
    """
    where = replace(where or Where(), **choices)
    _check_report(where.performance_report)
    scheduler = where.scheduler
    if scheduler is None and where.elsewhere:
        scheduler = dask.config.get("scheduler-address", None)
    joined = _started(where) if scheduler is None else _outside(scheduler)
    with (
        _lost_scheduler_said(),
        joined as client,
        client.as_current(),
        _reported(where.performance_report),
        watched(client),
    ):
        if (link := dashboard_of(client)) is not None and not quiet():
            progress(f"Dask dashboard: {link}")
        try:
            yield client
        except KeyboardInterrupt:  # what a cluster says while it ends is no news to who ends it
            for library in ("asyncio", "distributed", "tornado"):
                logging.getLogger(library).setLevel(logging.CRITICAL)
            raise


def dashboard_of(client: Client) -> str | None:
    """The address of the scheduler's dashboard, if it has one."""
    try:
        return client.dashboard_link or None
    except Exception:  # a scheduler without one; kinds of clusters raise many types
        return None


@contextmanager
def connecting(where: Where | None = None) -> Iterator[Callable[[], Client]]:
    """`connect`, when the client is first asked for: a run with nothing to do starts no cluster."""
    with ExitStack() as stack:
        made: list[Client] = []

        def client() -> Client:
            if not made:
                made.append(stack.enter_context(connect(where)))
            return made[0]

        yield client


@contextmanager
def _lost_scheduler_said() -> Iterator[None]:
    try:
        yield
    except CommClosedError:
        raise RunStopped(
            "the connection to the scheduler is lost; see that it runs and run the same command "
            "again: finished work is kept"
        ) from None


@contextmanager
def _outside(scheduler: str) -> Iterator[Client]:
    with reached(scheduler) as client:
        _await_workers(client, scheduler, WAIT_S, gpu=False)
        check_versions(client)
        yield client


@contextmanager
def reached(scheduler: str) -> Iterator[Client]:
    """A client of a scheduler that runs, whether or not it has workers.

    Yields
    ------
    distributed.Client
        Not the default of the process.

    Raises
    ------
    InputError
        It does not answer, or not as encrypted as Dask is configured for.
    """
    address = _address(scheduler)
    try:
        # without a Security object Dask takes its configuration, or calls its security-loader
        # not the default of the process: one that fails would stay it
        client = Client(address, set_as_default=False)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{scheduler}: no Dask scheduler could be reached: {_line(error)}"
        ) from None
    with client:
        security: Any = Security()
        check_encrypted(client, bool(security.require_encryption))
        yield client


def _address(scheduler: str) -> str:
    """The address, of a scheduler file too; Dask would wait for ever for one that is not there."""
    if not scheduler.endswith(".json"):
        return scheduler
    try:
        address = json.loads(Path(scheduler).read_text())["address"]
    except FileNotFoundError:
        raise InputError(f"{scheduler}: no such scheduler file") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{scheduler}: not a scheduler file: it has no address") from None
    return str(address)


# the folds of a fit travel with its tasks, which is meant and needs no advice to the user
_QUIET = {"distributed.admin.large-graph-warning-threshold": "100MB"}


@contextmanager
def _started(where: Where) -> Iterator[Client]:
    settings = settings_of(where)
    no_workers_s = LOCAL_NO_WORKERS_S if settings.kind in HERE else settings.wait_s
    with (
        worker_environ(),
        dask.config.set(dask_settings(no_workers_s) | _QUIET),
        _secured(settings) as security,
        _cluster(settings, security) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        check_encrypted(client, security is not None)
        _await_workers(client, settings.source, settings.wait_s, gpu=settings.gpu is not None)
        yield client


@contextmanager
def _secured(settings: Settings) -> Iterator[Security | None]:
    """Dask's own certificates where it is configured for some, else those of the run."""
    # a local cluster is never without: other users of the machine reach its ports
    configured = tls()
    if configured is not None:
        yield configured
    elif settings.kind == "kubernetes" or (plain_is_wanted() and settings.kind not in HERE):
        yield None
    else:
        with of_run(shared_folder(settings) if settings.kind in CLASSES else None) as security:
            yield security


@contextmanager
def _cluster(settings: Settings, security: Security | None) -> Iterator[Any]:
    try:
        cluster = START[settings.kind](settings, security)
    except InputError:
        raise
    except Exception as error:  # of a library, which may have put the options into its message
        text = _without_secrets(_line(error), settings)
        raise InputError(f"{settings.source}: the cluster could not be started: {text}") from None
    with cluster:
        yield cluster


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _without_secrets(text: str, settings: Settings) -> str:
    values = sorted(_texts([settings.options, settings.gpu]), key=len, reverse=True)
    for value in values:
        text = text.replace(value, "…")
    return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in the options that may be a password."""
    if isinstance(value, str) and len(value) > 3:
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in PLAIN:
                yield from _texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _await_workers(client: Client, source: str, seconds: float, *, gpu: bool) -> None:
    """Until a worker is there; with a GPU pool, one of each kind."""
    until = time.monotonic() + seconds
    said = False
    while True:
        offered = [offers_gpu(r) for r in resources_of(client).values()]
        if offered and (not gpu or len(set(offered)) == 2):
            return
        missing = ("CPU worker" if any(offered) else "GPU worker") if offered else "worker"
        if time.monotonic() > until:
            raise RunStopped(
                f"{source}: no {missing} came within {seconds:g} s; see the queue or the workers' "
                "logs, or wait longer (wait, in the cluster file)"
            )
        if not said and time.monotonic() > until - seconds + 3:
            say(f"waiting for a first {missing}")
            said = True
        time.sleep(0.2)


def _check_report(file: str | None) -> None:
    if file is not None and not is_url(file) and not local_path(file).absolute().parent.is_dir():
        raise InputError(f"--performance-report {file}: no such folder")


def _reported(file: str | None) -> AbstractContextManager[None]:
    # of the client that is current when the report begins
    if file is None:
        return nullcontext()
    return performance_report(filename=file)
