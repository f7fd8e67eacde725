"""Where a benchmark is: step k of n, what it is, and how long all took until then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
QUIET_S = 5.0  # between two lines of `each`


class Progress:
    """Lines on stderr; `total` may be set before the first step of several loops."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.step = name, 0, 0
        self.began = time.monotonic()
        self.said = -QUIET_S

    def __call__(self, what: str) -> None:
        """A step begins."""
        self.step += 1
        self.total = max(self.total, self.step)
        self._say(what)

    def each(self, items: Collection[T], what: str) -> Iterator[T]:
        """A step an item; items that follow each other fast share a line."""
        self.total = max(self.total, self.step + len(items))
        for i, item in enumerate(items):
            self.step += 1
            if i == 0 or time.monotonic() - self.said >= QUIET_S:
                self._say(f"{what} {item if isinstance(item, str) else i + 1}")
            yield item

    def run(self, steps: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """What each step returns, under its name."""
        self.total = max(self.total, self.step + len(steps))
        found = {}
        for name, step in steps.items():
            self(name)
            found[name] = step()
        return found

    def _say(self, what: str) -> None:
        self.said = time.monotonic()
        minutes, seconds = divmod(int(self.said - self.began), 60)
        line = f"{self.name} {self.step}/{self.total}, {minutes}:{seconds:02d}, {what}"
        print(line, file=sys.stderr, flush=True)
