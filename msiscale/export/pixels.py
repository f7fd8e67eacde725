"""Pixels of a specimen as rows of a table, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from msiscale.export.layers import ions, maps, predicted_ions
from msiscale.export.source import ExportSpecimen
from msiscale.grid import Block
from msiscale.placing import places


def pixel_rows(
    source: ExportSpecimen, cell: Block, wanted: NDArray[np.bool_], mz: Sequence[float] = ()
) -> pd.DataFrame:
    """The rows of a cell, in raster order.

    Parameters
    ----------
    source, cell
        The specimen, and the part of its grid.
    wanted
        (y, x) bool, of the whole grid: its `rows`.
    mz
        Also measured and predicted intensities of these, in columns ``mz_…``, ``predicted_mz_…``.

    Returns
    -------
    pandas.DataFrame
        ``specimen``, ``patient``; ``y``, ``x`` (pixel index, int32); ``y_um``, ``x_um`` (on the
        MSI), ``slide_y_um``, ``slide_x_um`` (from the slide's corner), of pixel centres, float64;
        ``tissue``; ``annotated`` (fraction) and the predicted probabilities, float32.
    """
    here = np.nonzero(wanted[cell.slices])
    y, x = here[0] + cell.y0, here[1] + cell.x0
    on_slide = places(source.placing_um, np.column_stack([x, y]))
    table = pd.DataFrame(
        {
            "specimen": pd.Categorical([source.name] * len(y), categories=[source.name]),
            "patient": pd.Categorical([source.patient] * len(y), categories=[source.patient]),
            "y": y.astype(np.int32),
            "x": x.astype(np.int32),
            "y_um": (y + 0.5) * source.pixel_um.y,
            "x_um": (x + 0.5) * source.pixel_um.x,
            "slide_y_um": on_slide[:, 1],
            "slide_x_um": on_slide[:, 0],
        }
    )
    if source.cohort is not None:
        table["tissue"] = source.cohort.tissue[y, x]
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
