"""A Dask client from what the user has: nothing, a scheduler, a queue, Kubernetes, hosts, GPUs."""

from msiscale.cluster.client import connect, connecting
from msiscale.cluster.environment import WORKER_ENVIRONMENT
from msiscale.cluster.resources import cpu_workers, has_gpu, resources_of, task_device
from msiscale.cluster.settings import KINDS, Where, WhereWords

__all__ = [
    "KINDS",
    "WORKER_ENVIRONMENT",
    "Where",
    "WhereWords",
    "connect",
    "connecting",
    "cpu_workers",
    "has_gpu",
    "resources_of",
    "task_device",
]
