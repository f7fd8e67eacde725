"""From a coarse place to a fraction of a pixel.

SimpleITK first, a similarity and then an affine map. It compares one channel with one other: the
first canonical variates of the two pictures where they now lie, the mixtures that agree best
there, by Mattes' mutual information [1]_ over every pixel that counts. Then all channels have
their say: the same affine map is moved to where the agreement of all (`agreement`) is greatest,
by Fisher's method of scoring [2]_, whose steps are some ten where a method that knows only the
gradient takes hundreds. No step is kept that lowers it.

.. [1] D. Mattes et al., "PET-CT image registration in the chest using free-form deformations",
   IEEE Trans. Med. Imaging 22 (2003) 120-128.
.. [2] C. R. Rao, Linear Statistical Inference and Its Applications (1973), section 5g.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats, PixelSize, apply, scaling, translation
from msiscale.registration.agreement import RIDGE, Agreement, agreement, information
from msiscale.registration.itk import itk
from msiscale.registration.picture import Picture, Sampler

BINS = 20
STEP_PX = 0.25  # MSI pixels, each way, over which the slide's slope is taken
REACH_PX = 1.0  # how far one move of the last step may take a corner, about
LEAST_PX = 0.003  # a move that is smaller is the last one
MOST_STEPS = 30


class Pair:
    """Whitened pictures of an MSI and a slide, looked at under many maps.

    A map takes µm of the MSI to µm of the slide (`Picture.to_um`).
    """

    def __init__(self, msi: Picture, slide: Picture) -> None:
        self.msi, self.slide = msi, slide
        self.sample = Sampler(slide)
        self.from_um = np.linalg.inv(slide.to_um)
        self.side = msi.pixel_um.side
        h, w = msi.shape
        self.corner = np.array([w * msi.pixel_um.x, h * msi.pixel_um.y]) / 2
        self.middle = apply(msi.to_um, [(w - 1) / 2, (h - 1) / 2])

    def slide_under(self, matrix: Floats) -> NDArray[np.float32]:
        """Channels of the slide at the pixels of the MSI.

        Parameters
        ----------
        matrix
            (3, 3) float64, µm of the MSI to µm of the slide.

        Returns
        -------
        NDArray
            (h, w, c) float32, h and w of the MSI; NaN where the slide does not count.
        """
        return self.sample(self.from_um @ matrix @ self.msi.to_um, self.msi.shape)

    def agreement(self, matrix: Floats) -> Agreement:
        """How well they agree under a map.

        Parameters
        ----------
        matrix
            (3, 3) float64, µm of the MSI to µm of the slide.

        Returns
        -------
        Agreement
            At the pixels of the MSI, which is the first of the two pictures.
        """
        return agreement(self.msi.values, self.slide_under(matrix))

    def information(self, matrix: Floats) -> float:
        """The total of `agreement` only.

        Parameters
        ----------
        matrix
            (3, 3) float64, µm of the MSI to µm of the slide.

        Returns
        -------
        float
            Nats.
        """
        return information(self.msi.values, self.slide_under(matrix))

    def moved(self, matrix: Floats, by: Floats) -> Floats:
        """`matrix` after a small affine map whose six numbers move corners by MSI pixels.

        Parameters
        ----------
        matrix
            (3, 3) float64, µm of the MSI to µm of the slide.
        by
            (6,) float64, MSI pixels: change of the linear part about the MSI's middle, row by row,
            then the shift (x, y).

        Returns
        -------
        NDArray
            (3, 3) float64, µm of the MSI to µm of the slide.
        """
        change = np.eye(3)
        change[:2, :2] += by[:4].reshape(2, 2) * self.side / np.hypot(*self.corner)
        change[:2, 2] = by[4:] * self.side
        about = translation(*self.middle) @ change @ translation(*-self.middle)
        return np.asarray(matrix @ about)


def refine(pair: Pair, matrix: Floats) -> Floats:
    """Find the affine map near `matrix` under which the pair agrees best.

    Parameters
    ----------
    pair
        The pictures.
    matrix
        (3, 3) float64, µm of the MSI to µm of the slide, to start from.

    Returns
    -------
    NDArray
        (3, 3) float64, as `matrix`, which it is where no step raises the agreement.
    """
    best, score = matrix, pair.information(matrix)
    for step in (_similarity, _affine, polished):
        found = step(pair, best)
        now = pair.information(found)
        if now > score:
            best, score = found, now
    return best


def polished(pair: Pair, matrix: Floats) -> Floats:
    """Move a map that is nearly right to where all channels agree best: the last step of `refine`.

    Parameters
    ----------
    pair
        The pictures.
    matrix
        (3, 3) float64, µm of the MSI to µm of the slide.

    Returns
    -------
    NDArray
        (3, 3) float64, as `matrix`, which it is where no move raises the agreement.
    """
    score = pair.information(matrix)
    for _ in range(MOST_STEPS):
        by = _scored(pair, matrix)
        by *= min(1.0, REACH_PX / max(float(np.abs(by).max()), 1e-12))
        for part in (1.0, 0.5, 0.25, 0.1):
            tried = pair.moved(matrix, part * by)
            now = pair.information(tried)
            if now > score:
                break
        else:
            return matrix
        matrix, score = tried, now
        if float(np.abs(part * by).max()) < LEAST_PX:
            break
    return matrix


def _scored(pair: Pair, matrix: Floats) -> Floats:
    """The move (6,) of `Pair.moved` that Fisher's method of scoring takes from here."""
    x, y = pair.msi.values, pair.slide_under(matrix)
    both = np.isfinite(x).all(axis=-1) & np.isfinite(y).all(axis=-1)
    p, n = x.shape[-1], int(both.sum())
    if n <= p + y.shape[-1]:
        return np.zeros(6)
    rising, root = risings(np.concatenate([x[both], y[both]], axis=1), p)
    along = [_slope(pair, matrix, axis)[both] for axis in (4, 5)]  # (n, q), a shift by a pixel
    at = (apply(pair.msi.to_um, np.argwhere(both)[:, ::-1]) - pair.middle) / np.hypot(*pair.corner)
    factors = [(0, at[:, 0]), (0, at[:, 1]), (1, at[:, 0]), (1, at[:, 1]), (0, None), (1, None)]
    change = [along[k] if f is None else along[k] * f[:, None] for k, f in factors]
    gradient = np.array([(rising * c).sum() for c in change])
    known = np.stack([(c @ root).ravel() for c in change])
    curvature = known @ known.T
    curvature[np.diag_indices(6)] += 1e-6 * np.trace(curvature) + 1e-12
    return np.asarray(np.linalg.solve(curvature, gradient))


