"""A run that is watched: a screen that is drawn again, or a line a minute where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import click

EVERY_S = 60.0  # between two lines where there is no terminal


def show(url: str, looks: Iterable[list[str]]) -> None:
    """Show each look at the run, until there are no more or the user has seen enough."""
    terminal, said, last = sys.stdout.isatty(), -EVERY_S, ""
    try:
        for texts in looks:
            if terminal:
                click.clear()
                click.echo(f"{url} at {time.strftime('%H:%M:%S')} (Ctrl-C stops the watching only)")
                click.echo("\n".join(f"  {text}" for text in texts or ["nothing is done yet"]))
                continue
            line = ", ".join(texts) or "nothing is done yet"
            if line != last and time.monotonic() - said >= EVERY_S:
                click.echo(f"{time.strftime('%H:%M:%S')} {line}")
                said, last = time.monotonic(), line
    except KeyboardInterrupt:
        click.echo("msiscale: no longer watching; the run itself goes on", err=True)
        raise click.exceptions.Exit(130) from None
