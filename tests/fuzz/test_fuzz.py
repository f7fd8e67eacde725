"""Every parser gives what is sound or refuses in a line: on the corpus, and on inputs made now."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import targets
from benchmarks.fuzz.mutation import CHANGES, LARGEST, mutated
from benchmarks.fuzz.targets import TARGETS, Files, Target, tried
from benchmarks.fuzz.worker import Worker
from msiscale.errors import InputError

CORPUS = Path(__file__).with_name("corpus")
INPUTS = sorted(folder for folder in CORPUS.glob("*/*") if folder.is_dir())
MOST_S = 10
_seeds: dict[str, list[Files]] = {}


def seeds(name: str) -> list[Files]:
    return _seeds.setdefault(name, TARGETS[name].seeds())


@pytest.mark.parametrize("folder", INPUTS, ids=lambda f: f"{f.parent.name}-{f.name}")
def test_what_once_crashed(folder: Path, tmp_path: Path) -> None:
    """``files.txt`` names the files of an input, the one that is read first."""
    names = (folder / "files.txt").read_text().split()
    files = {name: (folder / name).read_bytes() for name in names}
    began = time.process_time()
    assert tried(TARGETS[folder.parent.name], tmp_path, files) in ("read", "refused")
    assert time.process_time() - began < MOST_S


@pytest.mark.parametrize("name", TARGETS)
def test_whole_inputs_are_read(name: str, tmp_path: Path) -> None:
    """Else damage to them would show nothing."""
    read = [tried(TARGETS[name], tmp_path, files) for files in seeds(name)]
    assert read[0] == "read" and read.count("read") >= len(read) - (name == "config")


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_inputs_are_read_soundly_or_refused(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = seeds(name)
    files = dict(data.draw(st.sampled_from(whole), label="of"))
    changed = next(iter(files))
    draw = random.Random(data.draw(st.integers(0, 2**32), label="changes"))
    for change in data.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3)):
        files[changed] = change(files[changed], draw, [next(iter(f.values())) for f in whole])
    files[changed] = files[changed][:LARGEST]
    began = time.process_time()
    tried(TARGETS[name], tmp_path_factory.mktemp("input"), files)
    assert time.process_time() - began < MOST_S


def test_changes_are_those_of_their_seed() -> None:
    data = next(iter(seeds("geojson")[0].values()))
    one, two = (mutated(data, random.Random(5), [data]) for _ in range(2))
    assert one == two and one != data


def _broken(folder: Path, name: str) -> None:
    text = (folder / name).read_bytes()
    if b"1" in text:
        raise KeyError("one")
    if b"2" in text:
        raise InputError("two\nlines")
    if b"3" in text:
        while True:
            pass
    if b"4" in text:
        raise InputError("of no file")
    raise InputError(f"{name}: refused")


def test_a_broken_parser_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong exception, two lines, no end, no name; each is kept once, with its input."""
    from benchmarks.fuzz import worker as fuzzing

    inputs = [{"a.txt": text} for text in (b"0", b"1", b"11", b"2", b"3", b"4")]
    monkeypatch.setitem(targets.TARGETS, "broken", Target(lambda: list(inputs), _broken))
    monkeypatch.setattr(fuzzing, "MOST_S", 0.2)
    monkeypatch.setattr(fuzzing.resource, "setrlimit", lambda kind, room: None)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGALRM, signal.SIGPROF)}
    worker = Worker("broken", tmp_path, 0)
    try:
        worker.run(0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert worker.counts == {"tried": 6, "read": 0, "refused": 1, "crashes": 5}
    kinds = {kind.split(" targets")[0].split(" test")[0] for kind in worker.kinds}
    assert {"AssertionError", "too long"} < {k.strip() for k in kinds}
    kept = [p.read_bytes() for p in sorted(tmp_path.glob("crashes/*/a.txt"))]
    assert b"1" in kept and b"3" in kept and (tmp_path / "found.json").exists()
