"""What was done: one JSON record a stage and specimen, written last, believed by its digest."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from msiscale.errors import redacted
from msiscale.store.objects import (
    at_once,
    json_bytes,
    listing,
    read_json,
    remove,
    write_bytes,
)
from msiscale.store.urls import join

Record = dict[str, Any]


class Ledger:
    """The records of a run.

    A record says ``{"status": "done" | "failed" | "started", "digest", "reason", ...}``. Its digest
    covers the inputs and parameters of the stage; a record with another digest is of another run,
    and the stage is done again.
    """

    def __init__(self, url: str) -> None:
        self.url = join(url, "ledger")

    def _path(self, stage: str, name: str) -> str:
        return join(self.url, stage, f"{name}.json")

    def read(self, stage: str, name: str) -> Record | None:
        """The record, or None."""
        try:
            record = read_json(self._path(stage, name))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return record if isinstance(record, dict) else None

    def read_all(self, stage: str, folder: str = "") -> dict[str, Record]:
        """Every record of a stage (or of the blocks of a specimen), by name; many at a time."""
        prefix = f"{folder}/" if folder else ""
        found = [
            prefix + name.removesuffix(".json")
            for name in listing(join(self.url, stage, *([folder] if folder else [])))
            if name.endswith(".json") and not name.startswith(".")
        ]
        records = zip(found, at_once(lambda n: self.read(stage, n), found), strict=True)
        return {name: record for name, record in records if record is not None}

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
