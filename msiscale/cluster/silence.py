"""Workers that hang (stopped, on a file system that is gone) are noticed, said and restarted.

A lost worker closes its connection and Dask gives its tasks to others; one that hangs keeps it. Its
heartbeats tell: when they stay out, its nanny is asked whether the process still computes (native
code may keep the interpreter from its heartbeats for long), and if not, Dask restarts it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from msiscale.log import say
from msiscale.work import computes, restart

SILENT_S = 30.0  # without a heartbeat; they come twice a second, of 1,000 workers every 6 s
LOOK_S = 5.0
ANSWER_S = 20.0  # a nanny has to answer within


@contextmanager
def watched(client: Client) -> Iterator[None]:
    """Look after the workers while inside."""
    stop = threading.Event()
    watch = Watch(client)

    def look() -> None:
        while not stop.wait(LOOK_S):
            with contextlib.suppress(Exception):  # the scheduler is gone, which others say
                watch.look()

    thread = threading.Thread(target=look, name="msiscale-silence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()


@dataclass
class Watch:
    """When each worker was heard last, by the clock of this process."""

    client: Client
    heard: dict[str, tuple[float, float]] = field(default_factory=dict)

    def look(self) -> None:
        """Restart those that hang."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        now = time.monotonic()
        silent_s = max(SILENT_S, len(workers) / 40)
        for address, worker in workers.items():
            seen, since = self.heard.get(address, (-1.0, now))
            if worker["last_seen"] != seen:
                self.heard[address] = (worker["last_seen"], now)
            elif now - since > silent_s:
                self.heard[address] = (seen, now)  # to be asked again after a while
                if not worker["nanny"] or not self._computes(address):
                    self._restart(address, worker, now - since)
        for address in self.heard.keys() - workers.keys():
            del self.heard[address]

    def _computes(self, address: str) -> bool:
        """Whether the worker's process uses a CPU; False where its nanny does not answer."""
        replies: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            with contextlib.suppress(Exception):
                replies.put(self.client.run(computes, workers=[address], nanny=True))

        threading.Thread(target=ask, daemon=True).start()
        try:
            return bool(replies.get(timeout=ANSWER_S).get(address))
        except queue.Empty:
            return False

    def _restart(self, address: str, worker: dict[str, Any], seconds: float) -> None:
        what = "it is restarted" if worker["nanny"] else "it is left out"
        host = address.rpartition("/")[2]
        say(
            f"worker {worker['name']} ({host}) has not answered for {seconds:.0f} s and stands "
            f"still: {what}, and its tasks go to others"
        )
        self.client.run_on_scheduler(restart, address=address, timeout=ANSWER_S)
