"""How far a stage is: one line that moves on a terminal, elsewhere a line a minute at most."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

from msiscale.log import progress, quiet

EVERY_S = 60.0  # between two lines where there is no terminal
RATED = {"spectra": "spectra", "mpix": "Mpix"}  # facts of a task, and their unit in words
_BAR = "{desc} {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt}{postfix}"


class Progress:
    """Tasks done of all, the rate in the stage's own unit, the time left, and what failed."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.count, self.failed = label, total, 0, 0
        self.units: dict[str, float] = {}
        self.began = self.said = time.monotonic()
        self.quiet = quiet()
        self.bar = (
            tqdm(total=total or None, desc=label, bar_format=_BAR, file=sys.stderr, leave=False)
            if sys.stderr.isatty() and not self.quiet
            else None
        )

    def step(self, facts: Mapping[str, float], *, whole: bool = False, failed: int = 0) -> None:
        """One more task is done.

        Parameters
        ----------
        facts
            What it did; those of `RATED` and no other are read.
        whole
            The task was all that there is to do of its specimen.
        failed
            Number of specimens that have failed in the stage so far.
        """
        self.count, self.failed = self.count + 1, failed
        for fact, unit in RATED.items():
            if fact in facts:
                self.units[unit] = self.units.get(unit, 0.0) + facts[fact]
        if whole:
            self.units["specimens"] = self.units.get("specimens", 0.0) + 1
        now = time.monotonic()
        if self.bar is not None:
            self.bar.set_postfix_str(", ".join(self.words(now - self.began)), refresh=False)
            self.bar.update()
        elif not self.quiet and now - self.said >= EVERY_S:
            self.said = now
            of = f"/{self.total}" if self.total else ""
            words = [f"{self.count}{of} tasks", *self.words(now - self.began)]
            progress(f"{self.label}: {', '.join(words)}")

    def words(self, seconds: float) -> list[str]:
        """What is said behind the number of tasks, after `seconds` of them."""
        unit, done = next(iter(self.units.items()), ("tasks", float(self.count)))
        said = [rate(done, seconds, unit)] if seconds > 0 and done else []
        left = self.total - self.count
        if left > 0 and self.count:
            said.append(f"{duration(seconds / self.count * left)} left")
        if self.failed:
            said.append(f"{specimens(self.failed)} failed")
        return said

    def close(self) -> None:
        """Take the line that moves off the terminal."""
        if self.bar is not None:
            self.bar.close()


def rate(count: float, seconds: float, unit: str) -> str:
    """``1.8 Mpix/s``; what is slow by the minute or the hour."""
    per, word = next(
        ((s, w) for s, w in ((1, "s"), (60, "min")) if count / seconds * s >= 1), (3600, "h")
    )
    return f"{amount(count / seconds * per)} {unit}/{word}"


def amount(value: float) -> str:
    """A number with as many digits as matter to a reader."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 10 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def specimens(count: int) -> str:
    """``1 specimen``, ``4 specimens``."""
    return f"{count:,} specimen{'' if count == 1 else 's'}"


def ended(stage: str, seconds: float, of: int, failed: int, spent: Mapping[str, float]) -> str:
    """One line on a stage that has ended.

    Parameters
    ----------
    stage
        Its name.
    seconds
        How long it took.
    of, failed
        Specimens that it began with, and those that failed in it.
    spent
        Sums over its own tasks (see `msiscale.pipeline.account`): ``wall_s`` and those of `RATED`.

    Returns
    -------
    str
        ``features: 4 specimens in 3 min 10 s, 345 Mpix at 1.8 Mpix/s; 1 specimen failed``.
    """
    line = f"{stage}: {specimens(of - failed)} in {duration(seconds)}"
    wall = spent.get("wall_s", 0.0)
    for fact, unit in RATED.items():
        if wall > 0 and spent.get(fact):
            line += f", {amount(spent[fact])} {unit} at {rate(spent[fact], wall, unit)}"
    return f"{line}; {specimens(failed)} failed" if failed else line
