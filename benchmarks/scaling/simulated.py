"""``python -m benchmarks.scaling.simulated ADDRESS COUNT``: simulated workers in one process.

Real `distributed.Worker` objects, one thread each, as the scheduler sees them; what is left out is
what only loads the worker's own machine: the nanny, the profiler and the monitors. Their tasks
sleep. Prints ``ready`` when all have joined, and runs until its standard input closes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile

import dask
from distributed import Worker

QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "1h",
    "distributed.admin.tick.interval": "1h",
    "distributed.admin.tick.limit": "10h",
    "distributed.comm.timeouts.connect": "60s",
}
AT_ONCE = 25  # workers that join at a time


async def _serve(address: str, count: int, folder: str) -> None:
    workers: list[Worker] = []
    for first in range(0, count, AT_ONCE):
        some = [
            Worker(
                address,
                nthreads=1,
                host="127.0.0.1",
                local_directory=folder,
                memory_limit=0,
                dashboard=False,
            )
            for _ in range(first, min(first + AT_ONCE, count))
        ]
        workers += await asyncio.gather(*some)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.gather(*(w.close(timeout=2, nanny=False) for w in workers))


def main() -> None:
    """Serve until told to stop."""
    address, count = sys.argv[1:]
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, dask.config.set(QUIET):
        asyncio.run(_serve(address, int(count), folder))


if __name__ == "__main__":
    main()
