"""The JSON schema [1]_ of a config file, for editors that check and complete it.

.. [1] https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from msiscale.config import RunConfig

_SIMPLE = {bool: "boolean", float: "number", int: "integer", str: "string"}


def schema(descriptions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The options that a file of ``--config`` may have, with their kinds and defaults.

    Kinds and choices only: ranges, and what goes together, are checked when the file is read.

    Parameters
    ----------
    descriptions
        Of options by name, such as their help on the command line.
    """
    kinds, said = typing.get_type_hints(RunConfig), descriptions or {}
    properties = {}
    for field in dataclasses.fields(RunConfig):
        entry = _of(kinds[field.name])
        if field.name in said:
            entry["description"] = said[field.name]
        if field.default is not None:
            default = field.default
            entry["default"] = list(default) if isinstance(default, tuple) else default
        properties[field.name] = entry
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "msiscale --config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


def _of(kind: Any) -> dict[str, Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # of something or None, which TOML has not
        (other,) = (k for k in inner if k is not type(None))
        return _of(other)
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        return {"type": "array", "items": _of(inner[0])}
    return {"type": _SIMPLE[kind]}
