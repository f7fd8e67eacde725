"""What was done: one JSON record a stage and specimen, written last, believed by its digest.

A record that is empty or cut, by a power cut or a full disk, is as good as none: `read` says so and
the stage is done again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import Any, Literal

from msiscale.errors import MsiscaleWarning, redacted
from msiscale.store.objects import (
    at_once,
    json_bytes,
    listing,
    read_bytes,
    remove,
    write_bytes,
)
from msiscale.store.urls import join

Record = dict[str, Any]


def believable(data: bytes) -> Record | None:
    """A record, or None where the bytes hold none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and {"status", "digest"} <= found.keys() else None


class Ledger:
    """The records of a run.

    A record says ``{"status": "done" | "failed" | "started", "digest", "reason", ...}``. Its digest
    covers the inputs and parameters of the stage; a record with another digest is of another run,
    and the stage is done again.
    """

    def __init__(self, url: str) -> None:
        self.out = url
        self.url = join(url, "ledger")

    def _path(self, stage: str, name: str) -> str:
        return join(self.url, stage, f"{name}.json")

    def read(self, stage: str, name: str) -> Record | None:
        """The record, or None."""
        try:
            record = believable(read_bytes(self._path(stage, name)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if record is None:
            self._say(stage, [name])
        return record

    def read_all(self, stage: str, folder: str = "") -> dict[str, Record]:
        """Every record of a stage (or of the blocks of a specimen), by name; many at a time."""
        records, damaged = self.looked_through(stage, folder)
        if damaged:
            self._say(stage, damaged)
        return records

    def looked_through(self, stage: str, folder: str = "") -> tuple[dict[str, Record], list[str]]:
        """The same without a word, and the names of the records that are empty or cut."""
        names = self._listed(stage, folder)

        def read(name: str) -> Record | Literal[False] | None:
            try:
                return believable(read_bytes(self._path(stage, name)))
            except (FileNotFoundError, NotADirectoryError):  # gone in the meantime
                return False

        found = dict(zip(names, at_once(read, names), strict=True))
        records = {name: record for name, record in found.items() if record}
        return records, [name for name, record in found.items() if record is None]

    def plan(self) -> Record | None:
        """``run.json``, or None; of one that is empty or cut the names that the ledger knows."""
        path = join(self.out, "run.json")
        try:
            return dict(json.loads(read_bytes(path)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError, RecursionError):
            text = "empty or cut; it counts as not written, and the next run writes it again"
            warnings.warn(f"{path}: {text}", MsiscaleWarning, stacklevel=2)
            return {"specimens": self.names("manifest")}

    def _say(self, stage: str, names: list[str]) -> None:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        which = ", ".join(f"{name}.json" for name in names[:3]) + more
        are = "is empty or cut; it counts" if len(names) == 1 else "are empty or cut; they count"
        text = f"{join(self.url, stage)}: {which} {are} as not written, and the work is done again"
        warnings.warn(text, MsiscaleWarning, stacklevel=3)

    def _listed(self, stage: str, folder: str) -> list[str]:
        prefix = f"{folder}/" if folder else ""
        return [
            prefix + name.removesuffix(".json")
            for name in listing(join(self.url, stage, *([folder] if folder else [])))
            if name.endswith(".json") and not name.startswith(".")
        ]

    def done(self, stage: str, name: str, key: str) -> bool:
        """Whether the stage finished for exactly this digest."""
        record = self.read(stage, name)
        return record is not None and record.get("status") == "done" and record["digest"] == key

    def write(self, stage: str, name: str, key: str, status: str, **facts: Any) -> Record:
        """Record the outcome, after all it vouches for is written; return the record as read."""
        record = json_bytes({"status": status, "digest": key, **facts})
        text = redacted(record.decode())  # a reason may quote a URL
        write_bytes(self._path(stage, name), text.encode())
        return dict(json.loads(text))

    def forget(self, stage: str, names: Iterable[str]) -> None:
        """Remove records, before what they vouch for is touched."""
        at_once(lambda name: remove(self._path(stage, name)), names)

    def forget_parts(self, stage: str, name: str) -> None:
        """Remove the records of a specimen's blocks, before its arrays are made anew."""
        remove(join(self.url, stage, name))

    def folders(self, stage: str) -> list[str]:
        """Specimens that have records of blocks."""
        return [
            n for n in listing(join(self.url, stage)) if "." not in n or not n.endswith(".json")
        ]

    def stages(self) -> list[str]:
        """Names of the stages that have records."""
        return listing(self.url)

    def names(self, stage: str) -> list[str]:
        """Names that have a record of a stage."""
        found = listing(join(self.url, stage))
        return [n.removesuffix(".json") for n in found if n.endswith(".json")]
