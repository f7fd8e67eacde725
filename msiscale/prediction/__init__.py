"""Slides that have no MSI: cancer, chemistry, and where neither should be believed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from msiscale.prediction.grid import onto_grid
    from msiscale.prediction.model import Model, load_model
    from msiscale.prediction.slides import predict
    from msiscale.prediction.virtual import predicted_intensity, write_ion_images

__all__ = [
    "Model",
    "load_model",
    "onto_grid",
    "predict",
    "predicted_intensity",
    "write_ion_images",
]

_HOME = {
    "Model": "model",
    "load_model": "model",
    "onto_grid": "grid",
    "predict": "slides",
    "predicted_intensity": "virtual",
    "write_ion_images": "virtual",
}


def __getattr__(name: str) -> Any:
    # the pipeline, which `predict` builds on, itself uses the modules of regions here
    if name in _HOME:
        return getattr(import_module(f"msiscale.prediction.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
