"""What the classes of annotated outlines count as."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import numpy as np
import shapely
from numpy.typing import NDArray

from msiscale.slide.outlines import Outline

# Class names, without regard to case; * stands for anything. "_0", "_1", "_2" are Camelyon's.
CANCER = (
    *("tumor", "tumour", "tumors", "tumours", "cancer", "pca", "lesion", "malignant", "malignancy"),
    *("carcinoma", "adenocarcinoma", "prostate cancer", "metastas[ei]s", "gleason*", "_0", "_1"),
    *("invasive tumor", "invasive tumour", "invasive cancer", "invasive carcinoma"),
)
EXCLUDE = (
    *("exclude*", "exclusion*", "ignore*", "artifact*", "artefact*", "unknown", "uncertain"),
)
# Healthy tissue: cut out of a cancer region around it. Alone, it says that there is no cancer.
BENIGN = (
    *("benign*", "normal*", "healthy*", "non-tumor", "non-tumour", "non tumor", "non tumour"),
    *("no tumor", "no tumour", "no cancer", "_2"),
)
# Other tissue: not cancer itself, and nothing is said of what is around it.
TISSUE = ("stroma", "necrosis", "immune cells", "other")
# Frames, and classes of stained cells: they say nothing of cancer.
NOTHING = ("region*", "roi*", "tissue", "positive", "negative")

ALIKE = 1e-9  # relative difference of two areas that are the same
Polygons = NDArray[np.object_]


def roles(
    outlines: Sequence[Outline], cancer: Sequence[str] | None, exclude: Sequence[str] | None
) -> list[str]:
    """What each outline counts as.

    A class that no list has counts as the nearest class that it is a part of. Outlines without a
    class are cancer where no other has a class, or where those are only left out. Beside classes
    of tissue they are areas of interest where one of them holds a classed outline; else, and inside
    another, nothing is known of them.

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
        ``"other tissue"``, ``"neither"`` (says nothing), ``"not known"`` of a class that no list
        has, ``"area of interest"``, or ``"unclassified"`` (left out: its meaning is not clear).
    """
    lists = {
        "cancer": CANCER if cancer is None else tuple(cancer),
        "unknown": EXCLUDE if exclude is None else tuple(exclude),
        "not cancer": BENIGN,
        "other tissue": TISSUE,
        "neither": NOTHING,
    }
    of: dict[tuple[str, ...], str] = {}  # by the names, of which there are few

    def role(names: tuple[str, ...]) -> str:
        known = (kind for name in names for kind, some in lists.items() if matches(name, some))
        return next(known, "not known")

    kinds = []
    some_classed = any(one.name and one.classed for one in outlines)
    for one in outlines:
        names = (one.name, *one.parents) if one.name else ()
        kind = of[names] if names in of else of.setdefault(names, role(names)) if names else ""
        # beside classes, what an object is called is no class unless it is the name of one
        kinds.append("" if kind == "not known" and some_classed and not one.classed else kind)
    if set(kinds) <= {"", "unknown"}:
        return [kind or "cancer" for kind in kinds]
    return _with_frames(outlines, kinds)


def _with_frames(outlines: Sequence[Outline], kinds: list[str]) -> list[str]:
    """With what the outlines without a class are beside those with one."""
    bare = [i for i, kind in enumerate(kinds) if not kind]
    if not bare:
        return kinds
    polygons = np.array([one.polygon for one in outlines], dtype=object)
    classed = polygons[[bool(kind) for kind in kinds]]
    holding = _holding(polygons[bare], classed, 1 - ALIKE)
    outer = _holding(polygons[bare], polygons[bare], 1 + ALIKE)
    inside = {i for held in outer.values() for i in held}  # of another without a class
    found = [*kinds]
    for position, index in enumerate(bare):
        is_frame = position in holding or (bool(holding) and position not in inside)
        found[index] = "area of interest" if is_frame else "unclassified"
    return found


def _holding(frames: Polygons, others: Polygons, larger: float) -> dict[int, list[int]]:
    """Of each frame the others that it covers by half or more, and is `larger` than."""
    own, other = shapely.STRtree(others).query(frames, predicate="intersects")
    is_larger = shapely.area(frames[own]) > shapely.area(others[other]) * larger
    own, other = own[is_larger], other[is_larger]
    shapely.prepare(frames)
    whole = shapely.covers(frames[own], others[other])
    for i in np.flatnonzero(~whole):
        shared = shapely.intersection(frames[own[i]], others[other[i]]).area
        whole[i] = shared >= others[other[i]].area / 2
    held: dict[int, list[int]] = {}
    for frame, one in zip(own[whole], other[whole], strict=True):
        held.setdefault(int(frame), []).append(int(one))
    return held


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a class or its base ("Tumor" of QuPath's "Tumor: Positive") is among the patterns."""
    whole = name.casefold()
    base = whole.split(":")[0].strip()
    names = {whole, base, *(re.sub(r"[\s_-]+", " ", text).strip() for text in (whole, base))}
    return any(
        text == pattern.casefold() or fnmatchcase(text, pattern.casefold())
        for text in names
        for pattern in patterns
    )
