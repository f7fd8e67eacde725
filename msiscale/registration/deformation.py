"""What an affine map leaves over: a smooth deformation by B-splines, if it can be believed.

The control points of a cubic B-spline [1]_ over the MSI are moved to where the agreement of all
channels (`agreement`), less what a prior asks for, is greatest, by Fisher's method of scoring. The
prior is a Gaussian process: control points that are near move alike. How far they may move is what
makes the images most likely (the evidence, by Laplace's approximation [2]_), and a deformation is
kept only where it makes them much more likely than none does, folds nothing and stays small.

.. [1] D. Rueckert et al., "Nonrigid registration using free-form deformations", IEEE Trans. Med.
   Imaging 18 (1999) 712-721.
.. [2] D. J. C. MacKay, "Bayesian interpolation", Neural Comput. 4 (1992) 415-447.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.interpolate import BSpline
from scipy.linalg import block_diag, cho_factor, cho_solve

from msiscale.grid import Floats, PixelSize, apply
from msiscale.placing import stretch
from msiscale.registration.agreement import information, whitened
from msiscale.registration.picture import coarsened, smoothed
from msiscale.registration.refine import STEP_PX, Pair, risings

SPACING_PX = 5  # MSI pixels between control points, at least
MOST_PIECES = 20  # of the spline on the longer side
ROUGH = 96  # pixels of the MSI on its longer side, at most, where the prior is chosen
REACH = 1.6  # of the spacing: how far the prior's correlation goes
SIZES_PX = (0.15, 0.3, 0.6, 1.2, 2.4)  # of a move in the prior, MSI pixels of the rough picture
INDEPENDENT = 0.5  # of the pixels: neighbours are alike
JITTER = 1e-4  # of the prior's variance
MOST_STEPS = 15
NEAR_PX = 0.01  # a step that is smaller is the last one

LEAST_EVIDENCE = 10.0  # nats
MOST_PX, MOST_SHARE = 3.0, 0.05  # displacement of a pixel, or that share of the longer side
JACOBIAN = (0.5, 2.0)  # local change of area


@dataclass(frozen=True, eq=False)
class Spline:
    """A displacement of the plane of the MSI: a cubic B-spline.

    Attributes
    ----------
    extent : size of the MSI along y and x, µm
    control : (ky, kx, 2) float64, µm along x and y
    """

    extent: tuple[float, float]
    control: Floats

    def at_corners(self, shape: tuple[int, int], pixel_um: PixelSize) -> NDArray[np.float32]:
        """The displacement at the corners of pixels.

        Parameters
        ----------
        shape
            (h, w) of the MSI, whatever the resolution at which the spline was found.
        pixel_um
            Size of its pixels.

        Returns
        -------
        float32 (h + 1, w + 1, 2)
            µm along x and y.
        """
        return self._at(shape, pixel_um, 0.0).astype(np.float32)

    def at_centres(self, shape: tuple[int, int], pixel_um: PixelSize) -> Floats:
        """The displacement of pixels, float64 (h, w, 2), µm along x and y."""
        return self._at(shape, pixel_um, 0.5)

    def _at(self, shape: tuple[int, int], pixel_um: PixelSize, first: float) -> Floats:
        sizes = zip(shape, pixel_um, self.extent, self.control.shape[:2], strict=True)
        down, along = (_basis(n, um, e, k - 3, first).toarray() for n, um, e, k in sizes)
        return np.asarray(np.einsum("yi,ijk,xj->yxk", down, self.control, along))


@dataclass(frozen=True, eq=False)
class Deformation:
    """A displacement of every MSI pixel before the affine map."""

    field: Floats  # (h, w, 2), µm along x and y in the frame of the MSI, even refused
    spline: Spline
    jacobian: tuple[float, float]  # smallest and largest change of area at the corners of pixels
    rms_px: float  # displacement in MSI pixels, over the measured ones
    most_px: float
    evidence: float  # nats by which the images are more likely with it than without
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
    rough, to_msi = _rough(pair)
    mesh = _Mesh.over(pair, rough.side)
    look = _Look(rough, matrix @ to_msi, mesh)
    tried = [(_climbed(look, size * rough.side, mesh.none), size) for size in SIZES_PX]
    (control, evidence), size = max(tried, key=lambda t: t[0][1])
    if rough is not pair:
        look = _Look(pair, matrix, mesh)
        control, evidence = _climbed(look, size * rough.side, control)
    return _judged(look, control, evidence)


def _rough(pair: Pair) -> tuple[Pair, Floats]:
    """The pair at `ROUGH` pixels at most, and the matrix from its MSI's µm to the pair's."""
    side = pair.msi.longest_um / ROUGH
    if side <= pair.side:
        return pair, np.eye(3)
    msi, to_msi = coarsened(pair.msi, side)
    slide = smoothed(pair.slide, side)
    whole = msi.channels(whitened(msi.values)), slide.channels(whitened(slide.values))
    return Pair(*whole), to_msi


@dataclass(frozen=True, eq=False)
class _Mesh:
    """The control points, and the inverse of their prior's covariance where its size is 1 µm."""

    extent: tuple[float, float]
    pieces: tuple[int, int]
    precision: Floats
    log_precision: float

    @classmethod
    def over(cls, pair: Pair, side: float) -> _Mesh:
        """That for pixels of a side."""
        (h, w), um = pair.msi.shape, pair.msi.pixel_um
        extent = h * um.y, w * um.x
        spacing = max(SPACING_PX * side, max(extent) / MOST_PIECES)
        pieces = max(2, round(extent[0] / spacing)), max(2, round(extent[1] / spacing))
        y, x = (
            (np.arange(k + 3) - 1) * (e / k) / spacing for k, e in zip(pieces, extent, strict=True)
        )
        far = sum((a.ravel()[:, None] - a.ravel()) ** 2 for a in np.meshgrid(y, x, indexing="ij"))
        covariance = np.exp(-far / (2 * REACH**2))
        covariance[np.diag_indices(len(covariance))] += JITTER
        precision = np.linalg.inv(covariance)
        return cls(extent, pieces, precision, float(np.linalg.slogdet(precision)[1]))

    @property
    def none(self) -> Floats:
        """Control points that do not move, (ky kx, 2)."""
        return np.zeros((len(self.precision), 2))

    def spline(self, control: Floats) -> Spline:
        """The spline that has these control points, (ky kx, 2) in µm."""
        return Spline(self.extent, control.reshape(self.pieces[0] + 3, self.pieces[1] + 3, 2))


