"""Mass recalibration of a cohort: a task a specimen, from the sums of its peaks."""

from __future__ import annotations

from typing import Any

from msiscale import msi
from msiscale.biomarkers.lock_masses import MATRICES, lock_masses
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.msi.calibration import Calibration, Estimate, correct_sums, estimate
from msiscale.msi.scatter import WIDE, common_window, scatter_of
from msiscale.msi.window import Window
from msiscale.pipeline.context import Run
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.tasks import Task
from msiscale.store import join, open_group, remove, write_csv

TABLE = "calibration.csv"
COLUMNS = ["specimen", "matches"]
COLUMNS += ["median_ppm_before", "mad_before", "median_ppm_after", "mad_after"]
COLUMNS += ["offset_ppm", "slope_ppm_per_100", "centre_mz", "low_mz", "high_mz", "note"]
BUILTIN = "builtin:"
LIMITS = ("min_frequency", "snr", "tolerance_ppm")
RIGHT_PPM = 5.0  # from its error, at most, for a right pair, where the peaks do not scatter more


def recalibrate(run: Run, peaks: dict[str, str]) -> dict[str, str]:
    """Estimate every specimen's mass error, if asked, and write ``calibration.csv``.

    The spectra are not read again: the error is found on their sums, and corrected in these and,
    when the cube is written, in every spectrum.

    Parameters
    ----------
    run : Run
        Its configuration says whether, and on which masses.
    peaks : dict of str to str
        Specimen -> key of its sums.

    Returns
    -------
    dict of str to str
        Specimen -> key of its sums as they are to be used.
    """
    config = run.config
    if config.recalibrate is None:
        run.forget("recalibration", [COHORT])
        remove(join(run.out, TABLE))  # of a run that was asked for it
        return peaks
    listed = given_masses(config)
    part = config.part("recalibrate", "recalibrate_ppm", "polarity", *LIMITS)
    facts = None if listed is None else [float(v).hex() for v in listed]
    keys = {s.name: run.key("calibration", peaks[s.name], part, facts) for s in run.specimens()}

    def task(specimen: Specimen) -> Task:
        polarity = config.polarity or run.upstream("peaks", specimen)["polarity"]
        return Task(
            specimen.name,
            specimen.name,
            _estimate,
            (run.state_url, specimen.name, polarity, listed, config),
        )

    run.each("calibration", keys, task)
    _write_table(run)
    return {**peaks, **keys}


def given_masses(config: RunConfig) -> Any:
    """Read the file of reference masses that the user gave.

    Returns
    -------
    (n,) float64, or None
        The m/z; None where the list is built in.

    Raises
    ------
    InputError
        The file holds none, or there is no such list.
    """
    asked = str(config.recalibrate)
    if asked.startswith("ppm:"):
        raise InputError(f"option recalibrate = {asked!r}: give a file of m/z or a builtin list")
    if not asked.startswith(BUILTIN):
        return msi.fixed_axis(asked)
    name = asked.removeprefix(BUILTIN)
    lock_masses(name, MATRICES[name][0] if name in MATRICES else "+")
    return None


def calibration_of(run: Run, name: str) -> Calibration:
    """The correction of a specimen's m/z; none where it was not asked for."""
    if run.config.recalibrate is None:
        return Calibration()
    if not run.is_done("calibration", name):
        raise RuntimeError(f"{name}: stage calibration is not done")
    return Calibration(**run.records("calibration")[name]["calibration"])


def corrected(run: Run, name: str, sums: msi.PeakSums) -> msi.PeakSums:
    """Peak sums of a specimen, on its corrected m/z."""
    return correct_sums(sums, calibration_of(run, name))


def _estimate(
    state_url: str, name: str, polarity: str | None, listed: Any, config: RunConfig
) -> dict[str, Any]:
    found = _found(state_url, name, polarity, listed, config)
    # JSON has no NaN
    evidence = {k: None if v != v else v for k, v in found.record().items()}
    return {"calibration": found.calibration.facts(), "evidence": evidence}


def _found(
    state_url: str, name: str, polarity: str | None, listed: Any, config: RunConfig
) -> Estimate:
    nothing = (float("nan"), float("nan"))
    try:
        if listed is None:
            if polarity is None:
                raise InputError("the file does not say its polarity; give --polarity")
            listed = lock_masses(str(config.recalibrate).removeprefix(BUILTIN), polarity)
        sums = msi.PeakSums.load(open_group(join(state_url, name, "peaks")))
        window, right = _widths(sums, config)
        own = msi.find_axis(
            {name: sums}, tolerance_ppm=window, min_frequency=config.min_frequency, snr=config.snr
        )["mz"].values
    except InputError as error:
        return Estimate(Calibration(), 0, nothing, nothing, f"not recalibrated: {error}")
    return estimate(own, listed, window_ppm=config.recalibrate_ppm, tolerance_ppm=right)


def _widths(sums: msi.PeakSums, config: RunConfig) -> tuple[Window, float]:
    """The window of a specimen's own peaks, and how far a right pair may lie from its error."""
    # a peak of many spectra is surer than any of theirs, so one standard deviation of them does;
    # but pairs cannot vote if that is no small part of the largest error that is looked for
    if config.tolerance_ppm != "auto":
        return Window(config.tolerance_ppm), config.tolerance_ppm
    window = common_window({"": scatter_of(sums)}).window
    return window, min(max(RIGHT_PPM, window.ppm / WIDE), max(config.recalibrate_ppm / 4, 1.0))


def _write_table(run: Run) -> None:
    rows = []
    for specimen in run.specimens():
        found = run.upstream("calibration", specimen)["evidence"]
        rows.append({"specimen": specimen.name, **found})
        if found["note"]:
            run.say(f"ingest: {specimen.name}: {found['note']}")
    key = run.key("recalibration", rows)
    if not run.done("recalibration", COHORT, key):
        with run.making("recalibration", key, "calibration"):
            write_csv(join(run.out, TABLE), rows, COLUMNS, digits=6)
