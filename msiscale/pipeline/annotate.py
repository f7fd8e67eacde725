"""Lipid annotation with a false-discovery rate: a task a specimen, then over the cohort."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from msiscale import msi
from msiscale.biomarkers import builtin_lipids, read_lipids
from msiscale.biomarkers.candidates import Candidates, candidates
from msiscale.biomarkers.identification_tables import identification_tables
from msiscale.biomarkers.ion_scores import COLUMNS, Peaks, score_ions
from msiscale.biomarkers.isotopes import RESOLVING_POWERS
from msiscale.biomarkers.matrix_ions import read_matrix_ions
from msiscale.cohort import Specimen
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi.asked import Asked
from msiscale.msi.calibration import Calibration
from msiscale.msi.source import MsiSource, batches
from msiscale.pipeline.axis import axis_url, mz_digest, stored_axis
from msiscale.pipeline.biomarkers import ANNOTATIONS, biomarkers, polarity_of
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.ions import ions
from msiscale.pipeline.opening import asked_of
from msiscale.pipeline.recalibration import calibration_of
from msiscale.pipeline.tasks import Task
from msiscale.store import join, open_group, put, read, read_csv, write_csv

BY_SPECIMEN = "annotations_by_specimen.csv"
TABLES = (ANNOTATIONS, BY_SPECIMEN)


def annotate(run: Run) -> None:
    """``annotations.csv`` (of the cohort) and ``annotations_by_specimen.csv``.

    The isotope images come from the spectra themselves, as the decoys are not on the m/z axis.
    Where biomarkers were compared before, their names get the rates; where ions were scored, they
    get the names.
    """
    config = run.config
    if config.matrix_ions:
        read_matrix_ions(config.matrix_ions)  # one that will not do is said before the work
    part = config.part("lipids", "polarity", "adducts", "annotation_ppm", "decoys")
    specimens = list(run.specimens())
    analyser = analyser_of(run, specimens)
    power = config.resolving_power or RESOLVING_POWERS[analyser]
    run.say(
        f"annotate: isotope patterns are for {analyser}, resolving power {power:,.0f} at m/z 200"
    )
    part |= {"analyser": analyser, "resolving_power": power}
    polarity = polarity_of(run, specimens)
    kept = stored_axis(axis_url(run.out))
    # the m/z of a given axis are no peaks that were found: every ion is looked for
    axis = None if kept is None or kept[1]["limits"] is None else kept[0]
    facts = [polarity, None if axis is None else mz_digest(axis), identity(config.lipids)]
    ions_key = run.key("ions", part, *facts)
    found = _ions(run, ions_key, axis, polarity, analyser, power)
    calibrations = {s.name: calibration_of(run, s.name) for s in specimens}
    keys = {
        s.name: run.key(
            "scores", ions_key, run.upstream("peaks", s)["digest"], calibrations[s.name].facts()
        )
        for s in specimens
    }

    def task(specimen: Specimen) -> Task:
        words = (calibrations[specimen.name], config.annotation_ppm)
        args = (run.state_url, specimen, asked_of(specimen, config), *words)
        return Task(specimen.name, specimen.name, _scores, args)

    run.each("scores", keys, task)
    used = [s for s in specimens if s.name not in run.failed]
    key = run.key("annotate", [[s.name, keys[s.name]] for s in used], identity(config.matrix_ions))
    if used and not run.done("annotate", "cohort", key):
        _write(run, key, found, used)
    compared = run.record("biomarkers", "cohort") is not None
    if compared and all(run.is_done("register", s.name) for s in used):
        biomarkers(run)
    if run.record("by_ion", "cohort") is not None:
        ions(run)


def analyser_of(run: Run, specimens: list[Specimen]) -> str:
    """As asked for, else as the files say; an Orbitrap, with a notice, where none does."""
    if run.config.analyser:
        return run.config.analyser
    said = {s.name: run.upstream("peaks", s)["analyser"] for s in specimens}
    found = {one for one in said.values() if one}
    if len(found) > 1:
        raise InputError(f"{run.cohort.path}: the files differ in analyser; give --analyser")
    if None in said.values():
        taken = found.copy().pop() if found else "orbitrap"
        silent = ", ".join(name for name, one in said.items() if one is None)
        text = f"annotate: the files of {silent} name no analyser; {taken} is assumed (--analyser)"
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
        return taken
    return str(found.pop())


def _ions(
    run: Run, key: str, axis: Any, polarity: str, analyser: str, resolving_power: float
) -> Candidates:
    """The candidates, with the isotope patterns in ``state.zarr/ions``."""
    config = run.config
    found = candidates(
        read_lipids(config.lipids) if config.lipids else builtin_lipids(),
        axis,
        polarity=polarity,
        adducts=config.adducts,
        ppm=config.annotation_ppm,
        decoys=config.decoys,
        analyser=analyser,
        resolving_power=resolving_power,
    )
    if not found.ions:
        raise InputError(
            f"{run.out}: no ion of the lipid table has a peak within {config.annotation_ppm:g} ppm;"
            " check --polarity, --adducts and --annotation-ppm"
        )
    if not run.done("ions", "cohort", key):
        with run.making("ions", key, "annotate") as record:
            group = open_group(join(run.state_url, "ions"), "a")
            put(group, "mz", found.mz, ("ion", "isotope"))
            put(group, "theory", found.theory, ("ion", "isotope"))
            record["ions"] = len(found.ions)
    run.say(
        f"annotate: {len(found.targets)} ions of lipids, of which"
        f" {int((found.targets['ion'] >= 0).sum())} have a peak, and {len(found.decoys)} decoys"
        " with a peak"
    )
    return found


def _write(run: Run, key: str, found: Candidates, used: list[Specimen]) -> None:
    """Both tables, from the scores of the specimens."""
    config = run.config
    with run.making("annotate", key) as record:
        scores = {s.name: read(open_group(_group(run.state_url, s.name)), "scores") for s in used}
        tables = identification_tables(
            found,
            scores,
            ppm=config.annotation_ppm,
            decoys=config.decoys,
            matrix=read_matrix_ions(config.matrix_ions) if config.matrix_ions else None,
        )
        for name, table in zip(TABLES, tables, strict=True):
            write_csv(join(run.out, name), table)
        record |= {"ions": len(tables[0]), "specimens": [s.name for s in used]}


def annotated(out: str) -> Iterator[str]:
    """Lines for the user: how many ions at which rate, and the surest."""
    table = read_csv(join(out, ANNOTATIONS), keep_default_na=False)
    table = table.astype({"fdr": float})
    counts = ", ".join(f"{int((table['fdr'] <= f).sum())} at {f:.0%}" for f in (0.05, 0.1, 0.2))
    yield f"annotated ions by false-discovery rate: {counts}"
    for row in table.head(5).itertuples():
        yield f"  {row.mz:10.4f}  FDR {row.fdr:.3f}  MSM {row.msm:.3f}  {row.names} {row.adduct}"


def _group(state_url: str, name: str) -> str:
    return join(state_url, name, "annotation")


def _scores(
    state_url: str, specimen: Specimen, asked: Asked, calibration: Calibration, ppm: float
) -> dict[str, Any]:
    ions = open_group(join(state_url, "ions"))
    source = msi.open_source(specimen.msi, asked=asked)
    sampled = np.zeros(source.shape, bool)
    sampled[tuple(source.positions.T)] = True
    mz, theory = read(ions, "mz"), read(ions, "theory")
    scores = score_ions(lambda: _peaks(source, calibration), mz, theory, sampled, ppm=ppm)
    group = open_group(join(state_url, specimen.name), "a").require_group("annotation")
    put(group, "scores", scores, ("ion", "score"), attrs={"columns": list(COLUMNS)})
    return {"scored": int((scores[:, :3].prod(axis=1) > 0).sum())}


def _peaks(source: MsiSource, calibration: Calibration) -> Iterator[Peaks]:
    """The peaks of a specimen, on corrected m/z, a batch of spectra at a time."""
    flat = source.positions[:, 0].astype(np.int64) * source.shape[1] + source.positions[:, 1]
    for some in batches(source, np.arange(len(flat))):
        spectra = source.read(some)
        yield Peaks(calibration.correct(spectra.mz), flat[some][spectra.rows], spectra.intensity)