class _Look:
    """A pair at one resolution, under an affine map and a spline before it."""

    def __init__(self, pair: Pair, matrix: Floats, mesh: _Mesh) -> None:
        self.pair, self.matrix, self.mesh = pair, matrix, mesh
        shape, um = pair.msi.shape, pair.msi.pixel_um
        sizes = zip(shape, um, mesh.extent, mesh.pieces, strict=True)
        self.basis = sparse.csr_array(sparse.kron(*(_basis(*each, 0.5) for each in sizes)))
        y, x = np.indices(shape)
        self.points = apply(pair.msi.to_um, np.stack([x, y], axis=-1))

    def slide_under(self, control: Floats, by: Floats | float = 0.0) -> NDArray[np.float32]:
        """Channels of the slide (h, w, c) at the pixels of the MSI, which all move `by` µm more."""
        field = (self.basis @ control).reshape(self.points.shape)
        return self.pair.sample.at(apply(self.pair.from_um @ self.matrix, self.points + field + by))

    def information(self, control: Floats) -> float:
        """Nats that the two say of each other."""
        return information(self.pair.msi.values, self.slide_under(control))

    def slopes(self, control: Floats) -> tuple[Floats, Floats]:
        """Change of `information` with the control points (2, ky kx), and Fisher's curvature."""
        x, y = self.pair.msi.values, self.slide_under(control)
        both = np.isfinite(x).all(axis=-1) & np.isfinite(y).all(axis=-1)
        p, size = x.shape[-1], len(control)
        if int(both.sum()) <= p + y.shape[-1]:
            return np.zeros((2, size)), np.zeros((2 * size, 2 * size))
        rising, root = risings(np.concatenate([x[both], y[both]], axis=1), p)
        step = STEP_PX * self.pair.side
        along = []
        for by in ([step, 0.0], [0.0, step]):
            after, before = (
                self.slide_under(control, sign * np.array(by))[both].astype(np.float64)
                for sign in (1, -1)
            )
            along.append(np.nan_to_num((after - before) / (2 * step)))
        basis = self.basis[both.ravel()]
        gradient = np.stack([basis.T @ (rising * a).sum(axis=1) for a in along])
        seen = [a @ root for a in along]
        curvature = np.block(
            [
                [
                    (basis.T @ (basis * (one * other).sum(axis=1)[:, None])).toarray()
                    for other in seen
                ]
                for one in seen
            ]
        )
        return gradient, curvature


