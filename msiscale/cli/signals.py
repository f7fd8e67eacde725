"""Being told to end: SIGINT, SIGTERM and SIGHUP are one clean stop, and a second ends at once."""

from __future__ import annotations

import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Ctrl-C; a queue, a container or systemd; a terminal or an ssh connection that was closed
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# shells, `timeout` and other wrappers send what they were sent, to a process that has it already
SAME_S = 1.0


class Stop:
    """What the process was told, if anything."""

    def __init__(self) -> None:
        self.number = 0
        self.at = 0.0

    @property
    def code(self) -> int:
        """The exit status."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number or signal.SIGINT).name

    def hear(self, number: int, frame: Any) -> None:
        """The first signal interrupts, like Ctrl-C, all that there is to undo; the second ends."""
        if not self.number:
            self.number, self.at = number, time.monotonic()
            _write(f"msiscale: {self.name}: stopping in good order; a second signal ends at once\n")
            raise KeyboardInterrupt
        if time.monotonic() - self.at > SAME_S:
            os._exit(128 + number)


@contextmanager
def heard() -> Iterator[Stop]:
    """Listen to the signals, but for those that the caller wants ignored (``nohup``).

    Yields
    ------
    Stop
        It knows the signal, whatever becomes of the `KeyboardInterrupt`.
    """
    stop = Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, stop.hear)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(line: str) -> None:
    """To standard error, by no buffer, as a print may be under way; nowhere if that is gone."""
    try:
        os.write(2, line.encode())
    except OSError:  # later lines must not fail either, or the stop would not be a clean one
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(1).st_mode) and not os.isatty(1):
                os.dup2(nowhere, 1)
        os.close(nowhere)
