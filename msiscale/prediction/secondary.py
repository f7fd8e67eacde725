"""Predicted cancer outside the annotation: where another look (immunohistochemistry) may pay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import PixelSize
from msiscale.models.calibration import moved
from msiscale.placing import Placing
from msiscale.prediction.regions import Float32, Found, Mask, consensus, find_regions

ANNOTATED = 0.5  # fraction of a pixel from which it counts as annotated cancer
SHARE = "extrapolated_share"
PROBABILITY = "mean_probability"
DISTANCE = "distance_um"
AGREE = "agree"
COLUMNS = (
    *("specimen", "patient", "region", "x_px", "y_px", "x_um", "y_um"),
    *("area_um2", PROBABILITY),
    *("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"),
    *(AGREE, DISTANCE, SHARE),
)


def predicted_regions(
    maps: Mapping[str, Float32],
    extrapolated: Mask,
    placing: Placing,
    pixel_um: PixelSize,
    *,
    least_um2: float,
    thresholds: Mapping[str, float] | None = None,
    least_probability: float | None = None,
    among: Mask | None = None,
) -> list[Found]:
    """Find regions that the predictors together call cancer.

    Parameters
    ----------
    maps : mapping of str to (y, x) float32
        Probabilities by predictor, NaN where there are none.
    extrapolated : (y, x) bool
        Pixels unlike those of the training.
    placing : (3, 3) float64, or GridMap
        Pixel index to level-0 pixels.
    pixel_um : PixelSize
        Of the maps.
    least_um2 : float
        Of a region's area.
    thresholds : mapping of str to float, optional
        The probability from which on a predictor calls a pixel; default 0.5. Of several, each
        probability is moved so that its threshold is at 0.5, and their mean is cut there: a common
        shift of log-odds and thresholds changes nothing.
    least_probability : float, optional
        What the predictors' mean probability is to reach in place of that.
    among : (y, x) bool, optional
        Only these pixels.

    Returns
    -------
    list of Found
        The largest first; `values` has ``mean_probability``, the mean of every predictor, ``agree``
        (predictors whose mean reaches it) and ``extrapolated_share``.
    """
    together = consensus(maps)
    cuts = {name: (thresholds or {}).get(name, 0.5) for name in maps}
    with np.errstate(invalid="ignore"):
        if least_probability is None:
            about = [moved(values, cuts[name], 0.5) for name, values in maps.items()]
            mask = np.mean(about, axis=0) >= 0.5
        else:
            cuts = dict.fromkeys(maps, least_probability)
            mask = together >= np.float32(least_probability)
    if among is not None:
        mask = mask & among
    measures = {PROBABILITY: together, **maps, SHARE: extrapolated.astype(np.float32)}
    found = find_regions(mask, placing, pixel_um, measures, least_um2=least_um2)
    return [_with(f, AGREE, sum(f.values[m] >= cuts[m] for m in maps)) for f in found]


def secondary_regions(
    maps: Mapping[str, Float32],
    cancer: Float32,
    extrapolated: Mask,
    placing: Placing,
    pixel_um: PixelSize,
    *,
    least_um2: float,
    thresholds: Mapping[str, float] | None = None,
    least_probability: float | None = None,
) -> list[Found]:
    """Find the regions of `predicted_regions` that lie outside the annotation.

    A pixel is outside where less than half of it is annotated cancer, and the annotation says
    something of it. ``distance_um`` is that between the centres of the nearest pixels of the region
    and of annotated cancer (NaN where nothing is annotated): one pixel for a region that adjoins,
    which may be no more than an imprecise border.

    Parameters
    ----------
    maps, extrapolated, placing, pixel_um, least_um2, thresholds, least_probability
        As for `predicted_regions`.
    cancer : (y, x) float32
        Annotated fraction of each pixel, NaN where the annotation says nothing.

    Returns
    -------
    list of Found
        By area times mean probability, the largest product first.
    """
    known = np.isfinite(cancer)
    annotated = known & (cancer >= ANNOTATED)
    found = predicted_regions(
        maps,
        extrapolated,
        placing,
        pixel_um,
        least_um2=least_um2,
        thresholds=thresholds,
        least_probability=least_probability,
        among=known & ~annotated,
    )
    away = _away(annotated, pixel_um)
    placed = [_with(f, DISTANCE, float(away[f.block.slices][f.mask].min())) for f in found]
    return sorted(placed, key=lambda f: -f.area_um2 * f.values[PROBABILITY])


def table(
    specimen: str,
    patient: str,
    found: list[Found],
    placing: Placing,
    mpp: PixelSize,
) -> pd.DataFrame:
    """Tabulate secondary regions.

    Parameters
    ----------
    specimen
        Its name.
    patient
        The specimen's patient.
    found
        The regions, as of `secondary_regions`.
    placing
        (3, 3) float64, or GridMap: pixel index to level-0 pixels.
    mpp
        Size of a level-0 pixel, µm.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`, a row a region: numbered from 1, at its centroid in level-0 pixels and µm.
    """
    rows = []
    for i, region in enumerate(found, start=1):
        x, y = region.centroid(placing)
        place = {"x_px": x, "y_px": y, "x_um": x * mpp.x, "y_um": y * mpp.y}
        names = {"specimen": specimen, "patient": patient, "region": i}
        rows.append({**names, **place, "area_um2": region.area_um2, **region.values})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"region": int, AGREE: int})


def _away(annotated: Mask, pixel_um: PixelSize) -> NDArray[np.float64]:
    """µm from every pixel to the nearest annotated one, centre to centre."""
    if not annotated.any():
        return np.full(annotated.shape, np.nan)
    return np.asarray(ndimage.distance_transform_edt(~annotated, sampling=pixel_um))


def _with(found: Found, name: str, value: float) -> Found:
    return replace(found, values={**found.values, name: value})
