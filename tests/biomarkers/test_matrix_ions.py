from __future__ import annotations

from pathlib import Path

import pytest

from msiscale.biomarkers.matrix_ions import read_matrix_ions
from msiscale.errors import InputError


def test_published_tables_are_read(shared_data: Path) -> None:
    table = read_matrix_ions(str(shared_data / "lipids" / "matrix_dhb_pos.csv"))
    assert len(table) > 50
    assert table["mz"].is_monotonic_increasing
    row = table[(table["mz"] - 155.03388).abs() < 1e-4].iloc[0]
    assert row["name"] == "DHB+H"


def test_a_plain_list_and_tabs(tmp_path: Path) -> None:
    plain = tmp_path / "a.csv"
    plain.write_text("m/z,intensity\n300.5,1\n200.25,2\n")
    table = read_matrix_ions(str(plain))
    assert table["mz"].tolist() == [200.25, 300.5]
    assert table["name"].tolist() == ["200.2500", "300.5000"]
    tabs = tmp_path / "b.tsv"
    tabs.write_text("name\tmz\nx\t100.5\n")
    assert read_matrix_ions(str(tabs))["name"].tolist() == ["x"]


@pytest.mark.parametrize("text", ["mass,name\n1,a\n", "mz,name\nx,a\n", "mz,name\n-3,a\n", "mz\n"])
def test_others_are_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="mz") as error:
        read_matrix_ions(str(path))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="no such file"):
        read_matrix_ions(str(tmp_path / "none.csv"))
