"""The share of every MSI pixel that is cancer, from annotated outlines.

What an annotation does not say is NaN, and only where it says that there is no cancer it is 0: a
file in which nothing counts makes no negative slide.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from msiscale.errors import NOTE, InputError, MsiscaleWarning
from msiscale.grid import Block, PixelSize, apply, as_matrix, blocks
from msiscale.placing import Placing, affine_of
from msiscale.slide.classes import roles
from msiscale.slide.outlines import Outline, polygonal
from msiscale.slide.pixel_shapes import Shapes

LEAF = 16  # pixels on a side of the squares whose overlaps are computed at once
_NAMED = 8  # classes that a line names


@dataclass(frozen=True, eq=False)
class Labels:
    """The annotated share of every pixel, NaN where it is unknown, and what was assumed."""

    fraction: NDArray[np.float32]
    texts: tuple[str, ...] = ()


def label_fraction(
    outlines: Sequence[Outline],
    matrix: Placing,
    shape: tuple[int, int],
    *,
    cancer: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Fraction of each MSI pixel that is cancer.

    The exact overlap of polygons with the pixels' quadrilaterals, of the part of the pixel that is
    not excluded. Benign outlines inside one of cancer are cut out of it. Outlines without a class
    beside classed ones are areas of interest, outside of which nothing is known. `labels` gives
    what was assumed as text; here it is warned of.

    Parameters
    ----------
    outlines : sequence of Outline
        From `read_annotation`.
    matrix : (3, 3) float64, or GridMap
        MSI pixel index to level-0 slide pixel.
    shape : (ny, nx)
        The MSI grid.
    cancer : sequence of str, optional
        Class names that are cancer, case ignored, ``*`` a wildcard; default the usual names
        (`classes.CANCER`), and outlines where none has a class.
    exclude : sequence of str, optional
        Class names to leave unknown; default `classes.EXCLUDE`.

    Returns
    -------
    float32 (ny, nx)
        0 to 1; NaN where what is excluded or unknown covers more than half of the pixel, and
        everywhere if no outline counts.

    Raises
    ------
    InputError
        No class among the outlines is known to be cancer or not.
    """
    try:
        found = labels(outlines, matrix, shape, cancer=cancer, exclude=exclude)
    except InputError as error:
        raise InputError(f"annotation: {error}") from None
    for text in found.texts:
        warnings.warn(f"annotation: {text}", MsiscaleWarning, stacklevel=2)
    return found.fraction


