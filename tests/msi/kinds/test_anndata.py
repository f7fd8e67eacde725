"""AnnData in .h5ad and Zarr: dense, CSR and CSC; what is missing is named."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from msi.kinds.conftest import Arrays, Image

from msiscale.errors import InputError
from msiscale.msi import open_source, sparse_rows
from msiscale.msi.kinds.named_mz import named_mz


def plain(arrays: Arrays, image: Image, x: str = "dense") -> Arrays:
    if x == "dense":
        arrays.arrays["X"] = image.rows
    else:
        arrays.sparse("X", image.rows, x)
    arrays.arrays |= {"var/mz": image.mz, "obsm/spatial": image.xy.astype(float)}
    arrays.arrays["obs/_index"] = [f"p{i}" for i in range(len(image.rows))]
    arrays.arrays["var/_index"] = [f"ion {i}" for i in range(len(image.mz))]
    arrays.attrs[""] = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    return arrays


@pytest.mark.parametrize("x", ["dense", "csr", "csc"])
def test_every_form_of_x(arrays: Arrays, image: Image, x: str) -> None:
    source = plain(arrays, image, x).open()
    image.check(pickle.loads(pickle.dumps(source)))
    np.testing.assert_array_equal(source.mz, image.mz)
    assert source.pixel_um is None and "pixel_um" in source.unknown_size


@pytest.mark.parametrize("x", ["csr", "csc"])
def test_a_long_axis_is_read_spectrum_by_spectrum(
    arrays: Arrays, image: Image, x: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_rows, "LONG", 5)
    for name in ("STEP", "BAND"):  # several of each
        monkeypatch.setattr(sparse_rows, name, 4)
    wide = Image(np.arange(1, 81.0), image.yx, np.zeros((len(image.yx), 80), np.float32))
    wide.rows[:, ::12] = image.rows
    source = plain(arrays, wide, x).open()
    assert source.mz is None and source.mode == "processed"
    assert source.lengths.sum() == np.count_nonzero(image.rows)
    wide.check(source)


def test_csc_in_many_steps_and_bands(
    arrays: Arrays, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("STEP", 5), ("BAND", 7)):
        monkeypatch.setattr(sparse_rows, name, size)
    image.check(plain(arrays, image, "csc").open())


def test_m_z_may_be_the_names_of_the_variables(arrays: Arrays, image: Image) -> None:
    plain(arrays, image).arrays.pop("var/mz")
    arrays.arrays["var/name"] = [f"mz_{mz!r}" for mz in image.mz.tolist()]
    arrays.attrs["var"] = {"_index": "name"}
    source = arrays.open()
    image.check(source)
    assert any("taken from the names in var/name" in note for note in source.notes)


def test_m_z_of_another_name(arrays: Arrays, image: Image) -> None:
    plain(arrays, image)
    arrays.arrays["var/mass"] = arrays.arrays.pop("var/mz")
    source = arrays.open()
    image.check(source)
    assert source.notes == ["has no var/mz; var/mass is taken"]


def test_spatial_as_a_data_frame(arrays: Arrays, image: Image) -> None:
    plain(arrays, image).arrays.pop("obsm/spatial")
    arrays.arrays |= {"obsm/spatial/y": image.xy[:, 1], "obsm/spatial/x": image.xy[:, 0]}
    arrays.attrs["obsm/spatial"] = {"column-order": ["y", "x"], "encoding-type": "dataframe"}
    image.check(arrays.open())


def test_obs_x_and_y_where_there_is_no_spatial(arrays: Arrays, image: Image) -> None:
    plain(arrays, image).arrays.pop("obsm/spatial")
    arrays.arrays |= {"obs/x": image.xy[:, 0], "obs/y": image.xy[:, 1]}
    source = arrays.open()
    image.check(source)
    assert any("no obsm/spatial" in note for note in source.notes)


def test_what_msiscale_exports_keeps_its_size(arrays: Arrays, image: Image) -> None:
    plain(arrays, image).arrays |= {
        "obsm/spatial": (image.xy + 0.5) * [30.0, 50.0],
        "obs/x": image.xy[:, 0],
        "obs/y": image.xy[:, 1],
        "uns/msiscale/pixel_um": np.array([50.0, 30.0]),
        "uns/msiscale/polarity": "-",
    }
    source = arrays.open()
    image.check(source)
    assert source.pixel_um == (50.0, 30.0) and source.polarity == "-"
    assert source.pixel_from == "uns/msiscale/pixel_um" and source.notes == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"var/mz": None}, r"no var/mz.*adata.var\['mz'\]"),
        ({"obsm/spatial": None}, r"no obsm/spatial.*adata.obsm\['spatial'\]"),
        ({"X": None, "X/x": np.ones(2)}, "neither dense nor CSR nor CSC"),
        ({"var/mz": np.ones(3)}, "do not fit"),
        ({"obsm/spatial": np.random.default_rng(0).random((19, 2))}, "no regular grid"),
        ({"obs/z": np.arange(19)}, "several z planes"),
        ({"X": None}, "no known layout.*lacks X"),
    ],
)
def test_what_is_missing_is_named(
    arrays: Arrays, image: Image, change: dict[str, Any], words: str
) -> None:
    plain(arrays, image).arrays |= change
    arrays.arrays = {k: v for k, v in arrays.arrays.items() if v is not None}
    with pytest.raises(InputError) as caught:
        arrays.open()
    message = str(caught.value)
    assert re.search(words, message), message
    assert str(arrays.path) in message and "\n" not in message


@pytest.mark.parametrize("x", ["csr", "csc"])
def test_a_damaged_matrix(arrays: Arrays, image: Image, x: str) -> None:
    plain(arrays, image, x)
    arrays.arrays["X/indices"] = arrays.arrays["X/indices"] + 90
    with pytest.raises(InputError, match=r"names a[n]? (m/z|pixel) that is not there"):
        arrays.open().read(np.arange(len(image.yx)))


def test_the_synthetic_case(shared_data: Path) -> None:
    path = shared_data / "cases/msi/zarr_directory/thyra_like.zarr"
    source = open_source(str(path), pixel_um=50)
    group = zarr.open_group(path, mode="r")
    xy = np.asarray(group["obsm/spatial"][...])
    assert len(source.positions) == 120 and source.pixel_um == (50, 50)
    np.testing.assert_array_equal(source.positions[:, ::-1], xy - xy.min(axis=0))
    x = np.asarray(group["X"][...])
    np.testing.assert_array_equal(source.read_dense(np.arange(120)), x.astype(np.float32))


def test_a_zarr_at_a_url(image: Image) -> None:
    url = "memory://doors/a.zarr"
    root = zarr.open_group(url, mode="w", zarr_format=2)
    for name, values in (("X", image.rows), ("var/mz", image.mz), ("obsm/spatial", image.xy)):
        root.create_array(name, data=values)
    image.check(open_source(url))


def test_no_pickle_is_read(tmp_path: Path, image: Image) -> None:
    path, ran = tmp_path / "a.zarr", tmp_path / "ran"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for name, values in (("X", image.rows), ("var/mz", image.mz), ("obsm/spatial", image.xy)):
        root.create_array(name, data=values, chunks=values.shape, compressors=None)

    class Bad:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    meta = path / "var/mz/.zarray"
    meta.write_text(meta.read_text().replace('"filters": null', '"filters": [{"id": "pickle"}]'))
    assert "pickle" in meta.read_text()
    (path / "var/mz/0").write_bytes(pickle.dumps(Bad()))
    with pytest.raises(InputError, match="pickle"):
        open_source(str(path))
    assert not ran.exists()


def test_a_zarr_of_another_kind_and_a_folder_without_one(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_array("other", data=np.ones(3))
    with pytest.raises(InputError, match=r"Zarr of no known layout.*other"):
        open_source(str(tmp_path / "a.zarr"))
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(InputError, match="no Zarr group there"):
        open_source(str(tmp_path / "b.zarr"))


def test_names_that_are_m_z() -> None:
    names = ["788.61", "mz_100.5", "mz-1e2", "m/z 7", "X12.5", "lipid", "PC 34:1", "", "-5"]
    expected = [788.61, 100.5, 100, 7, 12.5, *[np.nan] * 4]
    np.testing.assert_array_equal(named_mz(names), expected)
    assert np.isnan(named_mz(["0", "1", "2"])).all() and np.isnan(named_mz([1, 2, 3])).all()