def risings(rows: NDArray[np.floating], p: int) -> tuple[Floats, Floats]:
    """How the agreement changes with a value of the slide, and what it tells of that value.

    Parameters
    ----------
    rows
        (n, p + q), channels of the MSI and the slide where both count.
    p
        Channels of the MSI.

    Returns
    -------
    rising : float64 (n, q)
        The change.
    root : float64 (q, q)
        Of Fisher's information: a change d (q,) of a pixel of the slide has ``|d @ root| ** 2``.
    """
    rows = rows.astype(np.float64)
    rows -= rows.mean(axis=0)
    joint = rows.T @ rows / len(rows)
    joint[np.diag_indices(len(joint))] += RIDGE
    whole, alone = np.linalg.inv(joint), np.linalg.inv(joint[p:, p:])
    rising = rows[:, p:] @ alone - rows @ whole[:, p:]
    strength, axes = np.linalg.eigh(whole[p:, p:] - alone)
    return rising, axes * np.sqrt(np.maximum(strength, 0))


def _slope(pair: Pair, matrix: Floats, axis: int) -> Floats:
    """Change of the slide's channels (h, w, q) with one number of `Pair.moved`; 0 at an edge."""
    by = np.zeros(6)
    by[axis] = STEP_PX
    after, before = (pair.slide_under(pair.moved(matrix, sign * by)) for sign in (1, -1))
    return np.nan_to_num((after.astype(np.float64) - before) / (2 * STEP_PX))


