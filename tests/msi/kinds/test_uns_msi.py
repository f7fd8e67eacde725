"""`uns['msi']` beside genes in X."""

from __future__ import annotations

import numpy as np
import pytest
from msi.kinds.conftest import Arrays, Image

from msiscale.errors import InputError


@pytest.fixture(params=["dense", "csr", "csc"])
def spots(request: pytest.FixtureRequest, arrays: Arrays, image: Image) -> Arrays:
    arrays.arrays |= {
        "X": np.ones((len(image.yx), 3)),
        "var/_index": ["TP53", "KRAS", "EGFR"],
        "obs/_index": [str(i) for i in range(len(image.yx))],
        "obsm/spatial": image.xy * 20.0,
        "uns/mz_features": image.mz,
    }
    if request.param == "dense":
        arrays.arrays["uns/msi"] = image.rows
    else:
        arrays.sparse("uns/msi", image.rows, request.param)
    return arrays


def test_the_metabolites_are_read(spots: Arrays, image: Image) -> None:
    source = spots.open()
    image.check(source)
    assert any("X holds something else" in note for note in source.notes)
    assert any("steps of 20 taken as pixels" in note for note in source.notes)


def test_m_z_as_text(spots: Arrays, image: Image) -> None:
    spots.arrays["uns/mz_features"] = [repr(mz) for mz in image.mz.tolist()]
    image.check(spots.open())
    spots.arrays["uns/mz_features"] = ["lipid", *spots.arrays["uns/mz_features"][1:]]
    with pytest.raises(InputError, match="mz_features has 'lipid', which is no m/z"):
        spots.open()


def test_without_m_z_the_key_is_named(spots: Arrays) -> None:
    del spots.arrays["uns/mz_features"]
    with pytest.raises(InputError, match=r"uns/msi without uns/mz_features.*adata.uns\['mz_f"):
        spots.open()


def test_spots_of_a_hexagonal_array(spots: Arrays, image: Image) -> None:
    y, x = image.yx.T
    spots.arrays |= {"obs/array_row": y, "obs/array_col": 2 * x + y % 2}
    source = spots.open()
    np.testing.assert_array_equal(source.positions, np.stack([y, 2 * x + y % 2], axis=1))
    np.testing.assert_array_equal(source.read_dense(np.arange(len(y))), image.rows)
    assert any("50x86.6" in note for note in source.notes)
