"""A table of transforms, one row a section, as other registration tools leave them.

Tools differ in what their numbers mean: which way a transform goes, what a pixel is called, at
which magnification the slide was. A table does not say it, so the caller must (`Convention`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from msiscale.errors import InputError
from msiscale.grid import Floats, as_matrix, scaling, translation
from msiscale.store import join, open_file, write_json

AFFINE = ("m11", "m12", "m13", "m21", "m22", "m23")  # x' = m11 x + m12 y + m13, y' = m21 x + …


@dataclass(frozen=True)
class Convention:
    """What the numbers of a transform mean."""

    # coordinate, in MSI pixels, of the centre of the pixel at imzML position 1: 1 for the positions
    # of the file, 0 for indices, 0.5 where pixels cover 0 to 1
    msi_first: float = 0.0
    msi_um: float | None = None  # its MSI coordinates are µm: the size of a pixel
    slide_downsample: float = 1.0  # level-0 pixels a slide pixel, such as 4 when made at a quarter
    slide_mpp: float | None = None  # its slide coordinates are µm: µm a level-0 pixel
    slide_centres: bool = False  # the first slide pixel has its centre, not its corner, at 0
    inverse: bool = False  # it takes the slide to the MSI
    rows_first: bool = False  # points are (y, x)


def read_transforms(
    path: str, *, section: str = "section", columns: Sequence[str] = AFFINE
) -> dict[str, Floats]:
    """The affine transforms of a CSV, by section.

    Parameters
    ----------
    path : str
        Path or URL.
    section : str
        The column of names.
    columns : sequence of str
        Six of the first two rows of the matrix, row by row, or nine of all three.

    Returns
    -------
    dict of str to float64 (3, 3), as the table has them; see `to_level0`

    Raises
    ------
    InputError
        No CSV, a column that is missing, a name that is missing or twice, no affine matrix.
    """
    if len(columns) not in (6, 9):
        raise InputError(f"{path}: {len(columns)} columns of a matrix; give 6, or 9, row by row")
    try:
        with open_file(path) as file:
            table = pd.read_csv(
                file, dtype=str, keep_default_na=False, skipinitialspace=True, encoding="utf-8-sig"
            ).rename(columns=lambda name: str(name).strip())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the table of transforms as CSV") from None
    except ValueError:  # pandas' own errors, and that of UTF-8
        raise InputError(f"{path}: not a CSV table in UTF-8; save it as one") from None
    for name in (section, *columns):
        if name not in table.columns:
            there = ", ".join(table.columns[:12])
            raise InputError(f"{path}: no column {name!r}; it has {there}; name those that it has")
    found: dict[str, Floats] = {}
    for number, row in enumerate(table.to_dict("records"), start=2):
        name = str(row[section]).strip()
        if not name or name in found:
            what = f"{name!r} is there twice" if name else f"no {section!r}"
            raise InputError(f"{path}: row {number}: {what}; give each section one row")
        try:
            values = [float(row[c]) for c in columns]
            rows = values if len(values) == 9 else [*values, 0.0, 0.0, 1.0]
            found[name] = as_matrix([rows[:3], rows[3:6], rows[6:]])
        except ValueError as error:
            raise InputError(f"{path}: row {number} ({name}): {error}; correct it") from None
    return found


def to_level0(transform: Floats, origin: tuple[int, int], convention: Convention) -> Floats:
    """The matrix of a manifest: MSI pixel index to level-0 pixels (see `msiscale.grid`).

    Parameters
    ----------
    transform : float64 (3, 3)
        As the table has it.
    origin : (int, int)
        Position (y, x) in the imzML of the first measured row and column, from which indices count:
        ``open_msi(path).attrs["origin"]``.
    convention : Convention
        What its numbers mean.

    Returns
    -------
    float64 (3, 3)
    """
    matrix: Floats = as_matrix(transform)
    if convention.rows_first:
        swap = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
        matrix = swap @ matrix @ swap
    if convention.inverse:
        matrix = np.asarray(np.linalg.inv(matrix), float)
    first = [n - 1 + convention.msi_first for n in origin]
    from_index = scaling(convention.msi_um or 1.0) @ translation(first[1], first[0])
    downsample = convention.slide_downsample
    if convention.slide_mpp is not None:
        downsample = 1 / convention.slide_mpp
    half = translation(0.5, 0.5) if convention.slide_centres else np.eye(3)
    return as_matrix(scaling(downsample) @ half @ matrix @ from_index)


def write_matrices(folder: str, matrices: Mapping[str, Floats]) -> dict[str, str]:
    """Write a JSON file for each section, for the manifest's column ``matrix``.

    Parameters
    ----------
    folder
        Folder or URL to write to.
    matrices
        Name of a section -> (3, 3) float64, such as from `to_level0`.

    Returns
    -------
    dict of str to str
        Name of a section -> path of its file.
    """
    paths = {name: join(folder, f"{name}.json") for name in matrices}
    for name, matrix in matrices.items():
        write_json(paths[name], matrix.tolist())
    return paths
