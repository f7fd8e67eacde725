"""Registration without landmarks: search everywhere, refine the best, trust only what is clear.

Nothing is known but the pixel sizes. Every rotation and both mirror images are tried at every
translation (`search`), the best few of each mirror image are refined (`refine`), and the best of
all is believed only if it beats every other pose by more than chance: the difference of the two
log-likelihoods is compared with its spread over blocks of the MSI, as in Vuong's test of models
that do not contain each other [1]_. Blocks, not pixels, as neighbouring pixels are much alike.

.. [1] Q. H. Vuong, "Likelihood ratio tests for model selection and non-nested hypotheses",
   Econometrica 57 (1989) 307-333.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from msiscale.grid import Floats, apply
from msiscale.registration.agreement import Agreement, whitened
from msiscale.registration.picture import Picture, coarsened, smoothed
from msiscale.registration.refine import Pair, polished, refine
from msiscale.registration.scale import MOST_SCALE
from msiscale.registration.search import Start, search
from msiscale.threads import one_blas_thread

ROUGH = 64  # pixels of the MSI on its longer side, at most, where poses are refined,
JUDGED = 128  # where they are compared,
PIXELS = 256  # and where the best one gets its last step
PER_PIXEL = 4  # pixels of the slide to one of the MSI, when it is made coarser
OF_EACH = 3  # poses of each mirror image that are refined
APART = 0.12  # of the MSI's diagonal: poses nearer than that are one
STARTS_APART = 0.2  # likewise of starts, so that no two climb the same hill
BLOCKS = 12  # on the longer side of what is compared, for the spread of a difference

LEAST_MARGIN = 0.15  # of its score, by which the best pose must beat every other,
LEAST_Z = 1.8  # and in standard errors,
LEAST_EVIDENCE = 0.6  # and the product of the two
LEAST_OVERLAP = 0.5
LEAST_CORRELATION = 0.4
USUAL_DICE = 0.7  # one that is less is said, but speaks against nothing: tissue may be everywhere


@dataclass(frozen=True, eq=False)
class Pose:
    """A map from µm of the MSI to µm of the slide (`Picture.to_um`), refined, and its agreement."""

    matrix: Floats
    agreement: Agreement

    @property
    def score(self) -> float:
        return self.agreement.total

    @property
    def mirrored(self) -> bool:
        return bool(np.linalg.det(self.matrix) < 0)


@dataclass(frozen=True, eq=False)
class Alignment:
    """The outcome of an automatic registration."""

    matrix: Floats  # (3, 3), from MSI pixel indices to µm of the slide picture
    confidence: float  # 0..1, one minus the best other pose's score over this one's
    z: float  # by how many standard errors it beats the best other pose
    overlap: float  # share of the measured pixels that lie on the slide
    dice: float  # of tissue on the slide and as the MSI tells it
    correlation: float  # of the first canonical variates
    mirrored: bool  # whether the slide shows a mirror image of the MSI
    why: tuple[str, ...]  # what speaks against it; empty when it is to be believed
    odd: tuple[str, ...]  # what should be looked at, but does not speak against it
    pair: Pair = field(repr=False)  # what was compared; the MSI perhaps at less than its resolution
    pose: Pose  # in the pair's µm
    judged: Pose  # the same as it was compared with its rivals, all at a lower resolution
    rivals: tuple[Pose, ...] = ()  # the others that were refined, best first
    starts: tuple[Start, ...] = field(default=(), repr=False)  # by the search, best first

    @property
    def accepted(self) -> bool:
        return not self.why

    @property
    def clear(self) -> bool:
        """Whether no other place agrees nearly as well; it may be refused for another reason."""
        return _beats(self.confidence, self.z)

    @property
    def scale(self) -> float:
        """Stated µm of the slide to a µm of the MSI; 1 where the pixel sizes are right."""
        return float(np.sqrt(abs(np.linalg.det(self.pose.matrix))))


def register_pictures(msi: Picture, slide: Picture) -> Alignment:
    """Find how an MSI lies on a slide: deterministic, in a few times the memory of the pictures.

    Parameters
    ----------
    msi : Picture
        Channels of the MSI, NaN where it was not measured.
    slide : Picture
        Channels of the slide smoothed to about an MSI pixel; the first is the share of tissue.

    Returns
    -------
    Alignment

    Raises
    ------
    ValueError
        A picture of which nothing counts or nothing varies, or that fits nowhere on the other.
    """
    for name, picture in (("MSI", msi), ("slide", slide)):
        rows = picture.values[picture.counts]
        if len(rows) < 64 or not np.ptp(rows, axis=0).any():
            raise ValueError(f"the {name} has no structure to register by")
    with one_blas_thread():
        return _registered(msi, slide)


def _registered(msi: Picture, slide: Picture) -> Alignment:
    starts = search(msi, slide, least_overlap=LEAST_OVERLAP)
    rough, middle = (_level(msi, slide, n, coarse=True) for n in (ROUGH, JUDGED))
    places = [refine(rough.pair, rough.of(s.matrix)) for s in _distinct(starts, rough)]
    if not places:
        raise ValueError("the MSI fits nowhere on the slide; look at the pixel sizes")
    # compared when all have had the same: the final step is for the best alone
    poses = [Pose(m, middle.pair.agreement(m)) for m in _carried(places, rough, middle)]
    poses.sort(key=lambda pose: -pose.score)
    judged = poses[0]
    # two starts may have come to one pose, but never a proper one and its mirror image
    rivals = tuple(
        p
        for p in poses[1:]
        if p.mirrored != judged.mirrored or _apart(middle.pair, judged.matrix, p.matrix)
    )
    margin = min((1 - p.score / judged.score for p in rivals), default=1.0)
    z = min((_z(judged.agreement.each, p.agreement.each) for p in rivals), default=np.inf)
    finest = _level(msi, slide, PIXELS)
    (matrix,) = _carried([judged.matrix], middle, finest)
    best = Pose(matrix, finest.pair.agreement(matrix))
    dice = _dice(finest.pair, best.matrix, slide)
    strongest = float(best.agreement.correlations.max(initial=0))
    why = tuple(_against(best, margin, z, strongest))
    odd = (f"the tissue does not match (Dice {dice:.2f})",) if dice < USUAL_DICE else ()
    overlap = float(best.agreement.overlap)
    whole = finest.out(matrix) @ msi.to_um
    facts = (whole, float(margin), float(z), overlap, dice, strongest, best.mirrored, why, odd)
    return Alignment(*facts, finest.pair, best, judged, rivals, tuple(starts))


@dataclass(frozen=True, eq=False)
class _Level:
    """Both pictures at one resolution, and how their µm lie in those of the whole pictures."""

    pair: Pair
    to_msi: Floats
    to_slide: Floats

    def of(self, matrix: Floats) -> Floats:
        """A map between the whole pictures, as one of this pair."""
        return np.asarray(np.linalg.inv(self.to_slide) @ matrix @ self.to_msi)

    def out(self, matrix: Floats) -> Floats:
        """A map of this pair, as one between the whole pictures."""
        return np.asarray(self.to_slide @ matrix @ np.linalg.inv(self.to_msi))


def _level(msi: Picture, slide: Picture, pixels: int, *, coarse: bool = False) -> _Level:
    """At `pixels` of the MSI at most, never finer than the slide; `coarse`: that coarser too."""
    side, to_msi, to_slide = max(msi.longest_um / pixels, *slide.pixel_um), np.eye(3), np.eye(3)
    if side > max(msi.pixel_um):
        msi, to_msi = coarsened(msi, side)
        slide = smoothed(slide, side)
        if coarse:
            slide, to_slide = coarsened(slide, side / PER_PIXEL)
    whole = msi.channels(whitened(msi.values)), slide.channels(whitened(slide.values))
    return _Level(Pair(*whole), to_msi, to_slide)


def _carried(matrices: list[Floats], one: _Level, other: _Level) -> list[Floats]:
    """Maps of a pair as those of a finer one, moved to where that one agrees best."""
    same = [other.of(one.out(matrix)) for matrix in matrices]
    if other.pair.side > 0.99 * one.pair.side:
        return same
    return [polished(other.pair, matrix) for matrix in same]


def working_pair(msi: Picture, slide: Picture) -> tuple[Pair, Floats]:
    """Both pictures whitened, and no finer than is needed.

    Parameters
    ----------
    msi, slide : Picture
        As for `register_pictures`.

    Returns
    -------
    pair : Pair
        The MSI in it may be coarser.
    to_msi : float64 (3, 3)
        From the pair's MSI µm to the MSI's.
    """
    level = _level(msi, slide, PIXELS)
    return level.pair, level.to_msi


def _distinct(starts: list[Start], level: _Level) -> list[Start]:
    """The best starts of each mirror image that are not one pose."""
    chosen: list[Start] = []
    for mirrored in (False, True):
        mine: list[Start] = []
        for start in starts:
            if len(mine) == OF_EACH:
                break
            if start.mirrored == mirrored and all(
                _apart(level.pair, level.of(start.matrix), level.of(other.matrix), STARTS_APART)
                for other in mine
            ):
                mine.append(start)
        chosen += mine
    return chosen


def _apart(pair: Pair, one: Floats, other: Floats, least: float = APART) -> bool:
    """Whether two maps put the MSI in different places: its corners, root mean square."""
    corners = pair.middle + pair.corner * [[-1, -1], [1, -1], [1, 1], [-1, 1]]
    distance = np.sqrt(((apply(one, corners) - apply(other, corners)) ** 2).sum(axis=1).mean())
    return bool(distance > least * 2 * np.hypot(*pair.corner))


def _z(best: Floats, other: Floats) -> float:
    """The summed difference of two (h, w), in standard errors from its spread over blocks."""
    # a block counts by its pixels on the slide: what was not measured is no evidence either way
    rows, columns = np.nonzero((best != 0) | (other != 0))
    if not len(rows):
        return 0.0
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    side = max(2, -(-max(height, width) // BLOCKS))
    across = -(-width // side)
    block = (rows - rows.min()) // side * across + (columns - columns.min()) // side
    count = np.bincount(block)
    sums = np.bincount(block, (best - other)[rows, columns])[count > 0]
    count = count[count > 0]
    n = len(count)
    apart = sums - count * sums.sum() / count.sum()
    error = float(np.sqrt((apart**2).sum() * n / (n - 1))) if n > 1 else 0.0
    return float(sums.sum() / error) if error > 0 else 0.0


def _beats(margin: float, z: float) -> bool:
    return margin >= LEAST_MARGIN and z >= LEAST_Z and margin * z >= LEAST_EVIDENCE


def _dice(pair: Pair, matrix: Floats, slide: Picture) -> float:
    """Overlap of the slide's tissue with what the MSI takes for tissue (by least squares)."""
    tissue = Pair(pair.msi, slide.channels(slide.values[..., :1])).slide_under(matrix)[..., 0]
    both = np.isfinite(tissue) & pair.msi.counts
    design = np.column_stack([pair.msi.values[both], np.ones(int(both.sum()))])
    weights, *_ = np.linalg.lstsq(design, tissue[both].astype(np.float64), rcond=None)
    seen, told = tissue[both] >= 0.5, design @ weights >= 0.5
    return float(2 * (seen & told).sum() / max(int(seen.sum() + told.sum()), 1))


def _against(best: Pose, margin: float, z: float, strongest: float) -> list[str]:
    """Reasons not to believe it."""
    scales = np.linalg.svd(best.matrix[:2, :2], compute_uv=False)
    stretch = float(np.abs(scales - 1).max())
    checks = (
        (
            not _beats(margin, z),
            f"another place agrees nearly as well (margin {margin:.2f}, {z:.1f} standard errors)",
        ),
        (strongest < LEAST_CORRELATION, f"the images hardly agree (correlation {strongest:.2f})"),
        (
            best.agreement.overlap < LEAST_OVERLAP,
            f"only {best.agreement.overlap:.0%} of the MSI lies on the slide",
        ),
        (stretch > MOST_SCALE, f"it needs a stretch by {stretch:.0%} against the pixel sizes"),
    )
    return [text for bad, text in checks if bad]
