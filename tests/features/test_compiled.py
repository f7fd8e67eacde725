"""A compiled encoder gives what the plain one does, for windows of any size."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder
from tests.features.test_extract import noise
from tests.features.test_own import MODULE  # noqa: F401
from tests.features.test_own import module as module


@pytest.mark.slow(reason="compiles a network")
def test_it_is_the_same_network(module: str) -> None:
    if not shutil.which("g++"):
        pytest.skip("no C++ compiler")
    plain = load_encoder(f"own:{module}:mine", "random:0")
    compiled = load_encoder(f"own:{module}:mine", "random:0", compiled=True)
    assert compiled is not plain
    assert (compiled.compiled, compiled.sha256) == (True, plain.sha256)
    for size in ((64, 96), (32, 128), (200, 40)):
        np.testing.assert_allclose(compiled(noise(*size)), plain(noise(*size)), atol=1e-5)
    assert pickle.loads(pickle.dumps(compiled)) is compiled


def test_a_machine_that_cannot_says_so_at_once(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(
        "torch.nn.Module.compile", lambda self, **_: setattr(self, "forward", fails)
    )
    with pytest.raises(InputError, match=r"--compile: own:.* leave --compile out") as error:
        load_encoder(f"own:{module}:mine", "random:1", compiled=True)
    assert "\n" not in str(error.value)


def test_bands_are_not_compiled() -> None:
    with pytest.raises(InputError, match="--compile: is for GPUs"):
        load_encoder("resnet50:layer3", "random:0", compiled=True)
