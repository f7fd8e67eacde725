"""Probes of the machine itself: Python, CPUs, memory, GPU, open files, encoding."""

from __future__ import annotations

import locale
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator

from msiscale.cluster import machine
from msiscale.doctor.probe import GIB, Asked, Finding, gib
from msiscale.errors import InputError

PYTHON = (3, 11)
WORKER_GIB = 4.0  # of a worker at the default window (docs/sizing.md)
OPEN_FILES = 1024


def python(asked: Asked) -> Iterator[Finding]:
    """The interpreter."""
    value = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < PYTHON:
        yield Finding("Python", "missing", value, "install Python 3.11 or newer")
    else:
        yield Finding("Python", "ok", value)


def cpus(asked: Asked) -> Iterator[Finding]:
    """CPUs that this process may use."""
    use, there = machine.cpus(), os.cpu_count() or 1
    of = "" if use == there else f" of {there} (a container, queue or affinity allows no more)"
    yield Finding("CPUs", "ok", f"{use}{of}")


def memory(asked: Asked) -> Iterator[Finding]:
    """Memory, and what of it a worker gets where the work is done here."""
    whole = machine.memory()
    if not asked.here:
        yield Finding("memory", "ok", f"{gib(whole)} for the command; the workers are elsewhere")
        return
    workers = (asked.settings.workers if asked.settings else None) or machine.cpus()
    each = whole / (workers + len(machine.gpus()))
    value = f"{gib(whole)}, {gib(each)} for each of {workers} workers"
    if each >= WORKER_GIB * GIB or asked.config.window is not None:
        yield Finding("memory", "ok", value)
        return
    fewer = max(1, int(whole / (WORKER_GIB * GIB)))
    remedy = "--window 1280 halves the memory of a worker"
    if fewer < workers:
        remedy = f"--workers {fewer} gives each {WORKER_GIB:g} GiB, which is enough; {remedy}"
    yield Finding("memory", "note", value, remedy)


def gpu(asked: Asked) -> Iterator[Finding]:
    """The GPU as the driver and as torch see it."""
    driver = _driver()
    try:
        import torch
    except Exception:  # said by the probe of torch
        yield Finding("GPU", "note", driver or "none found")
        return
    seen = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen:
        yield Finding("GPU", "ok", f"{', '.join(seen)}; {driver or 'the driver is not known'}")
        return
    wanted = _wants_gpu(asked)
    if driver is None:
        value, remedy = "none found", "install the NVIDIA driver, or go on with the CPUs"
    elif torch.version.cuda is None:
        value = f"{driver}, but torch {torch.__version__} is a build for CPUs"
        remedy = "install the build of torch for CUDA (pytorch.org says how)"
    elif hidden is not None and not hidden.strip("-1 "):
        value, remedy = f"{driver}, but CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES"
    else:
        value = f"{driver}, but torch for CUDA {torch.version.cuda} cannot use it"
        remedy = "update the driver, or install torch for an older CUDA"
    if driver is None and not wanted:
        yield Finding("GPU", "ok", "none: features are computed by the CPUs")
    else:
        yield Finding("GPU", "missing" if wanted else "note", value, remedy)


def _wants_gpu(asked: Asked) -> bool:
    """Whether the user has asked for what only a GPU here can do."""
    try:
        settings = asked.settings
    except InputError:
        return False
    if settings is None or not asked.here:
        return False
    precise = asked.config.precision in ("tf32", "float16")
    return precise or settings.kind == "cuda" or settings.gpu is not None


def _driver() -> str | None:
    """The NVIDIA driver and its GPUs, as ``nvidia-smi`` tells."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    words = [command, "--query-gpu=driver_version,name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi is there, but does not answer"
    rows = [[w.strip() for w in line.split(",")] for line in done.stdout.splitlines() if line]
    if not rows:
        return None
    names = ", ".join(f"{name} with {size}" for _, name, size in (r for r in rows if len(r) == 3))
    return f"driver {rows[0][0]} ({names})"


def open_files(asked: Asked) -> Iterator[Finding]:
    """How many files and connections a process may have open."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = soft == resource.RLIM_INFINITY
    value = "no limit" if unlimited else f"{soft:,} at a time"
    if unlimited or soft >= OPEN_FILES:
        yield Finding("open files", "ok", value)
    else:
        yield Finding("open files", "note", value, f"ulimit -n {min(4096, max(hard, soft))}")


def encoding(asked: Asked) -> Iterator[Finding]:
    """Whether names and texts beyond ASCII can be read and shown."""
    names = {"file names": sys.getfilesystemencoding(), "texts": locale.getpreferredencoding(False)}
    odd = [f"{what} in {code}" for what, code in names.items() if code.lower() not in _UTF8]
    if odd:
        yield Finding("encoding", "note", " and ".join(odd), "export LC_ALL=C.UTF-8 PYTHONUTF8=1")
    else:
        yield Finding("encoding", "ok", "UTF-8")


_UTF8 = ("utf-8", "utf8")
