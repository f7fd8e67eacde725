"""What an affine map leaves over: a smooth deformation by B-splines, if it can be believed.

SimpleITK moves the control points of a cubic B-spline [1]_ over the MSI so that the first
canonical variates agree best. A deformation always fits better than none; it is kept only when
it folds nothing, stays small, and agrees better by more than its number of parameters would by
chance (Schwarz's criterion [2]_ on the agreement of all channels, which took no part in the fit).

.. [1] D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE Trans. Med.
   Imaging 18 (1999) 712-721.
.. [2] G. Schwarz, "Estimating the dimension of a model", Ann. Statist. 6 (1978) 461-464.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import Floats, apply
from msiscale.registration.agreement import information
from msiscale.registration.itk import itk
from msiscale.registration.picture import Picture
from msiscale.registration.refine import Pair, mattes, variates

SPACING_PX = 10  # MSI pixels between control points, at least
MOST_MESH = 8  # spline pieces on a side
MOST_PX = 3.0  # displacement of a pixel
JACOBIAN = (0.5, 2.0)  # local change of area


@dataclass(frozen=True, eq=False)
class Deformation:
    """A displacement of every MSI pixel before the affine map."""

    field: NDArray[np.float32]  # (h, w, 2), µm along x and y in the frame of the MSI, even refused
    jacobian: tuple[float, float]  # smallest and largest determinant over the pixels
    rms_px: float  # displacement in MSI pixels, over the measured ones
    most_px: float
    gain: float  # nats by which the agreement rises
    needed: float  # what Schwarz's criterion asks
    why: tuple[str, ...]  # what speaks against it; empty when it is to be believed

    @property
    def accepted(self) -> bool:
        return not self.why


def deform(pair: Pair, matrix: Floats) -> Deformation:
    """The B-spline deformation that an affine map leaves over; deterministic.

    Parameters
    ----------
    pair : Pair
        The pictures.
    matrix : float64 (3, 3)
        µm of the MSI to µm of the slide.

    Returns
    -------
    Deformation
    """
    msi = pair.msi
    method, still, moving = mattes(pair, *variates(pair, matrix))
    mesh = [int(np.clip(n // SPACING_PX, 2, MOST_MESH)) for n in msi.shape[::-1]]
    spline = itk().BSplineTransformInitializer(still, mesh, order=3)
    affine = itk().AffineTransform(2)
    affine.SetMatrix(matrix[:2, :2].ravel().tolist())
    affine.SetTranslation(matrix[:2, 2].tolist())
    # no control point further than a pixel may move: at a corner, little else holds one
    most = MOST_PX * pair.side
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-6, numberOfIterations=60, lowerBound=-most, upperBound=most
    )
    # SimpleITK optimises the transform that is applied first
    method.SetMovingInitialTransform(affine)
    method.SetInitialTransform(spline, inPlace=True)
    method.Execute(still, moving)
    field, jacobian = _field(spline, still)
    return _judged(pair, matrix, field, jacobian, len(spline.GetParameters()))


def field_at(found: Deformation, pair: Pair, msi: Picture) -> NDArray[np.float32]:
    """The displacement of every MSI pixel.

    Parameters
    ----------
    found : Deformation
        Of the pair.
    pair : Pair
        It may hold a coarser copy of the MSI.
    msi : Picture
        The MSI, h x w pixels.

    Returns
    -------
    float32 (h, w, 2)
        µm along x and y.
    """
    if pair.msi.shape == msi.shape:
        return found.field
    sizes = zip(msi.shape, msi.pixel_um, pair.msi.pixel_um, strict=True)
    places = [(np.arange(n) + 0.5) * (own / small) - 0.5 for n, own, small in sizes]
    grid = np.meshgrid(*places, indexing="ij")
    layers = [
        ndimage.map_coordinates(found.field[..., k], grid, np.float32, order=1, mode="nearest")
        for k in range(2)
    ]
    return np.stack(layers, axis=-1)


def _field(spline: Any, still: Any) -> tuple[NDArray[np.float32], Floats]:
    filled = itk().TransformToDisplacementFieldFilter()
    filled.SetReferenceImage(still)
    shown = filled.Execute(spline)
    jacobian = itk().DisplacementFieldJacobianDeterminant(shown)
    return (
        itk().GetArrayFromImage(shown).astype(np.float32),
        itk().GetArrayFromImage(jacobian).astype(np.float64),
    )


def _judged(
    pair: Pair, matrix: Floats, field: NDArray[np.float32], jacobian: Floats, parameters: int
) -> Deformation:
    counts = pair.msi.counts
    size = np.hypot(*np.moveaxis(field, -1, 0)) / pair.side
    y, x = np.indices(pair.msi.shape)
    points = apply(pair.msi.to_um, np.stack([x, y], axis=-1)) + field
    warped = pair.sample.at(apply(pair.from_um @ matrix, points))
    gain = information(pair.msi.values, warped) - pair.information(matrix)
    needed = 0.5 * parameters * float(np.log(max(int(counts.sum()), 2)))
    low, high = float(jacobian.min()), float(jacobian.max())
    most = float(size[counts].max())
    checks = (
        (not JACOBIAN[0] <= low <= high <= JACOBIAN[1], f"areas change by {low:.2f} to {high:.2f}"),
        (most > MOST_PX, f"a pixel moves by {most:.1f} MSI pixels"),
        (gain <= needed, f"it agrees by {gain:.0f} nats better, less than the {needed:.0f} needed"),
    )
    return Deformation(
        field,
        (low, high),
        float(np.sqrt((size[counts] ** 2).mean())),
        most,
        float(gain),
        needed,
        tuple(text for bad, text in checks if bad),
    )
