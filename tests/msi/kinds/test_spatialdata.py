"""SpatialData in Zarr as Thyra writes it: which table, which size, which regions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from msi.kinds.conftest import Arrays, Image

from msiscale.errors import InputError
from msiscale.msi import open_source

TABLE = "tables/msi_dataset_z0"


def table(arrays: Arrays, image: Image, name: str = TABLE) -> None:
    """A table as Thyra's documentation of its output says."""
    arrays.sparse(f"{name}/X", image.rows, "csc")
    n = len(image.yx)
    arrays.arrays |= {
        f"{name}/var/mz": image.mz,
        f"{name}/obs/x": image.xy[:, 0],
        f"{name}/obs/y": image.xy[:, 1],
        f"{name}/obs/spatial_x": image.xy[:, 0] * 20.0,
        f"{name}/obs/spatial_y": image.xy[:, 1] * 10.0,
        f"{name}/obsm/spatial": image.xy * [20.0, 10.0],
        f"{name}/obs/instance_key": [str(i) for i in range(n)],
        f"{name}/uns/spatialdata_attrs/region_key": "region",
        f"{name}/uns/spatialdata_attrs/region": "msi_dataset_z0_pixels",
    }
    arrays.category(f"{name}/obs/region", ["msi_dataset_z0_pixels"] * n)


def size(arrays: Arrays, source: str, name: str = TABLE) -> None:
    arrays.arrays |= {
        f"{name}/uns/msi_metadata/ms_analysis/pixel_size_um/x": 20.0,
        f"{name}/uns/msi_metadata/ms_analysis/pixel_size_um/y": 10.0,
        f"{name}/uns/msi_metadata/ms_analysis/polarity": "positive",
        f"{name}/uns/msi_metadata/provenance/pixel_size_source": source,
    }


@pytest.fixture(params=["zarr2", "zarr3"])
def store(request: pytest.FixtureRequest, zarrs: Callable[[str], Arrays], image: Image) -> Arrays:
    arrays = zarrs(request.param)
    table(arrays, image)
    arrays.attrs[""] = {"spatialdata_attrs": {"version": "0.2"}}
    return arrays


def test_the_table_and_its_size(store: Arrays, image: Image) -> None:
    size(store, "automatic")
    source = store.open()
    image.check(source)
    assert source.pixel_um == (10, 20) and source.polarity == "+" and source.notes == []
    assert source.pixel_from == "uns/msi_metadata/ms_analysis/pixel_size_um"
    assert open_source(str(store.path), pixel_um=30).pixel_um == (30, 30)


def test_the_size_of_the_store(store: Arrays, image: Image) -> None:
    store.attrs[""] |= {"pixel_size_x_um": 20.0, "pixel_size_y_um": 10.0}
    source = store.open()
    image.check(source)
    assert source.pixel_um == (10, 20) and "of the store" in source.pixel_from


def test_a_size_that_thyra_made_up_is_not_believed(store: Arrays, image: Image) -> None:
    store.attrs[""] |= {"pixel_size_x_um": 20.0, "pixel_size_y_um": 10.0}
    size(store, "default")
    source = store.open()
    assert source.pixel_um is None
    assert any("not believed" in note for note in source.notes)


def test_several_tables_are_listed_and_one_is_named(store: Arrays, image: Image) -> None:
    table(store, image, "tables/msi_dataset_z1")
    with pytest.raises(InputError, match=r"2 tables \(msi_dataset_z0, msi_dataset_z1\); name one"):
        store.open()
    image.check(open_source(f"{store.path}/{TABLE}"))


def test_a_view_of_the_same_spectra_is_no_second_table(store: Arrays, image: Image) -> None:
    table(store, image, f"{TABLE}_mobility")
    store.arrays[f"{TABLE}_mobility/var/mobility"] = np.ones(len(image.mz))
    source = store.open()
    image.check(source)
    assert any("views msi_dataset_z0_mobility are not" in note for note in source.notes)


def test_several_regions_of_a_table_are_listed(store: Arrays, image: Image) -> None:
    n = len(image.yx)
    store.category(f"{TABLE}/obs/region", ["left"] * 3 + ["right"] * (n - 3))
    with pytest.raises(InputError, match=r"2 regions \(left, right, in obs/region\)"):
        store.open()


def test_regions_of_one_acquisition_are_said(store: Arrays, image: Image) -> None:
    regions = [{"region_number": 0, "name": "E2506"}, {"region_number": 1}]
    store.arrays[f"{TABLE}/uns/regions"] = json.dumps(regions)
    source = store.open()
    image.check(source)
    assert any("2 regions (E2506, 1) are read as one image" in note for note in source.notes)


def test_a_store_without_a_table(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w").require_group("tables")
    with pytest.raises(InputError, match="no table of m/z"):
        open_source(str(tmp_path / "a.zarr"))
