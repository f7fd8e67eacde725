"""Probes of where data are: the manifest, the output, room on the disks."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from msiscale.cohort import Specimen
from msiscale.doctor.probe import GIB, Asked, Finding, State, gib
from msiscale.errors import InputError
from msiscale.pipeline.opening import opened
from msiscale.store import create_bytes, is_url, join, local_path, read_bytes, remove, write_bytes
from msiscale.store.objects import modified
from msiscale.store.remote import NO_CREATE_ONLY

SAMPLED = 3  # MSI files that are opened to estimate the size of the results
COLUMNS = 1000  # of the m/z axis, which nobody knows before it is found
SKEW_S = 60.0  # of clocks; object stores refuse requests that are minutes off
SCRATCH = 2 * GIB


def manifest(asked: Asked) -> Iterator[Finding]:
    """The manifest can be read; what is in the files is for ``msiscale check``."""
    if asked.manifest is None:
        return
    try:
        cohort = asked.cohort
    except (InputError, OSError) as error:
        yield Finding.of("manifest", error)
        return
    assert cohort is not None
    rows = len(cohort) + len(cohort.problems)
    value = f"{rows} specimen{'' if rows == 1 else 's'} in {asked.manifest}"
    if cohort.problems:
        bad = f"{value}, of which {len(cohort.problems)} cannot be used"
        yield Finding("manifest", "missing", bad, f"msiscale check {asked.manifest} says why")
    else:
        yield Finding("manifest", "ok", value)


def store(asked: Asked) -> Iterator[Finding]:
    """The output can be written, read and created in only once, and keeps our time."""
    if asked.out is None:
        return
    data = b'{"written by": "msiscale doctor"}\n'
    try:
        folder = asked.out if is_url(asked.out) else str(_nearest(local_path(asked.out)))
        url = join(folder, f".msiscale-doctor-{secrets.token_hex(6)}.json")
        made = create_bytes(url, data)
        at = time.time()
        try:
            again = create_bytes(url, data)
            write_bytes(url, data)
            same = read_bytes(url) == data
            written = modified(url)
        finally:
            remove(url)
    except (InputError, OSError) as error:
        found = Finding.of("store", error)
        remedy = found.remedy or "correct the address, the rights or the credentials"
        yield Finding("store", "missing", found.value, remedy)
        return
    if not made or again or not same:
        value, _, remedy = NO_CREATE_ONLY.partition("; ")
        yield Finding("store", "missing", f"{asked.out}: {value}", remedy)
        return
    yield Finding("store", "ok", f"{asked.out} can be read and written, with create-only writes")
    skew = None if written is None else written - at
    if skew is not None and abs(skew) > SKEW_S:
        value = f"the clock of {folder} is {skew:+.0f} s from that of this machine"
        yield Finding("clock", "note", value, "set both by NTP: signed requests are refused")
    elif skew is not None:
        yield Finding("clock", "ok", f"within {SKEW_S:.0f} s of that of the output")


def disk(asked: Asked) -> Iterator[Finding]:
    """Room for the results of the cohort, by the sizes of a few of its MSI files."""
    size = _estimate(asked)
    about = "" if size is None else f"; the results take some {gib(size)} before compression"
    if asked.out is None or is_url(asked.out):
        if size is not None:
            yield Finding("results", "ok", f"some {gib(size)} before compression")
        return
    try:
        free = shutil.disk_usage(_nearest(local_path(asked.out))).free
    except (InputError, OSError):  # said by the probe of the store
        return
    value = f"{gib(free)} free at {asked.out}{about}"
    if size is None or free >= size:
        yield Finding("disk", "ok", value)
    else:  # compressed they may take half
        state: State = "missing" if free < size / 2 else "note"
        yield Finding("disk", state, value, "make room there, or name another --out")


def scratch(asked: Asked) -> Iterator[Finding]:
    """Room for temporary files."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    value = f"{gib(free)} free in {folder}"
    if free < SCRATCH:
        remedy = "make room there, or set TMPDIR to a folder that has more"
        yield Finding("scratch", "note", value, remedy)
    else:
        yield Finding("scratch", "ok", value)


def _nearest(path: Path) -> Path:
    """The folder itself, or the one around it that is there. InputError where that is a file."""
    path = path.absolute()
    there = next(place for place in (path, *path.parents) if place.exists())
    if not there.is_dir():
        raise InputError(f"{there}: is a file and no folder; name another --out")
    return there


def _estimate(asked: Asked) -> float | None:
    """Bytes of the cubes and the features before compression (docs/sizing.md), or None."""
    try:
        specimens = [] if asked.cohort is None else list(asked.cohort)
        channels = asked.encoder.channels
    except (InputError, OSError, ImportError):
        return None
    some = specimens[:: max(1, len(specimens) // SAMPLED)][:SAMPLED]
    sizes = [n for n in (_pixels(each, asked) for each in some) if n is not None]
    if not sizes:
        return None
    return 4.0 * sum(sizes) / len(sizes) * len(specimens) * (COLUMNS + channels)


def _pixels(specimen: Specimen, asked: Asked) -> int | None:
    try:
        height, width = opened(specimen, asked.config).shape
    except Exception:  # said by msiscale check
        return None
    return int(height * width)
