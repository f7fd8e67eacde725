"""A file that is replaced at the same size and time is noticed, and the same file is not read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from msiscale.store import content
from msiscale.store.content import EDGE, recall, seen


def replace(path: Path, data: bytes) -> None:
    """Another file of the same name and times."""
    stat = path.stat()
    other = path.with_suffix(".other")
    other.write_bytes(data)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, path)


@pytest.mark.parametrize("size", [0, 1, 1000, 2 * EDGE, 2 * EDGE + 1, 5 * EDGE])
def test_what_is_at_either_end_tells(size: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    data = bytearray(size)
    path.write_bytes(data)
    digests = {seen(path)[-1]}
    for at in (0, size - 1, size // 2) if size else ():
        replace(path, bytes(data[:at]) + b"x" + bytes(data[at + 1 :]))
        digests.add(seen(path)[-1])
    assert len(digests) == 1 + len({0, size - 1, size // 2} if size else ())
    replace(path, bytes(data))
    assert seen(path)[-1] in digests


def test_a_change_in_place_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    stat, before = path.stat(), seen(path)
    path.write_bytes(b"b" * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert seen(path)[:2] == before[:2] and seen(path)[-1] != before[-1]


def test_what_was_seen_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"a" * 100)
    kept = json.loads(json.dumps({str(path): seen(path)}))
    monkeypatch.setattr(content, "_known", {})
    recall(kept)
    monkeypatch.setattr(content, "_digest", lambda *_: pytest.fail("read again"))
    assert [*seen(path)] == kept[str(path)]
    monkeypatch.undo()
    assert [*seen(path)] == kept[str(path)]
