"""A benchmark of several subjects, each a module of its folder with a ``SUBJECT`` line."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from benchmarks.common.progress import Progress


def subjects(path: Iterable[str], package: str) -> dict[str, ModuleType]:
    """The modules of a folder that have a ``SUBJECT`` line, by name."""
    modules = {m.name: import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(path)}
    return {name: module for name, module in modules.items() if hasattr(module, "SUBJECT")}


def subject_options(parser: argparse.ArgumentParser, path: Iterable[str], package: str) -> None:
    """Add ``--only`` and the options of every subject."""
    found = subjects(path, package)
    about = "; ".join(f"{name}: {module.SUBJECT}" for name, module in found.items())
    parser.add_argument(
        "--only", nargs="+", choices=tuple(found), default=tuple(found), metavar="SUBJECT",
        help=f"Subjects to measure (default: all). {about}.",
    )  # fmt: skip
    for module in found.values():
        module.options(parser)


def measure_subjects(
    words: argparse.Namespace, progress: Progress, path: Iterable[str], package: str
) -> dict[str, float]:
    """The figures of the subjects asked for, one after another."""
    figures: dict[str, float] = {}
    for name, module in subjects(path, package).items():
        if name in words.only:
            figures |= module.measure(words, progress)
    return figures
