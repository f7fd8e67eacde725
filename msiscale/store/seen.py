"""Whether a worker, on another machine perhaps, sees the files that the client does.

Light, as workers import it before any task comes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msiscale.errors import RunStopped
from msiscale.store.lease import Lease
from msiscale.store.urls import is_url, local_path

if TYPE_CHECKING:
    from distributed import Client

PATIENCE_S = 60.0  # for so long a network file system may not show what was just made
LOOK_S = 2.0
NAMED = 3  # hosts in a message


def one_a_folder(paths: Iterable[str | None]) -> list[str]:
    """Of the local files that this process sees, one for each folder that one is really in."""
    found: dict[str, str] = {}
    for path in filter(None, paths):
        if not is_url(path) and local_path(path).exists():
            file = str(local_path(path))
            found.setdefault(os.path.dirname(os.path.realpath(file)), file)
    return sorted(found.values())


def one_a_mount(paths: Iterable[str]) -> tuple[str, ...]:
    """Choose one file for each file system, among files that are there."""
    return tuple({os.stat(path).st_dev: path for path in paths}.values())


def unseen(paths: Iterable[str]) -> tuple[str, list[str]]:
    """This host, and what of `paths` it does not see: the highest folder that is missing."""
    missing = (_highest(Path(path)) for path in paths if not os.path.exists(path))
    return socket.gethostname(), list(dict.fromkeys(missing))


def _highest(path: Path) -> str:
    above = next((p for p in path.parents if p.exists()), path.parent)
    return str(above.joinpath(path.relative_to(above).parts[0]))


def check_seen(client: Client, paths: Iterable[str | None], lease: Lease | None = None) -> Lease:
    """Ask every worker for the folders of `paths`, and for the output by its `lease`.

    Returns
    -------
    Lease
        The same, by which tasks on workers that come later ask too (`see`).

    Raises
    ------
    RunStopped
        A worker does not see what this process sees. Nothing was touched.
    """
    lease = lease or Lease("memory://", 0)
    own = [] if is_url(lease.out) else [lease.path()]
    inputs = one_a_folder(paths)
    until = time.monotonic() + PATIENCE_S
    while missing := _asked(client, [*own, *inputs]):
        # where its folder is seen, a cache of the worker's may be what hides the new file
        late = bool(own) and all(gone == own for gone in missing.values())
        if not late or time.monotonic() > until:
            raise RunStopped(_said(missing, lease.out))
        time.sleep(LOOK_S)
    return sharing(lease, inputs)


def sharing(lease: Lease, paths: Iterable[str | None]) -> Lease:
    """The lease with the paths that tasks on workers that come later ask for (`see`)."""
    own = [] if is_url(lease.out) else [lease.path()]
    return replace(lease, shared=(*own, *one_a_mount(one_a_folder(paths))))


def _asked(client: Client, paths: list[str]) -> dict[str, list[str]]:
    """Host -> what its workers do not see."""
    found: Any = client.run(unseen, paths) if paths else {}
    return {host: gone for host, gone in found.values() if gone}


def _said(missing: Mapping[str, list[str]], out: str) -> str:
    each = [
        f"worker {host} does not see {', '.join(dict.fromkeys(_named(p, out) for p in gone))}"
        for host, gone in sorted(missing.items())
    ]
    more = f"; nor do those of {len(each) - NAMED} more hosts" if len(each) > NAMED else ""
    return "; ".join(each[:NAMED]) + more + ": share it with every worker, or use an object store"


def _named(path: str, out: str) -> str:
    """A missing path as the user gave it: the output, not the lease in it."""
    return out if Path(path).is_relative_to(local_path(out)) else path


@lru_cache(maxsize=8)
def see(lease: Lease) -> None:
    """Raise RunStopped on a worker that does not see what the run needs; asked once a process."""
    until = time.monotonic() + PATIENCE_S
    while True:
        host, gone = unseen(lease.shared)
        if not gone:
            return
        if gone != [lease.path()] or time.monotonic() > until:
            raise RunStopped(_said({host: gone}, lease.out))
        time.sleep(LOOK_S)
