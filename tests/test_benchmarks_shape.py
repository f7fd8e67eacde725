"""Every benchmark is listed with a line and its time, takes its options, and says where it is."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.__main__ import beside, found_benchmarks, help_line, main
from benchmarks.common.measure import table
from benchmarks.common.progress import Progress

ROOT = Path(__file__).parents[1]
MODULES = found_benchmarks()
HEAVY = ("torch", "sklearn", "distributed", "pandas", "pyimzml", "zarr", "openslide")


def test_the_benchmarks_of_the_docs_are_there() -> None:
    named = set()
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        named |= set(re.findall(r"python -m benchmarks ([a-z_]+)", page.read_text()))
    assert named - {"models", "features", "ingest"} and named <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_has_its_entry_help_and_time(name: str) -> None:
    module = MODULES[name]
    assert help_line(module).endswith(".") and re.search(r"\d+ min", module.TAKES)
    assert callable(module.measure)
    parser = argparse.ArgumentParser()
    module.options(parser)
    words = parser.parse_args([])
    assert set(module.FULL) <= set(vars(words)), "--full gives what is no option"
    for found in pkgutil.iter_modules(module.__path__):
        importlib.import_module(f"benchmarks.{name}.{found.name}")


def test_the_list_is_light() -> None:
    """So that a measured process imports nothing that its side does not."""
    names = ", ".join(f"benchmarks.{n}" for n in MODULES)
    code = f"import sys, {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert not {m.split(".")[0] for m in done.stdout.split()} & set(HEAVY)


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    said = capsys.readouterr().out
    assert all(f"{n} " in said and m.TAKES in said for n, m in MODULES.items())


def test_full_gives_the_sizes_of_the_docs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[Any] = []

    def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
        seen.append((words.scale, words.repeat))
        progress("nothing")
        return {"pca.rows": 5000.0, "pca.cpu_ratio": 2.0}

    monkeypatch.setattr(MODULES["models"], "measure", measure)
    main(["models"])
    main(["models", "--full", "--repeat", "2", "--json", str(tmp_path / "a.json")])
    assert seen == [(0.4, 1), (1.0, 2)]
    assert "rows 5,000" in capsys.readouterr().out
    assert (
        tmp_path / "a.json"
    ).read_text() == '{\n "pca.rows": 5000.0,\n "pca.cpu_ratio": 2.0\n}\n'


def test_a_size_stands_beside_the_ratios_of_its_part_only() -> None:
    found = {"a.rows": 1e3, "b.rows": 2e3, "a.cpu_ratio": 1.0}
    assert beside("a.cpu_ratio", found) == "  rows 1,000"
    assert beside("c.cpu_ratio", found) == beside("a.rows", found) == ""


def test_progress_says_step_and_time(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress("some")
    assert progress.run({"one": lambda: 1, "two": lambda: 2}) == {"one": 1, "two": 2}
    assert list(progress.each(range(100), "item")) == list(range(100))
    said = capsys.readouterr().err.splitlines()
    assert said == ["some 1/2, 0:00, one", "some 2/2, 0:00, two", "some 3/102, 0:00, item 1"]


def test_a_table_has_the_columns_of_all_rows() -> None:
    said = table([{"": "a", "x": 1.0}, {"": "long", "y": 12345.6}])
    assert said.splitlines() == ["      x       y", "a     1        ", "long     12,346"]


def test_no_other_package_is_taken_for_one() -> None:
    folders = {p.parent.name for p in Path(benchmarks.__file__).parent.glob("*/__init__.py")}
    assert folders == {*MODULES, "common"}
