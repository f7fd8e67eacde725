"""The ways to validate a run, each a setting of the one engine: who trains, and who is held out.

Leaving out whole patients is the headline. Spatial blocks with a buffer, and pooled pixels as the
study had it, train on every patient, so they tell less; what they add to the figures is what that
leak is worth. All else is the same: the penalties are those of the model of all specimens, chosen
by leaving out patients, and the m/z are those of the whole cohort.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from msiscale import msi
from msiscale.cohort import Specimen
from msiscale.errors import MsiscaleWarning
from msiscale.features.layers import WIDTHS_UM, Group
from msiscale.models import Fold, final_fold, leave_one_group_out
from msiscale.models.folds import FEW_PATIENTS, dealt
from msiscale.models.partition import Partition, folds_of, group_of, pixel_folds, spatial_blocks
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.classify import Inner
from msiscale.pipeline.context import Run
from msiscale.pipeline.evaluate import Evaluated
from msiscale.pipeline.features import stored_groups
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.setting import Setting
from msiscale.store import StoredSpecimen

PIXEL_FOLDS = 5  # as the study
MOST_ALONE = 50  # patients up to which each is left out by itself, unless asked otherwise
GROUPS = 20  # that more are held out in
NEAR_UM = 400.0  # of the field of view of a channel, where blocks of a specimen are held out
Tables = Mapping[str, PixelRows]


def held_out_together(run: Run, specimens: Sequence[Specimen]) -> dict[str, str]:
    """Specimen to what is held out with it: its patient, or the group of patients of `folds`."""
    patients, asked = {s.name: s.patient for s in specimens}, run.config.folds
    count = len(set(patients.values()))
    if asked == "patients" or (asked == "auto" and count <= MOST_ALONE):
        return patients
    n = GROUPS if asked == "auto" else int(asked)
    if n < count:
        text = f"fit: the {count} patients are held out in {n} groups"
        if asked == "auto":
            longer = f"{count / n:.0f} times as long"
            text += f"; leaving out each alone (--folds patients) would take about {longer}"
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
    return dealt(
        patients, n, [s.name for s in specimens if run.upstream("register", s)["labelled"]]
    )


def patient_folds(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient (or group of them), then that of all; with one patient that alone."""
    last = final_fold(list(patients))
    if len(set(patients.values())) < 2:
        text = (
            "fit: there is one patient only, so blocks of the specimens are held out; nothing is "
            "known about another patient"
        )
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
        return [last]
    return [*leave_one_group_out(patients), last]


def supported_columns(run: Run) -> Callable[[Sequence[str]], np.ndarray]:
    """Training specimens -> the m/z that they support, (k,) bool."""
    axis = load_axis(run)
    names = [str(name) for name in axis["specimen"].values]
    each = np.array([msi.supported(axis, [name]) for name in names], bool)
    support = each.sum(axis=0)

    def columns(train: Sequence[str]) -> np.ndarray:
        # by counting without the few that are left out: a fold need not look at all others
        chosen = set(train)
        return np.asarray(support > each[[name not in chosen for name in names]].sum(axis=0))

    return columns


def channel_groups(tables: Tables, few: bool) -> list[Group]:
    """Groups of the channels, as the features say; with `few` patients those that see far go."""
    # blocks of specimens are held out then, as far apart as the features see
    stored = StoredSpecimen(next(iter(tables.values())).url)
    mpp, groups = float(stored.features.attrs["mpp"]), stored_groups(stored)  # type: ignore[arg-type]
    far = [g.name for g in groups if few and field_um(g.halo, mpp) > NEAR_UM]
    if not far or len(far) == len(groups):
        return groups
    text = (
        "fit: patients are too few to choose penalties, so blocks of tissue are held out, and "
        f"features that see more than {NEAR_UM:g} µm are left out: {', '.join(far)}"
    )
    warnings.warn(text, MsiscaleWarning, stacklevel=2)
    return [group._replace(used=group.name not in far) for group in groups]


def field_um(halo: int, mpp: float) -> float:
    """What a network sees that looks `halo` pixels past each side of one."""
    return (2 * halo + 1) * mpp


def few_folds(patients: Mapping[str, str], folds: Sequence[Fold]) -> list[Fold]:
    """Those that train on fewer than `FEW_PATIENTS` patients."""
    return [f for f in folds if len({patients[s] for s in f.train}) < FEW_PATIENTS]


