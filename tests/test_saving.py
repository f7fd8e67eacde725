"""Objects as groups of arrays: what is saved is what is loaded, and nothing else passes for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from msiscale.saving import Layout, Saved
from msiscale.store import open_group, read


@dataclass
class Line(Saved):
    """Something fitted."""

    layout = Layout("line", "line", {"slope": ("target", "variable"), "at": ()}, ("by", "alpha"))

    slope: np.ndarray
    at: float
    by: str
    alpha: float


@dataclass
class Remark(Saved):
    """Attributes beside those of another object in one group."""

    layout = Layout(facts=("text",))

    text: str


@pytest.fixture
def line():
    return Line(np.arange(6.0).reshape(2, 3), np.float64(0.5), "hand", 0.1)


@pytest.mark.parametrize("opened", [False, True])
def test_by_url_or_group_to_the_last_bit(tmp_path, line, opened):
    url = str(tmp_path / "line.zarr")
    line.save(open_group(url, "a") if opened else url)
    for found in (Line.load(open_group(url) if opened else url), Line.load(url, read)):
        np.testing.assert_array_equal(found.slope, line.slope)
        assert (float(found.at), found.by, found.alpha) == (0.5, "hand", 0.1)
    group = open_group(url)
    assert dict(group.attrs) == {"kind": "line", "by": "hand", "alpha": 0.1}
    assert group["slope"].metadata.dimension_names == ("target", "variable")


def test_a_group_of_another_kind_is_refused(tmp_path, line):
    url = str(tmp_path / "x.zarr")
    open_group(url, "a").attrs["kind"] = "moments"
    with pytest.raises(ValueError, match="no line there"):
        Line.load(url)
    line.save(url)  # what stood there goes
    assert Line.load(url).by == "hand"
    assert dict(open_group(url).attrs).get("kind") == "line"


def test_it_passes_for_saved_only_when_all_is_there(tmp_path, line, monkeypatch):
    url = str(tmp_path / "x.zarr")
    line.save(url)
    monkeypatch.setattr("msiscale.saving.put", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        line.save(url)
    with pytest.raises(ValueError, match="no line"):
        Line.load(url)


def test_attributes_beside_those_of_another(tmp_path, line):
    url = str(tmp_path / "x.zarr")
    line.save(url)
    Remark("straight").save(url)
    assert Remark.load(url).text == "straight"
    assert Line.load(url).by == "hand"
