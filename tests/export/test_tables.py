"""Tables as Parquet, read by pandas and pyarrow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from exported import MZ

from msiscale.errors import InputError
from msiscale.export import export, tables
from msiscale.export.source import open_run
from msiscale.grid import apply


def test_pixels_are_what_the_store_has(run: str, tmp_path: Path) -> None:
    done = export(run, str(tmp_path), "parquet", mz=[600.2, 700.30004])
    assert f"{tmp_path}/biomarkers.parquet" in done.written
    (source,) = open_run(run, ["A"]).sources
    found = pd.read_parquet(tmp_path / "pixels" / "A.parquet")
    y, x = found["y"].to_numpy(), found["x"].to_numpy()
    assert len(found) == source.rows.sum() and source.rows[y, x].all()
    assert set(found["specimen"]) == {"A"} and set(found["patient"]) == {"P1"}
    np.testing.assert_allclose(found["x_um"], (x + 0.5) * 40.0)
    slide = apply(source.matrix, np.column_stack([x, y])) * 2.0  # µm a pixel
    np.testing.assert_allclose(found[["slide_x_um", "slide_y_um"]], slide)
    cohort, group = source.measurements, source.predicted
    pairs = {"annotated": cohort.read("cancer"), "cancer_from_he": group.read("cancer_from_he")}
    pairs["mz_600.2000"] = cohort.read("intensity")[..., 1]
    for name, values in pairs.items():
        np.testing.assert_array_equal(found[name], values[y, x])
    assert found["tissue"].dtype == bool and 0 < found["tissue"].mean() < 1
    assert found["predicted_mz_700.3000"].isna().all()  # left out of the fold, and said so
    assert pq.ParquetFile(tmp_path / "pixels" / "A.parquet").num_row_groups == 4  # cells
    assert "annotated" not in pq.read_schema(tmp_path / "pixels" / "B.parquet").names


def test_a_slide_without_msi(slide_run: str, tmp_path: Path) -> None:
    export(slide_run, str(tmp_path), "parquet", mz=[MZ[0]])
    found = pd.read_parquet(tmp_path / "pixels" / "N.parquet")
    assert len(found) == 26 * 40 and found["y"].min() == 4
    assert found["cancer_from_he"].notna().all() and (found["predicted_mz_500.1000"] >= 0).all()


def test_types_hold_for_a_whole_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a type looks like in the first rows."""
    monkeypatch.setattr(tables, "ROWS", 2)
    text = "n,f,s,none,b,late\n1,1,1,,True,\n2,2,2,,False,\n3,2.5,x,,True,\n,,,,True,7\n"
    (tmp_path / "t.csv").write_text(text)
    tables.write_table(str(tmp_path / "t.csv"), str(tmp_path / "t.parquet"))
    found = pq.read_table(tmp_path / "t.parquet").to_pydict()
    assert found["n"] == [1, 2, 3, None] and found["f"] == [1.0, 2.0, 2.5, None]
    assert found["s"] == ["1", "2", "x", None] and found["none"] == [None] * 4
    assert found["b"] == [True, False, True, True] and found["late"] == [None, None, None, 7]


def test_numbers_keep_their_last_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(50)
    pd.DataFrame({"v": values}).to_csv(tmp_path / "t.csv", index=False)
    tables.write_table(str(tmp_path / "t.csv"), str(tmp_path / "t.parquet"))
    np.testing.assert_array_equal(pd.read_parquet(tmp_path / "t.parquet")["v"], values)


def test_an_empty_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(InputError, match=r"t\.csv: an empty table"):
        tables.write_table(str(tmp_path / "t.csv"), str(tmp_path / "t.parquet"))
