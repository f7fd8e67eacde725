"""Co-registration: from landmarks or a matrix that are given, or found from the images."""

from msiscale.registration.automatic import Alignment, register_pictures, working_pair
from msiscale.registration.deformation import Deformation, deform
from msiscale.registration.landmarks import (
    AUTOMATIC,
    RESIDUALS,
    Registration,
    fit_landmarks,
    read_landmarks,
    read_matrix,
    write_matrix,
)
from msiscale.registration.picture import Picture
from msiscale.registration.refine import Pair

__all__ = [
    "AUTOMATIC",
    "RESIDUALS",
    "Alignment",
    "Deformation",
    "Pair",
    "Picture",
    "Registration",
    "deform",
    "fit_landmarks",
    "read_landmarks",
    "read_matrix",
    "register_pictures",
    "working_pair",
    "write_matrix",
]
