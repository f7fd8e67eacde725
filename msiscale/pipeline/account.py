"""What a run cost and how fast it was: for each stage, worker and specimen, for ``run.json``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msiscale.pipeline.tasks import UNITS, Outcome, Sums, add

# of what a task does, and what a second of it is called
RATES = {
    "mpix": ("mpix_s", 1.0),
    "spectra": ("spectra_s", 1.0),
    "bytes_written": ("written_gb_s", 1e-9),
}
ADDED = ("wall_s", "cpu_s", "worker_s", "gpu_s", "tasks", "retries", *UNITS)


@dataclass
class Account:
    """Sums over the tasks of a run.

    Attributes
    ----------
    stages : stage -> wall, CPU and worker seconds, units of work, counts
    peaks : stage -> largest memory of a process, MiB
    workers : stage -> worker -> seconds, tasks, units of work
    specimens : specimen -> worker, CPU and GPU seconds, bytes written
    """

    stages: dict[str, Sums] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    workers: dict[str, dict[str, Sums]] = field(default_factory=dict)
    specimens: dict[str, Sums] = field(default_factory=dict)

    def add(self, stage: str, outcome: Outcome, **counts: int) -> None:
        """Add the tasks of a part of a stage; `counts` add up."""
        entry, workers = self.stages.setdefault(stage, {}), self.workers.setdefault(stage, {})
        self.peaks[stage] = max(self.peaks.get(stage, 0.0), outcome.peak_mib)
        add(entry, {"wall_s": outcome.wall_s, "cpu_s": outcome.cpu_s, "retries": outcome.retries})
        add(entry, counts)
        for (specimen, worker), spent in outcome.spent.items():
            add(entry, spent)
            add(workers.setdefault(worker, {}), spent)
            if specimen:
                own = self.specimens.setdefault(specimen, {})
                add(own, {k: v for k, v in spent.items() if k not in ("spectra", "mpix")})

    @contextmanager
    def timed(self, stage: str, **counts: int) -> Iterator[None]:
        """Add what the client itself spends inside."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        spent = Outcome(wall_s=time.perf_counter() - began, cpu_s=time.process_time() - cpu)
        self.add(stage, spent, **counts)

    def as_dict(self) -> dict[str, Any]:
        """Stages with their rates, JSON-able."""
        return {stage: self._stage(stage) for stage in self.stages}

    def _stage(self, stage: str) -> dict[str, Any]:
        workers = {
            address: _rounded({**spent, **_rates(spent, spent["worker_s"])})
            for address, spent in sorted(self.workers[stage].items())
        }
        entry = self.stages[stage]
        found = {**entry, "peak_mib": self.peaks[stage], **_rates(entry, entry["wall_s"])}
        return {**_rounded(found), "workers": workers}

    def cost(self) -> dict[str, Sums]:
        """Seconds and bytes of each specimen."""
        return {name: _rounded(entry) for name, entry in sorted(self.specimens.items())}


def _rates(spent: Sums, seconds: float) -> Sums:
    return {
        name: spent[unit] * scale / seconds
        for unit, (name, scale) in RATES.items()
        if spent.get(unit) and seconds > 0
    }


def _rounded(entry: Mapping[str, float]) -> Sums:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in sorted(entry.items())}


def totals(stages: Mapping[str, Mapping[str, Any]]) -> Sums:
    """Sums over the stages."""
    found: Sums = {}
    for entry in stages.values():
        add(found, {name: entry[name] for name in ADDED if name in entry})
    return _rounded(found)
