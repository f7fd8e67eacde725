"""``python -m benchmarks NAME [--json FILE]``: prints a table, writes the same as flat JSON."""

from __future__ import annotations

import argparse
import json
import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import benchmarks
from benchmarks.common.progress import Progress

SIZES = ("rows", "columns", "folds", "spectra", "side_px")  # keys that stand beside a ratio


def found_benchmarks() -> dict[str, Any]:
    """The module of every benchmark, by name."""
    folders = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.ispkg]
    return {n: import_module(f"benchmarks.{n}") for n in folders if n != "common"}


def help_line(module: Any) -> str:
    """What a benchmark measures."""
    return str(module.__doc__).splitlines()[0]


def main(argv: Sequence[str] | None = None) -> None:
    """Run one benchmark, or list all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="name", metavar="NAME")
    modules = found_benchmarks()
    parsers: dict[str, argparse.ArgumentParser] = {}
    for name, module in modules.items():
        command = commands.add_parser(name, help=help_line(module), description=module.__doc__)
        command.add_argument("--json", type=Path, metavar="FILE")
        if module.FULL:
            sizes = " ".join(f"--{n.replace('_', '-')} {v}" for n, v in module.FULL.items())
            command.add_argument("--full", action="store_true", help=f"as in the docs: {sizes}")
        module.options(command)
        parsers[name] = command
    words = parser.parse_args(argv)
    if words.name is None:
        for name, module in modules.items():
            print(f"{name:<14}{help_line(module)}\n{'':<14}{module.TAKES}")
        return
    if getattr(words, "full", False):
        parsers[words.name].set_defaults(**modules[words.name].FULL)
        words = parser.parse_args(argv)
    found = modules[words.name].measure(words, Progress(words.name))
    for key, value in found.items():
        print(f"{key:<60} {value:12.5g}{beside(key, found)}")
    if words.json:
        words.json.write_text(json.dumps(found, indent=1) + "\n")


def beside(key: str, found: Mapping[str, float]) -> str:
    """The size at which a ratio was measured."""
    part = key.split(".")[0]
    if "ratio" not in key:
        return ""
    known = {s: found[f"{part}.{s}"] for s in SIZES if f"{part}.{s}" in found}
    return "".join(f"  {name} {value:,.0f}" for name, value in known.items())


if __name__ == "__main__":
    main()
