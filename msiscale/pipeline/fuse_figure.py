"""The picture of one ion image, degraded, and restored by each method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from msiscale.fusion import Measured, nested
from msiscale.fusion.restoring import Images
from msiscale.grid import Block
from msiscale.report.drawing import draw_map, extent_um, panels, plain, png, side_bar, spread


def draw_restored(
    name: str,
    data: Measured,
    images: Images,
    methods: Sequence[str],
    *,
    factor: int,
    ion: int,
    mz: float,
    correlation: NDArray[np.float64],
    consistency: NDArray[np.float64],
    pixel_um: tuple[float, float],
) -> bytes:
    """Draw one ion: measured, degraded, and restored by each method; in the same colours.

    Memory: the maps of one ion.

    Parameters
    ----------
    name
        Of the specimen.
    data
        The specimen on the grid of its MSI.
    images
        Those that `restore` wrote, float32 (y, x, t).
    methods
        Names, in the order of `correlation`.
    factor
        Pixels of the MSI to one of the degraded image, each way.
    ion
        Index of the ion in `data` and `images`.
    mz
        The ion's m/z, for the title.
    correlation
        (methods,) float64 of restored and measured; ``nearest`` and methods with NaN are left out.
    consistency
        (methods,) float64, how far the means of parts are from the degraded pixels, in their
        standard deviations.
    pixel_um
        Size (y, x) of a pixel, µm.

    Returns
    -------
    bytes
        The PNG file.
    """
    whole = Block(0, data.shape[0], 0, data.shape[1])
    measured = np.where(data.mask, np.asarray(data.ions[:, :, ion]), np.nan)
    coarse = nested.repeat(nested.degrade(measured, factor), factor)[whole.slices]
    degraded = f"degraded {factor}x (as nearest shows it)"
    maps = [("measured", measured), (degraded, np.where(data.mask, coarse, np.nan))]
    for method, value, off in zip(methods, correlation, consistency, strict=True):
        if method != "nearest" and np.isfinite(value):
            title = f"{method}, correlation {value:.3f}, means off by {off:.3f} sd"
            maps.append((title, images.read(method, whole)[..., ion]))
    limits = (0.0, spread(measured)[1])
    figure, grid = panels(len(maps), data.shape, pixel_um, columns=4)
    for axes, (title, values) in zip(grid, maps, strict=True):
        image = draw_map(
            axes, values, data.mask, extent_um(data.shape, pixel_um), cmap="viridis", limits=limits
        )
        axes.set_title(title, fontsize=8, loc="left")
        side_bar(axes, image)
    figure.suptitle(plain(f"{name}: m/z {mz:.4f}, degraded {factor}x and restored"), fontsize=11)
    return png(figure)
