"""Maps and ion images of a specimen, read block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from msiscale.export.source import ExportSpecimen
from msiscale.grid import Block
from msiscale.store import nearest_column

Float32 = NDArray[np.float32]
PREDICTED = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")


@dataclass(frozen=True)
class Layer:
    """An image with channels on the grid of a specimen.

    Attributes
    ----------
    name
        Of the image.
    channels
        Their names, in order.
    limits
        (low, high) of its values as shown, or None.
    read
        Block of pixels -> (h, w, channel) float32, NaN where unknown.
    """

    name: str
    channels: tuple[str, ...]
    limits: tuple[float, float] | None
    read: Callable[[Block], Float32]


def maps(source: ExportSpecimen) -> Layer | None:
    """``cancer``: the annotated fraction and the predicted probabilities; None without any."""
    found = []
    if source.cohort is not None and np.isfinite(source.cohort.cancer).any():
        found.append(("annotated", source.cohort.array("cancer")))
    if (there := source.predictions) is not None:
        found += [(name, there.array(name)) for name in PREDICTED if name in there]
    if not found:
        return None

    def values(block: Block) -> Float32:
        return np.stack([np.asarray(a[block.slices], np.float32) for _, a in found], axis=-1)

    return Layer("cancer", tuple(name for name, _ in found), (0.0, 1.0), values)


def ions(source: ExportSpecimen, mz: Sequence[float]) -> Layer | None:
    """``ions``: normalised intensities as measured; None for a slide without MSI."""
    if source.cohort is None or not mz:
        return None
    columns = [nearest_column(source.mz, value) for value in mz]
    array = source.cohort.intensity

    def values(block: Block) -> Float32:
        every = [np.asarray(array[(*block.slices, c)], np.float32) for c in columns]
        return np.stack(every, axis=-1)

    return Layer("ions", tuple(named(source.mz[columns])), None, values)


def predicted_ions(source: ExportSpecimen, mz: Sequence[float]) -> Layer | None:
    """``predicted_ions``: from the H&E, NaN also for an m/z that the fold leaves out."""
    held = source.held
    if held is None or not mz:
        return None
    places = [np.flatnonzero(np.isclose(held.mz, value, rtol=1e-9, atol=0)) for value in mz]
    known = [i for i, place in enumerate(places) if place.size]
    columns = [int(places[i][0]) for i in known]

    def values(block: Block) -> Float32:
        out = np.full((*block.shape, len(mz)), np.nan, np.float32)
        out[..., known] = np.maximum(held.block(block, columns), np.float32(0))
        return out

    return Layer("predicted_ions", tuple(named(mz)), None, values)


def named(mz: Sequence[float] | NDArray[np.float64]) -> list[str]:
    """Name m/z by four decimals, or by as many as tell them apart.

    Parameters
    ----------
    mz
        (k,) float64.

    Returns
    -------
    list of str
        One for each.
    """
    for digits in range(4, 13):
        names = [f"{value:.{digits}f}" for value in mz]
        if len(set(names)) == len(names):
            return names
    return [f"{value!r}" for value in map(float, mz)]
