"""Tables of transforms: whatever the tool meant, the same place on the slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msiscale.errors import InputError
from msiscale.grid import apply, scaling, translation
from msiscale.registration.transforms import AFFINE, Convention, read_transforms, to_level0

SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
numbers = st.floats(-50, 50)


@given(
    st.tuples(numbers, numbers, numbers, numbers),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([None, 50.0]),
    st.sampled_from([None, 0.25]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_any_convention_comes_to_the_same_matrix(linear, origin, first, um, mpp, flags) -> None:
    a, b, c, d = linear
    true = np.array([[a + 60, b, 300.0], [c, d + 120, 200], [0, 0, 1]])  # index -> level 0
    if abs(np.linalg.det(true)) < 10:
        true[0, 1] = 0.0
    if abs(np.linalg.det(true)) < 10:
        return
    centres, inverse, rows_first = flags
    # what a tool of that convention writes: from its MSI coordinate to its slide coordinate
    to_index = translation(-(origin[1] - 1 + first), -(origin[0] - 1 + first))
    seen = true @ to_index @ scaling(1 / (um or 1.0))
    seen = scaling(mpp or 0.25) @ seen  # µm, or pixels of a quarter
    seen = translation(-0.5, -0.5) @ seen if centres else seen
    seen = np.linalg.inv(seen) if inverse else seen
    seen = SWAP @ seen @ SWAP if rows_first else seen
    words = {"slide_mpp": mpp} if mpp else {"slide_downsample": 4.0}
    convention = Convention(
        msi_first=first,
        msi_um=um,
        slide_centres=centres,
        inverse=inverse,
        rows_first=rows_first,
        **words,
    )
    found = to_level0(seen, origin, convention)
    points = np.array([[0.0, 0], [40, 0], [0, 30]])
    np.testing.assert_allclose(apply(found, points), apply(true, points), atol=1e-5)


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "t.csv"
    path.write_text(text)
    return str(path)


HEAD = f"section,{','.join(AFFINE)}\n"


def test_a_table_is_read(tmp_path: Path) -> None:
    found = read_transforms(table(tmp_path, HEAD + "A,1,2,3,4,5,6\n B ,2,0,0,0,2,0\n"))
    assert found["A"].tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 1]]
    assert list(found) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "A,1,2,3,4,5,6\nA,1,2,3,4,5,6\n", "row 3.*twice"),
        (HEAD + ",1,2,3,4,5,6\n", "row 2"),
        (HEAD + "A,1,2,3,2,4,6\n", "row 2 .A.: the affine matrix is singular"),
        (HEAD + "A,1,2,x,4,5,6\n", "row 2 .A."),
        ("section,a\nA,1\n", "no column 'm11'.*section, a"),
        ("", "not a CSV"),
    ],
)
def test_a_bad_table_is_refused_in_a_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_transforms(table(tmp_path, text))
    assert "\n" not in str(error.value)
