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
    """Writes to what standard error is at the time, unless the user has set up a handler."""

    always = False

    def emit(self, record: logging.LogRecord) -> None:
        theirs = LOGGER.handlers != [self] or (LOGGER.propagate and logging.root.handlers)
        if self.always or not theirs:
            mark = "" if record.name == PROGRESS.name else "msiscale: "
            print(f"{mark}{record.getMessage()}", file=sys.stderr, flush=True)


LINES = Lines()
LOGGER.addHandler(LINES)
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
    """The lines go to standard error and nowhere else, whatever a library has set up."""
    before = LINES.always, LOGGER.propagate
    LINES.always, LOGGER.propagate = True, False
    try:
        yield
    finally:
        LINES.always, LOGGER.propagate = before
