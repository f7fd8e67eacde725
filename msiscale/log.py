"""Lines for the user: the logger ``msiscale``, on standard error unless told otherwise."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from msiscale.errors import redacted

LOGGER = logging.getLogger("msiscale")
PROGRESS = logging.getLogger("msiscale.progress")


class Lines(logging.Handler):
    """Writes to what standard error is at the time, as long as the user has set up no handler."""

    def emit(self, record: logging.LogRecord) -> None:
        if LOGGER.handlers == [self] and not (LOGGER.propagate and logging.root.handlers):
            mark = "" if record.name == PROGRESS.name else "msiscale: "
            print(f"{mark}{record.getMessage()}", file=sys.stderr, flush=True)


LOGGER.addHandler(Lines())
if LOGGER.level == logging.NOTSET:  # else the user has chosen
    LOGGER.setLevel(logging.INFO)


def say(text: str) -> None:
    """A line for the user, with no secret of a URL in it."""
    LOGGER.info("%s", redacted(text))


def progress(text: str) -> None:
    """A line on how far something is."""
    PROGRESS.info("%s", text)


def quiet() -> bool:
    """Whether nobody wants to see how far something is."""
    return bool(os.environ.get("MSISCALE_QUIET")) or not PROGRESS.isEnabledFor(logging.INFO)


@contextmanager
def on_the_command_line() -> Iterator[None]:
    """The lines go to standard error, whatever a library has done to the root logger."""
    LOGGER.propagate = False
    try:
        yield
    finally:
        LOGGER.propagate = True
