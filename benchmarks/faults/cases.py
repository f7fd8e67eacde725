"""The faults: each a function called while a stage is at work, which returns when it is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

from benchmarks.common.places import until
from benchmarks.faults.network import missing_namespaces
from benchmarks.faults.proxy import Fault
from benchmarks.faults.stand import MEMORY, STAGES, Running, Stand, missing_mount
from deploy.services import Cluster, Worker

OUTAGE_S = 6.0
SHORT_CUT_S, LONG_CUT_S = 4.0, 30.0  # TCP gives up after 12 s on the stand
REPLACED_S = 5.0  # until an autoscaler would bring new workers
LIMIT_S = 600.0


@dataclass
class Case:
    """One fault at one stage: where it runs, and what the fault left to say."""

    stand: Stand
    run: Running
    stage: str
    out: str
    cluster: Cluster
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Injection:
    """A fault: what it does, the stage at which it comes by default, and what it needs."""

    act: Callable[[Case], None]
    stage: str
    # any, store (the proxy), net (a namespace), disk (a small one) or folder (of relative paths)
    place: str = "any"


def lost_process(case: Case) -> None:
    """The nanny restarts the worker."""
    case.cluster.kill_worker(0)


def lost_machine(case: Case) -> None:
    """Worker and nanny at once; nobody restarts them."""
    case.cluster.kill_worker(0, signal.SIGKILL, whole=True)


def reclaimed(case: Case) -> None:
    """A spot machine is given some seconds and then taken."""
    worker = case.cluster.workers[0]
    case.cluster.kill_worker(0, signal.SIGTERM, whole=True)
    with suppress(ProcessLookupError):
        os.killpg(worker.nanny.pid, signal.SIGKILL)


def exit_zero(case: Case) -> None:
    """Every worker ends with status 0, which a nanny takes for a wish; new ones come later."""
    gone = list(case.cluster.workers)
    processes = [w.pid() for w in gone]
    _on_workers(case.cluster, os._exit, 0)
    for worker, pid in zip(gone, processes, strict=True):
        _await_end(worker, pid)
    time.sleep(REPLACED_S)
    for worker in gone:
        if worker.pid() is None:
            case.cluster.kill_worker(case.cluster.workers.index(worker), whole=True)
            case.cluster.add_worker()


def out_of_memory(case: Case) -> None:
    """One worker takes more than its limit and is ended by its nanny, in the middle of a task."""
    worker = case.cluster.workers[0]
    before = worker.pid()
    code = f"import builtins; builtins.ballast = bytearray(b'1') * {MEMORY}"
    _on_workers(case.cluster, exec, code, only=worker)
    _await_end(worker, before)


def lost_scheduler(case: Case) -> None:
    """Killed; one with new workers takes its address."""
    case.cluster.restart_scheduler(case.stand.workers)


def lost_client(case: Case) -> None:
    """The command's own process is killed."""
    os.kill(case.run.process.pid, signal.SIGKILL)


