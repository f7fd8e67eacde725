"""``python -m benchmarks.fuzz.worker TARGET FOLDER SECONDS SEED``: one parser, one process.

Guided by coverage: an input that runs a line of msiscale that none before it ran becomes a seed
itself. Before an input is read it is on disk, so that one that ends the process is not lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.common.places import status_mib
from benchmarks.fuzz.mutation import mutated
from benchmarks.fuzz.targets import TARGETS, Files, Target, tried

MOST_S, MOST_MIB = 10, 1024  # of an input; seconds of CPU, as the machine may be shared
_STILL_S = 120  # without end, whatever the CPU does
_ROOM = 4 << 30  # address space above what is mapped; a reader that asks for more gets MemoryError


class TooLong(BaseException):
    """An input took longer than `MOST_S`."""


class Coverage:
    """Lines of msiscale that were run, by ``sys.settrace``."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code.co_filename
        if "msiscale" not in code:
            return None
        self.seen.add((code, frame.f_lineno))
        return self._trace

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)


def forget_peak() -> None:
    """The peak of memory counts from here."""
    Path("/proc/self/clear_refs").write_text("5")


def _late(number: int, frame: object) -> None:
    raise TooLong


class Worker:
    """Tries inputs of one target until its time is over."""

    def __init__(self, name: str, folder: Path, seed: int) -> None:
        self.target: Target = TARGETS[name]
        self.folder, self.draw, self.coverage = folder, random.Random(seed), Coverage()
        self.inside = folder / "input"
        self.pool: list[Files] = self.target.seeds()
        self.counts = {"tried": 0, "read": 0, "refused": 0, "crashes": 0}
        self.worst = {"s": 0.0, "mib": 0.0}
        self.kinds: dict[str, str] = {}

    def run(self, seconds: float) -> None:
        """All seeds, then changes of them."""
        signal.signal(signal.SIGALRM, _late)
        signal.signal(signal.SIGPROF, _late)
        whole = list(self.pool)
        for files in whole:
            self.one(files)
        self.worst = dict.fromkeys(self.worst, 0.0)  # what was imported counts for no input
        room = int(status_mib("VmSize")) * (1 << 20) + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (room, room))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            files = dict(self.draw.choice(self.pool if self.draw.random() < 0.7 else whole))
            names = list(files)
            name = names[0] if self.draw.random() < 0.85 else self.draw.choice(names)
            others = [next(iter(f.values())) for f in self.pool[-50:]]
            files[name] = mutated(files[name], self.draw, others)
            self.one(files)
            if self.counts["tried"] % 50 == 0:
                self.save()
        self.save()

    def one(self, files: Files) -> None:
        """Read one input; note what came of it."""
        shutil.rmtree(self.inside, ignore_errors=True)
        self.inside.mkdir(parents=True)
        lines = len(self.coverage.seen)
        forget_peak()
        before, began = status_mib("VmRSS"), time.process_time()
        signal.alarm(_STILL_S)
        signal.setitimer(signal.ITIMER_PROF, MOST_S)
        try:
            with self.coverage:
                self.counts[tried(self.target, self.inside, files)] += 1
        except TooLong as error:
            self.crash(error, files, "too long")
        except Exception as error:
            self.crash(error, files, type(error).__name__)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
        self.counts["tried"] += 1
        grown = status_mib("VmHWM") - before
        self.worst["s"] = max(self.worst["s"], time.process_time() - began)
        self.worst["mib"] = max(self.worst["mib"], grown)
        if grown > MOST_MIB:
            self.crash(MemoryError(f"{grown:.0f} MiB"), files, "too large")
        if len(self.coverage.seen) > lines:
            self.pool.append(files)

    def crash(self, error: BaseException, files: Files, kind: str) -> None:
        """Keep an input of a kind of crash that is new."""
        self.counts["crashes"] += 1
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "msiscale/" in f.filename or f.filename.endswith("targets.py")]
        place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        key = f"{kind} {place}"
        if key in self.kinds:
            return
        self.kinds[key] = str(error)[:300]
        stamp = hashlib.sha256(key.encode()).hexdigest()[:8]
        keep = self.folder / "crashes" / stamp
        keep.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (keep / name).write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (keep / "why.txt").write_text(f"{key}\n{error}\n\n{text}")

    def save(self) -> None:
        """What was found until now."""
        lines = len(self.coverage.seen)
        found = {"counts": self.counts, "worst": self.worst, "kinds": self.kinds, "lines": lines}
        partial = self.folder / "found.part"
        partial.write_text(json.dumps(found))
        partial.rename(self.folder / "found.json")


def main() -> None:
    """Fuzz one parser."""
    name, folder, seconds, seed = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        Worker(name, Path(folder), int(seed)).run(float(seconds))


if __name__ == "__main__":
    main()
