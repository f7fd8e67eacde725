"""Patients that are held out in groups: how many, whose, and that the run says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.pipeline.protocols import GROUPS, MOST_ALONE, held_out_together


def run_of(folds: str, labelled: int) -> Any:
    """What is asked of a `Run`: its options, and which specimens are annotated."""

    def upstream(stage: str, specimen: Specimen) -> dict[str, bool]:
        return {"labelled": int(specimen.name[1:]) < labelled}

    return SimpleNamespace(config=RunConfig(folds=folds), upstream=upstream)


def cohort(patients: int) -> list[Specimen]:
    return [
        Specimen(name=f"s{i}", patient=f"p{i // 2}", msi="a.imzML", slide="a.svs")
        for i in range(2 * patients)
    ]


def test_each_patient_is_alone_unless_there_are_many() -> None:
    few, many = cohort(MOST_ALONE), cohort(MOST_ALONE + 1)
    assert held_out_together(run_of("auto", 0), few) == {s.name: s.patient for s in few}
    assert held_out_together(run_of("patients", 0), many) == {s.name: s.patient for s in many}
    with pytest.warns(MsiscaleWarning, match="51 patients are held out in 20 groups; leaving out"):
        found = held_out_together(run_of("auto", 0), many)
    assert len(set(found.values())) == GROUPS


def test_a_group_has_whole_patients_and_its_share_of_the_annotated() -> None:
    specimens = cohort(12)
    with pytest.warns(MsiscaleWarning, match="the 12 patients are held out in 4 groups$"):
        found = held_out_together(run_of("4", labelled=8), specimens)
    assert all(found[f"s{2 * i}"] == found[f"s{2 * i + 1}"] for i in range(12))
    assert len({found[f"s{i}"] for i in range(8)}) == 4
    assert held_out_together(run_of("12", 0), specimens) == {s.name: s.patient for s in specimens}


@pytest.mark.parametrize("folds", ["2", "0", "-3", "some", "²"])
def test_two_groups_are_refused(folds: str) -> None:
    with pytest.raises(InputError, match="3 or more"):
        RunConfig(folds=folds)
