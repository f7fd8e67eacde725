"""Images of ions that were absent from training, inferred by their chemistry from a prediction.

The image of such an ion is a combination of those of trained ions of its class
(`msiscale.biomarkers.absent`), and these are combinations of the predicted scores: so it is one as
well, and nothing but the scores is read.

How well it may be expected to agree with a measurement comes of leaving each trained ion of the
class out in turn: the correlation of its inferred with its predicted image, here, times that of
its predicted with its measured image, in held-out patients. The product is the correlation of
inferred and measured, as far as the prediction is what H&E tells of the ion (its conditional mean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import zarr
from numpy.typing import NDArray

from msiscale.biomarkers.absent import Chemistry, weights_of
from msiscale.errors import InputError
from msiscale.grid import Floats, blocks
from msiscale.models import Moments
from msiscale.models.moments import reciprocal
from msiscale.prediction.tiers import READ
from msiscale.prediction.virtual import AT_ONCE, SIDE, known_tiers, opened
from msiscale.store import array_of, create_array, open_group, put, read, write_block, write_bytes

ARRAY = "inferred_image"
CELL = 256  # pixels on a side whose scores are in memory at a time
NAMED = 3  # neighbours that a line names


@dataclass(frozen=True, eq=False)
class Inferred:
    """An image that is inferred, as a combination of scores.

    Attributes
    ----------
    name : as it was asked for
    neighbours : names of the trained ions of its class
    expected_r : float, of its image and a measured one; NaN where the class has one trained ion
    direction (component,), offset : the image is ``scores @ direction + offset``, of mean 0, in
        standard deviations of an ion of its class
    """

    name: str
    neighbours: tuple[str, ...]
    expected_r: float
    direction: Floats
    offset: float

    @property
    def sentence(self) -> str:
        """What a user should know of it."""
        n = len(self.neighbours)
        some = ", ".join(self.neighbours[:NAMED]) + (", …" if n > NAMED else "")
        return (
            f"{self.name} was absent from training; its image is inferred from the chemistry of "
            f"{n} trained ion{'s' if n > 1 else ''} of its class ({some}), in standard "
            f"deviations; {self.sure}"
        )

    @property
    def sure(self) -> str:
        """What its correlation with a measured image is expected to be."""
        if np.isnan(self.expected_r):
            return "expected r not known"
        return f"expected r {self.expected_r:.2f}"


@dataclass(frozen=True, eq=False)
class Trained:
    """Ions that a prediction reads from H&E and that have a name.

    Attributes
    ----------
    names : as ``ions.csv`` has them
    ions : their chemistry
    pearson (k,) : mean correlation with the measured image within held-out patients
    spectra (component, k) : float64, what makes their images of scores
    sums : of the scores (as m) over the predicted pixels
    unread : ions that were in training too, but are of tier C
    """

    names: tuple[str, ...]
    ions: tuple[Chemistry, ...]
    pearson: Floats
    spectra: Floats
    sums: Moments
    unread: frozenset[Chemistry] = frozenset()

    def infer(self, name: str) -> Inferred:
        """Infer an ion.

        Parameters
        ----------
        name
            Species and adduct, as ``PE 36:1 [M-H]-``.

        Returns
        -------
        Inferred

        Raises
        ------
        InputError
            Not a species with chains, one that was in training, or none of its class is read.
        """
        new = Chemistry.of(name)
        if new in self.ions:
            raise InputError(f"{name}: it was in training and is predicted; draw it with --mz")
        if new in self.unread:
            raise InputError(
                f"{name}: it was in training, but H&E did not predict it (tier C); draw it "
                "with --mz"
            )
        weights = weights_of(new, self.ions)
        mine = [i for i, ion in enumerate(self.ions) if ion.kind == new.kind]
        covariance = self.spectra.T @ (self.sums.smm / self.sums.n) @ self.spectra
        inverse = reciprocal(np.sqrt(np.maximum(np.diag(covariance), 0)))
        correlation = covariance * np.outer(inverse, inverse)
        direction = self.spectra @ (weights * inverse)
        return Inferred(
            name,
            tuple(self.names[i] for i in mine),
            self._expected(mine, correlation),
            direction,
            -float(self.sums.mean_m @ direction),
        )

    def _expected(self, mine: Sequence[int], correlation: Floats) -> float:
        """Mean over the class of what leaving each of its ions out gives."""
        found = []
        for i in mine if len(mine) > 1 else ():
            others = [j for j in mine if j != i]
            weights = weights_of(self.ions[i], [self.ions[j] for j in others])
            size = np.sqrt(weights @ correlation[np.ix_(others, others)] @ weights)
            agrees = weights @ correlation[others, i] / size if size > 0 else 0.0
            found.append(agrees * self.pearson[i])
        return float(np.mean(found)) if found else float("nan")


def trained_ions(group: zarr.Group, place: str) -> Trained:
    """Read the named ions of tiers A and B of a prediction.

    Memory: the scores of 256 x 256 pixels.

    Parameters
    ----------
    group, place
        Of `msiscale.prediction.virtual.opened`.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        No tiers or no names are known of its ions, or none that is read has a species for a name.
    """
    tiers = known_tiers(group, place)
    if tiers is None or not np.any(tiers.name != ""):
        raise InputError(
            f"{place}: its ions have no lipid names; run biomarkers or annotate, then ions, and "
            "predict the slides again"
        )
    components = read(group, "components")
    there = (np.abs(components).max(axis=0) > 0) & np.isin(tiers.tier, READ)
    named: dict[int, Chemistry] = {}
    for i in np.flatnonzero(tiers.name != ""):
        try:
            named[int(i)] = Chemistry.of(str(tiers.name[i]))
        except InputError:  # cholesterol has no chains, and a formula no class
            continue
    found = {i: ion for i, ion in named.items() if there[i]}
    if not found:
        raise InputError(
            f"{place}: no ion of tier A or B has a species name such as PC 34:1; run "
            "annotate, then ions, and predict the slides again"
        )
    columns = list(found)
    return Trained(
        tuple(tiers.name[columns].tolist()),
        tuple(found.values()),
        tiers.pearson[columns].astype(np.float64),
        components[:, columns].astype(np.float64),
        _sums(group),
        frozenset(named.values()) - frozenset(found.values()),
    )


def _sums(group: zarr.Group) -> Moments:
    scores = array_of(group, "predicted_scores")
    total = Moments.empty(0, scores.shape[2])
    for block in blocks((scores.shape[0], scores.shape[1]), (CELL, CELL)):
        values = np.asarray(scores[block.slices], np.float64)
        rows = values[np.isfinite(values).all(axis=-1)]
        if len(rows):
            total = total + Moments.of(None, rows, dtype=np.float64)
    return total


def write_absent_images(url: str, names: Sequence[str], out: str) -> list[str]:
    """Inferred images of ions absent from training, as a picture or as arrays.

    Parameters
    ----------
    url
        As for `msiscale.prediction.predicted_intensity`.
    names
        Species and adducts, as ``PE 36:1 [M-H]-``; up to 16 in a picture.
    out
        ``FILE.png``: a panel an ion, of pixels skipped to 1200 on the longer side, titled as
        inferred with its expected r; or ``FILE.zarr``: ``inferred_image`` (y, x, ion) float32, with
        ``ion``, ``neighbours`` and ``expected_r`` among its attributes.

    Returns
    -------
    list of str
        A line an ion: what it is inferred from, and what to expect of it.

    Raises
    ------
    InputError
        As `trained_ions` and `Trained.infer`; another suffix; too many for a picture.
    """
    if not out.endswith((".zarr", ".png")):
        raise InputError(f"{out}: the name ends in neither .png nor .zarr; give one that does")
    if out.endswith(".png") and len(names) > AT_ONCE:
        raise InputError(
            f"{out}: {len(names)} ion images do not fit one picture; give {AT_ONCE} at most"
        )
    group, place = opened(url)
    trained = trained_ions(group, place)
    ions = [trained.infer(name) for name in names]
    if out.endswith(".zarr"):
        _write_zarr(group, ions, out)
    else:
        write_bytes(out, _picture(group, ions))
    return [ion.sentence for ion in ions]


def _images(scores: NDArray[np.floating], ions: Sequence[Inferred]) -> NDArray[np.float32]:
    directions = np.stack([ion.direction for ion in ions], axis=1)
    offsets = np.array([ion.offset for ion in ions])
    return np.asarray(scores @ directions + offsets, np.float32)


def _write_zarr(group: zarr.Group, ions: Sequence[Inferred], out: str) -> None:
    target, scores = open_group(out, "a"), array_of(group, "predicted_scores")
    height, width = scores.shape[:2]
    n = len(ions)
    array = create_array(
        target,
        ARRAY,
        (height, width, n),
        ("y", "x", "ion"),
        chunks=(CELL, CELL, 1),
        shards=(CELL, CELL, n),
    )
    for block in blocks((height, width), (CELL, CELL)):
        write_block(array, block, _images(np.asarray(scores[block.slices]), ions))
    for name in ("y", "x"):
        put(target, name, read(group, name), (name,), attrs={"units": "µm"})
    array.attrs.update(
        {
            "inferred": "from the chemistry of other ions; not predicted by a trained model",
            "units": "standard deviations of an ion of its class",
            "ion": [ion.name for ion in ions],
            "neighbours": [list(ion.neighbours) for ion in ions],
            "expected_r": [None if np.isnan(r := ion.expected_r) else r for ion in ions],
        }
    )
    target.attrs.update({k: group.attrs[k] for k in ("matrix", "slide") if k in group.attrs})


def _picture(group: zarr.Group, ions: Sequence[Inferred]) -> bytes:
    # matplotlib, which nothing else here needs
    from msiscale.report.drawing import draw_map, extent_um, panels, plain, png, side_bar, spread

    scores = array_of(group, "predicted_scores")
    step = max(1, -(-max(scores.shape[:2]) // SIDE))
    images = _images(np.asarray(scores[::step, ::step]), ions)
    known = np.isfinite(images[..., 0])
    axes_um = (read(group, name) for name in ("y", "x"))
    pixel = [step * (float(c[1] - c[0]) if len(c) > 1 else 1.0) for c in axes_um]
    sizes = (pixel[0], pixel[1])
    figure, axes = panels(len(ions), images.shape[:2], sizes)
    for i, (panel, ion) in enumerate(zip(axes, ions, strict=False)):
        extent = extent_um(images.shape[:2], sizes)
        limits = spread(images[..., i])
        drawn = draw_map(panel, images[..., i], known, extent, cmap="viridis", limits=limits)
        side_bar(panel, drawn)
        panel.set_title(plain(f"inferred {ion.name}\n{ion.sure}"), fontsize=9)
    name = str(group.store_path).rstrip("/").rpartition("/")[2]
    words = f"{name}: ions absent from training, inferred from\nthe chemistry of others, in sd"
    figure.suptitle(plain(words), fontsize=9)
    return png(figure)
