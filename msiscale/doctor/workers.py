"""The probe of the cluster: it answers, and has what runs here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import dask

from msiscale.cluster.client import reached
from msiscale.cluster.resources import offers_gpu, resources_of
from msiscale.cluster.settings import Settings
from msiscale.cluster.versions import check_versions
from msiscale.doctor.probe import Asked, Finding
from msiscale.errors import InputError

CONNECT = {"distributed.comm.timeouts.connect": "10s"}
COMMANDS = {"slurm": "sbatch", "pbs": "qsub", "sge": "qsub"}


def cluster(asked: Asked) -> Iterator[Finding]:
    """A scheduler that runs is asked; a cluster to be started is not started."""
    try:
        settings = asked.settings
        yield _running(str(asked.scheduler)) if settings is None else _to_start(settings)
    except (InputError, OSError) as error:
        yield Finding.of("cluster", error)


def _running(scheduler: str) -> Finding:
    with dask.config.set(CONNECT), reached(scheduler) as client:
        offered = resources_of(client)
        if not offered:
            value = f"{scheduler} answers, but has no worker"
            return Finding("cluster", "missing", value, f"start dask worker {scheduler}")
        check_versions(client)
    gpus = sum(offers_gpu(found) for found in offered.values())
    value = f"{scheduler} has {len(offered)} workers, {gpus} of them with a GPU"
    return Finding("cluster", "ok", f"{value}; versions are the same as here")


def _to_start(settings: Settings) -> Finding:
    command = COMMANDS.get(settings.kind)
    if command is not None and shutil.which(command) is None:
        remedy = "start msiscale where jobs of the queue are submitted"
        return Finding("cluster", "missing", f"{command} is not on this machine", remedy)
    where = "this machine" if settings.kind in ("local", "cuda") else settings.kind
    if settings.kind not in ("local", "cuda"):
        _ = settings.range  # InputError where no size is given
    return Finding("cluster", "ok", f"{where}; msiscale run starts it, and this has not")