def labels(
    outlines: Sequence[Outline],
    matrix: Placing,
    shape: tuple[int, int],
    *,
    cancer: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    mpp: PixelSize | None = None,
) -> Labels:
    """The fraction of `label_fraction` with what was assumed.

    Parameters
    ----------
    outlines, matrix, shape, cancer, exclude
        As those of `label_fraction`.
    mpp : PixelSize, optional
        µm per level-0 pixel; areas are then told in mm².

    Returns
    -------
    Labels
    """
    by: dict[str, list[Outline]] = {}
    for one, role in zip(outlines, roles(outlines, cancer, exclude), strict=True):
        by.setdefault(role, []).append(one)
    scope, texts = _scope(by, cancer, mpp)
    if scope is not None and not scope:
        return Labels(np.full(shape, np.nan, np.float32), texts)
    to_index = np.asarray(np.linalg.inv(as_matrix(affine_of(matrix))), dtype=np.float64)
    pixels = Shapes(matrix)
    left_out = _union([*by.get("unknown", []), *by.get("unclassified", [])], to_index)
    if scope is None:
        out_area = _overlap(left_out, shape, pixels)
    else:
        inside = shapely.difference(_union(scope, to_index), left_out)
        out_area = np.clip(1 - _overlap(polygonal(inside), shape, pixels), 0, 1)
    chosen, benign = (_union(by.get(kind, []), to_index) for kind in ("cancer", "not cancer"))
    tumour = polygonal(shapely.difference(chosen, benign))
    area = _overlap(polygonal(shapely.difference(tumour, left_out)), shape, pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(out_area > 0.5, np.nan, area / (1 - out_area))
    return Labels(np.clip(fraction, 0, 1).astype(np.float32), texts)


def _scope(
    by: dict[str, list[Outline]], cancer: Sequence[str] | None, mpp: PixelSize | None
) -> tuple[list[Outline] | None, tuple[str, ...]]:
    """In which outlines something is known, None for everywhere, and what to say of it."""
    chosen, benign, tissue = (by.get(k, []) for k in ("cancer", "not cancer", "other tissue"))
    foreign, frames = by.get("not known", []), by.get("area of interest", [])
    texts = []
    if by.get("unclassified"):
        areas = _areas(by["unclassified"], mpp)
        texts.append(
            f"{areas}, beside classed ones, hold no classed one; what they mean is not clear, so"
            " cancer is unknown in them: give them a class"
        )
    whole = [*frames, *chosen, *benign, *tissue] if frames else None
    if not chosen:
        found = ", ".join(sorted({one.name for some in by.values() for one in some if one.name}))
        if foreign and cancer is None:
            raise InputError(
                f"none of its classes ({found}) is known as cancer;"
                " name those that are with --cancer-class"
            )
        if not (benign or tissue):
            if found or frames:
                wanted = "known as cancer" if cancer is None else f"among {', '.join(cancer)}"
                texts.append(
                    f"none of its classes ({found}) is {wanted}, and none says that there is no"
                    " cancer; the specimen counts as one without an annotation: name the classes"
                    " that are cancer with --cancer-class"
                )
            return [], tuple(texts)
        if benign:
            where = "in the areas of interest" if frames else "on the slide"
            texts.append(
                f"{NOTE}no outline is cancer, and {_areas(benign, mpp)} is known not to be; so"
                f" there is none {where}"
            )
        else:
            texts.append(
                f"no outline is cancer, and {_areas(tissue, mpp)} does not say that none is"
                " elsewhere; cancer is 0 in them and unknown elsewhere: outline a slide without"
                " cancer as Normal or Benign"
            )
            whole = tissue
    if frames and whole is not tissue:
        texts.append(
            f"{_areas(frames, mpp)}, beside classed ones, are areas of interest; cancer is unknown"
            " outside of them, and what is not classed in them is not cancer"
        )
    if foreign:
        mild = "" if cancer is None else NOTE  # who names the classes of cancer means no other
        texts.append(
            f"{mild}the classes {_areas(foreign, mpp)} are not known and count as not cancer; name"
            " those that are with --cancer-class, and those to leave out with --exclude-class"
        )
    if chosen and (benign or tissue):
        texts.append(f"{NOTE}{_areas([*benign, *tissue], mpp)} counts as not cancer")
    return whole, tuple(texts)


def _areas(outlines: Sequence[Outline], mpp: PixelSize | None) -> str:
    """Classes, each with its area; of outlines without one their number."""
    of: dict[str, list[float]] = {}
    for one in outlines:
        of.setdefault(one.name or "", []).append(one.polygon.area)
    unit, scale = ("px²", 1.0) if mpp is None else ("mm²", mpp.area * 1e-6)
    told = []
    for name, areas in of.items():
        called = name or f"{len(areas)} outline(s) without a class"
        told.append(f"{called} ({sum(areas) * scale:.3g} {unit})")
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    return ", ".join(told[:_NAMED]) + more


def _union(outlines: Iterable[Outline], to_index: NDArray[np.float64]) -> BaseGeometry:
    """The areas together, in MSI index coordinates."""
    area = shapely.union_all([one.polygon for one in outlines])
    return polygonal(shapely.transform(area, lambda xy: apply(to_index, xy)))


def _overlap(geometry: BaseGeometry, shape: tuple[int, int], pixels: Shapes) -> NDArray[np.float64]:
    """Share of `geometry`, in MSI index coordinates, in each pixel (1 where it is all covered)."""
    out = np.zeros(shape)
    _fill(out, geometry, Block(0, shape[0], 0, shape[1]), pixels)
    return out


def _fill(out: NDArray[np.float64], geometry: BaseGeometry, block: Block, pixels: Shapes) -> None:
    """Overlaps of `block`, halving it until it is covered, empty or small."""
    h, w = block.shape
    box = pixels.outline(block)
    part = polygonal(shapely.intersection(geometry, box))
    if part.is_empty:
        return
    if part.area >= box.area * (1 - 1e-12):
        out[block.slices] = 1
    elif max(h, w) <= LEAF:
        out[block.slices] = pixels.shares(part, block)
    else:
        size = (-(-h // 2), w) if h >= w else (h, -(-w // 2))
        for half in blocks((h, w), size):
            y0, x0 = block.y0, block.x0
            _fill(out, part, Block(half.y0 + y0, half.y1 + y0, half.x0 + x0, half.x1 + x0), pixels)
