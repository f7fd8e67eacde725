"""Stores of results: addresses that are refused, damage that is named, links that lead outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_inputs.rows import REFUSES, Row

from msiscale import store

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)
Change = Callable[[Path], None]


def address(id: str, wrong: str, says: str, url: str) -> Row:
    """A URL that nothing is read from."""
    return Row(id, wrong, REFUSES, says, lambda folder: store.read_bytes(url) and None)


def array(id: str, wrong: str, says: str, change: Change) -> Row:
    """A store of one array, spoilt."""

    def run(folder: Path) -> None:
        url = folder / "a.zarr"
        store.put(store.open_group(str(url), "a"), "x", VALUES, ("y", "x"))
        change(url)
        np.testing.assert_array_equal(store.read(store.open_group(str(url)), "x"), VALUES)

    return Row(id, wrong, REFUSES, says, run)


def cut(name: str) -> Change:
    def change(url: Path) -> None:
        path = url / name
        path.write_bytes(path.read_bytes()[:30])

    return change


def gone(url: Path) -> None:
    (url / "zarr.json").unlink()


def flipped(url: Path) -> None:
    path = url / "x/c/0/0"
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)


def huge(url: Path) -> None:
    document = json.loads((url / "x/zarr.json").read_text())
    document["shape"] = [10**9, 10**9]
    (url / "x/zarr.json").write_text(json.dumps(document))


def foreign(url: Path) -> None:
    document = json.loads((url / "x/zarr.json").read_text())
    document["codecs"] = [{"name": "pickle"}]
    (url / "x/zarr.json").write_text(json.dumps(document))


def record(folder: Path) -> None:
    (folder / "ledger/fit").mkdir(parents=True)
    (folder / "ledger/fit/all.json").write_text('{"status": "done", "dig')
    assert store.Ledger(str(folder)).read_all("fit") == {}


VERIFY = "`msiscale verify` names the stage to run again"
ROWS = [
    address(
        "scheme",
        "a URL of another scheme",
        "<url>: scheme '<scheme>' is not read; use s3, gs, abfs, https or a path",
        "ftp://host/x",
    ),
    address(
        "credentials",
        "a URL with a password",
        "s3://***@<bucket>: holds credentials; give them by the environment, not in the URL",
        "s3://key:hush@bucket/x",
    ),
    address(
        "signature",
        "a URL with a query",
        "https://<host>?*** has a query ('?…'), which may hold a signature; give the plain address "
        "and credentials by the environment",
        "https://host/x?X-Amz-Signature=hush",
    ),
    array(
        "no_store",
        "no store there",
        "<store>: no Zarr store there; run the stage that writes it",
        gone,
    ),
    array(
        "group_cut",
        "metadata of a group cut",
        f"<store>: damaged Zarr metadata (<why>); {VERIFY}",
        cut("zarr.json"),
    ),
    array(
        "array_cut",
        "metadata of an array cut",
        f"<store>/x: damaged Zarr metadata (<why>); {VERIFY}",
        cut("x/zarr.json"),
    ),
    array(
        "codec",
        "a codec that is none of Zarr's",
        f"<store>/x: damaged Zarr metadata (<why>); {VERIFY}",
        foreign,
    ),
    array(
        "chunk_altered",
        "a chunk altered (its checksum)",
        f"<store>/x: damaged chunk (<why>); {VERIFY}",
        flipped,
    ),
    array(
        "chunk_cut", "a chunk cut", f"<store>/x: damaged chunk (<why>); {VERIFY}", cut("x/c/0/0")
    ),
    array(
        "huge",
        "an array of 1e9 x 1e9 declared",
        f"<store>/x: an array of <shape>, which is not read whole; {VERIFY}",
        huge,
    ),
    Row(
        "record_cut",
        "a record of the ledger empty or cut",
        "does its work again",
        "<folder>: all.json is empty or cut; it counts as not written, and the work is done again",
        record,
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)


def test_a_chunk_that_is_gone_is_no_chunk_of_zeros(tmp_path: Path) -> None:
    store.put(store.open_group(str(tmp_path / "a.zarr"), "a"), "x", VALUES, ("y", "x"))
    (tmp_path / "a.zarr/x/c/0/0").unlink()
    with pytest.raises(store.LostChunk, match="a chunk is lost"):
        store.read(store.open_group(str(tmp_path / "a.zarr")), "x")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "", ".."])
@pytest.mark.parametrize("url", ["s3://bucket/a", "memory://a", "a"])
def test_no_name_leads_out_of_a_store(url: str, name: str) -> None:
    with pytest.raises(ValueError, match="not a name below"):
        store.join(url, "ok", name)


def test_what_a_link_points_at_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "file").symlink_to(tmp_path / "mine/file")
    (out / "folder").symlink_to(tmp_path / "mine")
    (out / "nowhere").symlink_to(tmp_path / "none")
    store.write_bytes(str(out / "file"), b"new")
    assert (out / "file").read_text() == "new" and not (out / "file").is_symlink()
    for name in ("folder", "nowhere"):
        assert store.remove(str(out / name))
    assert [p.name for p in out.iterdir()] == ["file"]
    assert (tmp_path / "mine/file").read_text() == "mine"
