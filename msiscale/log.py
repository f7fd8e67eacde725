"""Lines for the user: the logger ``msiscale``, on standard error unless told otherwise.

In a command the terminal is ours: what libraries log and warn of is not shown, and a warning of our
own (`MsiscaleWarning`) is one line, said once. The processes that a command starts on this machine
know it by an environment variable.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from msiscale.errors import MsiscaleWarning, one_line, redacted

LOGGER = logging.getLogger("msiscale")
PROGRESS = logging.getLogger("msiscale.progress")
OURS = "MSISCALE_TERMINAL"  # the environment variable of processes that a command has started
# torch's C++ would write lines with source files to standard error
_OF_COMMANDS = {OURS: "ours", "TORCH_CPP_LOG_LEVEL": "ERROR"}
# of a process of Python's own that outlives a command that was killed
_OF_COMMANDS |= {"PYTHONWARNINGS": "ignore:resource_tracker"}


class Lines(logging.Handler):
    """Writes to what standard error is at the time, unless the user has set up a handler."""

    always = False

    def emit(self, record: logging.LogRecord) -> None:
        theirs = LOGGER.handlers != [self] or (LOGGER.propagate and logging.root.handlers)
        if self.always or not theirs:
            mark = "" if record.name == PROGRESS.name else "msiscale: "
            _print(f"{mark}{record.getMessage()}")


def _print(line: str) -> None:
    """Above a line that moves, where there is one; nothing is loaded to find that out."""
    bars = sys.modules.get("tqdm")
    if bars is not None and sys.stderr.isatty():
        bars.tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)


LINES = Lines()
LOGGER.addHandler(LINES)
if LOGGER.level == logging.NOTSET:  # else the user has chosen
    LOGGER.setLevel(logging.INFO)


def say(text: str) -> None:
    """A line for the user, with no secret of a URL in it."""
    _write(LOGGER, redacted(text))


def progress(text: str) -> None:
    """A line on how far something is."""
    _write(PROGRESS, text)


def quiet() -> bool:
    """Whether nobody wants to see how far something is."""
    return bool(os.environ.get("MSISCALE_QUIET")) or not _wanted(PROGRESS)


def _wanted(logger: logging.Logger) -> bool:
    if LINES.always:  # `logging` as a whole is off, for the libraries
        return logger.getEffectiveLevel() <= logging.INFO and not logger.disabled
    return logger.isEnabledFor(logging.INFO)


def _write(logger: logging.Logger, text: str) -> None:
    if LINES.always and _wanted(logger):
        logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, "%s", (text,), None))
    else:
        logger.info("%s", text)


@contextmanager
def on_the_command_line(*, debug: bool = False) -> Iterator[None]:
    """Our lines go to standard error, and nothing else does but with `debug`.

    Processes that are started inside do the same.
    """
    before = LINES.always, LOGGER.propagate
    LINES.always, LOGGER.propagate = True, False
    try:
        with ExitStack() as stack:
            if not debug:
                stack.enter_context(_without_libraries())
            yield
    finally:
        LINES.always, LOGGER.propagate = before


@contextmanager
def _without_libraries() -> Iterator[None]:
    said: set[str] = set()

    def once(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = _text(message)
        if issubclass(category, MsiscaleWarning) and text not in said:
            said.add(text)
            say(text)

    level = logging.root.manager.disable
    environment = {name: os.environ.get(name) for name in _OF_COMMANDS}
    hooks = threading.excepthook, sys.unraisablehook
    logging.disable(logging.CRITICAL)
    os.environ |= {n: v for n, v in _OF_COMMANDS.items() if not os.environ.get(n)}
    # what nobody caught, in threads and in destructors
    threading.excepthook = sys.unraisablehook = _nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", MsiscaleWarning)
            warnings.showwarning = once
            yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        logging.disable(level)


def _nothing(_: Any) -> None:
    """In place of a traceback."""


def _text(message: Warning | str) -> str:
    return one_line(redacted(str(message)))


_lock = threading.Lock()
_listening = 0
_caught: Any = None
_shown: Callable[..., None] = warnings.showwarning
_ears = threading.local()


@contextmanager
def hearing(told: Callable[[str], None]) -> Iterator[None]:
    """Our warnings of this thread go to `told` while inside; any number of threads may be.

    (What shows warnings is of the process: the first one in replaces it and the last one out puts
    it back.)
    """
    ears: list[Callable[[str], None]] = _ears.__dict__.setdefault("told", [])
    _listen()
    ears.append(told)
    try:
        yield
    finally:
        ears.pop()
        _leave()


def _listen() -> None:
    global _listening, _caught, _shown
    with _lock:
        if _listening == 0:
            _caught = warnings.catch_warnings()
            _caught.__enter__()
            warnings.simplefilter("always", MsiscaleWarning)
            _shown, warnings.showwarning = warnings.showwarning, _hear
        _listening += 1


def _leave() -> None:
    global _listening
    with _lock:
        _listening -= 1
        if _listening == 0:
            _caught.__exit__(None, None, None)


def _hear(message: Warning | str, category: type[Warning], *more: Any, **words: Any) -> None:
    ears = _ears.__dict__.get("told")
    if ears and issubclass(category, MsiscaleWarning):
        ears[-1](_text(message))
    else:
        _shown(message, category, *more, **words)


if os.environ.get(OURS):
    _for_good = ExitStack()  # kept, or it would end here
    _for_good.enter_context(on_the_command_line())
