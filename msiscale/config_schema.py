"""What the fields of `RunConfig` say to editors and readers.

`schema` is the JSON schema [1]_ of a config file; ``python -m msiscale.config_schema`` writes the
table of options into docs/cli.md.

.. [1] https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import sys
import typing
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from msiscale.config import OPTIONS, Option, is_union

_SIMPLE = {bool: "boolean", float: "number", int: "integer", str: "string"}
_MARKS = ("<!-- options -->\n", "<!-- end of options -->\n")


def schema() -> dict[str, Any]:
    """The options of a config file by kind, choices, default and help; not ranges."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "msiscale --config",
        "type": "object",
        "properties": {name: _property(option) for name, option in OPTIONS.items()},
        "additionalProperties": False,
    }


def _property(option: Option) -> dict[str, Any]:
    entry = {**_of(option.kind), "description": option.sentence}
    if option.default is not None:
        default = option.default
        entry["default"] = list(default) if isinstance(default, tuple) else default
    return entry


def _of(kind: Any) -> dict[str, Any]:
    inner = typing.get_args(kind)
    if is_union(kind):
        return {"anyOf": [_of(one) for one in inner]}
    if typing.get_origin(kind) is Literal:
        return {"enum": list(inner)}
    return {"type": "array", "items": _of(inner[0])} if inner else {"type": _SIMPLE[kind]}


def table() -> str:
    """The options as Markdown, a heading and a table a section."""
    lines: list[str] = []
    for section, options in groupby(OPTIONS.values(), lambda option: option.section):
        lines += [f"### {section}", "", "| option | what it is | stages |", "|---|---|---|"]
        for option in options:
            values = [f"`{v}`" for v in typing.get_args(option.kind) if isinstance(v, str)]
            cells = (
                " ".join([f"`{option.flag}`", ", ".join(values)]).strip(),
                option.sentence,
                ", ".join(option.stages),
            )
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def between(marks: tuple[str, str], text: str, page: str) -> str:
    """The text of a page with another text between two marks."""
    before, rest = page.split(marks[0])
    _, after = rest.split(marks[1])
    return f"{before}{marks[0]}\n{text}\n{marks[1]}{after}"


def with_table(page: str) -> str:
    """The text of a page with the table of now between its marks."""
    return between(_MARKS, table(), page)


if __name__ == "__main__":
    file = Path(*sys.argv[1:] or ["docs/cli.md"])
    file.write_text(with_table(file.read_text()))
