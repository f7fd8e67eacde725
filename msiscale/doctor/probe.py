"""What is asked of the machine, and what a probe answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import dask

from msiscale.cluster import Where
from msiscale.cluster.settings import Settings, settings_of
from msiscale.cohort import Cohort, read_manifest
from msiscale.config import RunConfig
from msiscale.errors import InputError, RunStopped, one_line, redacted
from msiscale.features.encoders import Encoder, Encoders, load_encoders
from msiscale.work import reason

State = Literal["ok", "note", "missing"]
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line: ``missing`` is of what was asked for, ``note`` of what is good to know."""

    name: str
    state: State
    value: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def line(self) -> str:
        """For a person."""
        return f"{self.state:<8}{self.name:<13}{self.value}{self.remedy and ' — ' + self.remedy}"

    @classmethod
    def of(cls, name: str, error: BaseException, state: State = "missing") -> Finding:
        """What an error says, its remedy by itself where it has one."""
        text = one_line(redacted(reason(error)))
        parted = isinstance(error, InputError | RunStopped | OSError) and "; " in text
        value, _, remedy = text.rpartition("; ") if parted else (text, "", "")
        return cls(name, state, value, remedy)


@dataclass(frozen=True)
class Asked:
    """What the user wants to do, as the words of ``msiscale run`` say it."""

    manifest: str | None = None
    out: str | None = None
    config: RunConfig = field(default_factory=RunConfig)
    where: Where = field(default_factory=Where)

    @property
    def scheduler(self) -> str | None:
        """The address of a scheduler that runs, where one is named or Dask is configured so."""
        named = self.where.scheduler
        if named is None and self.where.elsewhere:
            named = dask.config.get("scheduler-address", None)
        return None if named is None else str(named)

    @cached_property
    def settings(self) -> Settings | None:
        """The cluster to start; None where a scheduler runs. InputError of its file."""
        return None if self.scheduler is not None else settings_of(self.where)

    @property
    def here(self) -> bool:
        """Whether the work is done by this machine."""
        try:
            return self.settings is not None and self.settings.kind in ("local", "cuda")
        except InputError:  # said by the probe of the cluster
            return False

    @cached_property
    def cohort(self) -> Cohort | None:
        """The specimens. InputError where the manifest cannot be read."""
        return None if self.manifest is None else read_manifest(self.manifest)

    @cached_property
    def encoder(self) -> Encoder | Encoders:
        """With its weights. InputError where they cannot be had."""
        return load_encoders(self.config.encoder, self.config.weights, mpp=self.config.mpp or 0.5)


Probe = Callable[[Asked], Iterable[Finding]]


def gib(size: float) -> str:
    """Bytes as a person reads them."""
    if size < GIB:
        return f"{size / 2**20:,.0f} MiB"
    return f"{size / GIB:.3g} GiB" if size < 100 * GIB else f"{size / GIB:,.0f} GiB"
