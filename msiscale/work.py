"""What runs on a worker around every task: it measures, and reports a failure in place of raising.

A task's function and arguments travel as bytes that only its worker unpacks: the scheduler, which
would otherwise import all that they come from, stays small. So does this module.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from dataclasses import dataclass
from typing import Any

from msiscale.errors import InputError, LostChunk, RunStopped, SpecimenError, no_room, redacted


@dataclass(frozen=True)
class Report:
    """What a task sends back: its result, or why there is none."""

    result: Any = None
    failure: str | None = None
    traceback: str = ""  # of an error that is not the input's
    kind: str = ""  # of a failure: "input", "passing" (may pass), "stop" (of the run), "error"
    specimen: str = ""  # whose data failed, where the task is not of one specimen
    worker: str = ""
    gpu: bool = False
    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mib: float = 0.0
    notices: tuple[str, ...] = ()  # what it warned of, each text once


def reason(error: BaseException) -> str:
    """One line for the user; the type's name only where the message was not written for them."""
    if no_room(error):
        return f"{error}; make room there and run the same command again: finished work is kept"
    text = redacted(" ".join(str(error).split())) or "no message"
    if isinstance(error, InputError | LostChunk):
        return text
    return f"{type(error).__name__}: {text if len(text) < 400 else text[:400] + '…'}"


def measured(call: bytes) -> Report:
    """Run a packed ``(function, args)``; its failure is reported, not raised, so not logged."""
    from distributed.protocol import pickle

    began, cpu = time.perf_counter(), time.process_time()
    result, failure, trace, kind, specimen = None, None, "", "", ""
    heard: dict[str, None] = {}
    try:
        from msiscale.log import hearing
        from msiscale.threads import one_blas_thread

        function, args = pickle.loads(call)
        with one_blas_thread(), hearing(heard.setdefault):
            result = function(*args)
    except Exception as error:
        failure, kind = reason(error), kind_of(error)
        trace = "" if isinstance(error, InputError) else traceback.format_exc()
        specimen = error.specimen if isinstance(error, SpecimenError) else ""
    worker, gpu = _here()
    return Report(
        result,
        failure,
        trace,
        kind,
        specimen,
        worker,
        gpu,
        time.process_time() - cpu,
        time.perf_counter() - began,
        peak_mib(),
        tuple(heard),
    )


def kind_of(error: BaseException) -> str:
    """What a failure calls for: see `Report.kind`."""
    from obstore.exceptions import BaseError

    if isinstance(error, RunStopped):
        return "stop"
    if isinstance(error, InputError | LostChunk):
        return "input"
    if no_room(error):
        return "stop"
    gone = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    passing = isinstance(error, OSError | BaseError | MemoryError | TimeoutError)
    return "passing" if passing and not isinstance(error, gone) else "error"


def _here() -> tuple[str, bool]:
    """Address of the worker that runs this, and whether it is one with a GPU."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:
        return "", False
    return str(worker.address), bool(worker.state.total_resources.get("GPU"))


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def computes(dask_worker: Any) -> bool:
    """Whether the worker of this nanny uses a CPU."""
    import psutil

    process = psutil.Process(dask_worker.pid)
    before = sum(process.cpu_times()[:2])
    await asyncio.sleep(2)
    return bool(sum(process.cpu_times()[:2]) > before)


async def restart(dask_scheduler: Any, address: str, timeout: float) -> None:
    """Have a worker's nanny kill it and start it anew; without a nanny it is only forgotten."""
    await dask_scheduler.restart_workers(
        [address],
        timeout=timeout,
        wait_for_workers=False,
        on_error="return",
        stimulus_id=f"msiscale-silent-{time.time()}",
    )
