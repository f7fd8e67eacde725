"""The options of the commands, and help that has them in sections; nothing heavy is imported."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any, Literal

import click

from msiscale.config import OPTIONS, PROFILES, RunConfig, is_union, load_config
from msiscale.config import Option as Field

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
PATHS = {"FILE", "DIR", "URL"}


class Option(click.Option):
    """An option under a heading of the help."""

    def __init__(self, *words: Any, section: str = "Options", **more: Any) -> None:
        super().__init__(*words, **more)
        self.section = section


class Command(click.Command):
    """A command under a heading of the list, with its options under headings."""

    def __init__(self, *words: Any, section: str, **more: Any) -> None:
        super().__init__(*words, **more)
        self.section = section
        for param in self.params:  # what names a file is completed as one, and taken as it is
            named = {*str(param.metavar).replace(".", "|").split("|")} & PATHS
            if param.type is click.STRING and (named or isinstance(param, click.Argument)):
                param.type = click.Path(readable=False)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        rows = ((getattr(p, "section", "Options"), p.get_help_record(ctx)) for p in options)
        _write(((section, row) for section, row in rows if row), formatter)  # others are hidden


class Group(click.Group):
    """Commands by what they are for, each with its whole first sentence."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        commands = [c for c in self.commands.values() if isinstance(c, Command)]
        rows = ((c.section, (str(c.name), c.get_short_help_str(200))) for c in commands)
        _write(rows, formatter)


def _write(rows: Iterable[tuple[str, tuple[str, str]]], formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {}
    for section, row in sorted(rows, key=lambda row: row[0] != "Options"):
        sections.setdefault(section, []).append(row)
    for section, own in sections.items():
        with formatter.section(section):
            formatter.write_dl(own)


def names(_: Any, __: Any, value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Words between commas, of an option that is given once or more."""
    given = ",".join([value] if isinstance(value, str) else value or [])
    return tuple(w.strip() for w in given.split(",") if w.strip()) if given else None


def numbers(_: Any, __: Any, value: str | None) -> tuple[float, ...] | None:
    """Numbers between commas."""
    if value is None:
        return None
    try:
        return tuple(float(w) for w in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not numbers between commas") from None


def number_or_word(_: Any, param: click.Parameter, value: str | None) -> float | str | None:
    """A number, or one of the words that the option's metavar has in small letters."""
    words = [word for word in str(param.metavar).split("|") if word.islower()]
    if value is None or value in words:
        return value
    try:
        return float(value)
    except ValueError:
        named = " or ".join(words)
        raise click.BadParameter(f"{value!r} is neither a number nor {named}") from None


NAMES: dict[str, Any] = {"metavar": "NAME,…", "callback": names}
NUMBERS: dict[str, Any] = {"metavar": "NUMBER,…", "callback": numbers}


def option(words: str, help: str, default: Any = None, unset: str = "", **more: Any) -> Wrap:
    """An option whose help ends with its default, or with `unset` where that says more."""
    usual = unset or ("" if default is None else default)
    said = help if usual == "" else f"{help} (default: {usual})"
    if not more.get("required"):  # of which click would take a default of None for an answer
        more["default"] = default
    return click.option(*words.split(), cls=Option, help=f"{said}.", **more)


def together(*decorators: Wrap) -> Wrap:
    """Several decorators as one."""
    return lambda function: reduce(lambda f, each: each(f), reversed(decorators), function)


def of_field(field: Field, *, hidden: bool = False) -> Wrap:
    """The option that is a field of `RunConfig`."""
    inner = typing.get_args(field.kind)
    more: dict[str, Any] = {"type": field.kind}
    if is_union(field.kind):
        more = {"callback": number_or_word}
    elif field.kind is bool:
        more = {"is_flag": True, "default": None}
    elif typing.get_origin(field.kind) is Literal:
        more = {"type": click.Choice(inner)}
    elif inner:
        more = {**(NUMBERS if inner[0] is float else NAMES)}
        more["multiple"] = inner[0] is str and not field.bare
    if field.metavar:
        more["metavar"] = field.metavar
    if field.bare:
        more |= {"is_flag": False, "flag_value": field.bare}
    said = {"help": field.sentence, "section": field.section, "hidden": hidden}
    return click.option(field.flag, field.name, cls=Option, **said, **more)


def choices(*stages: str) -> Wrap:
    """The options of `RunConfig`; those that none of `stages` uses are taken, but not shown."""
    profiles = click.Choice([*PROFILES])
    return together(
        option(
            "--config",
            "TOML file of options; options on the command line override it",
            metavar="FILE",
        ),
        option(
            "--profile",
            "Set of defaults to start from: published takes those of Ul Haque et al. 2023",
            type=profiles,
        ),
        *(
            of_field(field, hidden=bool(stages) and not {*stages} & {*field.stages})
            for field in OPTIONS.values()
        ),
    )


def configured(words: dict[str, Any]) -> RunConfig:
    """The config that `words` ask for, which are taken out of them."""
    chosen = {name: words.pop(name) for name in OPTIONS}
    return load_config(words.pop("config"), words.pop("profile"), **chosen)


_where = partial(option, section="Where it runs")
where = together(  # the fields of `msiscale.cluster.Where`
    _where(
        "--scheduler",
        "Address of a running Dask scheduler (tcp://… or tls://…), or its scheduler file",
        unset="Dask's configuration, else none",
        metavar="ADDRESS|FILE.json",
    ),
    _where("--workers", "Number of worker processes", unset="one per CPU", type=click.IntRange(1)),
    _where(
        "--cluster",
        "Kind of cluster to start: local, slurm, pbs, sge, kubernetes, ssh or cuda",
        unset="local",
        metavar="KIND",
    ),
    _where("--cluster-config", "TOML file of cluster settings (see docs/clusters)", metavar="FILE"),
    _where(
        "--dashboard",
        "Address of the Dask dashboard, if the scheduler runs here",
        unset="127.0.0.1:0, a free port",
        metavar="HOST:PORT",
    ),
    _where("--performance-report", "HTML file for Dask's performance report", metavar="FILE"),
)
