"""The window around an m/z of a run: given, or measured on its specimens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from msiscale.config import RunConfig
from msiscale.errors import NOTE
from msiscale.msi.fixed_axis import half_step
from msiscale.msi.scatter import Choice, Scatter, common_window
from msiscale.msi.window import Window
from msiscale.pipeline.context import Run
from msiscale.pipeline.recalibration import calibration_of

GRID_PPM = 5.0  # tolerance that the spectra are summed for, where it is not known yet
LITTLE, MUCH = 0.5, 0.9  # shares of the ion current, below which a specimen's is warned of, or told
REMEDY = (
    ". If ions are missing, lower --min-frequency or --snr, or widen --tolerance-ppm; "
    "--axis ppm:LO:HI:STEP keeps everything"
)


def given_window(config: RunConfig) -> Window | None:
    """The window that the options fix; None where it is to be measured."""
    half = half_step(config.axis)  # bins leave nothing out between them
    if half is not None:
        return Window(half)
    return None if config.tolerance_ppm == "auto" else Window(config.tolerance_ppm)


def grid_ppm(config: RunConfig) -> float:
    """The least tolerance that the sums of peaks must do for."""
    given = given_window(config)
    return GRID_PPM if given is None else min(GRID_PPM, given.ppm)


def measured_window(run: Run, names: Iterable[str]) -> Choice:
    """The window that suits some specimens, from what was measured when they were read."""
    found = {}
    for name in names:
        scatter = Scatter(**run.records("peaks")[name]["scatter"])
        strong = calibration_of(run, name).correct(np.array(scatter.strong, np.float64))
        found[name] = replace(scatter, strong=strong.tolist())
    return common_window(found)


def said_of(choice: Choice) -> list[str]:
    """Lines on what was chosen, and on specimens that differ."""
    return [
        f"{NOTE}{choice.text()}",
        *(f"{name}: {what}" for name, what in choice.different().items()),
    ]


def said_of_narrow(choice: Choice, given: Window) -> list[str]:
    """A line where the window that was given is much narrower than what the peaks scatter."""
    at = choice.window.at
    wanted, half = float(choice.window.half_ppm(at)), float(given.half_ppm(at))
    if not choice.measured or 2 * half >= wanted:
        return []
    return [
        f"the window of ±{half:.3g} ppm holds only part of the peaks, which need ±{wanted:.3g} ppm"
        f" at m/z {at:.0f}, so ion images have holes; give --tolerance-ppm auto"
    ]


def said_of_shares(shares: Mapping[str, float], profile: Iterable[str]) -> list[str]:
    """Lines on the specimens of whose ion current not nearly all is on the m/z axis, and why."""
    few = {name: share for name, share in shares.items() if share < LITTLE}
    some = {name: share for name, share in shares.items() if LITTLE <= share < MUCH}
    said = []
    for group, remedy in ((few, REMEDY), (some, "")):
        if group:
            own = {*group} & {*profile}
            where = " where profile spectra have baseline and noise," if len(own) else ""
            said.append(
                f"{_named(group)} of the ion current is on the m/z axis; the rest lies between the "
                f"peaks,{where} or in peaks too rare or too weak to tell from noise{remedy}"
            )
    return said


def _named(shares: Mapping[str, float]) -> str:
    names, low, high = list(shares), *(f"{100 * f(shares.values()):.0f}" for f in (min, max))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    part = low if low == high else f"{low} to {high}"
    return f"{', '.join(names[:3])}{more}: {part} %"
