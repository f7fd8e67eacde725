"""The help of the commands, and what the command line does before anything heavy is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from msiscale import __version__
from msiscale.cli import cli
from msiscale.config import OPTIONS
from msiscale.config_schema import with_table
from msiscale.pipeline.stages import STAGES

CLI_PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
FLAGS = {option.flag for option in OPTIONS.values()}
STAGE_NAMES = [stage.name for stage in STAGES if stage.run]


def shown(command: str) -> set[str]:
    """The options of `RunConfig` in the help of a command."""
    done = CliRunner().invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    return {*re.findall(r"^  (--[\w-]+)", done.output, re.M)} & FLAGS


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_stage_shows_what_it_uses_and_takes_all(stage: str) -> None:
    assert shown(stage) == {o.flag for o in OPTIONS.values() if stage in o.stages}
    known = {word for param in cli.commands[stage].params for word in param.opts}
    assert known >= FLAGS


def test_run_and_check_show_all_and_every_option_is_of_a_stage() -> None:
    assert shown("run") == shown("check") == FLAGS
    assert "--window" in shown("features") and "--window" not in shown("fit")
    assert all(o.stages and {*o.stages} <= {*STAGE_NAMES} for o in OPTIONS.values())


def test_help_is_of_whole_phrases_with_defaults() -> None:
    for name, command in cli.commands.items():
        for param in command.params:
            if isinstance(param, click.Option):
                said = str(param.help)
                assert re.fullmatch(r"[A-Z].{10,}\.", said), f"{name}: {said}"
                assert "default:" in said or param.required or param.default is None, said
                assert "[" not in said or "[M+H]+" in said, said
    said = CliRunner().invoke(cli, ["ingest", "--help"]).output
    assert "Largest mass error that recalibration can correct, in ppm (default: 50)." in " ".join(
        said.split()
    )
    assert said.index("Options:") < said.index("\nMSI:") < said.index("\nWhere it runs:")


def test_the_page_has_the_table_of_options() -> None:
    page = CLI_PAGE.read_text()
    assert with_table(page) == page, "run python -m msiscale.config_schema"


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "dask", "distributed", "numpy", "pandas", "zarr", "fsspec", "sklearn")
    program = (
        "import sys; sys.argv = ['msiscale', 'run', '--help']\n"
        "from msiscale.cli import main\n"
        "try: main()\n"
        f"finally: print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_package_runs_as_a_module() -> None:
    words = [sys.executable, "-m", "msiscale", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"msiscale, version {__version__}"
