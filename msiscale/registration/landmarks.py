"""Co-registration from what the user knows: landmark pairs or a 3x3 matrix.

The result, as that of an automatic registration, always maps MSI pixel indices to level-0 slide
coordinates (see `msiscale.grid`).
"""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from skimage.transform import SimilarityTransform

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import Floats, PixelSize, apply, as_matrix, scaling
from msiscale.store import open_file, read_json

Kind = Literal["auto", "affine", "similarity"]
FARTHEST = 1e9  # pixels; what is farther away was not meant
COLUMNS = ("slide_x", "slide_y", "msi_x", "msi_y")
_PLAIN = re.compile(r"[-+.0-9eE]{1,40}")
RESIDUALS = ("residual_um", "residual_px", "left_out_um", "left_out_px")
AUTOMATIC = ("confidence", "z", "overlap", "dice", "error_um", "error_px", "deformation_px")


@dataclass(frozen=True)
class Registration:
    """A map from MSI pixel indices to level-0 slide pixels, and how far to trust it."""

    matrix: Floats
    method: str
    landmarks: int = 0
    # root mean square distance of the landmarks after the fit, on the slide and in MSI pixels
    residual_um: float = np.nan
    residual_px: float = np.nan
    # the same with each landmark left out of the fit in turn (the honest figure)
    left_out_um: float = np.nan
    left_out_px: float = np.nan
    # of an automatic registration: see `msiscale.registration.Alignment`
    confidence: float = np.nan
    z: float = np.nan
    overlap: float = np.nan
    dice: float = np.nan
    # and its distance from landmarks, or from a given matrix over the measured pixels, if given too
    error_um: float = np.nan
    error_px: float = np.nan
    deformation_px: float = np.nan  # root mean square, of one that was asked for and believed

    def record(self) -> dict[str, Any]:
        """The row of ``registration.csv``."""
        return {
            "method": self.method,
            "landmarks": self.landmarks,
            **{name: getattr(self, name) for name in (*RESIDUALS, *AUTOMATIC)},
            "mirrored": int(np.linalg.det(self.matrix) < 0),
            "matrix": self.matrix.tolist(),
        }


def read_matrix(path: str) -> Registration:
    """A registration from a JSON file: a 3x3 list of rows, or ``{"matrix": [...]}``."""
    try:
        document = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the manifest column `matrix`") from None
    if isinstance(document, dict):
        document = document.get("matrix")
    try:
        matrix = as_matrix(document)
        if np.abs(matrix).max() > FARTHEST:
            raise ValueError(f"the affine matrix has a value above {FARTHEST:g}")
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"{path}: {error}; give a 3x3 list of rows, MSI pixel -> level-0 pixel"
        ) from None
    return Registration(matrix, "matrix")