def interrupted(case: Case) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group."""
    os.killpg(case.run.process.pid, signal.SIGINT)


def told(number: signal.Signals) -> Callable[[Case], None]:
    """The command alone is told to end; it must do so in good order, the lease given back."""

    def act(case: Case) -> None:
        case.run.process.send_signal(number)
        code = case.run.wait(LIMIT_S)
        said = case.run.said()
        held = case.stand.beat(case.out) != -1
        case.facts["unclean"] = float(code != 128 + number or "Traceback" in said or held)

    return act


def _store(
    kind: str, every: int = 1, seconds: float | None = None, delay_s: float = 0.0
) -> Callable[[Case], None]:
    def act(case: Case) -> None:
        assert case.stand.proxy is not None
        proxy = case.stand.proxy
        before = proxy.struck
        proxy.inject(Fault(kind, every, seconds, delay_s))
        if seconds is None:
            case.run.await_past(case.stage, LIMIT_S)
        else:
            time.sleep(seconds)
        proxy.clear()
        case.facts["requests_hit"] = proxy.struck - before

    return act


def _cut(seconds: float) -> Callable[[Case], None]:
    def act(case: Case) -> None:
        assert case.stand.net is not None
        case.stand.net.cut()
        time.sleep(seconds)
        case.stand.net.restore()

    return act


def full_disk(case: Case) -> None:
    """No byte is left until the command has ended, or for a while."""
    ballast = Path(case.out).parent / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    until(lambda: case.run.process.poll() is not None, 10 * OUTAGE_S)
    ballast.unlink()


def second_run(case: Case) -> None:
    """The same command again while the first is at work: refused in one line, or it waits."""
    second = case.stand.start(case.out, case.cluster)
    end, mixed = time.monotonic() + LIMIT_S, False
    while case.run.process.poll() is None and time.monotonic() < end:
        mixed = mixed or second.reached(STAGES[0])  # at work beside the first
        time.sleep(0.02)
    code = second.wait(LIMIT_S)
    lines = [n for n in second.said().splitlines() if n.startswith("msiscale: ")]
    refused = code == 1 and len(lines) == 1 and "Traceback" not in second.said()
    case.facts["refused"] = float(refused)
    case.facts["mixed"] = float(mixed or (code != 0 and not refused))


FAULTS: dict[str, Injection] = {
    "worker-sigkill": Injection(lost_process, "features"),
    "machine-sigkill": Injection(lost_machine, "fit"),
    "spot-reclaim": Injection(reclaimed, "features"),
    "exit-zero": Injection(exit_zero, "features"),
    "out-of-memory": Injection(out_of_memory, "ingest"),
    "scheduler-sigkill": Injection(lost_scheduler, "features"),
    "client-sigkill": Injection(lost_client, "features"),
    "ctrl-c": Injection(interrupted, "fit"),
    "sigterm": Injection(told(signal.SIGTERM), "features"),
    "sighup": Injection(told(signal.SIGHUP), "ingest"),
    # the command is given by relative paths, and again by others from another folder
    "relative-paths": Injection(lost_client, "features", "folder"),
    # of all requests every third, second, fifth; or all for some seconds
    "store-500": Injection(_store("500", 3), "ingest", "store"),
    "store-503": Injection(_store("503", 3), "features", "store"),
    "store-outage": Injection(_store("503", 1, OUTAGE_S), "fit", "store"),
    "store-slow": Injection(_store("delay", 2), "ingest", "store"),
    "store-cut": Injection(_store("cut", 5), "features", "store"),
    "store-ack-lost": Injection(_store("ack-lost", 5), "features", "store"),
    "link-short": Injection(_cut(SHORT_CUT_S), "features", "net"),
    "link-long": Injection(_cut(LONG_CUT_S), "ingest", "net"),
    "disk-full": Injection(full_disk, "features", "disk"),
    "two-runs": Injection(second_run, "features"),
}


def missing(fault: str, stand: Stand) -> str | None:
    """Why a fault cannot happen on this stand, or None."""
    place = FAULTS[fault].place
    if place == "store" and stand.proxy is None:
        return "needs an object store (--files s3)"
    if place == "net":
        return missing_namespaces()
    if place == "disk":
        return missing_mount(stand.folder)
    return None


def _on_workers(
    cluster: Cluster, function: Callable[..., object], *args: object, only: Worker | None = None
) -> None:
    """Call a function in the workers' processes, which it ends: no reply is looked for."""
    with Client(cluster.address, timeout="30s", set_as_default=False) as client:
        found = client.scheduler_info(n_workers=-1)["workers"]
        asked = [a for a, w in found.items() if only is None or str(w["name"]) == only.name]
        client.run(function, *args, workers=asked, on_error="ignore")


def _await_end(worker: Worker, pid: int | None) -> None:
    if not until(lambda: worker.pid() != pid, 60, every=0.05):
        raise RuntimeError(f"{worker.name} did not end; see {worker.log}")
