"""The stages over a cohort."""

from msiscale.pipeline.driver import STAGES, Result, run

__all__ = ["STAGES", "Result", "run"]
