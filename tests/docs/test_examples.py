"""The tutorial, the examples of docstrings in its folder, the pages of the API and the shell."""

from __future__ import annotations

import doctest
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import msiscale as ms
from msiscale.cli import cli
from msiscale.pipeline.stages import STAGES

DOCS = Path(__file__).parents[2] / "docs"
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the tutorial leaves, and what it prints."""
    folder = tmp_path_factory.mktemp("tutorial")
    command = [sys.executable, "-W", "error::FutureWarning", str(DOCS / "tutorial.py"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, done.stdout


def test_the_tutorial_finds_what_was_planted(tutorial: tuple[Path, str]) -> None:
    folder, said = tutorial
    planted = said.split("planted by the simulation: ")[1].splitlines()[0].split(", ")
    strongest = re.findall(r"^ +(\d+\.\d{4}) +AUC", said, re.M)[:2]
    assert sorted(round(float(mz), 2) for mz in strongest) == [round(float(m), 2) for m in planted]
    by_hand = re.findall(r"^P\d\d +(-?\d\.\d\d) +(\d\.\d\d)$", said, re.M)
    assert len(by_hand) == 4
    assert all(float(r2) > 0 and float(auc) > 0.75 for r2, auc in by_hand)
    assert (folder / "exported" / "S01.imzML").exists() and "failed: none" in said


@pytest.mark.parametrize("name", ms.__all__)
def test_the_example_of_a_docstring_runs(
    tutorial: tuple[Path, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tutorial[0])
    tests = [t for t in doctest.DocTestFinder().find(getattr(ms, name), name) if t.examples]
    assert tests, f"{name} has no example"
    for test in tests:
        said: list[str] = []
        found = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
        assert not found.failed, "".join(said)


def signature(name: str) -> str:
    """As a page shows it: without types."""
    found = inspect.signature(getattr(ms, name))
    bare = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.name != "self"]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def test_the_api_page_has_every_name_as_it_is() -> None:
    text = (DOCS / "api.md").read_text()
    shown = dict(re.findall(r"^#### `ms\.(\w+)(\(.*\))?`$", text, re.M))
    assert set(shown) == set(ms.__all__)
    for name, words in shown.items():
        if name != "Moments":  # which nobody makes from its sums
            assert words == signature(name)
    methods = re.findall(r"`(\w+)", text.split("#### `ms.Moments`")[1].split("####")[0])
    assert all(hasattr(ms.Moments, m) for m in methods if m not in ("Moments", "a"))


def test_the_formats_page_has_every_format_and_its_extra() -> None:
    from msiscale.export import FORMATS

    text = (DOCS / "formats.md").read_text()
    rows = re.findall(r"^\| `(\w[\w-]*)` \|.*\|([^|]*)\|$", text, re.M)
    assert [name for name, _ in rows] == list(FORMATS)
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    named = re.findall(r"msiscale\[(\w+)\]", text)
    assert named and set(named) <= set(extras["optional-dependencies"])


def test_every_name_says_what_it_does_and_types_are_shipped() -> None:
    for name in ms.__all__:
        assert (getattr(ms, name).__doc__ or "").strip(), name
    assert (Path(ms.__file__).parent / "py.typed").exists()


@pytest.mark.slow(reason="mypy over the whole package")
def test_the_scripts_of_the_docs_are_typed() -> None:
    """As a user's checker sees the package."""
    scripts = [str(DOCS / name) for name in ("tutorial.py", "glioblastoma_manifest.py")]
    command = [sys.executable, "-m", "mypy", "--strict-optional", *scripts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent, check=False)
    assert not [line for line in done.stdout.splitlines() if line.startswith("docs")], done.stdout


def complete(words: str, shell: str = "bash") -> list[str]:
    """What a shell is offered for the last word."""
    before = words.split(" ")
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(before) - 1)}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "msiscale")],
        env={**os.environ, **asked, "_MSISCALE_COMPLETE": f"{shell}_complete"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_the_shell_completes_commands_choices_and_paths() -> None:
    assert complete("msiscale ex") == ["plain,export"]
    assert {f"plain,{c}" for c in ("run", "predict", "config-schema")} <= {*complete("msiscale ")}
    assert complete("msiscale export r --format ome") == ["plain,ome-zarr"]
    assert complete("msiscale run m --enc") == ["plain,--encoder"]
    assert complete("msiscale run ") == complete("msiscale run m --config ") == ["file,"]
    assert complete("msiscale run m --encoder ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_line_for_the_shell_is_in_the_page(shell: str) -> None:
    assert f"_MSISCALE_COMPLETE={shell}_source msiscale" in (DOCS / "cli.md").read_text()
    done = subprocess.run(
        [str(Path(sys.executable).parent / "msiscale")],
        env={**os.environ, "_MSISCALE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "msiscale" in done.stdout


def test_help_lists_every_command_with_its_whole_sentence() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output
    assert all(f"\n  {name} " in said for name in cli.commands)
    assert "..." not in said.partition("Options:")[2]
    own = re.findall(r"^  ([\w-]+)", said.partition("One stage of run:")[2], re.M)
    stages = [stage.name for stage in STAGES if stage.run]
    assert own[: len(stages)] == stages  # in their order
