"""The commands: in this process, whose imports are paid for, or installed, as a user runs them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from msiscale.cli import main

# µm a pixel: coarse, so that four slides take seconds; few penalties and shifts for the same reason
CHOSEN: dict[str, Any] = {
    "encoder": "own:small_encoder:small",
    "mpp": 4.0,
    "window": 512,
    "components": 20,
    "alphas": (0.1, 10.0),
    "costs": (0.001, 0.1),
    "shifts": 100,
    "protocols": ("leave_one_patient_out",),  # the others: tests/pipeline/test_protocols.py
}
CHOICES = [
    word
    for name, value in CHOSEN.items()
    for word in (f"--{name}", ",".join(map(str, value if isinstance(value, tuple) else (value,))))
]
# of a run without the figures and the report, which take as long as all the rest
UNREPORTED = ("ingest", "register", "features", "fit", "biomarkers", "regions")


@dataclass(frozen=True)
class Said:
    """Exit status and words of a command."""

    code: int
    out: str
    err: str


def msiscale(*words: str | Path) -> Said:
    """A command in this process: all of it but the start of Python."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    line = mock.patch.object(sys, "argv", ["msiscale", *map(str, words)])
    with line, redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
    return Said(code, out.getvalue(), err.getvalue())


def environment() -> dict[str, str]:
    """Of a process that imports `small_encoder`."""
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def installed(*words: str | Path, timeout: float = 600) -> Said:
    """The installed command in a process of its own, as a user types it."""
    command = [str(Path(sys.executable).parent / "msiscale"), *map(str, words)]
    words = {"capture_output": True, "text": True, "env": environment(), "timeout": timeout}
    done = subprocess.run(command, **words, check=False)
    return Said(done.returncode, done.stdout, done.stderr)


def typed(folder: Path, text: str, timeout: float) -> str:
    """What the words of a page print when they are typed as they stand in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", text],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout
