"""A ResNet in bands of rows gives the values of the undivided one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from msiscale.features import banded
from msiscale.features.architecture import fold_batch_norms
from msiscale.features.banded import Banded
from msiscale.features.encoders import unfolded


@pytest.fixture(scope="module")
def trunk() -> torch.nn.Module:
    network, _ = unfolded("resnet50:layer3", "random:3")
    fold_batch_norms(network)
    return network.to(memory_format=torch.channels_last)


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 5), rows=st.integers(1, 9))
def test_bands_of_any_height_change_nothing(
    trunk: torch.nn.Module, h: int, w: int, rows: int
) -> None:
    """Zeros pad only where the image ends: one row short or over would show everywhere."""
    generator = torch.Generator().manual_seed(h + 10 * w)
    image = torch.randn(1, 3, 16 * h, 16 * w, generator=generator)
    image = image.to(memory_format=torch.channels_last)
    usual = banded.ROWS
    banded.ROWS = rows
    try:
        with torch.inference_mode():
            whole, found = trunk(image), Banded(trunk)(image)
    finally:
        banded.ROWS = usual
    assert found.shape == whole.shape
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-4 * float(whole.abs().max()))


@settings(max_examples=25, deadline=None)
@given(
    margin=st.tuples(*[st.integers(0, 12)] * 4),
    inner=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    rows=st.integers(1, 9),
)
def test_what_is_not_wanted_is_left_out_and_nothing_else(
    trunk: torch.nn.Module, margin: tuple[int, int, int, int], inner: tuple[int, int], rows: int
) -> None:
    """One cell trimmed too early would show at the border of what is wanted."""
    top, bottom, left, right = margin
    h, w = inner[0] + top + bottom, inner[1] + left + right
    generator = torch.Generator().manual_seed(sum(margin))
    image = torch.randn(1, 3, 16 * h, 16 * w, generator=generator)
    image = image.to(memory_format=torch.channels_last)
    usual = banded.ROWS
    banded.ROWS = rows
    try:
        with torch.inference_mode():
            whole, found = trunk(image), Banded(trunk)(image, margin)
    finally:
        banded.ROWS = usual
    wanted = whole[:, :, top : h - bottom, left : w - right]
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(whole.abs().max()))


def test_the_image_is_left_as_it_is(trunk: torch.nn.Module) -> None:
    image = torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)
    before = image.clone()
    with torch.inference_mode():
        Banded(trunk)(image)
    assert torch.equal(image, before)
