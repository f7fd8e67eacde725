"""The m/z axis of a run: found once and kept, so that a cohort may change and not be read again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from msiscale import msi
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.models.pca import MAX_COLUMNS
from msiscale.msi.cube import nearest
from msiscale.msi.fixed_axis import half_step
from msiscale.msi.window import Window
from msiscale.pipeline.context import Run
from msiscale.pipeline.recalibration import corrected
from msiscale.pipeline.windows import (
    given_window,
    measured_window,
    said_of,
    said_of_narrow,
    said_of_shares,
)
from msiscale.store import at_once, digest, exists, join, open_group, put, read

SUPPORT = ("frequency", "mean_intensity", "snr")
AHEAD = 8  # peak sums read together
KEPT_BYTES = 1 << 30  # of peak sums in the client, while the axis is found
LIMITS = ("min_frequency", "snr", "tolerance_ppm")

Mz = NDArray[np.float64]
# ``fixed``: kept whole; ``limits``: that it was found with, None for a given axis; ``asked``: who
# was in the manifest then -> the key of the peaks it was found from, None for who could not be
# used; ``window``: the facts of the window around its m/z, and ``measured``, whether it was
Facts = dict[str, Any]


class Shared(NamedTuple):
    """The axis of a run.

    Attributes
    ----------
    mz : (k,) float64
    window : around every m/z
    captured : share of each specimen's ion current that is in the windows
    """

    mz: Mz
    window: Window
    captured: dict[str, float]


@dataclass(frozen=True)
class Given:
    """An axis that is given: whether all m/z are kept, and the window that it came with, if any."""

    mz: Mz
    fixed: bool
    window: Window | None = None


def shared_axis(run: Run, keys: dict[str, str]) -> Shared | None:
    """Find or extend the m/z axis of the run, and write each specimen's support of it.

    Specimens that come later are laid on the existing axis and add their support; those that go
    take theirs along. `_outdated` says when the axis is found anew.

    Returns
    -------
    Shared or None
        None where no specimen is left.
    """
    usable = {s.name: keys[s.name] for s in run.specimens()}
    if not usable:
        return None
    url = axis_url(run.out)
    kept = stored_axis(url)
    sums = SavedSums(run, usable)
    mz, facts = _choose(run, kept, sums, usable)
    window, limits = Window(**facts["window"]), run.config.part("min_frequency", "snr")
    of = [facts["fixed"], facts["window"], limits]
    key = run.key("axis", mz_digest(mz), *of, list(usable.items()))
    if not (kept is not None and kept[1] == facts and run.done("axis", "cohort", key)):
        _say_who_is_new(run, mz, facts, usable)
        with run.making("axis", key, "peaks") as record:
            anew = kept is None or not np.array_equal(kept[0], mz)
            captured = _write(run, mz, facts, sums, anew=anew)
            profile = [name for name in usable if run.records("peaks")[name]["profile"]]
            said = said_of_shares(captured, profile)
            choice = measured_window(run, usable)
            if facts["measured"]:
                said = [*said_of(replace(choice, window=window)), *said]  # kept, perhaps
            elif half_step(run.config.axis) is None:
                said = [*said_of_narrow(choice, window), *said]
            for text in said:
                warnings.warn(text, MsiscaleWarning, stacklevel=2)
            record |= {"mz": len(mz), "window": facts["window"], "captured": captured}
    return Shared(mz, window, run.records("axis")["cohort"]["captured"])


def _write(run: Run, mz: Mz, facts: Facts, sums: SavedSums, *, anew: bool) -> dict[str, float]:
    """Write axis and support; return the share of each specimen's ion current that is on it."""
    group = open_group(axis_url(run.out), "a")
    if anew:
        group.attrs.put({})  # until its m/z are written the axis counts as not there
    put(group, "mz", mz, ("mz",), attrs={"units": "m/z"})
    group.attrs.put(facts)
    # from the m/z as they are stored: the same whether found, kept or given
    window, limits = Window(**facts["window"]), run.config.part("min_frequency", "snr")
    support = msi.find_axis(sums, mz=mz, tolerance_ppm=window, **limits)
    part = group.require_group("support")
    for name in SUPPORT:
        put(part, name, support[name].values, ("specimen", "mz"))
    part.attrs.put({**support.attrs, "fixed": facts["fixed"], "specimens": sums.names})
    shares = support["captured"].values
    return {name: round(float(v), 4) for name, v in zip(sums.names, shares, strict=True)}


def axis_url(out: str) -> str:
    """Where the axis of the run at `out` is."""
    return join(out, "state.zarr", "axis")


def stored_axis(url: str) -> tuple[Mz, Facts] | None:
    """The axis at `url`; None where there is none, or half of one."""
    if not exists(join(url, "zarr.json")):
        return None
    group = open_group(url)
    return (read(group, "mz"), dict(group.attrs)) if "asked" in group.attrs else None


def given_axis(config: RunConfig) -> Given | None:
    """Return the axis that the options give, if any; the m/z of a run count as found."""
    if not config.axis:
        return None
    other = stored_axis(axis_url(config.axis))
    if other is not None:
        window = other[1].get("window")  # which older runs do not have
        return Given(other[0], other[1]["fixed"], Window(**window) if window else None)
    return Given(msi.fixed_axis(config.axis, most=MAX_COLUMNS), True)


def mz_digest(mz: Mz) -> str:
    """A short digest of an axis, to the last bit."""
    return digest([float(v).hex() for v in mz])


