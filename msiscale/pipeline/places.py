"""The paths of a command, as any process finds them, and the files that its workers must see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from msiscale.cohort import FILES, Cohort
from msiscale.config import OPTIONS, RunConfig
from msiscale.store import absolute, is_url, local_path, split_scene

# of options that name a file or another run; what they take beside that is left as it is
NAMING = [n for n, o in OPTIONS.items() if {"FILE", "RUN"} & {*(o.metavar or "").split("|")}]


def located(config: RunConfig) -> RunConfig:
    """The same choices, their files named as any process finds them."""
    found: dict[str, Any] = {name: absolute(path) for name, path in _named(config)}
    return replace(config, **found)


def files_of(cohort: Cohort, config: RunConfig) -> Iterator[str | None]:
    """All files that workers may read."""
    for specimen in cohort:
        files = (getattr(specimen, column) for column in FILES)
        yield from (split_scene(file)[0] for file in files if file)
    yield from (path for _, path in _named(config))


def _named(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Options and the local files or folders that they name."""
    for name in NAMING:
        value = getattr(config, name)
        if value and not is_url(value) and local_path(value).exists():
            yield name, value
