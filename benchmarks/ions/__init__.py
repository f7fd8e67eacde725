"""Ions: which can be read from H&E, how far predictions err, and what chemistry adds; known truth.

A subject is a module of this folder with a ``SUBJECT`` line, ``options`` and ``measure``.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common.progress import Progress
from benchmarks.common.subjects import measure_subjects, subject_options

TAKES = "20 minutes; --only SUBJECT a part"
FULL: dict[str, Any] = {}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    subject_options(parser, __path__, __name__)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """All figures of the subjects that are asked for."""
    return measure_subjects(words, progress, __path__, __name__)