def _climbed(look: _Look, size_um: float, control: Floats) -> tuple[Floats, float]:
    """The control points that agree best under a prior of a size, and their evidence."""
    precision = look.mesh.precision / size_um**2

    def score(at: Floats) -> float:
        return INDEPENDENT * look.information(at) - 0.5 * float((at * (precision @ at)).sum())

    now, none = score(control), score(look.mesh.none)
    for _ in range(MOST_STEPS):
        gradient, curvature = look.slopes(control)
        pull = INDEPENDENT * gradient - (precision @ control).T
        held = cho_factor(INDEPENDENT * curvature + block_diag(precision, precision))
        step = cho_solve(held, pull.ravel()).reshape(2, -1).T
        reach = float(np.abs(look.basis @ step).max()) / look.pair.side
        step *= min(1.0, 1 / max(reach, 1e-12))
        for part in (1.0, 0.5, 0.25, 0.1):
            tried = score(control + part * step)
            if tried > now:
                break
        else:
            break
        control, now = control + part * step, tried
        if part * min(reach, 1.0) < NEAR_PX:
            break
    posterior = 2 * float(np.log(np.diag(held[0])).sum())
    prior = 2 * (look.mesh.log_precision - len(precision) * float(np.log(size_um**2)))
    return control, now - none + 0.5 * (prior - posterior)


def _judged(look: _Look, control: Floats, evidence: float) -> Deformation:
    pair, spline = look.pair, look.mesh.spline(control)
    counts, um = pair.msi.counts, pair.msi.pixel_um
    field = spline.at_centres(pair.msi.shape, um)
    size = np.hypot(*np.moveaxis(field, -1, 0)) / pair.side
    low, high = stretch(spline.at_corners(pair.msi.shape, um) / np.array([um.x, um.y]))
    most, limit = float(size[counts].max()), max(MOST_PX, MOST_SHARE * max(pair.msi.shape))
    checks = (
        (not JACOBIAN[0] <= low <= high <= JACOBIAN[1], f"areas change by {low:.2f} to {high:.2f}"),
        (most > limit, f"a pixel moves by {most:.1f} MSI pixels"),
        (
            evidence < LEAST_EVIDENCE,
            f"the images speak for it by {evidence:.1f} nats, less than {LEAST_EVIDENCE:g}",
        ),
    )
    rms = float(np.sqrt((size[counts] ** 2).mean()))
    why = tuple(text for bad, text in checks if bad)
    return Deformation(field, spline, (low, high), rms, most, evidence, why)


def _basis(n: int, um: float, extent: float, pieces: int, first: float) -> sparse.csr_array:
    """Cubic splines (places, pieces + 3) over 0 to `extent` µm at centres, or corners (first 0)."""
    places = np.arange(n if first else n + 1, dtype=np.float64) + first
    at = (places * (um * pieces / extent)).clip(0, pieces)
    knots = np.arange(-3, pieces + 4, dtype=np.float64)
    return sparse.csr_array(BSpline.design_matrix(at, knots, 3))