def _similarity(pair: Pair, matrix: Floats) -> Floats:
    """One scale and a rotation; of a mirror image, of the MSI laid down the other way round."""
    mirrored = bool(np.linalg.det(matrix) < 0)
    flip = translation(2 * pair.middle[0], 0) @ scaling(-1.0, 1.0) if mirrored else np.eye(3)
    start = matrix @ flip
    transform = itk().Similarity2DTransform()
    scale = float(np.sqrt(np.linalg.det(start)))
    angle = float(np.arctan2(start[1, 0] - start[0, 1], start[0, 0] + start[1, 1]))
    transform.SetScale(scale)
    transform.SetAngle(angle)
    return _executed(pair, matrix, start, transform, mirrored) @ flip


def _affine(pair: Pair, matrix: Floats) -> Floats:
    transform = itk().AffineTransform(2)
    transform.SetMatrix(matrix[:2, :2].ravel().tolist())
    return _executed(pair, matrix, matrix, transform, False)


def _executed(
    pair: Pair,
    matrix: Floats,
    start: Floats,
    transform: Any,
    mirrored: bool,
) -> Floats:
    """Optimise `transform`, which has the linear part of `start`, about the MSI's middle."""
    transform.SetCenter(pair.middle.tolist())
    transform.SetTranslation((apply(start, pair.middle) - pair.middle).tolist())
    fixed, moving = variates(pair, matrix)
    if mirrored:
        fixed = fixed[:, ::-1]
    method, *images = mattes(pair, fixed, moving)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.25 * pair.side,
        minStep=2e-3 * pair.side,
        numberOfIterations=100,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(*images)
    return _as_affine(transform)


def variates(pair: Pair, matrix: Floats) -> tuple[Floats, Floats]:
    """First canonical variates of an MSI and a slide, the mixtures that agree best.

    Parameters
    ----------
    pair : Pair
        The pictures.
    matrix : float64 (3, 3)
        µm of the MSI to µm of the slide, where they agree.

    Returns
    -------
    msi, slide : float64 (h, w)
        NaN where a pixel does not count; each of the size of its picture.
    """
    found = pair.agreement(matrix)
    return (
        np.asarray(pair.msi.values @ found.x_weights[:, 0]),
        np.asarray(pair.slide.values @ found.y_weights[:, 0]),
    )


def mattes(pair: Pair, fixed: Floats, moving: Floats) -> tuple[Any, Any, Any]:
    """Set up Mattes' mutual information of two channels over all that is not NaN.

    Parameters
    ----------
    pair
        The pictures, of which only the pixel sizes are used.
    fixed
        (h, w) float64, a channel at the pixels of the MSI; NaN where a pixel does not count.
    moving
        (h, w) float64, a channel at the pixels of the slide; NaN where a pixel does not count.

    Returns
    -------
    tuple
        SimpleITK's registration method, with metric, masks and interpolator set, and the fixed and
        the moving image to execute it on; those are float32, in µm, with 0 in place of NaN.
    """
    method = itk().ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(itk().sitkLinear)
    images = []
    for values, pixel_um, mask in (
        (fixed, pair.msi.pixel_um, method.SetMetricFixedMask),
        (moving, pair.slide.pixel_um, method.SetMetricMovingMask),
    ):
        mask(_image(np.isfinite(values).astype(np.uint8), pixel_um))
        images.append(_image(np.nan_to_num(values).astype(np.float32), pixel_um))
    return method, images[0], images[1]


def _image(values: NDArray[Any], pixel_um: PixelSize) -> Any:
    """A channel as SimpleITK has it: spacing in µm, origin at the first pixel."""
    found = itk().GetImageFromArray(values)
    found.SetSpacing((pixel_um.x, pixel_um.y))
    return found


def _as_affine(transform: Any) -> Floats:
    """The 3x3 matrix of a linear transform."""
    zero, x, y = (
        np.array(transform.TransformPoint(p)) for p in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    out = np.eye(3)
    out[:2, 0], out[:2, 1], out[:2, 2] = x - zero, y - zero, zero
    return out
