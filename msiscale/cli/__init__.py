"""The command line: 0 done, 1 bad input or use in one line, 3 some specimens failed.

128 + n where signal n has stopped it.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from msiscale.cli.commands import cli
from msiscale.cli.signals import Stop, heard
from msiscale.errors import InputError
from msiscale.log import on_the_command_line

__all__ = ["cli", "main"]


def main() -> NoReturn:
    """What ``msiscale`` and ``python -m msiscale`` run."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments  # allowed anywhere, as users type it last
    if debug:
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    with heard() as stop:
        _run(arguments, debug, stop)


def _run(arguments: list[str], debug: bool, stop: Stop) -> NoReturn:
    try:
        with on_the_command_line(debug=debug):
            code = cli.main(arguments, prog_name="msiscale", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        what = "interrupted" if stop.name == "SIGINT" else f"stopped by {stop.name}"
        _stop(stop.code, f"{what}; the same command goes on where it stopped")
    except click.ClickException as error:
        _stop(1, error.format_message())
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split())
        known = isinstance(error, InputError)
        _stop(1, str(error) if known else f"{type(error).__name__}: {text} (--debug shows where)")
    sys.exit(code if isinstance(code, int) else 0)


def _stop(code: int, line: str) -> NoReturn:
    click.echo(f"msiscale: {line}", err=True)
    sys.exit(code)
