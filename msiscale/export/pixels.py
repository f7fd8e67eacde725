"""Pixels of a specimen as rows of a table, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale.export.layers import ions, maps, predicted_ions
from msiscale.export.source import Source
from msiscale.grid import Block, apply
from msiscale.store import array_of, read

Mask = NDArray[np.bool_]


def rows_of(source: Source) -> Mask:
    """(y, x): the pixels that are a row: measured, or of a slide without MSI predicted."""
    if source.cohort is not None:
        return source.measured
    scores = array_of(source.predicted, "predicted_scores")
    known = np.zeros(source.shape, bool)
    for cell in source.cells:
        known[cell.slices] = np.isfinite(np.asarray(scores[(*cell.slices, 0)]))
    return known


def pixel_rows(source: Source, cell: Block, wanted: Mask, mz: Sequence[float] = ()) -> pd.DataFrame:
    """The rows of a cell, in raster order.

    Parameters
    ----------
    source
    cell
    wanted : (y, x) bool
        `rows_of` it.
    mz
        Also measured and predicted intensities of these, in columns ``mz_…``, ``predicted_mz_…``.

    Returns
    -------
    Columns ``specimen``, ``patient``; ``y``, ``x`` (pixel index, int32); ``y_um``, ``x_um`` (on the
    MSI), ``slide_y_um``, ``slide_x_um`` (from the slide's corner), of pixel centres, float64;
    ``tissue``; ``annotated`` (fraction) and the predicted probabilities, float32.
    """
    y, x = (
        i + start
        for i, start in zip(np.nonzero(wanted[cell.slices]), (cell.y0, cell.x0), strict=True)
    )
    on_slide = apply(source.to_um, np.column_stack([x, y]))
    here = y - cell.y0, x - cell.x0
    table = pd.DataFrame(
        {
            "specimen": _same(source.name, len(y)),
            "patient": _same(source.patient, len(y)),
            "y": y.astype(np.int32),
            "x": x.astype(np.int32),
            "y_um": (y + 0.5) * source.pixel_um[0],
            "x_um": (x + 0.5) * source.pixel_um[1],
            "slide_y_um": on_slide[:, 1],
            "slide_x_um": on_slide[:, 0],
        }
    )
    if source.cohort is not None:
        table["tissue"] = read(source.cohort, "tissue")[y, x].astype(bool)
    for prefix, layer in (
        ("", maps(source)),
        ("mz_", ions(source, mz)),
        ("predicted_mz_", predicted_ions(source, mz)),
    ):
        if layer is not None:
            values = layer.read(cell)[here]
            for i, name in enumerate(layer.channels):
                table[f"{prefix}{name}"] = values[:, i]
    return table


def _same(text: str, n: int) -> pd.Categorical[str]:
    return pd.Categorical([text] * n, categories=pd.Index([text]))
