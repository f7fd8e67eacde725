"""An explicit list of tasks sent to a Dask cluster, a bounded number of them at a time."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, as_completed
from tqdm import tqdm

from msiscale.errors import InputError
from msiscale.models._blocks import one_blas_thread


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(*args)` writes its data and returns a small record."""

    name: str
    specimen: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


@dataclass
class Outcome:
    """What became of the tasks of a stage: results by task, one reason a failed specimen."""

    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0


def reason(error: BaseException) -> str:
    """One line for the user; the type's name only where the message was not written for them."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def run_tasks(client: Client, tasks: Sequence[Task], stage: str, *, debug: bool = False) -> Outcome:
    """Run tasks with at most a few waiting on each worker; a failure sets its specimen aside.

    The later tasks of a specimen that failed are not sent. With `debug` the first failure that is
    not the input's fault is raised with its traceback.
    """
    outcome = Outcome()
    began = time.perf_counter()
    queue = iter(tasks)
    running: dict[Any, Task] = {}
    threads = max(1, sum(client.nthreads().values()))
    done = as_completed([], with_results=False, raise_errors=False)
    progress = Progress(stage, len(tasks))

    def send(count: int) -> None:
        for task in _next(queue, outcome.failed, count):
            future = client.submit(
                measured, task.function, *task.args, pure=False, key=f"{stage}-{task.name}"
            )
            running[future.key] = task
            done.add(future)

    send(3 * threads)
    for future in done:
        task = running.pop(future.key)
        error = future.exception()  # of the cluster; a task's own is in its report
        report = Report(failure=reason(error)) if error else future.result()
        if report.failure is None:
            outcome.results[task.name] = report.result
        else:
            if debug and report.traceback:
                raise RuntimeError(f"{task.name}: {report.traceback}")
            outcome.failed.setdefault(task.specimen, report.failure)
        outcome.cpu_s += report.cpu_s
        outcome.peak_mib = max(outcome.peak_mib, report.peak_mib)
        future.release()
        progress.step(task.name)
        send(1)
    progress.close()
    outcome.wall_s = time.perf_counter() - began
    return outcome


def _next(queue: Iterator[Task], failed: dict[str, str], count: int) -> Iterator[Task]:
    while count:
        task = next(queue, None)
        if task is None:
            return
        if task.specimen not in failed:
            count -= 1
            yield task


@dataclass(frozen=True)
class Report:
    """What a task sends back: its result, or why there is none."""

    result: Any = None
    failure: str | None = None
    traceback: str = ""  # of an error that is not the input's
    cpu_s: float = 0.0
    peak_mib: float = 0.0


def measured(function: Callable[..., Any], *args: Any) -> Report:
    """Run a task; its failure is reported, not raised, and so not logged by the worker."""
    began = time.process_time()
    result, failure, trace = None, None, ""
    try:
        with one_blas_thread():
            result = function(*args)
    except Exception as error:
        failure = reason(error)
        trace = "" if isinstance(error, InputError) else traceback.format_exc()
    return Report(result, failure, trace, time.process_time() - began, peak_mib())


def peak_mib() -> float:
    """Largest resident memory of this process so far, MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Progress:
    """A bar on a terminal; otherwise a plain line now and then."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.count = label, total, 0
        self.quiet = bool(os.environ.get("MSISCALE_QUIET"))
        self.bar = (
            tqdm(total=total, desc=f"{label:<10}", unit="task", file=sys.stderr, leave=True)
            if sys.stderr.isatty() and not self.quiet
            else None
        )
        self.said = time.monotonic()

    def step(self, name: str) -> None:
        self.count += 1
        if self.bar is not None:
            self.bar.update()
        elif not self.quiet and time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            print(f"{self.label}: {self.count}/{self.total} ({name})", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
