"""The grid of a prediction, down to the features' own cells, and means over coarser ones."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from msiscale.errors import InputError
from msiscale.features.extract import UNIT
from msiscale.grid import Floats, as_matrix, scaling, translation
from msiscale.regridding import regrid
from msiscale.slide.reader import Slide

AS_FINE = 0.97  # of a cell: a slide's level may be that much finer than the resolution asked for
Float32 = NDArray[np.float32]


def grid_of(slide: Slide, pixel_um: float) -> tuple[tuple[int, int], Floats]:
    """Shape and matrix (pixel index -> level 0) of a grid that covers the whole slide."""
    step_y, step_x = pixel_um / slide.mpp[0], pixel_um / slide.mpp[1]
    shape = int(np.ceil(slide.shape[0] / step_y)), int(np.ceil(slide.shape[1] / step_x))
    return shape, scaling(step_x, step_y) @ translation(0.5, 0.5)


def check_pixel(pixel_um: float | None, stride: int, mpp: float, trained_um: float) -> None:
    """Refuse a grid finer than the features, which have one value a cell of the network.

    Raises
    ------
    InputError
        `pixel_um` is not a positive number, or less than ``stride * mpp`` and than the MSI pixel
        of the training.
    """
    if pixel_um is None:
        return
    if not 0 < pixel_um < float("inf"):
        raise InputError(f"--pixel-um {pixel_um}: give a positive number of micrometres")
    cell = stride * mpp
    if pixel_um < AS_FINE * min(cell, trained_um):
        raise InputError(
            f"--pixel-um {pixel_um:g}: the features have one value every {cell:g} µm ({stride} px "
            f"of {mpp:g} µm), so a finer map would be invented; give {cell:g} or more"
        )


def group_means(
    features: Float32, coverage: Float32, pixel_um: float, trained_um: float
) -> Float32:
    """Features as coarse as those of the training, where the grid is finer.

    A cell of the network scatters more than the mean over an MSI pixel, and would pass for unlike
    anything in the training. So pixels are averaged, by coverage, in groups of about one MSI pixel,
    which share out each unit of 64 x 64 pixels evenly and hence do not depend on the blocking.

    Parameters
    ----------
    features : (h, w, channels) float32
        Of whole units, NaN where there are none.
    coverage : (h, w) float32
        Share of each pixel on the slide.
    pixel_um, trained_um : float
        Side of a pixel of the grid, and of the MSI of the training, µm.

    Returns
    -------
    (h, w, channels) float32
        Each pixel has its group's mean; NaN where `features` is.
    """
    groups = max(1, round(UNIT * pixel_um / trained_um))  # on a side of a unit
    if groups >= UNIT:
        return features
    shape = features.shape[:2]
    weight = np.where(np.isfinite(features[..., 0]), coverage, 0)[..., None]
    values = np.where(weight > 0, features, 0) * weight
    own = [np.arange(n) // UNIT * groups + np.arange(n) % UNIT * groups // UNIT for n in shape]
    for axis, group in enumerate(own):
        first = np.flatnonzero(np.diff(group, prepend=-1))
        values = np.add.reduceat(values, first, axis=axis)
        weight = np.add.reduceat(weight, first, axis=axis)
    with np.errstate(invalid="ignore"):
        means = values / weight
    found = means[own[0][:, None], own[1][None, :]]
    return np.where(np.isfinite(features[..., :1]), found, np.float32(np.nan))


def onto_grid(data: xr.Dataset, name: str, matrix: ArrayLike, shape: tuple[int, int]) -> Float32:
    """A linear prediction averaged onto another grid, such as that of an MSI.

    By area and by the share of each pixel on the slide, over what was predicted. For
    ``predicted_scores`` and the log-odds, which are linear in the features, this is what the
    features of the coarser pixel would have given, where all of it was predicted. By a model with
    Fourier features (``--head rff:N``) it is the mean of the predictions, which is not the same.

    Parameters
    ----------
    data
        A slide of ``predictions.zarr`` that `msiscale predict` wrote.
    name
        ``predicted_scores``, ``cancer_from_he_log_odds``, …; of a probability the mean is not the
        prediction of the mean.
    matrix : (3, 3)
        Pixel index of the other grid to level-0 pixels.
    shape : (int, int)
        Pixels (ny, nx) of the other grid.

    Returns
    -------
    (ny, nx, …) float32
        NaN where nothing was predicted.
    """
    own = as_matrix(data.attrs["matrix"])
    to_cells = translation(0.5, 0.5) @ np.linalg.inv(own) @ as_matrix(matrix)
    values = np.asarray(data[name].values, dtype=np.float64)
    known = np.isfinite(values if values.ndim == 2 else values[..., 0])
    weight = np.where(known, data["coverage"].values, 0).astype(np.float64)
    flat = np.where(known[..., None], values.reshape(*known.shape, -1), 0) * weight[..., None]
    both = regrid(np.concatenate([flat, weight[..., None]], axis=-1), to_cells, shape)
    total = both["values"].values
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(total[..., -1:] > 0, total[..., :-1] / total[..., -1:], np.nan)
    return found.reshape(*shape, *values.shape[2:]).astype(np.float32)
