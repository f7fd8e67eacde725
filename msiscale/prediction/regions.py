"""Predicted cancer as regions: outlines in level-0 pixels, and what can be said of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours

from msiscale.grid import Block, PixelSize
from msiscale.placing import Placing, places
from msiscale.slide.annotations import write_geojson
from msiscale.slide.outlines import Outline, polygonal

Mask = NDArray[np.bool_]
Float32 = NDArray[np.float32]

PREDICTED = "Tumor: Predicted"  # what QuPath shows as a kind of Tumor, apart from the annotated
SECONDARY = "Tumor: Secondary"
COLOURS = {PREDICTED: (230, 159, 0), SECONDARY: (204, 121, 167)}
STRAIGHTER = 0.25  # pixels that a simplified outline may be off


@dataclass(frozen=True)
class Found:
    """One connected region of pixels.

    Attributes
    ----------
    block : Block
        Its pixels' bounding rectangle.
    mask : bool, of the shape of `block`
    polygon : Polygon or MultiPolygon in level-0 pixels
    area_um2 : float, of its pixels
    values : dict of what was measured over its pixels (means)
    """

    block: Block
    mask: Mask
    polygon: BaseGeometry
    area_um2: float
    values: dict[str, float] = field(default_factory=dict)

    def centroid(self, placing: Placing) -> tuple[float, float]:
        """Find the mean position of its pixels.

        Parameters
        ----------
        placing
            (3, 3) float64, pixel index to level-0 pixels.

        Returns
        -------
        tuple of float
            (x, y) in level-0 pixels.
        """
        y, x = np.nonzero(self.mask)
        x0, y0 = places(placing, [x.mean() + self.block.x0, y.mean() + self.block.y0])
        return float(x0), float(y0)


def consensus(maps: Mapping[str, Float32]) -> Float32:
    """Average the predictors' probabilities.

    Parameters
    ----------
    maps
        (y, x) float32 probabilities by predictor, NaN where there are none.

    Returns
    -------
    numpy.ndarray
        (y, x) float32; NaN where one of them is.
    """
    return np.asarray(np.mean(list(maps.values()), axis=0), dtype=np.float32)


def find_regions(
    mask: Mask,
    placing: Placing,
    pixel_um: PixelSize,
    measures: Mapping[str, Float32],
    *,
    least_um2: float,
) -> list[Found]:
    """Find the connected regions of a mask.

    Parameters
    ----------
    mask : (y, x) bool
        Pixels that touch by a side are of one region.
    placing : (3, 3) float64, or GridMap
        Pixel index to level-0 pixels.
    pixel_um : PixelSize
        Of the mask.
    measures : mapping of str to (y, x) float32
        Maps to be averaged over a region's pixels, by name.
    least_um2 : float
        Smaller regions are left out.

    Returns
    -------
    list of Found
        The largest first.
    """
    labels, _ = ndimage.label(mask)
    found = []
    for i, part in enumerate(ndimage.find_objects(labels), start=1):
        own = labels[part] == i
        area = float(own.sum()) * pixel_um.y * pixel_um.x
        if area < least_um2:
            continue
        block = Block(part[0].start, part[0].stop, part[1].start, part[1].stop)
        values = {
            name: float(np.mean(values[part][own], dtype=np.float64))
            for name, values in measures.items()
        }
        found.append(Found(block, own, outline(own, block, placing), area, values))
    # equal ones as in the raster, whatever the sort
    return sorted(found, key=lambda f: (-f.area_um2, f.block.y0, f.block.x0))


def outline(own: Mask, block: Block, placing: Placing) -> BaseGeometry:
    """Outline one connected region by marching squares half way between pixel centres [1]_.

    The outline is then simplified by less than half a pixel (Douglas and Peucker): a pixel of the
    mask is covered by half or more, any other by less.

    Parameters
    ----------
    own : (h, w) bool
        The region's pixels in `block`.
    block : Block
        Their bounding rectangle.
    placing : (3, 3) float64, or GridMap
        Pixel index to level-0 pixels.

    Returns
    -------
    Polygon or MultiPolygon
        With its holes, in level-0 pixels.

    .. [1] W. Lorensen and H. Cline, "Marching cubes", SIGGRAPH Comput. Graph. 21 (1987) 163-169.
    """
    rings = [
        shapely.Polygon(line[:, ::-1] - 1)
        for line in find_contours(np.pad(own, 1).astype(float), 0.5, fully_connected="low")
    ]
    rings.sort(key=lambda ring: ring.area, reverse=True)
    whole = shapely.Polygon(rings[0].exterior, [ring.exterior for ring in rings[1:]])
    straighter = polygonal(whole.simplify(STRAIGHTER, preserve_topology=True))
    corner = np.array([block.x0, block.y0])
    return polygonal(shapely.transform(straighter, lambda xy: places(placing, xy + corner)))


def write_regions(
    url: str,
    found: Mapping[str, Sequence[tuple[str, Found]]],
    origin: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write the named regions of each class, with their measurements, as GeoJSON for QuPath.

    Parameters
    ----------
    url : str
        Path or URL.
    found : mapping of str to sequence of (str, Found)
        By class, with the name of each.
    origin : (float, float), optional
        (x, y) in level-0 pixels that QuPath counts from on this slide.
    """
    regions, properties = [], []
    for kind, named in found.items():
        for name, region in named:
            regions.append(Outline(region.polygon, kind))
            properties.append(
                {
                    "name": name,
                    "classification": {"name": kind, "color": list(COLOURS[kind])},
                    "measurements": dict(_measurements(region)),
                }
            )
    write_geojson(url, regions, properties=properties, origin=origin)


def _measurements(region: Found) -> Iterator[tuple[str, Any]]:
    """Numbers only: JSON has no NaN."""
    yield "Area µm^2", round(region.area_um2, 3)
    for name, value in region.values.items():
        if np.isfinite(value):
            yield name, round(value, 6)
