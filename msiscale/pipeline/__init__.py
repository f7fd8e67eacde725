"""The stages over a cohort."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msiscale.pipeline.stages import STAGES

if TYPE_CHECKING:
    from msiscale.pipeline.driver import Result, run

__all__ = ["STAGES", "Result", "run"]


def __getattr__(name: str) -> Any:
    # so that the command line can list the stages without what they need
    if name in __all__:
        from msiscale.pipeline import driver

        return getattr(driver, name)
    raise AttributeError(f"module 'msiscale.pipeline' has no attribute {name!r}")
