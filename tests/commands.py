"""The installed command, run as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# µm a pixel: coarse, so that four slides take seconds
CHOICES = [
    *("--encoder", "efficientnet-lite0", "--mpp", "4", "--window", "512", "--components", "20"),
    *("--protocols", "leave_one_patient_out"),  # the others: tests/pipeline/test_protocols.py
]


@dataclass(frozen=True)
class Said:
    """Exit status and words of a command."""

    code: int
    out: str
    err: str


def msiscale(*words: str | Path, timeout: float = 300) -> Said:
    """The installed command, as a user types it."""
    command = [str(Path(sys.executable).parent / "msiscale"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return Said(done.returncode, done.stdout, done.stderr)
