"""Real sections: one stain as the slide, a pseudo-MSI of another, landmarks as the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.registration.pairs import half, placed
from msiscale.grid import Floats, PixelSize, apply, translation
from msiscale.models.pca import PCA
from msiscale.pipeline.pictures import MODES, slide_channels, slide_picture
from msiscale.registration import Picture
from msiscale.registration.picture import Sampler
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working

STAINS = ("He", "CD31", "Cc10")
MPP = 3.48
FEWEST, MOST = 6, 24  # peaks
COUNTS = (5.0, 20.0)  # of a peak in a pixel, about
LEAST = 200  # measured pixels that are tried
RIM = 3  # measured pixels around the dense tissue
SIZES = {  # µm and shape of the MSI
    "sections": (50.0, (75, 75)),
    "sections_coarse": (100.0, (38, 38)),
    "sections_half": (50.0, (75, 75)),
    "sections_rim": (50.0, (75, 75)),
    "large": (5.0, (400, 600)),
}


def section(index: int, folder: str, others: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """A pseudo-MSI of one stain on the slide of each, and on slides of other tissue."""
    stain = STAINS[index]
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(SIZES):
        if case != "large":
            for k, other in enumerate(STAINS):
                rows += pair(case, stain, other, folder, [seed, 9, number, index, k])
    if index == 0:
        rows += pair("large", stain, stain, folder, [seed, 10])
    return rows + list(_foreign(stain, folder, others, [seed, 11, index]))


def pair(
    case: str, stain: str, other: str, folder: str, seed: list[int]
) -> Iterator[dict[str, Any]]:
    """One stain on the slide of another, if six landmarks lie where it was measured."""
    msi, to_slide = _measured(case, f"{folder}/{stain}.jpg", seed)
    picture, to_other, _ = slide_picture(
        open_reader(f"{folder}/{other}.jpg", mpp=MPP), msi.pixel_um
    )
    one, two = (pd.read_csv(Path(folder) / f"{s}.csv").set_index("point") for s in (stain, other))
    points = one.index.intersection(two.index)
    xy, lies = (t.loc[points, ["x", "y"]].to_numpy(np.float64) for t in (one, two))
    back, other_back = (np.linalg.inv(m).astype(np.float64) for m in (to_slide, to_other))
    index = apply(back, xy)
    column, row = index.round().astype(int).clip(0, np.array(msi.shape[::-1]) - 1).T
    known = msi.counts[row, column]
    # an affine map has as many numbers as three landmarks
    if known.sum() >= 6 and msi.counts.sum() >= LEAST:
        same = index[known], apply(other_back, lies[known])
        yield placed(case, f"{stain}_on_{other}", msi, picture, same)


def _measured(case: str, path: str, seed: list[int]) -> tuple[Picture, Floats]:
    """The MSI of a case: whole, one half of it, or the dense tissue with a rim."""
    msi, to_slide, tissue = pseudo_msi(path, *SIZES[case], seed)
    if case == "sections_half":
        return half(msi, np.random.default_rng([*seed, 1])), to_slide
    if case == "sections_rim":
        dense = ndimage.binary_opening(ndimage.gaussian_filter(np.nan_to_num(tissue), 1) > 0.8)
        rim = ndimage.binary_dilation(dense, iterations=RIM)
        return msi.channels(np.where(rim[..., None], msi.values, np.nan)), to_slide
    return msi, to_slide


def _foreign(
    stain: str, folder: str, others: Sequence[str], seed: list[int]
) -> Iterator[dict[str, Any]]:
    """On slides of other tissue, which are made about as large as the MSI."""
    for number, case in enumerate(("sections", "sections_half", "sections_rim")):
        msi, _ = _measured(case, f"{folder}/{stain}.jpg", [*seed, number])
        if msi.counts.sum() < LEAST:
            continue
        for k, path in enumerate(others):
            rng = np.random.default_rng([*seed, number, k])
            times = rng.uniform(0.9, 1.4)
            slide = open_reader(path, mpp=1.0)
            slide = open_reader(path, mpp=float(times * msi.longest_um / max(slide.shape)))
            picture = slide_picture(slide, msi.pixel_um)[0]
            yield placed("sections_foreign", f"{stain}_on_{Path(path).stem}", msi, picture)


def pseudo_msi(
    path: str, pixel_um: float, shape: tuple[int, int], seed: list[int]
) -> tuple[Picture, Floats, NDArray[np.float64]]:
    """What registration would see of an MSI of a section, turned and mirrored at random.

    Parameters
    ----------
    path : str
        Of the section's picture, at `MPP` µm a pixel.
    pixel_um : float
        Of the MSI.
    shape : (int, int)
        Rows and columns of the MSI, whose middle lies on that of the picture.
    seed : list of int
        Of the turn, the mixtures and the counts.

    Returns
    -------
    msi : Picture
        Total and modes of bent mixtures of the stains with Poisson noise.
    to_slide : float64 (3, 3)
        From its indices to pixels of the picture.
    tissue : float64 (h, w)
        The share of tissue in its pixels.
    """
    rng = np.random.default_rng(seed)
    image = working(open_reader(path, mpp=MPP), MPP)
    picture = slide_channels(image.read(0, 0, *image.shape), image.mpp, pixel_um)
    angle, mirrored = rng.uniform(0, 2 * np.pi), bool(rng.integers(2))
    c, s = np.cos(angle), np.sin(angle)
    truth = np.eye(3)
    truth[:2, :2] = pixel_um * np.array([[c, -s], [s, c]]) @ np.diag([-1 if mirrored else 1, 1])
    middle = np.array(shape[::-1]) / 2 - 0.5
    truth[:2, 2] = np.array(picture.shape[::-1]) / 2 * MPP - truth[:2, :2] @ middle
    from_um = np.linalg.inv(picture.to_um)
    seen = Sampler(picture)(from_um @ truth, shape).astype(np.float64)
    measured = np.isfinite(seen).all(axis=-1)
    known = (seen[measured] - seen[measured].mean(axis=0)) / seen[measured].std(axis=0)
    n = int(rng.integers(FEWEST, MOST + 1))
    mixed = np.exp(known @ rng.standard_normal((known.shape[1], n)) / 3)
    peaks = rng.poisson(rng.choice(COUNTS) * mixed.clip(0, 50)).astype(np.float64)
    total = np.maximum(peaks.sum(axis=1), 1)
    modes = PCA(n_components=min(MODES, n - 1)).fit_transform(np.sqrt(peaks / total[:, None]))
    values = np.full((*shape, 1 + modes.shape[1]), np.nan)
    values[measured] = np.column_stack([np.log(total), modes])
    msi = Picture(values.astype(np.float32), PixelSize(pixel_um, pixel_um))
    return msi, np.asarray(translation(0.5, 0.5) @ from_um @ truth), seen[..., 0]
