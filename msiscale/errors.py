"""The two things that can go wrong by the user's hand, and how they are said."""

from __future__ import annotations


class InputError(ValueError):
    """A file, field or option that cannot be used.

    The message is one line that names the file, the field and the remedy; the command line prints
    it without a traceback and the rest of the cohort goes on.
    """


class MsiscaleWarning(UserWarning):
    """Something was read or done otherwise than asked; the result is still sound."""
