"""An explicit list of tasks sent to a Dask cluster, a bounded number of them at a time.

What may go wrong on the way is met here: a task whose failure may pass is tried again after a
while, a bounded number of times; a worker that goes is the cluster's to replace, and its tasks go
to others; when there is no worker or no scheduler for long, the run stops with a line, to be gone
on with by the same command.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dask
from dask.utils import parse_timedelta
from distributed import Client, Future, KilledWorker
from distributed.protocol import pickle
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from msiscale.cluster import cpu_workers, has_gpu
from msiscale.errors import RunStopped
from msiscale.log import say
from msiscale.pipeline.progress import Progress
from msiscale.work import Report, measured, reason

A_WORKER = 3  # tasks that are under way for each worker thread
ATTEMPTS = 4  # of a task whose failure may pass
DEATHS = 2  # times that a task may kill as many workers as Dask allows
BACKOFF_S = 1.0  # before the second attempt; doubled for each further one
PATIENCE_S = 300.0  # without a worker or a scheduler, before the run stops
LOOK_S = 5.0  # between looks at the cluster


@dataclass(frozen=True)
class Task:
    """One unit of work: `function(*args)` writes its data and returns a small record."""

    name: str
    specimen: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    siblings: int = 1  # tasks of its specimen, it among them


Sums = dict[str, float]


@dataclass
class Outcome:
    """What became of the tasks of a stage: results by task, one reason a failed specimen, and what
    was spent, by specimen and worker; CPU seconds of the client itself where it did the work."""

    results: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    spent: dict[tuple[str, str], Sums] = field(default_factory=dict)
    retries: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0


Finished = Callable[[str, dict[str, Any], str | None], None]
Noticed = Callable[[str, str], None]  # of a specimen ("" for none), and what a task warned of


def tell(specimen: str, text: str) -> None:
    """A line of what a task warned of."""
    say(f"{specimen}: {text}" if specimen else text)


def run_tasks(
    client: Client,
    tasks: Iterable[Task],
    stage: str,
    *,
    total: int | None = None,
    debug: bool = False,
    gpu: bool = False,
    finished: Finished | None = None,
    alive: Callable[[], None] = lambda: None,
    noticed: Noticed = tell,
) -> Outcome:
    """Run tasks with at most a few waiting on each worker; a failure sets its specimen aside.

    Parameters
    ----------
    client
        Of the cluster that runs them.
    tasks
        Taken one after the other, when there is a place for them; not those of a specimen of which
        one has failed.
    stage
        Label of the progress bar.
    total
        Their number, for the progress bar; default: that of a sequence.
    gpu
        Where workers offer the resource ``GPU``, only those run these tasks; else the others do.
    finished
        Called with specimen, results by task and None as soon as all tasks of a specimen are done,
        or with the reason when the first one has failed; the results are then not kept.
    alive
        Called now and then; raises when the run must stop.
    noticed
        Called with what a task warned of, before `finished`.
    debug
        Raise the first failure that is not the input's fault, with its traceback.

    Returns
    -------
    Outcome
        The results (where `finished` is not given), the failures, and what they cost.

    Raises
    ------
    RunStopped
        No worker or no scheduler for `PATIENCE_S`, or no room left where the results go.
    RuntimeError
        With `debug`, a task failed and the input is not to blame.
    """
    outcome = Outcome()
    began = time.perf_counter()
    results: dict[str, dict[str, Any]] = {}  # by specimen
    if total is None:
        total = len(tasks) if isinstance(tasks, Sequence) else 0
    progress = Progress(stage, total)
    wanted = (task for task in tasks if task.specimen not in outcome.failed)
    stream = Stream(client, wanted, stage, gpu=gpu, alive=alive)
    try:
        for task, report in stream:
            name = task.specimen
            facts = note(outcome, name, report)
            for text in report.notices:
                noticed(name, text)
            failed = len({*outcome.failed, *([name] if report.failure is not None else [])})
            progress.step(facts, whole=bool(name) and task.siblings == 1, failed=failed)
            if report.failure is not None:
                if debug and report.traceback:
                    raise RuntimeError(f"{task.name}: {report.traceback}")
                if name not in outcome.failed:
                    outcome.failed[name] = report.failure
                    if finished is not None:
                        finished(name, {}, report.failure)
                continue
            if finished is None:
                outcome.results[task.name] = report.result
                continue
            mine = results.setdefault(name, {})
            mine[task.name] = report.result
            if len(mine) == task.siblings and name not in outcome.failed:
                finished(name, results.pop(name), None)
    finally:
        stream.close()
        progress.close()
    outcome.retries = stream.retries
    outcome.wall_s = time.perf_counter() - began
    return outcome


def note(outcome: Outcome, specimen: str, report: Report) -> Sums:
    """Add what a task cost, and give that."""
    found = report.result if isinstance(report.result, dict) else {}
    facts = {**found, **found.get("facts", {})}
    spent = {"tasks": 1, "worker_s": report.wall_s, "cpu_s": report.cpu_s}
    spent |= {unit: facts[unit] for unit in UNITS if unit in facts}
    if report.gpu:
        spent["gpu_s"] = report.wall_s
    add(outcome.spent.setdefault((specimen, report.worker), {}), spent)
    outcome.peak_mib = max(outcome.peak_mib, report.peak_mib)
    return spent


def add(total: Sums, more: Mapping[str, float]) -> None:
    """Add to sums by name."""
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


UNITS = ("spectra", "mpix", "bytes_written")  # facts of a task that add up


class Stream:
    """Tasks in, `(task, report)` out as they are done; a bounded number is under way.

    Attributes
    ----------
    held : results that the reader has and keeps waiting; they count as under way
    retries : attempts beyond the first
    """

    def __init__(
        self,
        client: Client,
        tasks: Iterable[Task],
        stage: str,
        *,
        gpu: bool = False,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self.client, self.stage, self.alive = client, stage, alive
        self.tasks = iter(tasks)
        self.gpu = gpu and has_gpu(client)
        self.held = self.retries = 0
        self.sent_all = False
        self.running: dict[str, tuple[Future[Any], Task]] = {}
        self.again: list[tuple[float, int, Task]] = []  # heap of those that wait for another try
        self.ready: deque[Task] = deque()
        self.done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.tries: Counter[str] = Counter()
        self.deaths: Counter[str] = Counter()
        self.number = itertools.count()
        self.window = self.looked = 0.0
        self.workers: list[str] = []
        self.well = time.monotonic()
        self.patience = _patience()

    def __iter__(self) -> Iterator[tuple[Task, Report]]:
        self._look()
        while True:
            self._send()
            if self.sent_all and not (self.ready or self.running or self.again):
                return
            ended = self._ended()
            if not ended or time.monotonic() - self.looked > LOOK_S:
                self._look()
            for future, task, report in self._fetched(ended):
                checked = self._checked(future, task, report)
                future.release()
                if checked is not None:
                    yield task, checked

    def close(self) -> None:
        """Let go of what is still under way."""
        futures = [future for future, _ in self.running.values()]
        self.running.clear()
        if futures and self.client.status == "running":
            self.client.cancel(futures)

    def _send(self) -> None:
        """Fill the window."""
        if self.client.status != "running":
            return
        tasks: list[Task] = []
        while len(self.running) + len(tasks) + self.held < self.window:
            while self.again and self.again[0][0] <= time.monotonic():
                self.ready.append(heapq.heappop(self.again)[2])
            task = self.ready.popleft() if self.ready else next(self.tasks, None)
            if task is None:
                self.sent_all = True
                break
            tasks.append(task)
        if not tasks:
            return
        words: dict[str, Any] = {"resources": {"GPU": 1}} if self.gpu else {}
        if self.workers and not self.gpu:
            words = {"workers": self.workers, "allow_other_workers": True}
        keys = [f"{self.stage}-{task.name}-{next(self.number)}" for task in tasks]
        calls = [pickle.dumps((task.function, task.args)) for task in tasks]
        futures = self.client.map(measured, calls, key=keys, pure=False, **words)
        for key, future, task in zip(keys, futures, tasks, strict=True):
            self.running[key] = (future, task)
            future.add_done_callback(lambda f: self.done.put(f.key))

    def _ended(self) -> list[tuple[Future[Any], Task]]:
        """Those that have ended; waits a moment for the first."""
        found = []
        with contextlib.suppress(queue.Empty):
            key = self.done.get(timeout=0.5)
            while True:
                if key in self.running:  # else of an earlier attempt
                    found.append(self.running.pop(key))
                key = self.done.get_nowait()
        return found

    def _fetched(
        self, ended: list[tuple[Future[Any], Task]]
    ) -> Iterator[tuple[Future[Any], Task, Report | None]]:
        """With their reports, fetched together; None where there is none."""
        well = [future for future, _ in ended if future.status == "finished"]
        reports: dict[str, Report] = {}
        with contextlib.suppress(Exception):  # the connection went, or the worker with the result
            got = self.client.gather(well, errors="skip", direct=False)
            if len(got) == len(well):
                reports = dict(zip((str(future.key) for future in well), got, strict=True))
        for future, task in ended:
            yield future, task, reports.get(str(future.key))

    def _checked(self, future: Future[Any], task: Task, report: Report | None) -> Report | None:
        """What to hand on; None when the task is to be tried again."""
        if report is None:
            report = self._failure(future, task)
        if report is None:  # lost with a scheduler or a worker: no fault of the task's
            self.ready.append(task)
            return None
        if report.kind == "stop":
            raise RunStopped(report.failure or "")
        if report.kind == "passing" and self.tries[task.name] + 1 < ATTEMPTS:
            self.tries[task.name] += 1
            self.retries += 1
            wait = BACKOFF_S * 2 ** (self.tries[task.name] - 1)
            heapq.heappush(self.again, (time.monotonic() + wait, next(self.number), task))
            return None
        return report

    def _failure(self, future: Future[Any], task: Task) -> Report | None:
        """Report a task that the cluster gave up; None if it is lost."""
        if future.status != "error":
            return None
        try:
            error = future.exception(timeout=30)
        except Exception:  # the connection is gone too
            return None
        if isinstance(error, NoWorkerError | NoValidWorkerError):
            return None  # how long a run waits for workers is said by `_look`
        if not isinstance(error, KilledWorker):
            return Report(failure=reason(error), kind="passing")
        self.deaths[task.name] += 1
        text = (
            f"its task {task.name} ended {error.allowed_failures + 1} workers, "
            f"{self.deaths[task.name]} times; they may lack memory (lower --window or --block)"
        )
        last = self.deaths[task.name] >= DEATHS
        return Report(failure=text, kind="error" if last else "passing")

    def _look(self) -> None:
        """See whether there are workers, and whether the run may go on."""
        self.alive()
        self.looked = time.monotonic()
        threads = _threads(self.client, gpu=self.gpu)
        if threads:
            self.well = self.looked
            self.window = A_WORKER * threads
            self.workers = cpu_workers(self.client)
        elif self.looked - self.well > self.patience:
            what = "the scheduler has been gone" if threads is None else "there has been no worker"
            what += " that offers a GPU" if self.gpu and threads == 0 else ""
            raise RunStopped(
                f"{self.stage}: for {self.patience:.0f} s {what}; mend the cluster and run the "
                "same command again: finished work is kept"
            )
        if self.client.status == "closed":
            raise RunStopped(
                f"{self.stage}: the connection to the scheduler is lost; run the same command "
                "again: finished work is kept"
            )


def _patience() -> float:
    """Seconds without a worker or a scheduler before the run stops."""
    own = dask.config.get("msiscale.patience-s", None)
    if own is not None:
        return float(own)
    theirs = dask.config.get("distributed.scheduler.no-workers-timeout", None)
    return max(PATIENCE_S, parse_timedelta(theirs) if theirs else 0.0)


def _threads(client: Client, *, gpu: bool) -> int | None:
    """Threads of the workers that may run the tasks; None where the scheduler does not answer."""
    if client.status != "running":
        return None
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
    except (OSError, TimeoutError):
        return None
    able = (w for w in workers if not gpu or w.get("resources", {}).get("GPU"))
    return sum(int(w["nthreads"]) for w in able)


def ordered(
    client: Client,
    tasks: Sequence[Task],
    stage: str,
    alive: Callable[[], None] = lambda: None,
    noticed: Noticed = tell,
) -> Iterator[Report]:
    """The reports of `tasks` in their order; a bounded number of results waits for its turn."""
    stream = Stream(client, tasks, stage, alive=alive)
    waiting: dict[str, Report] = {}
    following = iter(tasks)
    expected = next(following, None)
    progress = Progress(stage, len(tasks))
    try:
        for task, report in stream:
            progress.step({})
            for text in report.notices:
                noticed(task.specimen, text)
            waiting[task.name] = report
            while expected is not None and expected.name in waiting:
                yield waiting.pop(expected.name)
                expected = next(following, None)
            # the task whose turn it is must always be under way
            stream.held = min(len(waiting), int(stream.window) - 1)
    finally:
        stream.close()
        progress.close()
