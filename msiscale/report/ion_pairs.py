"""The ion images that H&E predicts best, measured beside predicted, on the first screen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from msiscale.report.apart import is_apart
from msiscale.report.data import Results
from msiscale.report.ion_gallery import scored
from msiscale.report.thumbnails import SIDE, SIDE_OF_MANY, Map, ion_pair

MOST = 6  #: pairs
_ISOTOPE, _NEAR = 1.00335, 0.01  # of 13C above 12C, in m/z


@dataclass(frozen=True)
class Pair:
    """An ion: its m/z, its name, how well it is predicted, and both images."""

    mz: float
    name: str
    score: str
    maps: dict[str, Map]


@dataclass(frozen=True)
class Pairs:
    """The best ions in one specimen; `width` and `height` are of every image, in its pixels."""

    specimen: str
    width: int
    height: int
    pairs: list[Pair]


def best_pairs(results: Results) -> Pairs | None:
    """Of the first specimen that was held out; None where no ion is scored."""
    table = _apart(scored(results))
    if table.empty:
        return None
    for name in results.used:
        held = results.held_out(name)
        if held is not None:
            break
    else:
        return None
    side = SIDE_OF_MANY if is_apart(results) else SIDE
    step = max(1, -(-max(held.shape) // side))
    pairs = []
    for row in table.to_dict("records"):
        tier = str(row.get("tier") or "")
        words = [f"r {row['pearson']:.2f}", f"tier {tier}" if tier else ""]
        colour = row.get("colour_pearson", math.nan)
        words.append(f"colour alone {colour:.2f}" if math.isfinite(colour) else "")
        called = str(row.get("identification") or "")
        mz = float(row["mz"])
        pairs.append(Pair(mz, called, ", ".join(filter(None, words)), ion_pair(held, mz, step)))
    height, width = (-(-n // step) for n in held.shape)
    return Pairs(name, width, height, pairs)


def _apart(table: pd.DataFrame) -> pd.DataFrame:
    """The first `MOST` rows of which none is an isotope peak of one before it."""
    kept: list[int] = []
    taken: list[float] = []
    for i, mz in enumerate(table["mz"].astype(float)):
        if all(abs(abs(mz - other) - _ISOTOPE) > _NEAR for other in taken):
            kept.append(i)
            taken.append(mz)
        if len(kept) == MOST:
            break
    return table.iloc[kept]
