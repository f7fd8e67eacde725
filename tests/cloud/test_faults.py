"""Rows of the fault matrix: nothing lost, nothing different (`python -m benchmarks faults`)."""

from __future__ import annotations

import os
import signal

import pytest

from benchmarks.faults.cases import FAULTS, missing
from benchmarks.faults.compare import compare, snapshot
from benchmarks.faults.matrix import Undisturbed, one_case
from benchmarks.faults.proxy import Fault
from benchmarks.faults.stand import Stand

# what ends the client, or the disk under it, cannot be survived, only gone on with
ENDS_THE_COMMAND = (
    *("client-sigkill", "relative-paths", "no-hard-links", "empty-record"),
    *("ctrl-c", "sigterm", "sighup", "disk-full"),
)
ASIDE = ("input-403",)  # its specimen, until the next run
AT_WORK = 3  # a task on each worker, and the look at the encoder that every command takes


@pytest.mark.slow(reason="five minutes; tests/pipeline/test_tasks.py has such faults one by one")
def test_worker_killed_then_store_failing_then_client_killed(
    place: Stand, reference: Undisturbed
) -> None:
    """One command survives the first two; the next goes on where the third stopped it."""
    assert place.proxy is not None
    since = place.tally()
    out, store = place.new_out("storm")
    run = place.start(out)
    assert run.await_stage("ingest", 120), run.said()
    place.cluster.kill_worker(0)
    assert run.await_stage("features", 120), run.said()
    before = place.proxy.struck
    place.proxy.inject(Fault("503", every=3))
    run.await_past("features", 120)
    place.proxy.clear()
    assert place.proxy.struck > before
    assert run.await_stage("fit", 5), run.said()
    os.kill(run.process.pid, signal.SIGKILL)
    run.wait(10)
    second = place.start(out)
    assert second.wait(240) == 0, second.said()
    place.cluster.mend(place.workers)
    difference = compare(reference.contents, snapshot(store))
    assert not difference, difference
    assert sum((place.finished(since) - reference.tasks).values()) <= AT_WORK


@pytest.mark.slow(reason="a run a fault")
@pytest.mark.parametrize("fault", FAULTS)
def test_row(place: Stand, reference: Undisturbed, fault: str) -> None:
    if why := missing(fault, place):
        pytest.skip(why)
    row = one_case(place, reference, fault, FAULTS[fault].stage)
    assert not row.lost and not row.different and not row.stuck
    assert not any(row.facts.get(name) for name in ("mixed", "unnoticed", "unclean", "tracebacks"))
    if fault not in (*ENDS_THE_COMMAND, *ASIDE, "scheduler-sigkill"):
        assert row.reruns == 0
