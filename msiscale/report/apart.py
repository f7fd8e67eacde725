"""Whether the specimens of a run have pages of their own; known without what draws them."""

from __future__ import annotations

from msiscale.report.data import Results

TOGETHER = 12  #: specimens that one file holds, at most
TOGETHER_BYTES = 16 << 20  #: of them, about


def is_apart(results: Results) -> bool:
    """Whether each specimen has a page of its own."""
    if len(results.specimens) > TOGETHER:
        return True
    return sum(_about(results, name) for name in results.specimens) > TOGETHER_BYTES


def _about(results: Results, name: str) -> int:
    from msiscale.report.specimen import bounds_of  # slow to import

    data = results.cohort(name)
    if data is None or "tissue" not in data:
        return 0
    return bounds_of(data).bytes
