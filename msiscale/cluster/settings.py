"""Where a run computes: what the user said, and the TOML file of a cluster."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from typing import Any, Self, TypedDict

from dask.utils import parse_timedelta

from msiscale.errors import InputError
from msiscale.store import read_bytes

KINDS = ("local", "slurm", "pbs", "sge", "kubernetes", "ssh", "cuda")
ADAPTIVE = ("slurm", "pbs", "sge", "kubernetes")
WAIT_S = 600.0


class WhereWords(TypedDict, total=False):
    """The fields of `Where` as keywords of a function."""

    scheduler: str | None
    workers: int | None
    cluster: str | None
    cluster_config: str | None
    dashboard: str | None
    performance_report: str | None


@dataclass(frozen=True)
class Where:
    """Where a run computes; nothing said: as Dask is configured, else on this machine.

    Parameters
    ----------
    scheduler
        Address of a running scheduler (``tcp://host:port``, ``tls://host:port``), or its
        scheduler file (``.json``). Default: Dask's ``scheduler-address``, if it is set.
    workers
        Number of worker processes, of one thread each, 1 or more; with ``ssh`` a host. Default:
        locally one a CPU, else what the cluster file says.
    cluster
        One of `KINDS`: a cluster that is started for the run and stopped after it. Default
        ``local``, unless a scheduler is named.
    cluster_config
        TOML file of the cluster (docs/clusters.md). Default none.
    dashboard
        ``host:port`` of the dashboard of a scheduler that is started here. Default the loopback
        address and a free port.
    performance_report
        HTML file or URL for Dask's performance report of the run. Default none.
    """

    scheduler: str | None = None
    workers: int | None = None
    cluster: str | None = None
    cluster_config: str | None = None
    dashboard: str | None = None
    performance_report: str | None = None

    def __post_init__(self) -> None:
        if self.cluster is not None and self.cluster not in KINDS:
            raise InputError(f"--cluster {self.cluster}: give one of {', '.join(KINDS)}")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers {self.workers}: give 1 or more")
        if self.scheduler is None:
            return
        for name in ("workers", "cluster", "cluster_config", "dashboard"):
            if getattr(self, name) is not None:
                option = "--" + name.replace("_", "-")
                raise InputError(
                    f"{option}: is of a cluster that msiscale starts, but --scheduler names one "
                    "that runs; leave one of the two out"
                )

    def take(self, words: dict[str, Any]) -> Self:
        """This with the fields that are among `words`, which are taken out of them."""
        return replace(self, **{f.name: words.pop(f.name) for f in fields(self) if f.name in words})

    @property
    def elsewhere(self) -> bool:
        """Whether nothing is said of a cluster to start."""
        started = (self.workers, self.cluster, self.cluster_config, self.dashboard)
        return all(value is None for value in started)


@dataclass(frozen=True)
class Settings:
    """A cluster to start. `options` and `gpu` may hold secrets and are never shown."""

    kind: str
    source: str  # for messages: the file, or the option
    workers: int | None = None
    minimum: int | None = None
    maximum: int | None = None
    wait_s: float = WAIT_S
    dashboard: str = "127.0.0.1:0"
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    gpu: Mapping[str, Any] | None = field(default=None, repr=False)
    gpu_workers: int = 0

    @property
    def range(self) -> tuple[int, int]:
        """Fewest and most workers; equal where the size is fixed."""
        if self.workers is not None:
            return self.workers, self.workers
        if self.minimum is None or self.maximum is None:
            raise InputError(
                f"{self.source}: no size for the cluster; give workers, or minimum and maximum"
            )
        return self.minimum, self.maximum

    def need(self, module: str, package: str, extra: str) -> Any:
        """A module of a package that only this kind of cluster needs."""
        try:
            return import_module(module)
        except ImportError:
            raise InputError(
                f"{self.source}: {package} is not installed; pip install 'msiscale[{extra}]'"
            ) from None

    def check_options(self, known: Collection[str], ours: Collection[str] = ()) -> None:
        """Refuse options that the cluster does not have, or that msiscale sets itself."""
        for table, options in (("[options]", self.options), ("[gpu]", self.gpu or {})):
            for name in options:
                if name in ours:
                    raise InputError(f"{self.source}: {table} {name}: msiscale sets it; remove it")
                if name not in known:
                    raise _unknown(self.source, f"{table} {name}", name, known)


def settings_of(where: Where) -> Settings:
    """The cluster that `where` asks for, its file read and checked."""
    document: dict[str, Any] = {}
    source = where.cluster_config or f"--cluster {where.cluster or 'local'}"
    if where.cluster_config is not None:
        document = _document(where.cluster_config)
    kind = _kind(where, document, source)
    gpu = _table(document, "gpu", source)
    gpu_workers = _count(gpu, "workers", f"{source}: [gpu]") if gpu is not None else None
    if gpu is not None and gpu_workers is None:
        raise InputError(f"{source}: [gpu] workers: not given; how many GPU workers?")
    settings = Settings(
        kind,
        source,
        workers=where.workers or _count(document, "workers", source),
        minimum=_count(document, "minimum", source),
        maximum=_count(document, "maximum", source),
        wait_s=_wait(document, source),
        dashboard=where.dashboard or "127.0.0.1:0",
        options=_table(document, "options", source) or {},
        gpu=None if gpu is None else {k: v for k, v in gpu.items() if k != "workers"},
        gpu_workers=gpu_workers or 0,
    )
    _check_size(settings)
    _check_dashboard(where.dashboard, kind)
    return settings


def _document(path: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(read_bytes(path).decode())
    except FileNotFoundError:
        raise InputError(f"{path}: no such cluster file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    known = ("kind", "workers", "minimum", "maximum", "wait", "options", "gpu")
    for name in document:
        if name not in known:
            raise _unknown(path, name, name, known)
    return document


def _unknown(source: str, what: str, name: str, known: Collection[str]) -> InputError:
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else "see docs/clusters.md"
    return InputError(f"{source}: {what}: unknown; {hint}")


def _kind(where: Where, document: dict[str, Any], source: str) -> str:
    kind = document.get("kind", where.cluster)
    if kind is None and where.cluster_config is not None:
        raise InputError(f"{source}: kind: not given; one of {', '.join(KINDS)}")
    if where.cluster not in (None, kind):
        raise InputError(f"{source}: kind = {kind!r}, but --cluster is {where.cluster}")
    if kind is not None and kind not in KINDS:
        raise InputError(f"{source}: kind = {kind!r}: give one of {', '.join(KINDS)}")
    return kind or "local"


def _table(document: dict[str, Any], name: str, source: str) -> dict[str, Any] | None:
    table = document.get(name)
    if table is not None and not isinstance(table, dict):
        raise InputError(f"{source}: {name}: should be a table, [{name}]")
    return table


def _count(table: dict[str, Any], name: str, source: str) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    # none at all would wait for a first worker in vain
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{source}: {name} = {value!r}: give a whole number, 1 or more")
    return value


def _wait(document: dict[str, Any], source: str) -> float:
    value = document.get("wait", WAIT_S)
    try:
        seconds = float(parse_timedelta(value, default="seconds"))
    except (ValueError, TypeError, KeyError):
        seconds = -1.0
    if seconds <= 0:
        raise InputError(f"{source}: wait = {value!r}: give seconds, or text like '10 minutes'")
    return seconds


def _check_size(settings: Settings) -> None:
    low, high, source = settings.minimum, settings.maximum, settings.source
    if low is None and high is None:
        return
    if low is None or high is None:
        raise InputError(f"{source}: minimum and maximum: give both, or workers")
    if low > high:
        raise InputError(f"{source}: minimum = {low} is more than maximum = {high}")
    if low < high and settings.kind not in ADAPTIVE:
        raise InputError(f"{source}: kind {settings.kind} has a fixed size; give workers")


def _check_dashboard(address: str | None, kind: str) -> None:
    if address is None:
        return
    if kind == "kubernetes":
        raise InputError("--dashboard: of a scheduler in a pod; use kubectl port-forward")
    if not address.rpartition(":")[2].isdecimal() or ":" not in address:
        raise InputError(f"--dashboard {address}: give HOST:PORT, such as 127.0.0.1:8787")
