"""Libraries that only some exports need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from msiscale.errors import InputError


def need(library: str, extra: str, format: str) -> Any:
    """Import a library, or say in one line how to get it.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library.partition(".")[0]:
            raise
        raise InputError(
            f"--format {format} needs {library}: pip install 'msiscale[{extra}]', in an "
            "environment of its own (docs/formats)"
        ) from None
