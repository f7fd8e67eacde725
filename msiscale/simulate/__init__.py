"""Phantom cohorts with known truth, from nothing or on real slides."""

from __future__ import annotations

from msiscale.simulate.cohort import FORMS, simulate

__all__ = ["FORMS", "simulate"]