def read_landmarks(path: str) -> tuple[Floats, Floats]:
    """Landmark pairs of a CSV.

    Parameters
    ----------
    path : str
        Path or URL.

    Returns
    -------
    slide, msi : float64 (n, 2)
        (x, y) in level-0 pixels and MSI pixel indices.

    Raises
    ------
    InputError
        No such table, or not of numbers.
    """
    try:
        with open_file(path) as file:
            table = pd.read_csv(file, dtype=str, skipinitialspace=True, encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the manifest column `landmarks`") from None
    except (ValueError, OverflowError):  # pandas' own errors are ValueErrors
        raise InputError(f"{path}: not a CSV table; columns {', '.join(COLUMNS)}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first for names of rows
        raise InputError(f"{path}: rows have more values than there are columns; mend them")
    missing = [c for c in COLUMNS if c not in table.columns]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}; landmarks need {', '.join(COLUMNS)}")
    if any(f"{c}.1" in table.columns for c in COLUMNS):  # as pandas calls the second
        raise InputError(f"{path}: a column is there twice; landmarks need {', '.join(COLUMNS)}")
    cells = table[list(COLUMNS)].map(_number).to_numpy(np.float64)
    values = cells.reshape(len(table), len(COLUMNS))
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        raise InputError(f"{path}: row {bad[0] + 2} has a value that is not a number; correct it")
    far = np.flatnonzero((np.abs(values) > FARTHEST).any(axis=1))
    if far.size:
        raise InputError(f"{path}: row {far[0] + 2} lies beyond {FARTHEST:g} pixels; correct it")
    return values[:, :2], values[:, 2:]


def _number(text: object) -> float:
    """A number as a spreadsheet writes it, else NaN."""
    try:
        return float(text) if isinstance(text, str) and _PLAIN.fullmatch(text.strip()) else np.nan
    except ValueError:
        return float("nan")


def fit_landmarks(
    slide_xy: Floats,
    msi_xy: Floats,
    *,
    mpp: PixelSize,
    pixel_um: PixelSize,
    kind: Kind = "auto",
    source: str = "landmarks",
) -> Registration:
    """Least-squares map of landmark pairs.

    Parameters
    ----------
    slide_xy, msi_xy : float64 (n, 2)
        (x, y): level-0 pixels and MSI pixel indices of the same places.
    mpp, pixel_um : PixelSize
        Of the slide and the MSI; distances are measured, and the fit is made, in µm.
    kind : {'auto', 'affine', 'similarity'}
        Affine (3 pairs at least), similarity (2 at least; rotation, one scale, translation, mirror
        image allowed), or affine from 4 pairs on.
    source : str
        What an error names.

    Returns
    -------
    Registration

    Raises
    ------
    InputError
        Too few pairs, or all on one line.
    """
    n = len(slide_xy)
    if kind == "auto":
        kind = "affine" if n >= 4 else "similarity"
    least = {"affine": 3, "similarity": 2}[kind]
    if n < least:
        raise InputError(f"{source}: {n} landmark pairs; {kind} registration needs {least}")
    slide_um, msi_um = apply(mpp.scaling, slide_xy), apply(pixel_um.scaling, msi_xy)
    fit = _affine if kind == "affine" else _similarity
    if _degenerate(fit, msi_um) or _degenerate(fit, slide_um):
        raise InputError(f"{source}: the landmarks lie on one line or point; add one off the line")
    matrix_um = fit(msi_um, slide_um)
    residual = _rms(apply(matrix_um, msi_um) - slide_um)
    left_out = _leave_one_out(fit, msi_um, slide_um) if n > least else float("nan")
    size = pixel_um.side
    matrix = np.linalg.inv(mpp.scaling) @ matrix_um @ pixel_um.scaling
    found = Registration(matrix, kind, n, residual, residual / size, left_out, left_out / size)
    if found.residual_px > 1:
        warnings.warn(
            f"{source}: landmarks fit to {found.residual_um:.0f} µm = {found.residual_px:.1f} MSI "
            "pixels; look for a swapped or misplaced pair",
            MsiscaleWarning,
            stacklevel=2,
        )
    return found


def _degenerate(fit: object, xy: Floats) -> bool:
    """Whether points lie on one point, or for an affine map on one line."""
    spread = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False)
    least = 1e-9 * (1 + np.abs(xy).max())
    return bool(spread[0] < least or (fit is _affine and spread[-1] < 1e-6 * spread[0]))


def _rms(differences: Floats) -> float:
    return float(np.sqrt((differences**2).sum(axis=1).mean()))


def _affine(source: Floats, target: Floats) -> Floats:
    # scikit-image's affine estimate is a total least squares; ordinary least squares is meant
    homogeneous = np.column_stack([source, np.ones(len(source))])
    rows, *_ = np.linalg.lstsq(homogeneous, target, rcond=None)
    return np.vstack([rows.T, (0.0, 0.0, 1.0)])


def _similarity(source: Floats, target: Floats) -> Floats:
    """The better of the proper and the mirrored similarity."""
    mirror = scaling(-1.0, 1.0)
    plain = SimilarityTransform.from_estimate(source, target).params
    flipped = SimilarityTransform.from_estimate(apply(mirror, source), target).params @ mirror
    both = [np.asarray(m, dtype=np.float64) for m in (plain, flipped)]
    # two pairs fit both ways exactly: the proper one is taken
    errors = [_rms(apply(m, source) - target) for m in both]
    return both[int(errors[1] < errors[0] - 1e-6)]


def _leave_one_out(fit: object, source: Floats, target: Floats) -> float:
    assert callable(fit)
    misses = []
    for i in range(len(source)):
        keep = np.arange(len(source)) != i
        if _degenerate(fit, source[keep]) or _degenerate(fit, target[keep]):
            return float("nan")
        misses.append(apply(fit(source[keep], target[keep]), source[i : i + 1]) - target[i])
    return _rms(np.concatenate(misses))


def write_matrix(matrix: Floats) -> str:
    """Write a matrix as JSON that `read_matrix` takes.

    Parameters
    ----------
    matrix
        (3, 3) float64, MSI pixel index to level-0 pixels.

    Returns
    -------
    str
    """
    return json.dumps({"matrix": np.asarray(matrix).tolist()})
