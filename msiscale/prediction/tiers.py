"""The tiers that a run gave its ions, beside a model or a prediction of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msiscale.store import exists, join, read_csv

TABLE = "ions.csv"
READ = ("A", "B")  # tiers of ions that are drawn without being asked for by name


@dataclass(frozen=True, eq=False)
class Tiers:
    """Of each m/z of an axis.

    Attributes
    ----------
    tier : (mz,) str, ``A``, ``B``, ``C`` or nothing
    pearson : (mz,) float32, mean correlation within held-out patients
    name : (mz,) str, the lipid and its adduct, or nothing
    """

    tier: NDArray[np.str_]
    pearson: NDArray[np.float32]
    name: NDArray[np.str_]

    def best(self, most: int) -> list[int]:
        """Columns of the ions of `READ`, the first tier first and the best correlation first."""
        found: list[int] = []
        for tier in READ:
            of = np.flatnonzero(self.tier == tier)
            found += of[np.argsort(-self.pearson[of], kind="stable")].tolist()
        return found[:most]


def tiers_of(out: str, axis: NDArray[np.float64]) -> Tiers | None:
    """Read the tiers of the run at `out`.

    Parameters
    ----------
    out
        Folder or URL with ``ions.csv``.
    axis
        (mz,) of the model.

    Returns
    -------
    Tiers or None
        Of the first protocol of the table; None where there is no table, or one of another axis.
    """
    url = join(out, TABLE)
    if not exists(url):
        return None
    table = read_csv(url, keep_default_na=False, na_values={"patient_pearson": [""]})
    if not {"tier", "identification"} <= set(table) or table.empty:
        return None
    own = table[table["protocol"] == table["protocol"].iloc[0]]
    mz = own["mz"].to_numpy(float)
    if mz.shape != axis.shape or not np.allclose(mz, axis, rtol=1e-9):
        return None
    pearson = own["patient_pearson"].to_numpy(np.float32)
    return Tiers(own["tier"].to_numpy(str), pearson, own["identification"].to_numpy(str))
