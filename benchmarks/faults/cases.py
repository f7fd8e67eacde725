"""The faults: each a function called while a stage is at work, which returns when it is over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import obstore
from distributed import Client

from benchmarks.common.places import until
from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.network import missing_namespaces
from benchmarks.faults.nolinks import missing as missing_links
from benchmarks.faults.proxy import Fault
from benchmarks.faults.stand import MEMORY, STAGES, Running, Stand, Way, missing_mount
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
    way: Way
    store: Any  # the output, as an obstore store
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def cluster(self) -> Cluster:
        return self.way.cluster


@dataclass(frozen=True)
class Injection:
    """A fault: what it does, the stage at which it comes by default, and what it needs."""

    act: Callable[[Case], None]
    stage: str
    # any, store (the proxy), net (a namespace), disk (a small one), local (inputs and output),
    # nolinks (the same, on a machine without hard links), folder (of relative paths)
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


def stopped_worker(case: Case) -> None:
    """SIGSTOP: the worker keeps its connections and answers nobody."""
    worker = case.cluster.workers[0]
    before, began = worker.pid(), time.monotonic()
    case.cluster.kill_worker(0, signal.SIGSTOP)
    _await_end(worker, before)
    case.facts["stopped_s"] = time.monotonic() - began


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


def refused_input(case: Case) -> None:
    """403 for all files of one specimen, until the command has ended."""
    assert case.stand.proxy is not None
    proxy, before = case.stand.proxy, case.stand.proxy.struck
    proxy.inject(Fault("403", path="/cohort/S02"))
    code = case.run.wait(LIMIT_S)
    proxy.clear()
    case.facts["requests_hit"] = proxy.struck - before
    case.facts["unnoticed"] = float(code != 3)  # one is set aside, the others are done


def emptied_records(case: Case) -> None:
    """A power cut: the command is gone, and a file of each kind is empty or cut.

    Records of blocks are left alone where their specimen's own says done: no run reads them again,
    and `verify` names those that are cut (tests/pipeline/test_verify.py).
    """
    lost_client(case)
    case.run.wait(LIMIT_S)
    time.sleep(1)  # what its tasks still record
    names = sorted(m["path"] for batch in obstore.list(case.store, "ledger") for m in batch)
    kinds = {f: name for name in names if f"{(f := name.rpartition('/')[0])}.json" not in names}
    lease = max(m["path"] for batch in obstore.list(case.store, "lease") for m in batch)
    for i, name in enumerate([*kinds.values(), lease, "run.json", "state.zarr/zarr.json"]):
        data = bytes(obstore.get(case.store, name).bytes())
        obstore.put(case.store, name, data[: i % 2 * len(data) // 2])
    case.facts["emptied"] = len(kinds) + 3


def replaced_file(case: Case) -> None:
    """An .ibd becomes another of the same size and time, and later itself again."""
    file = next(Path(case.way.manifest).parent.rglob("S02.ibd"))
    case.run.wait(LIMIT_S)
    data, undisturbed = file.read_bytes(), snapshot(case.store)
    values = np.frombuffer(data[-100:], "<f4")  # of the last spectrum, in another order
    try:
        _replace(file, data[:-100] + values[::-1].tobytes())
        second = case.stand.start(case.out, case.way)
        second.wait(LIMIT_S)
        case.facts["unnoticed"] = float(not compare(undisturbed, snapshot(case.store)))
    finally:
        _replace(file, data)
    case.run = case.stand.start(case.out, case.way)


def _replace(file: Path, data: bytes) -> None:
    stat = file.stat()
    other = file.with_suffix(".new")
    other.write_bytes(data)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(file)


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
    second = case.stand.start(case.out, case.way)
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
    "worker-sigstop": Injection(stopped_worker, "features"),
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
    "input-403": Injection(refused_input, "ingest", "store"),
    "link-short": Injection(_cut(SHORT_CUT_S), "features", "net"),
    "link-long": Injection(_cut(LONG_CUT_S), "ingest", "net"),
    "disk-full": Injection(full_disk, "features", "disk"),
    "two-runs": Injection(second_run, "features"),
    "empty-record": Injection(emptied_records, "fit"),
    "no-hard-links": Injection(lost_client, "features", "nolinks"),
    "replaced-file": Injection(replaced_file, "features", "local"),
}


def missing(fault: str, stand: Stand) -> str | None:
    """Why a fault cannot happen on this stand, or None."""
    place = FAULTS[fault].place
    if place == "store" and stand.proxy is None:
        return "needs an object store (--files s3)"
    if place == "net":
        return missing_namespaces()
    if place == "nolinks":
        return missing_links()
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
