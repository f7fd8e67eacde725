"""The share of every MSI pixel that is cancer, from annotated outlines."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.grid import Block, apply, as_matrix, blocks
from msiscale.placing import Placing, affine_of
from msiscale.slide.outlines import Outline, polygonal
from msiscale.slide.pixel_shapes import Shapes

# Class names, without regard to case; * stands for anything. "_0", "_1", "_2" are Camelyon's.
CANCER = (
    *("tumor", "tumour", "tumors", "tumours", "cancer", "pca", "lesion", "malignant", "malignancy"),
    *("carcinoma", "adenocarcinoma", "prostate cancer", "metastas[ei]s", "gleason*", "_0", "_1"),
)
EXCLUDE = ("exclude*", "ignore*", "artifact*", "artefact*", "unknown", "uncertain")
# Healthy tissue: cut out of a cancer region around it.
BENIGN = ("benign*", "normal*", "healthy*", "non-tumor", "non-tumour", "no cancer", "_2")
# Neither: they say nothing of cancer, and a slide with only these has none.
NEUTRAL = (
    *("region*", "roi*", "tissue", "stroma", "necrosis", "immune cells", "other"),
    *("positive", "negative"),
)
LEAF = 16  # pixels on a side of the squares whose overlaps are computed at once


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
    not excluded. Benign outlines inside one of cancer are cut out of it.

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
        (`CANCER`), and outlines without a name.
    exclude : sequence of str, optional
        Class names to leave unknown; default `EXCLUDE`.

    Returns
    -------
    float32 (ny, nx)
        0 to 1; NaN where what is excluded covers more than half of the pixel.

    Raises
    ------
    InputError
        No class among the outlines is known to be cancer or not.
    """
    chosen, excluded, benign = _sort(outlines, cancer, exclude)
    to_index = np.asarray(np.linalg.inv(as_matrix(affine_of(matrix))), dtype=np.float64)
    pixels = Shapes(matrix)
    out_area = _overlap(_union(excluded, to_index), shape, pixels)
    tumour = polygonal(shapely.difference(_union(chosen, to_index), _union(benign, to_index)))
    known = polygonal(shapely.difference(tumour, _union(excluded, to_index)))
    area = _overlap(known, shape, pixels)
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.where(out_area > 0.5, np.nan, area / (1 - out_area))
    return np.clip(fraction, 0, 1).astype(np.float32)


def roles(
    outlines: Sequence[Outline], cancer: Sequence[str] | None, exclude: Sequence[str] | None
) -> list[str]:
    """What each outline counts as.

    Parameters
    ----------
    outlines : sequence of Outline
        From `read_annotation`.
    cancer, exclude : sequence of str or None
        As those of `label_fraction`.

    Returns
    -------
    list of str
        ``"cancer"``, ``"unknown"`` (left out), ``"not cancer"`` (cut out of cancer around it),
        ``"neither"`` (says nothing), or ``"not known"`` of a class that no list has.
    """
    wanted = CANCER if cancer is None else tuple(cancer)
    unwanted = EXCLUDE if exclude is None else tuple(exclude)
    # a painted copy has no classes: what is outlined there is cancer whatever was asked for
    unnamed = cancer is None or all(one.name is None for one in outlines)
    lists = {"cancer": wanted, "unknown": unwanted, "not cancer": BENIGN, "neither": NEUTRAL}

    def role(name: str | None) -> str:
        if name is None:
            return "cancer" if unnamed else "neither"
        return next((role for role, some in lists.items() if _matches(name, some)), "not known")

    return [role(one.name) for one in outlines]


def _sort(
    outlines: Sequence[Outline], cancer: Sequence[str] | None, exclude: Sequence[str] | None
) -> tuple[list[Outline], list[Outline], list[Outline]]:
    """Outlines of cancer, to exclude, and benign."""
    by: dict[str, list[Outline]] = {}
    for one, role in zip(outlines, roles(outlines, cancer, exclude), strict=True):
        by.setdefault(role, []).append(one)
    chosen, foreign = by.get("cancer", []), by.get("not known")
    found = ", ".join(sorted({one.name for one in outlines if one.name}))
    if cancer is None and foreign and not chosen:
        raise InputError(
            f"annotation: none of its classes ({found}) is known as cancer;"
            " name those that are with --cancer-class"
        )
    if cancer is not None and outlines and not chosen:
        warnings.warn(
            f"annotation: none of its classes ({found}) is among {', '.join(cancer)};"
            " the slide counts as one without cancer",
            MsiscaleWarning,
            stacklevel=3,
        )
    return chosen, by.get("unknown", []), by.get("not cancer", [])


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a class or its base ("Tumor" of QuPath's "Tumor: Positive") is among the patterns."""
    names = {name.casefold(), name.casefold().split(":")[0].strip()}
    return any(
        text == pattern.casefold() or fnmatchcase(text, pattern.casefold())
        for text in names
        for pattern in patterns
    )


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
