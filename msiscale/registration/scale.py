"""Whether a registration that is given agrees with the pixel sizes, and what it may mean if not.

A map from MSI indices to level-0 pixels says how many µm of the slide an MSI pixel is wide, in
every direction; the pixel sizes say it too. Where the two differ, the numbers often mean something
else than was asked for, and what they mean is found by trying it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from msiscale.grid import Floats, PixelSize, apply, scaling

MOST_SCALE = 0.08  # deviation from the pixel sizes, in any direction
WORTH_SAYING = 0.03  # the same deviation in all directions, from which on what would fit is said
LEVELS = tuple(2.0**n for n in range(1, 8))
_GRID = 33  # points on a side, for the share of the MSI that lies on the slide
_SWAP = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])


@dataclass(frozen=True)
class Sizes:
    """What the files and the manifest say of a slide and its MSI."""

    mpp: PixelSize
    pixel_um: PixelSize
    slide: tuple[int, int] | None = None  # (h, w) of level 0; None: not known
    msi: tuple[int, int] | None = None  # (y, x) of the grid

    def stretches(self, matrix: Floats) -> Floats:
        """Stated µm of the slide to a µm of the MSI, largest and least: 1 if sizes are right.

        Parameters
        ----------
        matrix
            (3, 3) float64, MSI pixel index to level-0 pixels.

        Returns
        -------
        NDArray
            (2,) float64.
        """
        linear = self.mpp.scaling @ matrix @ np.linalg.inv(self.pixel_um.scaling)
        return np.asarray(np.linalg.svd(linear[:2, :2], compute_uv=False))


def scale_error(msi_xy: Floats, residual_um: float, pixel_um: PixelSize) -> float:
    """Standard error of the stretch of an affine fit along the direction that is known least.

    Parameters
    ----------
    msi_xy
        (n, 2) float64, the landmarks in MSI indices.
    residual_um
        Root mean square of what the fit leaves over.
    pixel_um
        Of the MSI.

    Returns
    -------
    float
        0 where no landmark is left over to tell.
    """
    n = len(msi_xy)
    if n < 4:
        return 0.0
    spread = np.linalg.svd((msi_xy - msi_xy.mean(axis=0)) * pixel_um[::-1], compute_uv=False)
    of_one = residual_um * np.sqrt(n / (2 * (n - 3)))  # along one axis
    return float(of_one / spread[-1])


def contradiction(matrix: Floats, sizes: Sizes, most: float = MOST_SCALE) -> str | None:
    """What is wrong with the scale of a map, with both numbers and the likely reason.

    Parameters
    ----------
    matrix
        (3, 3) float64, MSI pixel index to level-0 pixels.
    sizes
        What is known besides.
    most
        Deviation that is allowed.

    Returns
    -------
    str or None
        None where they agree.
    """
    if _off_by(sizes, matrix) > most:
        meant = _either([words for words, other in _meanings(matrix, sizes)
                         if _off_by(sizes, other) <= most])  # fmt: skip
        return (
            f"it contradicts the pixel sizes: {_widths(matrix, sizes)};"
            f" {two_scales(sizes.mpp, sizes.mpp.side / _needed(sizes, matrix))};"
            f" {f'it is as if {meant}; ' if meant else ''}give the right one in the manifest column"
            " mpp, or the registration in level-0 pixels of the slide and indices of the MSI"
        )
    lies = _on_slide(sizes, matrix)
    exchanged = [words for words, other in _exchanges(matrix)
                 if _on_slide(sizes, other) >= 0.9 and _off_by(sizes, other) <= most]  # fmt: skip
    if lies < 0.5 and exchanged:
        return (
            f"only {lies:.0%} of the MSI lies on the slide: it is as if {_either(exchanged[:1])};"
            " give x (the column) before y (the row)"
        )
    if lies == 0:
        return (
            "nothing of the MSI lies on the slide; give the registration in level-0 pixels of the"
            " slide and indices of the MSI"
        )
    return None


def exchanged_axes(slide_xy: Floats, msi_xy: Floats, sizes: Sizes) -> str | None:
    """What is wrong with landmarks that lie off their picture but, x and y exchanged, on it.

    Parameters
    ----------
    slide_xy, msi_xy
        (n, 2) float64, level-0 pixels and MSI indices.
    sizes
        What is known besides.

    Returns
    -------
    str or None
        None where they lie on it, or would not either way.
    """
    for name, xy, shape in (("slide", slide_xy, sizes.slide), ("msi", msi_xy, sizes.msi)):
        if shape is None:
            continue
        most = np.array(shape[::-1])
        beyond = (xy > most + 1 + 0.05 * most).any(axis=1)
        if beyond.any() and not (xy > shape).any():
            return (
                f"{beyond.sum()} of {len(xy)} landmarks lie beyond the {shape[1]} x {shape[0]}"
                f" pixels of the {'slide' if name == 'slide' else 'MSI'}: it is as if {name}_x and"
                f" {name}_y were exchanged; give the column as x and the row as y"
            )
    return None


def nearly(matrix: Floats, sizes: Sizes, error: float = 0.0) -> str | None:
    """What would fit, where a map deviates from the sizes by less than is refused.

    Parameters
    ----------
    matrix
        (3, 3) float64, MSI pixel index to level-0 pixels.
    sizes
        What is stated.
    error
        Standard error of its stretches, from `scale_error`.

    Returns
    -------
    str or None
        None where the deviation is small, or no µm a pixel would mend it.
    """
    largest, least = sizes.stretches(matrix) - 1
    if min(abs(largest), abs(least)) <= WORTH_SAYING + 2 * error or largest * least < 0:
        return None
    return (
        f"{_widths(matrix, sizes)}; {_needed(sizes, matrix):.4g} µm a slide pixel would fit where"
        f" {sizes.mpp.side:.4g} are stated; look at the manifest column mpp"
    )


def _widths(matrix: Floats, sizes: Sizes) -> str:
    """How wide an MSI pixel is by the map, and by what is stated."""
    x, y = np.linalg.norm((sizes.mpp.scaling @ matrix)[:2, :2], axis=0)
    return (
        f"one MSI pixel would be {x:.3g} x {y:.3g} µm of the slide, where its size is stated as"
        f" {sizes.pixel_um.x:.3g} x {sizes.pixel_um.y:.3g}"
    )


def two_scales(mpp: PixelSize, scale: float) -> str:
    """What is stated, and what would make `scale` (stated µm of the slide to a µm of the MSI) 1."""
    return (
        f"{mpp.side:.3g} µm a slide pixel are stated, the MSI would need about"
        f" {mpp.side / scale:.3g}"
    )


def _meanings(matrix: Floats, sizes: Sizes) -> Iterator[tuple[str, Floats]]:
    """What else the numbers may mean, and the map that it would be."""
    to_um, px = sizes.mpp.scaling, sizes.pixel_um.scaling
    back, mm = np.linalg.inv(to_um), scaling(1000, 1000)
    of_slide, of_msi = "its slide coordinates were", "its MSI coordinates were"
    yield f"{of_slide} µm", back @ matrix
    yield f"{of_slide} mm", back @ mm @ matrix
    for n in LEVELS:
        yield f"{of_slide} those of a level or copy at 1/{n:g}", scaling(n, n) @ matrix
    yield f"{of_msi} µm", matrix @ px
    yield f"{of_msi} mm", matrix @ np.linalg.inv(mm) @ px
    yield "both its coordinates were µm", back @ matrix @ px
    yield "both its coordinates were mm", back @ matrix @ px
    inverse = np.linalg.inv(matrix).astype(np.float64)
    yield "it took the slide to the MSI", inverse
    yield "it took the slide to the MSI, both in µm", back @ inverse @ px
    yield "it took slide coordinates in µm to the MSI", back @ inverse
    for n in LEVELS:
        yield f"it took a copy of the slide at 1/{n:g} to the MSI", scaling(n, n) @ inverse
    yield from _exchanges(matrix)


def _exchanges(matrix: Floats) -> Iterator[tuple[str, Floats]]:
    yield "x and y of the slide were exchanged", _SWAP @ matrix
    yield "x and y of the MSI were exchanged", matrix @ _SWAP
    yield "x and y were exchanged", _SWAP @ matrix @ _SWAP


def _off_by(sizes: Sizes, matrix: Floats) -> float:
    """The deviation of its stretches from 1."""
    return float(np.abs(sizes.stretches(matrix) - 1).max())


def _needed(sizes: Sizes, matrix: Floats) -> float:
    """The µm a slide pixel that would make the mean stretch 1."""
    return sizes.mpp.side / float(np.sqrt(sizes.stretches(matrix).prod()))


def _on_slide(sizes: Sizes, matrix: Floats) -> float:
    """Share of the MSI's grid that lies on the slide; 1 where an extent is not known."""
    if sizes.slide is None or sizes.msi is None:
        return 1.0
    y, x = (np.linspace(-0.5, n - 0.5, _GRID) for n in sizes.msi)
    xy = apply(matrix, np.stack(np.meshgrid(x, y), axis=-1))
    return float(((xy >= 0) & (xy <= sizes.slide[::-1])).all(axis=-1).mean())


def _either(meanings: list[str]) -> str:
    """The first few."""
    return ", or ".join(meanings[:2])
