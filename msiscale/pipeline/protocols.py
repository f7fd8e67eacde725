"""Validation within specimens: spatial blocks with a buffer, and pooled pixels as the study had it.

Both train on every patient, so they tell less than leaving patients out; what they add to its
figures is what that leak is worth. All else is the same: the penalties are those of the model of
all specimens, chosen by leaving out patients, and the m/z are those of the whole cohort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from msiscale import msi
from msiscale.cohort import Specimen
from msiscale.models import FoldModel
from msiscale.models.partition import Partition, folds_of, group_of, pixel_folds, spatial_blocks
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.context import Run
from msiscale.pipeline.evaluate import Setting, evaluate
from msiscale.pipeline.metrics import Evaluation
from msiscale.pipeline.model import Classifiers
from msiscale.pipeline.table import Table
from msiscale.store import array_of, open_group

PIXEL_FOLDS = 5  # as the study


def within_specimens(
    run: Run,
    protocol: str,
    specimens: Sequence[Specimen],
    tables: Mapping[str, Table],
    final: tuple[FoldModel, Classifiers],
) -> tuple[Evaluation, dict[str, dict[str, Any]]] | None:
    """Fit and hold out parts of every specimen; what was written of each.

    None where the buffer leaves a block nothing to train on. `final` gives the penalties.
    """
    model, fitted = final
    cuts = {s.name: _partition(protocol, s, tables[s.name]) for s in specimens}
    parts = {name: cut.units() for name, cut in cuts.items()}
    units = {unit: None for of in parts.values() for unit in of}
    folds = folds_of(units)
    if len(folds) < len({group_of(unit) for unit in units}):
        run.say(f"fit: {protocol}: the encoder sees too far for blocks of these specimens")
        return None
    run.say(f"fit: {protocol}, {len(folds)} folds")
    columns = msi.supported(load_axis(run), list(tables))
    setting = Setting(
        protocol,
        tables,
        parts,
        folds,
        {unit: group_of(unit) for unit in units},
        {name: cut.groups for name, cut in cuts.items()},
        lambda _: columns,
        model.alpha,
        {m: fitted[m, name].C for m, name in fitted if name == model.fold.name} or None,
    )
    return evaluate(run, setting, run.predictions_url, protocol)


def _partition(protocol: str, specimen: Specimen, table: Table) -> Partition:
    if protocol == "pixel_folds":
        return pixel_folds(table.mask, PIXEL_FOLDS, specimen.name)
    return spatial_blocks(table.mask, buffer_pixels(table))


def buffer_pixels(table: Table) -> float:
    """MSI pixels between centres whose features share nothing: receptive field and a diagonal."""
    group = open_group(table.url)
    facts = array_of(group, "features").attrs
    pixel_um = np.asarray(group.attrs["pixel_um"], float)
    field_um = (2 * float(facts["halo"]) + 1) * float(facts["mpp"])  # type: ignore[arg-type]
    return float((field_um + np.hypot(*pixel_um)) / pixel_um.min())
