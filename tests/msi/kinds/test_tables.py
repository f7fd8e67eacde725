"""CSV and Parquet of x, y and a column an m/z."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msi.kinds.conftest import Image

from msiscale.errors import InputError
from msiscale.msi import open_msi, open_source
from msiscale.msi.kinds import csv_table, parquet


def frame(image: Image, name: str = "{}") -> pd.DataFrame:
    columns = [name.format(mz) for mz in image.mz.tolist()]
    found = pd.DataFrame(image.rows, columns=columns)
    found.insert(0, "x", image.xy[:, 0])
    found.insert(1, "y", image.xy[:, 1])
    return found


@pytest.mark.parametrize("name", ["{}", "mz_{}", "m/z {}", "X{}"])
@pytest.mark.parametrize("suffix", ["csv", "parquet", "tsv"])
def test_a_table_is_an_image(image: Image, tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    table = frame(image, name)
    if suffix == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if suffix == "tsv" else ",")
    source = pickle.loads(pickle.dumps(open_source(str(path), pixel_um=30)))
    image.check(source)
    np.testing.assert_array_equal(source.mz, image.mz)
    assert source.pixel_um == (30, 30) and source.notes == []
    assert open_source(str(path)).pixel_um is None
    cube = open_msi(str(path))
    y, x = image.yx.T
    np.testing.assert_array_equal(cube.intensity.values[y, x], image.rows)


def test_other_columns_are_named(image: Image, tmp_path: Path) -> None:
    table = frame(image).assign(region="tumour").iloc[:, ::-1]
    table.to_csv(tmp_path / "a.csv")  # with its index, and x and y at the end
    source = open_source(str(tmp_path / "a.csv"))
    image.check(source)
    assert "columns that are no m/z ('', region) are left out" in source.notes


def test_csv_as_others_write_it(image: Image, tmp_path: Path) -> None:
    text = frame(image).to_csv(index=False, sep=";", decimal=",")
    header, _, rest = text.partition("\n")
    rest = rest.replace("\n", "\r\n", 3).replace("\n", "\n\n", 2)
    path = tmp_path / "a.CSV"
    lines = f"# Exported\n{header.replace('.', ',')}\n{rest.rstrip()}"
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    image.check(open_source(str(path)))
    quoted = frame(image).map(lambda v: f'"{v:g}"').to_csv(index=False, quoting=3)
    (tmp_path / "b.csv").write_text(quoted)
    image.check(open_source(str(tmp_path / "b.csv")))


def test_a_csv_is_read_in_pieces(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    frame(image).to_csv(path, index=False)
    monkeypatch.setattr(csv_table, "PIECE", 11)
    image.check(open_source(str(path)))
    monkeypatch.setattr(csv_table, "LONGEST", 50)
    with pytest.raises(InputError, match="a line of more than 50 bytes"):
        open_source(str(path))


def test_parquet_is_laid_out_in_pieces(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "VALUES", 3 * len(image.mz))
    path = tmp_path / "a.parquet"
    frame(image).astype({"x": "int16", "y": "float64"}).to_parquet(path, row_group_size=4)
    image.check(open_source(str(path)))


def test_a_table_at_a_url(image: Image) -> None:
    import fsspec

    for name, data in (
        ("a.csv", frame(image).to_csv(index=False).encode()),
        ("a.parquet", frame(image).to_parquet()),
    ):
        with fsspec.open(f"memory://tables/{name}", "wb") as file:
            file.write(data)
        image.check(open_source(f"memory://tables/{name}"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": "row"}, "no columns x and y.*columns: row, y"),
        ({"*": "ion"}, "no columns named by their m/z"),
    ],
)
def test_what_is_missing_is_named(
    image: Image, tmp_path: Path, suffix: str, change: dict[str, str], words: str
) -> None:
    table, path = frame(image), tmp_path / f"a.{suffix}"
    if "*" in change:
        table.columns = ["x", "y", *(f"ion {i}" for i in range(len(image.mz)))]
    table = table.rename(columns=change)
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    with pytest.raises(InputError, match=words) as caught:
        open_source(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("x,y,100.5\n", "holds no spectra"),
        ("x,y,100.5\n1,,3\n", "line 2 has no x and y"),
        ("x,y,100.5\n1,1,abc\n", "invalid value 'abc'"),
        ("x,y,100.5\n1,1,2,3\n", "Expected 3 columns, got 4"),
        (
            "x,y,100.5\n1,1,2\n1,1,3\n",
            "spectra 0 and 1 lie on the same pixel (x 1, y 1) and differ",
        ),
        ("x,y,0,1,2\n1,1,2,3,4\n", "no columns named by their m/z"),
    ],
)
def test_damaged_csv(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        open_source(str(path)).read(np.arange(1))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_damaged_parquet(image: Image, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    frame(image).assign(x="left").to_parquet(path)
    with pytest.raises(InputError, match=r"column x holds .*string"):
        open_source(str(path))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="damaged Parquet"):
        open_source(str(path))


def test_the_real_bladder_as_a_table(shared_data: Path, tmp_path: Path) -> None:
    with np.load(shared_data / "msi_other/bladder_79ions.npz") as data:
        arrays = {name: data[name] for name in data.files}
    mz = np.loadtxt(shared_data / "msi_other/features.csv", delimiter=",", skiprows=1, usecols=0)
    from scipy.sparse import csr_array

    xy = next(v for v in arrays.values() if v.ndim == 2 and v.shape[1] == 2)[:2600]
    rows = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(34840, 79))[
        :2600
    ].toarray()
    found = pd.DataFrame(rows, columns=[repr(v) for v in mz.tolist()])
    found.insert(0, "x", xy[:, 0])
    found.insert(1, "y", xy[:, 1])
    order = np.argsort(mz)
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        found.to_csv(path, index=False) if path.suffix == ".csv" else found.to_parquet(path)
        source = open_source(str(path))
        np.testing.assert_array_equal(source.mz, mz[order])
        some = np.random.default_rng(0).permutation(2600)[:700]
        np.testing.assert_array_equal(
            source.read_dense(some), rows[some][:, order].astype(np.float32)
        )
