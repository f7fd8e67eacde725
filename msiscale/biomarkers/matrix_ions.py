"""Ions of a MALDI matrix, from a table of the user's."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from msiscale.errors import InputError
from msiscale.store import open_file

_NAMES = ("mol_name", "name", "ion", "adduct")


def read_matrix_ions(path: str) -> pd.DataFrame:
    """Read a table (CSV or TSV, path or URL) of matrix ions.

    Returns
    -------
    DataFrame by ascending m/z: mz (float64), name (from the column mol_name, name, ion or adduct;
    else the m/z).

    Raises
    ------
    InputError
        The file is missing, or has no column ``mz`` of positive numbers.
    """
    try:
        with open_file(path) as file:
            text = file.read().decode("utf-8-sig")
        delimiter = max(",\t;", key=text.partition("\n")[0].count)
        table = pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give a CSV with a column mz") from None
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{path}: cannot be read ({error}); give a CSV with a column mz") from None
    plain = {str(column).strip().lower().replace("/", ""): column for column in table.columns}
    if "mz" not in plain:
        raise InputError(f"{path}: no column mz; give a CSV with the m/z of matrix ions")
    mz = pd.to_numeric(table[plain["mz"]], errors="coerce").to_numpy(float)
    if not mz.size or not (np.isfinite(mz) & (mz > 0)).all():
        raise InputError(
            f"{path}: column mz: some values are not positive numbers; correct or remove those rows"
        )
    column = next((plain[n] for n in _NAMES if n in plain), None)
    names = [f"{m:.4f}" for m in mz] if column is None else table[column].fillna("").astype(str)
    found = pd.DataFrame({"mz": mz, "name": list(names)})
    return found.sort_values("mz", kind="stable", ignore_index=True)
