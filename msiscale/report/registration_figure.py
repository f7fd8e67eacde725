"""How an automatic registration came about: the slide, what agrees, and every start."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from msiscale.grid import Floats, PixelSize, apply
from msiscale.registration import Alignment, Deformation, Pair
from msiscale.registration.refine import variates
from msiscale.report.drawing import BLUE, GREEN, INK, ORANGE, VERMILION, plain, png, spread

_MOST = 900  # slide pixels on a side that are drawn
_ARROWS = 14  # on the longer side


def placement_figure(
    name: str,
    found: Alignment,
    rgb: NDArray[np.uint8],
    slide_um: PixelSize,
    deformation: Deformation | None = None,
    *,
    by_hand: bool = False,
) -> bytes:
    """PNG of an automatic registration, believed or refused.

    Parameters
    ----------
    name
        Of the specimen.
    found
        What was found.
    rgb
        (h, w, 3) uint8, the slide picture.
    slide_um
        (y, x) µm a pixel of it.
    deformation
        What the affine map leaves over, drawn as arrows.
    by_hand
        Whether it is taken although it was refused.

    Returns
    -------
    bytes
        Of the file.
    """
    pair, matrix = found.pair, found.pose.matrix
    figure = Figure(figsize=(11.5, 10), layout="constrained")
    (slide, starts), (msi, seen) = figure.subplots(2, 2)
    of_msi, of_slide = variates(pair, matrix)
    under = Pair(pair.msi, pair.slide.channels(of_slide[..., None])).slide_under(matrix)[..., 0]
    _slide(slide, pair, matrix, rgb, slide_um, of_msi)
    _starts(starts, found)
    for axes, values, title in (
        (msi, of_msi, "MSI: the mixture of TIC and modes that agrees best"),
        (seen, under, "slide under it: the mixture of stains and texture"),
    ):
        low, high = spread(values, low=2, high=98)
        axes.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
        if np.isfinite(under).any():
            axes.contour(
                np.where(np.isfinite(under), under, np.nanmin(under)),
                [float(np.nanmedian(under))],
                colors=[ORANGE],
                linewidths=0.8,
            )
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("MSI column", fontsize=8)
        axes.set_ylabel("MSI row", fontsize=8)
        axes.tick_params(labelsize=7)
    if deformation is not None:
        _arrows(msi, deformation, pair)
    verdict = "accepted" if found.accepted else f"REFUSED: {'; '.join(found.why)}"
    if by_hand:
        verdict = f"accepted by hand, though {'; '.join(found.why)}"
    figure.suptitle(
        plain(
            f"{name}: automatic registration {verdict}\n"
            f"confidence {found.confidence:.2f}, z {found.z:.1f}, overlap {found.overlap:.0%}, "
            f"Dice {found.dice:.2f}, correlation {found.correlation:.2f}"
            f"{', mirror image' if found.mirrored else ''}"
        ),
        fontsize=10,
        color=INK if found.accepted else VERMILION,
        wrap=True,
    )
    return png(figure)


def _slide(
    axes: Axes,
    pair: Pair,
    matrix: Floats,
    rgb: NDArray[np.uint8],
    slide_um: PixelSize,
    of_msi: Floats,
) -> None:
    """The slide with the MSI's frame before and after, and contours of what the MSI shows."""
    h, w = rgb.shape[:2]
    dy, dx = slide_um
    extent = (-dx / 2, (w - 0.5) * dx, (h - 0.5) * dy, -dy / 2)
    step = max(1, -(-max(h, w) // _MOST))
    axes.imshow(rgb[::step, ::step], extent=extent)
    ring = [[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]
    frame = pair.middle + pair.corner * np.array(ring)
    before = frame - pair.middle + [(extent[0] + extent[1]) / 2, (extent[2] + extent[3]) / 2]
    after = apply(matrix, frame)
    axes.plot(*before.T, color=INK, ls="dashed", lw=1.0, label="MSI before: centre on centre")
    axes.plot(*after.T, color=BLUE, lw=1.6, label="MSI after")
    axes.plot(*after[0], "o", color=BLUE, ms=6, label="its first pixel")
    y, x = np.indices(of_msi.shape)
    points = apply(matrix @ pair.msi.to_um, np.stack([x, y], axis=-1))
    levels = np.unique(np.nanpercentile(of_msi, [30, 60, 85]))
    values = np.ma.masked_invalid(of_msi)
    axes.contour(
        points[..., 0],
        points[..., 1],
        values,
        levels,
        colors=[GREEN],
        linewidths=0.8,
        linestyles="solid",
    )
    axes.plot([], [], color=GREEN, lw=0.8, label="contours of the MSI below")
    axes.set_aspect("equal")
    axes.set_xlabel("slide x (µm)", fontsize=8)
    axes.set_ylabel("slide y (µm)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    axes.set_title("slide", fontsize=9, loc="left")


def _starts(axes: Axes, found: Alignment) -> None:
    """The best score of every rotation of both mirror images, and what was refined."""
    for mirrored, colour, label in ((False, BLUE, "as it is"), (True, ORANGE, "mirror image")):
        best: dict[float, float] = {}
        for start in found.starts:
            if start.mirrored == mirrored:
                best[start.degrees] = max(best.get(start.degrees, 0.0), start.score)
        degrees = sorted(best)
        axes.plot(degrees, [best[d] for d in degrees], color=colour, lw=1.0, label=label)
        refined = [p for p in (found.judged, *found.rivals) if p.mirrored == mirrored]
        angles = [_degrees(p.matrix) for p in refined]
        scores = [p.score for p in refined]
        axes.plot(angles, scores, "o", color=colour, ms=5, label=f"{label}, refined")
    axes.plot(_degrees(found.judged.matrix), found.judged.score, "o", mfc="none", mec=INK, ms=12)
    axes.set_xlim(0, 360)
    axes.set_ylim(0, None)
    axes.set_xlabel("rotation (degrees)", fontsize=8)
    axes.set_ylabel("agreement (nats)", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, framealpha=0.8)
    axes.set_title(
        "best translation of every start; circled: the one taken", fontsize=9, loc="left"
    )


def _degrees(matrix: Floats) -> float:
    """Rotation of a map after the flip of x that a mirror image has."""
    sign = -1.0 if np.linalg.det(matrix) < 0 else 1.0
    c = sign * matrix[0, 0] + matrix[1, 1]
    s = sign * matrix[1, 0] - matrix[0, 1]
    return float(np.rad2deg(np.arctan2(s, c)) % 360)


def _arrows(axes: Axes, found: Deformation, pair: Pair) -> None:
    step = max(1, max(found.field.shape[:2]) // _ARROWS)
    y, x = (np.indices(found.field.shape[:2])[k][::step, ::step] for k in range(2))
    shift = found.field[::step, ::step] / pair.side
    keep = pair.msi.counts[::step, ::step]
    axes.quiver(
        x[keep],
        y[keep],
        shift[keep][:, 0],
        shift[keep][:, 1],
        angles="xy",
        scale_units="xy",
        scale=0.5,
        color=VERMILION,
        width=0.004,
    )
    word = "kept" if found.accepted else "not kept"
    axes.set_title(
        f"MSI; deformation left over ({word}), arrows twice its length", fontsize=9, loc="left"
    )
