"""Preloaded by the scheduler of the fault matrix: one line a task that ran to its end.

``dask scheduler --preload benchmarks/faults/tally.py``; the lines go to the file that the
environment's ``FAULTS_TALLY`` names, and outlive the scheduler.
"""

from __future__ import annotations

import os
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin


class Tally(SchedulerPlugin):
    """Writes the key of every task that a worker finished."""

    name = "faults-tally"

    def __init__(self, path: str) -> None:
        self.path = path

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Called by the scheduler at every change of a task's state."""
        # `released` after a result came straight from processing: nobody waits for it any more
        if start == "processing" and finish in ("memory", "erred"):
            with open(self.path, "a") as file:
                file.write(f"{finish} {key}\n")


def dask_setup(scheduler: Any) -> None:
    """Called by ``dask scheduler``."""
    scheduler.add_plugin(Tally(os.environ["FAULTS_TALLY"]))
