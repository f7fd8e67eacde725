"""What drawn lines enclose: a mask of what was drawn becomes areas.

A line is widened until it closes, so that gaps and dashes do not matter up to a share of the
outline; its area ends in the middle of the line. One that the border of the picture cuts off is
closed along the border. What was painted all over ends at its edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from skimage.measure import find_contours
from skimage.morphology import skeletonize

from msiscale.slide.outlines import polygonal, ring

Mask = NDArray[np.bool_]
Place = tuple[int, int]

SPECK = 0.015  # of the picture's diagonal; what is shorter was not drawn
OPEN_LINE = 0.03  # of the diagonal; a line as long as this that encloses nothing is told
GAP = 0.004  # of the diagonal; gaps up to this are closed in any outline
GAP_SHARE = 1 / 30  # of the outline's length: longer gaps are closed up to this
WIDEST = 0.02  # of the diagonal, half of the longest gap that is closed
LEAST_INSIDE = 0.1  # of its convex hull, that an outline encloses
LOOSE = 0.25  # of the hull's circumference, that may hang on an outline: a leader, an arrow
SOLID = 0.6  # of what is enclosed is drawn: painted all over, with holes
BENT = 0.27  # of the square on its extent, that the hull of an unclosed outline covers
SEEN = 0.3  # of its circumference, that is seen of an outline which cannot be followed
EIGHT = np.ones((3, 3), bool)


@dataclass
class Enclosed:
    """What was found, in pixels of the mask; places are (y, x)."""

    areas: list[BaseGeometry] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)  # in the line of each area
    strokes: int = 0  # that enclose nothing
    unclosed: list[Place] = field(default_factory=list)  # in lines that were meant to
    undecided: list[Place] = field(default_factory=list)  # in lines from border to border


def enclosed(drawn: Mask) -> Enclosed:
    """Find what is enclosed.

    Parameters
    ----------
    drawn
        (h, w), of the whole picture.

    Returns
    -------
    Enclosed
    """
    found = Enclosed()
    diagonal = float(np.hypot(*drawn.shape))
    gap = max(1.0, GAP * diagonal / 2)
    wider = (gap * 1.5**k for k in range(1, 20))
    widths = [1.0, gap, *(width for width in wider if width <= WIDEST * diagonal)]
    left = drawn.copy()
    # those on which much hangs loose come last: the loose part may be an outline with a wider gap
    away = ndimage.distance_transform_edt(~left)
    for width, loose in [*((w, LOOSE) for w in widths), (1.0, np.inf), (gap, np.inf)]:
        before = len(found.areas) + len(found.undecided)
        for line in _lines(left, width, away):
            if line.extent < SPECK * diagonal:
                continue
            at = line.bounded(gap, loose)
            if at is not None:
                found.areas.append(line.area(at))
                found.places.append(line.place)
                left[line.window] &= ~(line.drawn & (line.near(at) | line.solid(gap)))
            elif line.undecided and line.width == widths[-1]:
                found.undecided.append(line.place)
                left[line.window] &= ~line.drawn
        if len(found.areas) + len(found.undecided) > before:
            away = ndimage.distance_transform_edt(~left)
    for group in _lines(left, 2 * WIDEST * diagonal):
        lines = [line for line in _lines(group.drawn, gap) if line.extent > SPECK * diagonal]
        if group.extent > 2 * OPEN_LINE * diagonal and group.bent(lines):
            found.unclosed.append(group.place)
        else:
            found.strokes += sum(line.extent > OPEN_LINE * diagonal for line in lines)
    return found


@dataclass(frozen=True)
class _Line:
    """What hangs together once it is widened, in a window of the picture a pixel larger."""

    window: tuple[slice, slice]
    drawn: Mask
    wide: Mask
    width: float  # by which it was widened on each side
    shape: tuple[int, int]  # of the picture

    @property
    def place(self) -> Place:
        """A pixel of the line, where it is thickest."""
        depth = ndimage.distance_transform_edt(np.pad(self.drawn, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
        return int(y) + self.window[0].start, int(x) + self.window[1].start

    @property
    def extent(self) -> float:
        """Diagonal of the box around it, pixels."""
        y, x = np.nonzero(self.drawn)
        return float(np.hypot(np.ptp(y), np.ptp(x)))

    @property
    def thick(self) -> float:
        """Half of the line's width where it is thickest."""
        return float(ndimage.distance_transform_edt(np.pad(self.drawn, 1)).max())

    @property
    def hull(self) -> BaseGeometry:
        """Convex hull of its pixels."""
        rim = self.drawn & ~ndimage.binary_erosion(self.drawn)
        return shapely.MultiPoint(np.argwhere(rim)).convex_hull.buffer(0.5)

    @property
    def at_border(self) -> tuple[bool, bool, bool, bool]:
        """Whether it reaches the picture's top, bottom, left, right."""
        (rows, columns), (h, w) = self.window, self.shape
        return (
            rows.start == 0 and bool(self.wide[0].any()),
            rows.stop == h and bool(self.wide[-1].any()),
            columns.start == 0 and bool(self.wide[:, 0].any()),
            columns.stop == w and bool(self.wide[:, -1].any()),
        )

    def parts(self) -> tuple[Mask, int]:
        """What lies inside, and into how many parts the rest of the picture falls."""
        labels, n = ndimage.label(~self.wide)
        (rows, columns), (h, w) = self.window, self.shape
        outer = np.zeros(n + 1, bool)  # parts that go on beyond the window
        for beyond, edge in (
            (rows.start > 0, labels[0]),
            (rows.stop < h, labels[-1]),
            (columns.start > 0, labels[:, 0]),
            (columns.stop < w, labels[:, -1]),
        ):
            if beyond:
                outer[edge] = True
        outer[0] = False
        if not outer.any() and n:  # the window is the picture
            sizes = np.bincount(labels.ravel())
            sizes[0] = 0
            outer[int(np.argmax(sizes))] = True
        top, bottom, left, right = self.at_border
        across = (top and bottom) or (left and right)
        return (labels > 0) & ~outer[labels], int(outer.sum()) if across else 1

    @property
    def undecided(self) -> bool:
        """Whether it parts the picture from border to opposite border: no side is inside."""
        return self.parts()[1] > 1

    def solid(self, gap: float) -> bool:
        """Whether it is an area painted all over."""
        thick = float(ndimage.distance_transform_edt(np.pad(self.wide, 1)).max()) - self.width
        return thick > max(2 * gap, 4.0) and int(np.count_nonzero(self.drawn)) < 40 * thick**2

    def bounded(self, gap: float, loose: float) -> NDArray[np.float32] | None:
        """A field that is positive in the area which the line bounds; None where there is none."""
        inside, sides = self.parts()
        if sides > 1:
            return None
        deep = float(ndimage.distance_transform_edt(np.pad(inside, 1)).max())
        thick, hull = self.thick, self.hull
        n, m = np.count_nonzero(self.drawn), np.count_nonzero(inside)
        if self.solid(gap) and (deep < thick or n > SOLID * (n + m)):
            if self.width < gap:
                return None  # pieces of it may be missing still
            edge = ndimage.distance_transform_edt(self.wide | inside)
            return np.asarray(edge - (self.width + 0.5), np.float32)
        if m < LEAST_INSIDE * hull.area or deep < 2.5:
            return None
        if self.width > gap and 2 * self.width > GAP_SHARE * hull.length:
            return None
        outside = ~(self.wide | inside)
        if not outside.any():
            return None
        towards = ndimage.distance_transform_edt(~inside)
        hanging = self.drawn & (towards > 2 * (self.width + thick) + 2)
        if np.count_nonzero(hanging) > loose * hull.length * max(2 * thick - 1, 1):
            return None
        return np.asarray(ndimage.distance_transform_edt(~outside) - towards, np.float32)

    def near(self, at: NDArray[np.float32]) -> Mask:
        """What is not far outside of the area."""
        reach = 2 * (self.width + self.thick) + 2
        return np.asarray(ndimage.distance_transform_edt(at <= 0) <= reach)

    @property
    def length(self) -> int:
        """The length of the middle of the line in pixels."""
        return int(np.count_nonzero(skeletonize(self.wide)))

    def bent(self, lines: list[_Line]) -> bool:
        """Whether its lines go around something, though they do not close."""
        hull, length = self.hull, sum(line.length for line in lines)
        least = 1.6 * self.extent if len(lines) == 1 else SEEN * hull.length
        return hull.area > BENT * self.extent**2 and length > least

    def area(self, at: NDArray[np.float32]) -> BaseGeometry:
        """Area where the field is positive, in the picture's pixels (x, y)."""
        rows, columns = self.window
        contours: Any = find_contours  # without types
        padded = np.pad(np.pad(at, 2, mode="edge"), 1, constant_values=-1.0)
        # the centre of the first padded pixel is two and a half pixels outside of the corner
        rings = [
            ring([(x - 2.5 + columns.start, y - 2.5 + rows.start) for y, x in line])
            for line in contours(padded, 0.0)
        ]
        area = shapely.simplify(shapely.union_all(rings), 0.2)
        return polygonal(area.intersection(shapely.box(0, 0, self.shape[1], self.shape[0])))


def _lines(drawn: Mask, width: float, away: NDArray[np.float64] | None = None) -> Iterator[_Line]:
    """What hangs together once it is widened; `away` is the distance from what is drawn."""
    if not drawn.any():
        return
    away = ndimage.distance_transform_edt(~drawn) if away is None else away
    wide, n = ndimage.label(away <= width, EIGHT)
    for index, found in enumerate(ndimage.find_objects(wide, n), start=1):
        rows, columns = (
            slice(max(0, s.start - 1), min(size, s.stop + 1))
            for s, size in zip(found, drawn.shape, strict=True)
        )
        own = wide[rows, columns] == index
        yield _Line((rows, columns), own & drawn[rows, columns], own, width, drawn.shape)
