"""The demo: a phantom cohort, every stage, a report; offline, minutes on two cores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msiscale.config import RunConfig
from msiscale.pipeline import Result, run
from msiscale.simulate import simulate

# 1 µm a pixel is what the phantom slides hold
DEMO = RunConfig(mpp=1.0, window=1280, components=50)


def demo(out: str | Path = "demo", *, specimens: int = 6, seed: int = 0, **words: Any) -> Result:
    """Simulate a cohort in `out`, run every stage on it, and report (`words` as `msiscale.run`)."""
    folder = Path(out) / "cohort"
    manifest = folder / "manifest.csv"
    if not manifest.exists():  # written last
        simulate(folder, specimens=specimens, seed=seed, workers=2)
    return run(str(manifest), str(Path(out) / "run"), config=DEMO, **words)
