"""deploy/README.md and docs/sizing.md: the commands in them parse, and what they name is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from distributed.cli import dask_scheduler, dask_worker

from msiscale.cli import cli

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "deploy" / "README.md", REPOSITORY / "docs" / "sizing.md"]
COMMANDS: dict[tuple[str, str], click.Command] = {
    ("dask", "scheduler"): dask_scheduler.main,
    ("dask", "worker"): dask_worker.main,
} | {("msiscale", name): command for name, command in cli.commands.items()}


def typed(page: Path) -> list[list[str]]:
    """Lines to type (set in by four; no formulas), continued ones joined."""
    text = page.read_text().replace("\\\n", " ")
    start = r"(?:[A-Z_]+=\S+ )?(?:msiscale|dask|sbatch|docker|kubectl|cp|deploy/)"
    lines = re.findall(rf"^ {{4}}({start}.*)$", text, re.M)
    words = [[w for w in shlex.split(x, comments=True) if w != "…"] for x in lines]
    return [[w for w in x if not re.match(r"[A-Z_]+=", w)] for x in words]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_parse(page: Path) -> None:
    seen = 0
    for words in typed(page):
        command = COMMANDS.get(tuple(words[:2]))  # type: ignore[arg-type]
        if command is not None:
            command.make_context(" ".join(words[:2]), words[2:])
            seen += 1
        elif words and words[0] in ("msiscale", "dask"):
            pytest.fail(f"no such command: {' '.join(words)}")
    assert seen >= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_are_there(page: Path) -> None:
    text = page.read_text()
    linked = {link.partition("#")[0] for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)}
    assert linked
    assert not [x for x in linked if not (page.parent / x).exists()]
    typed_words = [w for line in typed(page) for w in line]
    named = {w for w in typed_words if re.fullmatch(r"deploy(/[\w.-]+)+", w)} - {"deploy/.env"}
    assert not [x for x in named if not (REPOSITORY / x).exists()]


def test_every_file_of_the_folder_is_explained() -> None:
    page = PAGES[0].read_text()
    others = {".env", "__pycache__", "README.md"}
    names = {p.name for p in (REPOSITORY / "deploy").iterdir()} - others
    assert len(names) >= 9
    assert not [name for name in names if f"`{name}" not in page]
