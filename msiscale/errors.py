"""What can go wrong by the user's hand or the machine's, and how it is said."""

from __future__ import annotations

import errno
import re

_SECRETS = (
    (re.compile(r"(?<!abfs)(?<!abfss)(://)[^/\s@\"]+@"), r"\1***@"),  # user:password@host
    (re.compile(r"(://[^\s?\"]+\?)[^\s\"]+"), r"\1***"),  # a signature or token in a query
)

NOTE = "note: "  #: how a warning begins, after its file, by which no result can be wrong
_LONGEST = 1000  # characters of a message; what a damaged file holds may be any number of them


def one_line(text: str) -> str:
    """`text` in one line of bearable length, its control characters shown and not obeyed."""
    plain = "".join(
        " " if c in "\n\r\t" else c if c.isprintable() or c == " " else ascii(c)[1:-1] for c in text
    )
    if len(plain) <= _LONGEST:
        return plain
    return f"{plain[: _LONGEST - 300]} … {plain[-290:]}"


def redacted(text: str) -> str:
    """`text` without what a URL in it may hold of credentials."""
    if "://" in text:
        for pattern, instead in _SECRETS:
            text = pattern.sub(instead, text)
    return text


class InputError(ValueError):
    """A file, field or option that cannot be used.

    The message is one line that names the file, the field and the remedy; the command line prints
    it without a traceback and the rest of the cohort goes on.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(redacted(message)))


class SpecimenError(InputError):
    """The stored data of one specimen cannot be used; the others can go on without it."""

    def __init__(self, message: str, specimen: str) -> None:
        super().__init__(message)
        self.specimen = specimen

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self), self.specimen)


class StoreError(OSError):
    """A store that did not answer as it should, after retries: worth another try later."""


class NoAnswer(StoreError):
    """A host that nobody answers for, after retries."""


class LostChunk(OSError):
    """A chunk of an array that was written whole is not there."""


class RunStopped(InputError):
    """The whole run cannot go on (no workers, no scheduler, no room); it can be run again."""


class MsiscaleWarning(UserWarning):
    """Something was read or done otherwise than asked; the result is still sound."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


def no_room(error: BaseException) -> bool:
    """Whether a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def unwritable(error: BaseException, where: str) -> RunStopped | None:
    """What to do about a place that cannot be written; None for any other error."""
    if no_room(error):
        do = "make room there and run the same command again: finished work is kept"
    elif isinstance(error, OSError) and error.errno in _NO_RIGHT:
        do = "name a place that you may write to, or ask for the right to write there"
    else:
        return None
    return RunStopped(f"{where}: cannot be written ({getattr(error, 'strerror', error)}); {do}")
