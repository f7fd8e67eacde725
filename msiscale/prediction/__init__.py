"""Slides that have no MSI: cancer, chemistry, and where neither should be believed."""

from msiscale.prediction.absent import write_absent_images
from msiscale.prediction.grid import onto_grid
from msiscale.prediction.model import Model, load_model
from msiscale.prediction.virtual import predicted_bounds, predicted_intensity, write_ion_images

__all__ = [
    "Model",
    "load_model",
    "onto_grid",
    "predicted_bounds",
    "predicted_intensity",
    "write_absent_images",
    "write_ion_images",
]
