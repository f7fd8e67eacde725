"""Real serial sections: one stain as the slide, a pseudo-MSI of another, landmarks as the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.registration.pairs import placed
from msiscale.grid import Floats, PixelSize, apply, translation
from msiscale.models.pca import PCA
from msiscale.pipeline.pictures import MODES, slide_channels, slide_picture
from msiscale.registration import Picture
from msiscale.registration.picture import Sampler
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working

STAINS = ("He", "CD31", "Cc10")
MPP = 3.48
PEAKS = 24
COUNTS = 20.0  # of a peak in a pixel, about
SIZES = {"sections": (50.0, (75, 75)), "large": (5.0, (400, 600))}  # µm and shape of the MSI


def section(index: int, folder: str, seed: int) -> list[dict[str, Any]]:
    """A pseudo-MSI of one stain on the slide of each, and once a large one on its own."""
    stain = STAINS[index]
    rows = [
        _pair("sections", stain, other, folder, [seed, 9, index, k])
        for k, other in enumerate(STAINS)
    ]
    return rows + ([_pair("large", stain, stain, folder, [seed, 10])] if index == 0 else [])


def _pair(case: str, stain: str, other: str, folder: str, seed: list[int]) -> dict[str, Any]:
    pixel_um, shape = SIZES[case]
    msi, to_slide = pseudo_msi(f"{folder}/{stain}.jpg", pixel_um, shape, seed)
    picture, to_other, _ = slide_picture(
        open_reader(f"{folder}/{other}.jpg", mpp=MPP), msi.pixel_um
    )
    one, two = (pd.read_csv(Path(folder) / f"{s}.csv").set_index("point") for s in (stain, other))
    points = one.index.intersection(two.index)
    xy, lies = (t.loc[points, ["x", "y"]].to_numpy(np.float64) for t in (one, two))
    back, other_back = (np.linalg.inv(m).astype(np.float64) for m in (to_slide, to_other))
    same = apply(back, xy), apply(other_back, lies)
    return placed(case, f"{stain}_on_{other}", msi, picture, same)


def pseudo_msi(
    path: str, pixel_um: float, shape: tuple[int, int], seed: list[int]
) -> tuple[Picture, Floats]:
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
        Total and modes of `PEAKS` bent mixtures of the stains with Poisson noise.
    to_slide : float64 (3, 3)
        From its indices to pixels of the picture.
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
    mixed = np.exp(known @ rng.standard_normal((known.shape[1], PEAKS)) / 3)
    peaks = rng.poisson(COUNTS * mixed.clip(0, 50)).astype(np.float64)
    total = np.maximum(peaks.sum(axis=1), 1)
    modes = PCA(n_components=MODES).fit_transform(np.sqrt(peaks / total[:, None]))
    values = np.full((*shape, 1 + MODES), np.nan)
    values[measured] = np.column_stack([np.log(total), modes])
    msi = Picture(values.astype(np.float32), PixelSize(pixel_um, pixel_um))
    return msi, np.asarray(translation(0.5, 0.5) @ from_um @ truth)
