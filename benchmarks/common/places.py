"""Folders of benchmarks, environments of other programs, and figures of processes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def until(condition: Callable[[], bool], seconds: float, every: float = 0.02) -> bool:
    """Wait, at most so long, and say whether the condition came true."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(every)
    return True


@contextmanager
def folder_of(given: str | Path | None) -> Iterator[Path]:
    """The given folder, which stays, or a temporary one."""
    with tempfile.TemporaryDirectory(prefix="msiscale-benchmark-") as scratch:
        folder = Path(given or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def environment(folder: Path, needs: Sequence[str], python: str = sys.executable) -> str:
    """The interpreter of an environment that holds `needs`, made by `python`."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        if python == sys.executable:
            venv.create(folder, with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(inside), "-m", "pip", "install", "-q", *needs], check=True)
    return str(inside)


def status_mib(key: str, pid: int | str = "self") -> float:
    """A line of ``/proc/PID/status`` in MiB: VmRSS (resident now), VmHWM (its peak), VmSize."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the system does not tell {key} of a process")


def names(words: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """The chosen ones out of those that there are, in their order; all where none is named."""
    from msiscale.errors import InputError

    if unknown := [w for w in words if w not in known]:
        raise InputError(f"{what} {', '.join(unknown)}: choose out of {', '.join(known)}")
    return [k for k in known if k in words] if words else list(known)
