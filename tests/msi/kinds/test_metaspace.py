"""METASPACE's AnnData: a full rectangle, in which zeros are not measured pixels."""

from __future__ import annotations

import numpy as np
import pytest
from msi.kinds.conftest import NX, NY, Arrays, Image

from msiscale.msi import sparse_rows


@pytest.fixture(params=["dense", "csr", "csc"])
def rectangle(request: pytest.FixtureRequest, arrays: Arrays, image: Image) -> Arrays:
    """As metaspace-converter writes it: every pixel in raster order, unmeasured ones of zeros."""
    yx = np.argwhere(np.ones((NY, NX), bool))
    rows = np.zeros((len(yx), len(image.mz)), np.float32)
    rows[image.yx @ [NX, 1]] = image.rows
    arrays.arrays |= {
        "obs/ion_image_pixel": [str(i) for i in range(len(yx))],
        "obs/ion_image_pixel_x": yx[:, 1],
        "obs/ion_image_pixel_y": yx[:, 0],
        "obsm/spatial": yx @ [[0.3, 2.0], [5.1, 0.2]],  # on the optical image, turned
        "var/mz": image.mz,
        "uns/metaspace/polarity": "Negative",
        "uns/metaspace/metadata/MS_Analysis/Pixel_Size/Xaxis": 50,
        "uns/metaspace/metadata/MS_Analysis/Pixel_Size/Yaxis": 30,
    }
    if request.param == "dense":
        arrays.arrays["X"] = rows
    else:
        arrays.sparse("X", rows, request.param)
    return arrays


@pytest.mark.parametrize("long", [False, True])
def test_zeros_are_not_measured(
    rectangle: Arrays, image: Image, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if long:  # read spectrum by spectrum
        monkeypatch.setattr(sparse_rows, "LONG", 1)
    source = rectangle.open()
    order = np.lexsort(image.yx.T[::-1])
    known = Image(image.mz, image.yx[order], image.rows[order])
    known.check(source, known.rows.any(axis=1))
    assert source.pixel_um == (30, 50) and source.polarity == "-"
    assert source.notes == ["note: 2 pixels without any signal taken as not measured"]


def test_what_is_known_may_be_in_obs(rectangle: Arrays) -> None:
    for name in [n for n in rectangle.arrays if n.startswith("uns/")]:
        value = rectangle.arrays.pop(name)
        column = name.replace("uns/metaspace/", "metaspace.").replace("/", ".")
        rectangle.arrays[f"obs/{column}"] = [value] * (NX * NY)
    source = rectangle.open()
    assert source.pixel_um == (30, 50) and source.polarity == "-"
