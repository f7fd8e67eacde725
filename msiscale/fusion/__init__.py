"""Fusion of ion images with a guide of finer resolution: the methods the study is compared with."""

from __future__ import annotations

from msiscale.fusion.consistency import consistency, make_consistent
from msiscale.fusion.restoring import (
    DEFAULT,
    METHODS,
    Fine,
    Fit,
    InMemory,
    Measured,
    fit,
    measured_grid,
    restore,
    score,
)
from msiscale.fusion.scores import Scores

__all__ = [
    "DEFAULT",
    "METHODS",
    "Fine",
    "Fit",
    "InMemory",
    "Measured",
    "Scores",
    "consistency",
    "fit",
    "make_consistent",
    "measured_grid",
    "restore",
    "score",
]
