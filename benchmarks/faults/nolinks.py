"""Run a command that the kernel gives no hard links, as SMB, exFAT and many FUSE systems have none.

``python -m benchmarks.faults.nolinks COMMAND [WORD …]``: a seccomp filter, which all processes of
the command inherit, answers ``link`` and ``linkat`` with EPERM, as those file systems do. A worker
preloads this file instead: its nanny needs links in shared memory to make semaphores.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

# audit architecture, the numbers of link and linkat in it, and that of seccomp
CALLS = {"x86_64": (0xC000003E, (86, 265), 317), "aarch64": (0xC00000B7, (37,), 277)}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF: a word of the call, a comparison, the verdict
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _FILTER, _ALL_THREADS = 38, 1, 1


def missing() -> str | None:
    """Why hard links cannot be refused here, or None."""
    known = sys.platform == "linux" and platform.machine() in CALLS
    return None if known else "refusing hard links needs Linux on x86_64 or aarch64"


def refuse() -> None:
    """From now on no hard links for this process, its threads and those that it starts."""
    architecture, numbers, seccomp = CALLS[platform.machine()]
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(numbers) + 1, architecture), (_LOAD, 0, 0, 0)]
    program += [(_EQUAL, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    program += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if failed or libc.syscall(seccomp, _FILTER, _ALL_THREADS, head):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def dask_setup(_: object) -> None:
    """Preload of a worker."""
    refuse()


if __name__ == "__main__":
    refuse()
    os.execvp(sys.argv[1], sys.argv[1:])
