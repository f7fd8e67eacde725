"""Of each class of lipid the ion that H&E predicts best and worst: measured beside predicted."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from msiscale.report.data import Results
from msiscale.report.drawing import extent_um, plain
from msiscale.report.ion_gallery import CLASS, draw_ion, identified, panel_size, scored

MOST = 6  #: classes of a figure, those with the most ions


def ends(table: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """Of the `MOST` classes with the most ions, the best ion and, of two or more, the worst.

    Parameters
    ----------
    table
        Rows of ``ions.csv`` with a column `CLASS`, the best first.

    Returns
    -------
    list of (class, number of its ions, its one or two rows)
        By the number of ions, and of equally many by name.
    """
    groups = sorted(table.groupby(CLASS), key=lambda group: (-len(group[1]), str(group[0])))
    return [(str(name), len(of), of.iloc[[0, -1][: len(of)]]) for name, of in groups[:MOST]]


def class_gallery(results: Results, specimen: str) -> Figure | None:
    """Best and worst ion of each class; None where no ion has a name."""
    data, held = results.cohort(specimen), results.held_out(specimen)
    table = identified(scored(results))
    if data is None or held is None or table.empty:
        return None
    rows = ends(table)
    pairs = [(_words(name, n, k), ion) for name, n, some in rows for k, ion in enumerate(_of(some))]
    extent = extent_um(held.shape, data.pixel_um)
    wide, high = panel_size(extent)
    # classes of two or more come first and fill a row each; single ions share the rows after them
    across = min(len(pairs), 2)
    down = -(-len(pairs) // 2)
    size = ((wide + 0.6) * 2 * across, (high + 0.75) * down + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(down, 2 * across)
    for i, (words, ion) in enumerate(pairs):
        row, column = divmod(i, 2)
        axes = [figure.add_subplot(grid[row, 2 * column + k]) for k in range(2)]
        draw_ion(axes, held, ion, extent, words)
    left = table[CLASS].nunique() - len(rows)
    more = f"; {left} more classes are in ions.csv" if left else ""
    title = f"{specimen}: ions by class of lipid, measured | predicted from H&E\n"
    figure.suptitle(plain(f"{title}with {results.left_out}{more}"), fontsize=10)
    return figure


def _of(some: pd.DataFrame) -> list[dict[Any, Any]]:
    return some.to_dict("records")


def _words(name: str, n: int, place: int) -> str:
    if n == 1:
        return f"{name}, its only ion:\n"
    return f"{name}, {('best', 'worst')[place]} of {n}:\n"
