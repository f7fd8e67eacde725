"""The ways to validate a run, each a setting of the one engine: who trains, and who is held out.

Leaving out whole patients is the headline. Spatial blocks with a buffer, and pooled pixels as the
study had it, train on every patient, so they tell less; what they add to the figures is what that
leak is worth. All else is the same: the penalties are those of the model of all specimens, chosen
by leaving out patients, and the m/z are those of the whole cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from msiscale import msi
from msiscale.models import Fold, final_fold, leave_one_group_out
from msiscale.models.partition import Partition, folds_of, group_of, pixel_folds, spatial_blocks
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.context import Run
from msiscale.pipeline.evaluate import Evaluated, Setting
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.store import StoredSpecimen

PIXEL_FOLDS = 5  # as the study
Tables = Mapping[str, PixelRows]


def patient_folds(run: Run, patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient, then the final one of all; with one patient only the final one."""
    last = final_fold(list(patients))
    if len(set(patients.values())) < 2:
        run.say("fit: one patient only; the model is fitted but nothing can validate it")
        return [last]
    return [*leave_one_group_out(patients), last]


def supported_columns(run: Run) -> Callable[[Sequence[str]], np.ndarray]:
    """Training specimens -> the m/z that they support, (k,) bool."""
    axis = load_axis(run)
    return lambda train: msi.supported(axis, list(train))


def within_specimens(run: Run, protocol: str, tables: Tables, final: Evaluated) -> Setting | None:
    """Hold out parts of every specimen in turn, with the penalties of the `final` fit's last fold.

    Parameters
    ----------
    run : Run
        Its configuration says how the specimens are cut.
    protocol : str
        ``spatial_blocks`` or ``pixel_folds``.
    tables : mapping of str to PixelRows
        The rows of each specimen.
    final : Evaluated
        The fit that left patients out.

    Returns
    -------
    Setting or None
        None where the buffer leaves a block nothing to train on.
    """
    cuts = {name: _partition(protocol, name, table) for name, table in tables.items()}
    parts = {name: cut.units() for name, cut in cuts.items()}
    units = {unit: None for of in parts.values() for unit in of}
    folds = folds_of(units)
    if len(folds) < len({group_of(unit) for unit in units}):
        run.say(f"fit: {protocol}: the encoder sees too far for blocks of these specimens")
        return None
    run.say(f"fit: {protocol}, {len(folds)} folds")
    columns, model = supported_columns(run)(list(tables)), final.models[-1]
    costs = {m: c.C for (m, fold), c in final.classifiers.items() if fold == model.fold.name}
    return Setting(
        protocol,
        tables,
        parts,
        folds,
        {unit: group_of(unit) for unit in units},
        {name: cut.groups for name, cut in cuts.items()},
        lambda _: columns,
        below=protocol,
        alpha=model.alpha,
        costs=costs or None,
    )


def _partition(protocol: str, specimen: str, table: PixelRows) -> Partition:
    if protocol == "pixel_folds":
        return pixel_folds(table.mask, PIXEL_FOLDS, specimen)
    return spatial_blocks(table.mask, buffer_pixels(StoredSpecimen(table.url)))


def buffer_pixels(stored: StoredSpecimen) -> float:
    """MSI pixels between centres whose features share nothing: receptive field and a diagonal."""
    facts, pixel_um = stored.features.attrs, stored.pixel_um
    field_um = (2 * float(facts["halo"]) + 1) * float(facts["mpp"])  # type: ignore[arg-type]
    return float((field_um + np.hypot(*pixel_um)) / min(pixel_um))
