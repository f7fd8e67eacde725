"""Small files: whole or not at all, with hard links and without, and lines for what cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults import nolinks
from msiscale import store
from msiscale.errors import RunStopped


def without_links(code: str, *words: object) -> str:
    """Standard output of Python code that gets no hard links."""
    if why := nolinks.missing():
        pytest.skip(why)
    command = [sys.executable, "-m", "benchmarks.faults.nolinks", sys.executable, "-c", code]
    said = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


CREATE = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from msiscale import store
url = sys.argv[1]
try:
    os.link(sys.executable, url)
except OSError:
    pass
else:
    raise SystemExit("there are hard links")
with ThreadPoolExecutor(8) as pool:
    made = list(pool.map(lambda i: store.create_bytes(url, b"%d" % i), range(8)))
assert sum(made) == 1, made
assert store.read_bytes(url) == b"%d" % made.index(True)
assert os.listdir(os.path.dirname(url)) == ["lease"]
"""


def test_without_hard_links_one_of_many_creates(tmp_path: Path) -> None:
    without_links(CREATE, tmp_path / "lease")


LEASE = """
import sys
from msiscale import store
from msiscale.errors import InputError
from msiscale.store.lease import held
out = sys.argv[1]
for generation in (1, 2):
    with held(out) as lease:
        assert lease.generation == generation
        try:
            with held(out):
                print("two at once")
        except InputError:
            print("refused")
group = store.open_group(out + "/a.zarr/b/c", "a")  # its parents are made only where there are none
store.put(group, "x", [1.0, 2.0], ("y",))
print(store.read(store.open_group(out + "/a.zarr/b/c"), "x").tolist())
"""


def test_a_run_needs_no_hard_links(tmp_path: Path) -> None:
    assert without_links(LEASE, tmp_path).split("\n") == ["refused", "refused", "[1.0, 2.0]", ""]


def test_of_many_writers_a_reader_sees_one_whole(tmp_path: Path) -> None:
    url = str(tmp_path / "x")
    data = [bytes([i]) * 100_000 for i in range(8)]
    store.write_bytes(url, data[0])
    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(store.write_bytes, url, d) for d in data]
        seen = [store.read_bytes(url) for _ in range(50)]
        for write in writes:
            write.result()
    assert all(s in data for s in seen)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("write", [store.write_bytes, store.create_bytes])
def test_file_and_folder_are_forced_to_the_disk(
    write: Callable[[str, bytes], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        forced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write(str(tmp_path / "f"), b"x")
    assert len(forced) == 2
    assert Path(forced[0]).parent == tmp_path and forced[1] == str(tmp_path)
    forced.clear()
    store.put(store.open_group(str(tmp_path / "a.zarr"), "a"), "x", np.ones(3), ("y",))
    assert any("/c/" in name for name in forced) and any("zarr.json" in n for n in forced)


def test_files_have_the_rights_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.write_bytes(str(tmp_path / "f"), b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system of its own needs root and mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("ro", r"cannot be written \(Read-only file system\); name a place"),
        ("size=16k", r"cannot be written \(No space left on device\); make room there"),
    ],
)
def test_what_cannot_be_written_says_what_to_do(options: str, says: str, tmp_path: Path) -> None:
    with mounted(tmp_path, options):
        with pytest.raises(RunStopped, match=says):
            store.write_bytes(str(tmp_path / "out" / "f"), b"x" * 100_000)
        with pytest.raises(RunStopped, match=says):
            group = store.open_group(str(tmp_path / "a.zarr"), "a")
            store.put(group, "x", np.random.default_rng(1).random(10_000), ("y",))
        assert not [*tmp_path.rglob("*.part")]
