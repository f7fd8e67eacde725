from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from msiscale.report.drawing import draw_outline, extent_um, nice_length, plain, png, spread


@given(st.floats(1e-3, 1e6))
def test_scale_bars_are_round_and_fit(um: float) -> None:
    length = nice_length(um)
    assert um / 2.6 < length <= um
    assert f"{length:.0e}"[0] in "125"


def test_colour_limits_are_never_empty() -> None:
    assert spread(np.full((3, 3), np.nan)) == (0, 1)
    assert spread(np.full((3, 3), 2.0)) == (2, 3)
    low, high = spread(np.array([0.0, 1, 2, np.nan]), low=0, high=100)
    assert (low, high) == (0, 2)


def test_the_extent_has_y_downwards() -> None:
    assert extent_um((4, 10), (100.0, 50.0)) == (0, 500, 400, 0)


@pytest.mark.parametrize("fill", [False, True])
def test_outlines_of_empty_and_full_masks(fill: bool) -> None:
    figure = Figure()
    axes = figure.subplots()
    draw_outline(axes, np.full((4, 5), fill), (0, 5, 4, 0), "black", 1)
    assert len(axes.collections) == int(fill)


def test_a_dollar_is_a_dollar() -> None:
    figure = Figure()
    figure.subplots().set_title(plain(r"a$\frac$b$"))
    assert png(figure).startswith(b"\x89PNG")
