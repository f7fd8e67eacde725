"""Whether sizes make sense together: of a slide and its MSI, of a resolution and an encoder."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from msiscale.grid import PixelSize
from msiscale.slide.reader import Slide

if TYPE_CHECKING:  # torch takes seconds
    from msiscale.features.encoders import Encoder, Encoders

GLASS_MM = (102.0, 76.0)  # of the largest microscope slides
FINEST_UM = 0.1  # a pixel of a light microscope's picture, at the least
TOO_LARGE = 100  # times the area of the MSI
COARSER = 1.1  # times the µm per pixel that an encoder was trained at


def odd_extent(
    slide: Slide, shape: tuple[int, int], pixel_um: PixelSize, spectra: int
) -> str | None:
    """What is odd about the size of a slide beside its MSI; None if nothing is."""
    # less area than the measured pixels have cannot show them all; far more is odd only where the
    # pixel that fits would be a microscope's: a whole slide beside a biopsy is as it should be
    size = extent_mm(slide.shape, slide.mpp)
    msi = extent_mm(shape, pixel_um)
    area, msi_area = size[0] * size[1], msi[0] * msi[1]
    fit = slide.mpp.side * sqrt(msi_area / area)
    long, short = max(size), min(size)
    beside = f"its MSI of {in_mm(msi)} mm (pixels of {pixel_um.side:g} µm)"
    fitting, example = f"about {fit:.2g} µm per pixel would make it as large", fit
    if area < spectra * pixel_um.area * 1e-6:
        what = f"smaller than {beside}"
    elif long > 1.1 * GLASS_MM[0] or short > 1.1 * GLASS_MM[1]:
        most = slide.mpp.side * min(GLASS_MM[0] / long, GLASS_MM[1] / short)
        what = f"larger than any glass slide, beside {beside}"
        fitting, example = f"{most:.2g} µm per pixel or less would fit on glass", most
    elif area > TOO_LARGE * msi_area and fit >= FINEST_UM:
        what = f"{area / msi_area:.0f} times the area of {beside}"
    else:
        return None
    return (
        f"{slide.path}: at {slide.mpp.side:.3g} µm per pixel the slide is {in_mm(size)} mm, "
        f"{what}; {fitting}: correct the manifest column mpp, for example {example:.2g}, or "
        "pixel_um where the MSI has the wrong size"
    )


def extent_mm(shape: tuple[int, int], pixel: PixelSize) -> tuple[float, float]:
    """The height and width of so many pixels."""
    return shape[0] * pixel.y / 1000, shape[1] * pixel.x / 1000


def in_mm(size: tuple[float, float]) -> str:
    """A size as width x height in words."""
    return " x ".join(f"{v:.2f}" if v < 10 else f"{v:.1f}" for v in reversed(size))


def coarser_than_trained(encoder: Encoder | Encoders, mpp: float) -> list[str]:
    """A sentence for every encoder that was trained at a finer resolution than it is given."""
    return [
        f"--mpp {mpp:g} is coarser than the {one.native_mpp:g} µm per pixel that {one.id} was "
        f"trained at; --mpp {one.native_mpp:g} matches its training"
        for one in encoder.each
        if one.native_mpp is not None and mpp > COARSER * one.native_mpp
    ]
