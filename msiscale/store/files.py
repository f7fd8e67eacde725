"""Files of this machine's file systems, written so that neither a reader nor a power cut sees half.

A file is written beside its place, forced to the disk and moved there. A file that must be new is
moved by a hard link, which fails where there is one; where the file system has no hard links (SMB,
exFAT, many of FUSE), which is found out by trying, its name is taken first by an empty file.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from msiscale.errors import unwritable

# what file systems without hard links, or whose folders cannot be forced to the disk, answer
_CANNOT = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
_CANNOT |= {errno.EMLINK, errno.EBADF, errno.EISDIR}


def write(path: Path, data: Iterable[Any], *, new: bool = False, folder: bool = True) -> None:
    """Write a file whole or not at all.

    Parameters
    ----------
    path
        Where; its folder is made.
    data
        Its bytes, in pieces.
    new
        FileExistsError where there is one already.
    folder
        Force the folder to the disk too, so that the name outlives a power cut.

    Raises
    ------
    RunStopped
        There is no room, or no right to write.
    """
    part = path.parent / f".{path.name[:200]}.{secrets.token_hex(6)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _move_new(part, path)
        else:
            os.replace(part, path)
        if folder:
            _force(path.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        told = unwritable(error, str(path))
        if told is not None:
            raise told from None
        raise


def _move_new(part: Path, path: Path) -> None:
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(part, path)  # the name is ours, so the file in it is too
    else:
        part.unlink()


def _force(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and needs none of this
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)
