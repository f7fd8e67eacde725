"""Real MSI and slide of one section, a fitted map as the truth; crops, and each other's slides."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.registration.pairs import half, placed
from msiscale.grid import PixelSize, apply, translation
from msiscale.pipeline.pictures import msi_picture, slide_picture
from msiscale.registration import Picture
from msiscale.slide.reader import open_reader
from msiscale.store import open_group

_BLADDER = "roempp_mouse_bladder"
PAIRS = {  # MSI, its µm a pixel, slide, its µm a pixel, MSI index -> slide
    "msight": ("msight_mouse_bladder/msi_421peaks.h5", 25.0,
               "msight_mouse_bladder/prostate_he_example.tif", 2.413,
               "msight_mouse_bladder/matrix.json"),
    "plain": (f"{_BLADDER}/msi_79ions.h5", 10.0, f"{_BLADDER}/optical.tif", 2.74,
              f"{_BLADDER}/matrix.json"),
    "turned": (f"{_BLADDER}/msi_79ions.h5", 10.0, f"{_BLADDER}/optical_turned.png", 3.043,
               f"{_BLADDER}/matrix_turned.json"),
}  # fmt: skip
BINNED = (1, 2, 4)  # MSI pixels that are made one, each way


def manifest(folder: str, out: Path) -> str:
    """Of the pairs, each MSI a specimen."""
    rows = [
        (name, f"{folder}/{msi}", f"{folder}/{slide}", mpp, um, Path(msi).parent.name)
        for name, (msi, um, slide, mpp, _) in PAIRS.items()
    ]
    columns = ["specimen", "msi", "slide", "mpp", "pixel_um", "patient"]
    pd.DataFrame(rows, columns=columns).to_csv(out, index=False)
    return str(out)


def pair(index: int, folder: str, run: str, others: Sequence[str], seed: int) -> list[Any]:
    """One pair at several resolutions, whole and a half of it; its MSI on slides of others."""
    name = list(PAIRS)[index]
    _, um, path, mpp, reference = PAIRS[name]
    whole = msi_picture(open_group(f"{run}/cohort.zarr/{name}"), PixelSize(um, um))
    truth = np.array(json.loads((Path(folder) / reference).read_text()))
    foreign = [other for other in others if Path(other).parent.name != Path(path).parent.name]
    rows = []
    for number, times in enumerate(BINNED):
        msi = _binned(whole, times)
        picture, to_slide, _ = slide_picture(open_reader(f"{folder}/{path}", mpp=mpp), msi.pixel_um)
        own = np.linalg.inv(to_slide) @ truth @ translation((times - 1) / 2, (times - 1) / 2)
        own = own @ np.diag([times, times, 1.0])
        parts = {"paired": msi}
        parts |= {"paired_half": half(msi, np.random.default_rng([seed, 12, index, number]))}
        for case, part in parts.items():
            xy = np.argwhere(part.counts)[:, ::-1].astype(np.float64)
            rows.append(placed(case, f"{name}_{times}", part, picture, (xy, apply(own, xy))))
        if times == 1:
            continue
        for k, file in enumerate(foreign):
            rng = np.random.default_rng([seed, 13, index, number, k])
            slide = open_reader(file, mpp=1.0)
            size = float(rng.uniform(0.9, 1.4) * msi.longest_um / max(slide.shape))
            other = slide_picture(open_reader(file, mpp=size), msi.pixel_um)[0]
            what = f"{name}_{times}_on_{Path(file).stem}"
            rows.append(placed("paired_foreign", what, msi, other))
    return rows


def _binned(msi: Picture, times: int) -> Picture:
    """Means of squares of pixels."""
    h, w = (n // times * times for n in msi.shape)
    values = msi.values[:h, :w].reshape(h // times, times, w // times, times, -1).mean(axis=(1, 3))
    return Picture(values, PixelSize(*(times * um for um in msi.pixel_um)))
