"""A pseudo-MSI of one stain on the slide of another, placed, deformed, and held to landmarks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.registration.sections import MPP, STAINS, pseudo_msi
from msiscale.grid import Floats, PixelSize, apply
from msiscale.pipeline.pictures import slide_picture
from msiscale.placing import places
from msiscale.registration import deform, register_pictures
from msiscale.slide.reader import open_reader
from msiscale.store import bent

EXTENT_UM = 3750.0  # of the pseudo-MSI, square

__all__ = ["STAINS", "left_over", "summary"]


def left_over(
    pair: tuple[int, str, str], folder: str, pixel_um: float, seed: int
) -> dict[str, Any]:
    """Errors of one pair before and after, and the least that an affine map leaves."""
    repeat, stain, other = pair
    side = round(EXTENT_UM / pixel_um)
    own = [seed, 9, repeat, STAINS.index(stain), STAINS.index(other)]
    msi, to_slide, _ = pseudo_msi(f"{folder}/{stain}.jpg", pixel_um, (side, side), own)
    size = PixelSize(pixel_um, pixel_um)
    picture, to_other, _ = slide_picture(open_reader(f"{folder}/{other}.jpg", mpp=MPP), size)
    one, two = (pd.read_csv(Path(folder) / f"{s}.csv").set_index("point") for s in (stain, other))
    points = one.index.intersection(two.index)
    xy, lies = (t.loc[points, ["x", "y"]].to_numpy(np.float64) for t in (one, two))
    index = apply(np.asarray(np.linalg.inv(to_slide), float), xy)
    truth = apply(np.asarray(np.linalg.inv(to_other), float), lies)
    placed = register_pictures(msi, picture)
    start = time.process_time()
    found = deform(placed.pair, placed.pose.matrix)
    spent = time.process_time() - start
    field = found.spline.at_corners(msi.shape, msi.pixel_um)
    design = np.column_stack([index, np.ones(len(index))])
    best = design @ np.linalg.lstsq(design, truth, rcond=None)[0]

    def error(there: Floats) -> float:
        return float(np.sqrt(((there - truth) ** 2).sum(axis=1).mean()) / pixel_um)

    return {
        "pair": f"{stain}_on_{other}",
        "same": stain == other,
        "affine_px": error(apply(placed.matrix, index)),
        "bspline_px": error(places(bent(placed.matrix, field, size), index)),
        "floor_px": error(best),
        "moved_px": found.rms_px,
        "evidence": found.evidence,
        "accepted": float(found.accepted),
        "cpu_s": spent,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means of each pair, and of different and same sections how many were accepted and gained."""
    table = pd.DataFrame(rows)
    figures: dict[str, float] = {}
    for name, some in table.groupby("pair", sort=False):
        means = some.drop(columns=["pair", "same"]).mean()
        figures |= {f"{name}.{key}": float(value) for key, value in means.items()}
    for same, some in table.groupby("same"):
        kind = "same_section" if same else "other_section"
        kept = some[some["accepted"] == 1]
        figures |= {
            f"{kind}.pairs": float(len(some)),
            f"{kind}.accepted": float(len(kept)),
            f"{kind}.accepted_and_nearer": float((kept["bspline_px"] < kept["affine_px"]).sum()),
            f"{kind}.moved_px": float(kept["moved_px"].mean()) if len(kept) else 0.0,
        }
        for key in ("affine_px", "bspline_px", "floor_px"):
            figures[f"{kind}.{key}"] = float(some[key].mean())
        after = some["bspline_px"].where(some["accepted"] == 1, some["affine_px"])
        figures[f"{kind}.used_px"] = float(after.mean())
    return figures