def within_specimens(
    run: Run,
    protocol: str,
    tables: Tables,
    final: Evaluated,
    groups: Sequence[Group],
    key: str,
) -> Setting | None:
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
    groups : sequence of Group
        Of the channels.
    key : str
        Digest of all that the fit depends on.

    Returns
    -------
    Setting or None
        None where the buffer leaves a block nothing to train on.
    """
    cuts = {name: _partition(protocol, name, table, groups) for name, table in tables.items()}
    parts = {name: cut.units() for name, cut in cuts.items()}
    units = {unit: None for of in parts.values() for unit in of}
    folds = folds_of(units)
    if len(folds) < len({group_of(unit) for unit in units}):
        text = (
            f"fit: {protocol} is left out: the encoder sees too far for blocks of these specimens"
        )
        warnings.warn(text, MsiscaleWarning, stacklevel=2)
        return None
    gap = ""
    if protocol == "spatial_blocks":
        widest = max(buffer_pixels(table, groups) for table in tables.values())
        gap = f", with a gap of up to {widest:.0f} MSI pixels, as far as the encoder sees"
    run.say(f"fit: {protocol}, {len(folds)} folds{gap}")
    columns, model = supported_columns(run)(list(tables)), final.models[-1]
    like = {m: c for (m, fold), c in final.classifiers.items() if fold == model.fold.name}
    inner = None
    if protocol == "spatial_blocks" and model.alpha_by == "blocks":
        # these very blocks have chosen the penalties of the model of all: each fold chooses its own
        within = {fold.name: folds_of(units, without=int(fold.name)) for fold in folds}
        if all(within.values()):
            inner = Inner(parts, within, {unit: (unit,) for unit in units})
        else:
            text = (
                f"fit: {protocol}: too few pixels are left to choose the penalties of each fold; "
                "those of the model of all specimens are taken, which saw the held-out block"
            )
            warnings.warn(text, MsiscaleWarning, stacklevel=2)
    return Setting(
        protocol,
        tables,
        parts,
        folds,
        {unit: group_of(unit) for unit in units},
        {name: cut.groups for name, cut in cuts.items()},
        lambda _: columns,
        below=protocol,
        groups=groups,
        like=None if inner else model,
        classifiers=None if inner else like or None,
        inner=inner,
        key=key,
    )


def blocks_within(
    tables: Tables,
    patients: Mapping[str, str],
    folds: Sequence[Fold],
    groups: Sequence[Group],
) -> Inner | None:
    """What chooses the penalties of folds that train on fewer than `FEW_PATIENTS` patients.

    Spatial blocks of their specimens, held out with a gap as wide as the encoder sees: neighbouring
    pixels are no witnesses of their own, and two patients hardly are.

    Parameters
    ----------
    tables : mapping of str to PixelRows
        The rows of each specimen.
    patients : mapping of str to str
        Specimen to patient.
    folds : sequence of Fold
        Over the specimens.
    groups : sequence of Group
        Of the channels.

    Returns
    -------
    Inner or None
        None where every fold trains on enough patients.
    """
    few = few_folds(patients, folds)
    if not few:
        return None
    found = _inner(tables, few, {name: buffer_pixels(t, groups) for name, t in tables.items()})
    if all(found.folds.values()):
        return found
    text = (
        "fit: the encoder sees too far to leave gaps between blocks of these specimens; "
        "penalties are chosen on blocks that touch"
    )
    warnings.warn(text, MsiscaleWarning, stacklevel=2)
    return _inner(tables, few, dict.fromkeys(tables, 0.0))


def _inner(tables: Tables, few: Sequence[Fold], buffers: Mapping[str, float]) -> Inner:
    """Blocks of each specimen with a gap of `buffers` pixels, and the folds over them."""
    parts = {
        name: {f"{name}:{u}": m for u, m in spatial_blocks(t.mask, buffers[name]).units().items()}
        for name, t in tables.items()
    }
    folds = {f.name: folds_of(u for s in f.train for u in parts[s]) for f in few}
    return Inner(parts, folds, {name: tuple(of) for name, of in parts.items()})


def _partition(
    protocol: str, specimen: str, table: PixelRows, groups: Sequence[Group]
) -> Partition:
    if protocol == "pixel_folds":
        return pixel_folds(table.mask, PIXEL_FOLDS, specimen)
    return spatial_blocks(table.mask, buffer_pixels(table, groups))


def buffer_pixels(table: PixelRows, groups: Sequence[Group]) -> float:
    """MSI pixels between centres whose features share nothing: receptive field and a diagonal."""
    stored = StoredSpecimen(table.url)
    facts, pixel_um = stored.features.attrs, stored.pixel_um
    tiles = facts["feature_mode"] == "tiles"  # which are seen whole
    halo: Any = facts["halo"] if tiles else max(g.halo for g in groups if g.used)
    # the colours of the baseline see the largest square
    sees = max(field_um(halo, float(facts["mpp"])), *WIDTHS_UM)  # type: ignore[arg-type]
    return float(
        (sees + np.hypot(*pixel_um)) / min(pixel_um)
    )  # colours see a square of `WIDTHS_UM`
