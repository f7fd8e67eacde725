"""Deep features of H&E slides on the MSI grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msiscale.features.encoders import Encoder, load_encoder, save_weights
    from msiscale.features.extract import extract_block, extract_features

__all__ = [
    "Encoder",
    "extract_block",
    "extract_features",
    "load_encoder",
    "save_weights",
]

_HOME = {
    "Encoder": "encoders",
    "load_encoder": "encoders",
    "save_weights": "encoders",
    "extract_block": "extract",
    "extract_features": "extract",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, so it waits until something here is used.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"msiscale.features.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
