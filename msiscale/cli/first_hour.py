"""What is typed before a first run: a manifest for own files, and what the machine lacks."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from msiscale.cli.options import Command, choices, configured, option, where
from msiscale.errors import InputError

SECTION = "To begin with"


_INIT = """Write a manifest and a file of options for the MSI and the slides in FOLDER.

MSI files and slides are paired by their names. Without FOLDER, msiscale asks a few questions at
the terminal."""


@click.command(cls=Command, section=SECTION, help=_INIT)
@click.argument("folder", required=False)
@option("--out", "Manifest to write", "manifest.csv", metavar="FILE.csv")
@option("--config-out", "File of options to write", "msiscale.toml", metavar="FILE.toml")
@option("--force", "Overwrite existing files", is_flag=True)
def init(folder: str | None, out: str, config_out: str, force: bool) -> None:
    from msiscale.starting import ask, begin

    answers = None
    if folder is None:
        if not sys.stdin.isatty():
            raise InputError("no FOLDER is given; name the folder of your files, as . for this one")
        answers = ask(click.prompt, click.confirm)
    for line in begin(folder, out, config_out, answers=answers, force=force):
        click.echo(line)


@click.command(cls=Command, section=SECTION)
@click.argument("manifest", required=False)
@option(
    "--out", "Folder or URL for the results, where writing is tried", unset="none", metavar="URL"
)
@choices("features")
@where
@option("--json as_json", "Print the findings as JSON", is_flag=True)
@click.pass_context
def doctor(
    context: click.Context,
    /,
    manifest: str | None,
    out: str | None,
    as_json: bool,
    **words: Any,
) -> None:
    """Say what this machine has, and what it lacks for the run that you plan.

    Give it the options of your run. Nothing is computed, and nothing is left behind. The exit
    status is 1 if anything is missing.
    """
    from msiscale.cluster import Where
    from msiscale.doctor import Asked, findings

    asked = Asked(manifest, out, configured(words), Where(**words))
    found = []
    for finding in findings(asked):
        found.append(finding)
        if not as_json:
            click.echo(finding.line())
    if as_json:
        document = {"findings": [finding.as_dict() for finding in found]}
        click.echo(json.dumps(document, ensure_ascii=False, indent=1))
    context.exit(int(any(finding.state == "missing" for finding in found)))
