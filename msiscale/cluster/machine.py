"""What this process may use of the machine: CPUs, memory, GPUs."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from dask.system import cpu_count
from distributed.system import memory_limit

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def cpus() -> int:
    """CPUs of the affinity mask and of every cgroup around this process, whichever are fewer."""
    count = cpu_count()
    for text in _limits("cpu.max"):
        quota, period = text.split()
        if quota != "max":
            count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def memory() -> int:
    """Bytes of the machine or of the tightest cgroup around this process."""
    limits = [int(text) for text in _limits("memory.max") if text != "max"]
    return min([memory_limit(), *limits])


def _limits(name: str) -> Iterator[str]:
    """A limit in this process's cgroup and those around it (v2); Dask reads one of them only."""
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:  # not Linux
        return
    own = next((line[3:] for line in lines if line.startswith("0::")), "")
    place = CGROUP / own.strip("/")
    for folder in (place, *place.parents):
        if folder.is_relative_to(CGROUP) and (folder / name).is_file():
            yield (folder / name).read_text().strip()


def gpus() -> list[str]:
    """Names of the GPUs, as ``CUDA_VISIBLE_DEVICES`` has them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [n.strip() for n in named.split(",") if n.strip()] or [str(i) for i in range(count)]
    return names[:count]
