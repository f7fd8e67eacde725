"""One writer at a time: a lease on an output, held by whoever made its newest generation.

A generation is a file ``lease/<n>.json`` that is created where there is none, which every store
does atomically; so of any number of runs that want to take over, one does. The holder writes its
file anew now and then; a lease that stays the same for `STALE_S` (watched by the clock of the one
who wants it) belongs to a run that is gone. One that is empty or cut holds nothing, unless a holder
writes it anew within `CUT_S`. Tasks of earlier generations find the newer one and
stop (`Lease.guard`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from msiscale.errors import InputError, RunStopped
from msiscale.store.objects import create_bytes, is_file, json_bytes, listing, read_bytes, remove
from msiscale.store.objects import write_bytes as _write
from msiscale.store.remote import NO_CREATE_ONLY
from msiscale.store.urls import join

RENEW_S = 10.0
STALE_S = 60.0
CUT_S = 2.5 * RENEW_S
_FIELDS = {"token", "host", "pid", "process_started", "started", "beat"}


@dataclass(frozen=True)
class Lease:
    """A generation of the lease on `out`; it travels to the workers."""

    out: str
    generation: int
    shared: tuple[str, ...] = ()  # files that every worker must see (`msiscale.store.seen`)

    def path(self, generation: int | None = None) -> str:
        """Where a generation is, by default this one."""
        return join(self.out, "lease", f"{generation or self.generation:08d}.json")

    def guard(self) -> None:
        """Raise if another run has taken over. One small request."""
        if is_file(self.path(self.generation + 1)):
            raise RunStopped(f"{self.out}: another run has taken over; this one writes no more")


@contextmanager
def held(
    out: str,
    *,
    say: Callable[[str], None] = lambda text: None,
    renew_s: float = RENEW_S,
    stale_s: float = STALE_S,
) -> Iterator[Lease]:
    """Hold the lease on `out`, renewed by a thread until the block ends.

    Yields
    ------
    Lease
        It travels to the tasks, which ask it (`Lease.guard`).

    Raises
    ------
    InputError
        A run that lives holds it.
    """
    token, started = uuid.uuid4().hex, datetime.now(UTC).isoformat(timespec="seconds")
    lease = _acquire(out, _content(token, started, 0), say, stale_s)
    stop = threading.Event()

    def renew() -> None:
        beat = 0
        while not stop.wait(renew_s):
            beat += 1
            try:
                lease.guard()
            except RunStopped:
                return
            except Exception:  # a store that fails for a moment; the next beat may pass
                continue
            with suppress(Exception):  # the same, or a full disk
                _write(lease.path(), _content(token, started, beat))

    thread = threading.Thread(target=renew, name="msiscale-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join(timeout=2 * renew_s)
        with suppress(OSError, RunStopped):  # else who wants it sees that this process is gone
            _write(lease.path(), _content(token, started, -1))


@dataclass
class Watch:
    """Whether a run writes to `out`, for who asks now and then and holds nothing."""

    out: str
    stale_s: float = STALE_S
    _seen: dict[str, Any] | None = None
    _since: float = 0.0

    def lives(self) -> bool:
        """Whether a run holds the lease; of one elsewhere, whether it still renews it."""
        found = [int(n[:8]) for n in listing(join(self.out, "lease")) if n[:8].isdigit()]
        holder = _read(Lease(self.out, max(found))) if found else None
        if holder is None or holder.get("beat") == -1:
            return False
        if holder and _is_here(holder):
            return not _is_dead(holder)
        if holder != self._seen:
            self._seen, self._since = holder, time.monotonic()
        return time.monotonic() - self._since < self.stale_s


def _content(token: str, started: str, beat: int) -> bytes:
    me = psutil.Process()
    return json_bytes(
        {
            "token": token,
            **_machine(),
            "pid": os.getpid(),
            "process_started": me.create_time(),
            "started": started,
            "beat": beat,  # -1: given back
        }
    )


def _machine() -> dict[str, str]:
    """Where a process number means something: one boot of one machine, one container on it."""
    found = {"host": socket.gethostname(), "boot": "", "pid_namespace": ""}
    with suppress(OSError):  # not Linux
        found["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found["pid_namespace"] = os.readlink("/proc/self/ns/pid")
    return found


def _acquire(out: str, content: bytes, say: Callable[[str], None], stale_s: float) -> Lease:
    while True:
        found = [int(n[:8]) for n in listing(join(out, "lease")) if n[:8].isdigit()]
        newest = max(found, default=0)
        if newest:
            _wait_until_free(Lease(out, newest), say, stale_s)
        lease = Lease(out, newest + 1)
        # a store may have made it although its answer was lost and the request repeated
        if create_bytes(lease.path(), content) or _is_ours(lease, content):
            _refuse_unless_create_only(lease, content)
            for old in found:
                # the one before stays: it shows its own tasks that there is a newer one
                if old < newest:
                    remove(lease.path(old))
            return lease


def _refuse_unless_create_only(lease: Lease, content: bytes) -> None:
    """Create the lease once more, which must fail; where it does not, two runs could hold it."""
    if not create_bytes(lease.path(), content):
        return
    remove(lease.path())
    raise InputError(f"{lease.out}: {NO_CREATE_ONLY}")


def _is_ours(lease: Lease, content: bytes) -> bool:
    holder = _read(lease)
    return holder is not None and holder.get("token") == json.loads(content)["token"]


def _wait_until_free(lease: Lease, say: Callable[[str], None], stale_s: float) -> None:
    """Return when the holder is gone; InputError if it lives."""
    seen = _holder(lease, say, stale_s)
    here = seen is not None and _is_here(seen)
    if seen is None or seen["beat"] == -1 or (here and _is_dead(seen)):
        return
    who = f"process {seen['pid']} on {seen['host']}, since {seen['started']}"
    refused = InputError(
        f"{lease.out}: another run is writing there ({who}); wait for it, or stop it"
    )
    if here:
        raise refused
    say(f"{lease.out} is held by {who}; watching for {stale_s:.0f} s whether that run still lives")
    until = time.monotonic() + stale_s
    while time.monotonic() < until:
        time.sleep(min(1.0, stale_s / 10))
        now = _read(lease)
        if not now or now["beat"] == -1:
            return
        if now != seen:
            raise refused


def _holder(lease: Lease, say: Callable[[str], None], stale_s: float) -> dict[str, Any] | None:
    """Who holds a lease; None for nobody."""
    found = _read(lease)
    if found != {}:
        return found
    wait = min(CUT_S, stale_s)
    say(
        f"{lease.path()} is empty or cut; watching for {wait:.0f} s whether a run writes it anew, "
        "else it counts as not written"
    )
    until = time.monotonic() + wait
    while found == {} and time.monotonic() < until:
        time.sleep(min(1.0, wait / 10))
        found = _read(lease)
    return found or None


def _read(lease: Lease) -> dict[str, Any] | None:
    """What a lease says: None where there is none, nothing where it is empty or cut."""
    try:
        found = json.loads(read_bytes(lease.path()))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.keys() >= _FIELDS else {}


def _is_here(holder: dict[str, Any]) -> bool:
    """Whether the holder's process number is one of this boot and container."""
    return all(holder.get(name) == value for name, value in _machine().items())


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is gone."""
    try:
        started = psutil.Process(holder["pid"]).create_time()
        return bool(abs(started - holder["process_started"]) > 1)
    except psutil.NoSuchProcess:
        return True
