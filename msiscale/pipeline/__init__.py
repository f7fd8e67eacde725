"""The stages over a cohort."""

from msiscale.pipeline.driver import Result, run
from msiscale.pipeline.stages import STAGES

__all__ = ["STAGES", "Result", "run"]
