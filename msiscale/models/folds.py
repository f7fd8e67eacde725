"""Who trains and who is held out: folds over specimens, whole patients together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

MAX_INNER = 5
FEW_PATIENTS = 3  # left to train on: with fewer, blocks of their specimens choose a penalty


@dataclass(frozen=True)
class Fold:
    """Specimens to train on and specimens held out, both in the order of the cohort."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def leave_one_group_out(patients: Mapping[str, str]) -> list[Fold]:
    """One fold a patient, whose specimens are held out together.

    Parameters
    ----------
    patients : mapping of specimen to patient
        In the order of the cohort.

    Returns
    -------
    list of Fold, in the order in which patients first appear, with their names

    Raises
    ------
    ValueError
        Fewer than two patients.
    """
    names = list(dict.fromkeys(patients.values()))
    if len(names) < 2:
        raise ValueError(
            f"cross-validation leaves out whole patients, but there is only {len(names)}; add "
            "specimens of a second patient, or give the column 'patient' if they are already there"
        )
    return [
        Fold(
            name,
            train=tuple(s for s, p in patients.items() if p != name),
            test=tuple(s for s, p in patients.items() if p == name),
        )
        for name in names
    ]


def dealt(patients: Mapping[str, str], n: int, first: Collection[str] = ()) -> dict[str, str]:
    """Patients dealt to `n` groups, to be held out together.

    Parameters
    ----------
    patients : mapping of specimen to patient
        In the order of the cohort.
    n : int
        Groups; with as many patients or fewer each is one by itself, under its own name.
    first : collection of str
        Specimens whose patients are dealt before the others, so that every group gets its share.

    Returns
    -------
    dict of specimen to group
    """
    names = list(dict.fromkeys(patients.values()))
    if n >= len(names):
        return dict(patients)
    early = {patients[s] for s in first}
    order = sorted(names, key=lambda name: name not in early)  # the order of the cohort, else
    group = {name: f"fold {i % n + 1} of {n}" for i, name in enumerate(order)}
    return {s: group[p] for s, p in patients.items()}


def final_fold(specimens: Sequence[str]) -> Fold:
    """The fold ``final``: trained on all, nothing held out."""
    return Fold("final", tuple(specimens), ())


def inner_groups(
    train: Sequence[str], patients: Mapping[str, str], most: int = MAX_INNER
) -> tuple[list[tuple[str, ...]], str]:
    """Parts of the training specimens to leave out in turn when a penalty is chosen.

    Returns
    -------
    groups : list of tuples of specimens
        At most `most`; patients stay whole and are dealt out in order. With a single patient, its
        specimens; with a single specimen, none.
    kind : "patients", "specimens" or "none"
    """
    by_patient: dict[str, list[str]] = {}
    for s in train:
        by_patient.setdefault(patients[s], []).append(s)
    units = list(by_patient.values())
    kind = "patients"
    if len(units) < 2:
        units, kind = [[s] for s in train], "specimens"
    if len(units) < 2:
        return [], "none"
    n = min(len(units), most)
    dealt = [{s for unit in units[i::n] for s in unit} for i in range(n)]
    return [tuple(s for s in train if s in group) for group in dealt], kind


def inner_folds(
    train: Sequence[str], patients: Mapping[str, str], most: int = MAX_INNER
) -> tuple[list[Fold], str]:
    """`inner_groups` as folds: each trains on the others of `train`."""
    groups, kind = inner_groups(train, patients, most)
    return [Fold("", tuple(s for s in train if s not in g), g) for g in groups], kind
