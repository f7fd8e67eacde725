"""Real serial sections: a deformation brings the landmarks nearer; one section has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.deformation.pairs import left_over


@pytest.fixture(scope="module")
def sections(shared_data: Path) -> str:
    folder = shared_data / "registration" / "lung3"
    if not folder.is_dir():
        pytest.skip("shared/data/registration is not here")
    return str(folder)


def test_landmarks_of_another_stain_come_nearer(sections: str) -> None:
    found = left_over((0, "CD31", "Cc10"), sections, 50.0, 606)
    assert found["accepted"] and found["evidence"] > 10
    assert found["bspline_px"] < found["affine_px"] - 0.04
    assert found["bspline_px"] < found["floor_px"]  # nearer than any affine map could bring them


def test_a_section_is_not_deformed_against_itself(sections: str) -> None:
    found = left_over((0, "He", "He"), sections, 50.0, 606)
    assert not found["accepted"] and found["evidence"] < 0
    assert found["moved_px"] < 0.05