def load_axis(run: Run) -> xr.Dataset:
    """Load the axis of a run and the specimens' support of it.

    Returns
    -------
    xr.Dataset
        Coords ``mz`` and ``specimen``, variables `SUPPORT` as `msiscale.msi.find_axis` gives them.

    Raises
    ------
    InputError
        It has not been made for the specimens of this run.
    """
    if run.record("axis", "cohort") is not None:
        group = open_group(axis_url(run.out))
        part = open_group(join(axis_url(run.out), "support"))
        attrs: dict[str, Any] = dict(part.attrs)
        names = attrs.pop("specimens")
        if {s.name for s in run.specimens()} <= set(names):
            data = {n: (("specimen", "mz"), read(part, n)) for n in SUPPORT}
            coords = {"mz": read(group, "mz"), "specimen": names}
            return xr.Dataset(data, coords=coords, attrs=attrs)
    raise InputError(
        f"{run.out}: its m/z axis was not found for these specimens; run `msiscale ingest`"
    )


def _choose(
    run: Run, kept: tuple[Mz, Facts] | None, sums: SavedSums, usable: dict[str, str]
) -> tuple[Mz, Facts]:
    given, window = given_axis(run.config), given_window(run.config)
    if given is not None:
        own = window or given.window
        same = kept is not None and kept[1]["limits"] is None and np.array_equal(kept[0], given.mz)
        if own is None and kept is not None and same and kept[1].get("measured"):
            # as the window of an axis that is found, it stays
            own = None if run.new_axis else Window(**kept[1]["window"])
        wide = own or measured_window(run, usable).window
        facts = {"window": wide.facts(), "measured": window is None and given.window is None}
        return given.mz, {"fixed": given.fixed, "limits": None, "asked": {}, **facts}
    if kept is not None:
        why = _outdated(run, kept[1], usable)
        if why is None:
            return kept
        run.say(f"ingest: the m/z axis is found again: {why}")
    wide = window or measured_window(run, usable).window
    limits = run.config.part("min_frequency", "snr")
    found = msi.find_axis(sums, most=MAX_COLUMNS, tolerance_ppm=wide, **limits)
    facts = {
        "limits": run.config.part(*LIMITS),
        "asked": {name: usable.get(name) for name in run.names},
        "window": wide.facts(),
        "measured": window is None,
    }
    return found["mz"].values, {"fixed": False, **facts}


def _outdated(run: Run, facts: Facts, usable: dict[str, str]) -> str | None:
    """Say why the existing axis will not do; None if it will."""
    # One manifest has one answer, whatever failed on the way: a specimen that was asked for when
    # the axis was found, and failed, must have a say in it once mended. Only others are new.
    asked = facts["asked"]
    if run.new_axis:
        return "--new-axis"
    if "window" not in facts:
        return "an older msiscale found it"
    if facts["limits"] != run.config.part(*LIMITS):
        return "its options have changed"
    if not any(asked.get(name) for name in run.names):
        return "none of the specimens that it was found from is in the manifest"
    for name, key in usable.items():
        if name in asked and asked[name] is None:
            return f"{name} could not be used when it was found, and now can"
        if name in asked and asked[name] != key:
            return f"the MSI of {name} or its recalibration has changed"
    return None


class SavedSums(Mapping[str, msi.PeakSums]):
    """Peak sums read from the store when they are asked for; some are kept, for another look."""

    def __init__(self, run: Run, names: Iterable[str]) -> None:
        self.run, self.names, self.kept = run, list(names), 0
        self.cache: dict[str, msi.PeakSums] = {}
        self.ahead: dict[str, msi.PeakSums] = {}
        self.place = {name: i for i, name in enumerate(self.names)}

    def __getitem__(self, name: str) -> msi.PeakSums:
        if name in self.cache:
            return self.cache[name]
        if name not in self.ahead:  # with those that are asked for next, together
            at = self.place[name]
            following = [n for n in self.names[at : at + AHEAD] if n not in self.cache]
            loaded = at_once(partial(_sums, self.run), following)
            self.ahead = dict(zip(following, loaded, strict=True))
        found = self.ahead.pop(name)
        if self.kept + found.nbytes <= KEPT_BYTES:
            self.cache[name] = found
            self.kept += found.nbytes
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _sums(run: Run, name: str) -> msi.PeakSums:
    loaded = msi.PeakSums.load(open_group(join(run.state_url, name, "peaks")))
    return corrected(run, name, loaded)


def _say_who_is_new(run: Run, mz: Mz, facts: Facts, usable: dict[str, str]) -> None:
    """How well the axis serves specimens that had no say in it, when they are first laid on it."""
    if facts["limits"] is None:  # nobody had
        return
    window, limits = Window(**facts["window"]), run.config.part("min_frequency", "snr")
    for name in usable:
        if name in facts["asked"] or run.record("ingest", name) is not None:
            continue
        try:
            sums = {name: _sums(run, name)}
            own = msi.find_axis(sums, tolerance_ppm=window, **limits)["mz"].values
        except InputError:  # no m/z of its own
            own = np.zeros(0)
        there = int((nearest(own, mz, window.half_ppm(mz)) >= 0).sum())
        run.say(
            f"ingest: {name} is new; the m/z axis stays, and has {there} of the {len(own)} m/z of"
            f" {name} (--new-axis finds the axis again, from every MSI file)"
        )
