"""Predicted cancer as regions, out of fold: outlines for QuPath, and a table of what lies outside
the annotation."""

from __future__ import annotations

from typing import Any

import pandas as pd

from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.models.novelty import Limits
from msiscale.pipeline.context import Run
from msiscale.pipeline.model import MODELS
from msiscale.pipeline.novelty import extrapolated
from msiscale.pipeline.pixel_rows import sound
from msiscale.pipeline.tasks import Task
from msiscale.prediction.regions import PREDICTED, SECONDARY, write_regions
from msiscale.prediction.secondary import COLUMNS, predicted_regions, secondary_regions, table
from msiscale.store import at_once, join, open_group, placing_of, read, read_csv, remove, write_csv

TABLE = "secondary_regions.csv"


def regions(run: Run) -> None:
    """``regions/<specimen>.geojson`` of every specimen, and ``secondary_regions.csv``."""
    fitted = [s for s in run.specimens() if _held_out(run, s)]
    if not fitted:
        run.say("regions: no specimen has a prediction out of fold, so there is nothing to outline")
        run.forget("regions", ["cohort"])
        remove(join(run.out, TABLE))  # of an earlier cohort
        return
    limits = Limits.load(open_group(join(run.out, "model.zarr", "novelty")))
    part = run.config.part("region_probability", "region_um2")
    keys = {}
    for s in fitted:
        keys[s.name] = run.key("regions", [run.stamp(p, s) for p in ("fit", "register")], part)

    def task(specimen: Specimen) -> Task:
        args = (run.out, specimen, limits, run.config)
        return Task(specimen.name, specimen.name, _regions, args)

    run.each("regions", keys, task, among=fitted)
    kept = [s for s in fitted if s.name not in run.failed]
    key = run.key("regions", [[s.name, keys[s.name]] for s in kept])
    if run.done("regions", "cohort", key):
        return
    with run.making("regions", key) as record:
        tables = at_once(lambda s: read_csv(_table_url(run.out, s)), kept)
        filled = [t for t in tables if len(t)]
        found = pd.concat(filled) if filled else pd.DataFrame(columns=list(COLUMNS))
        write_csv(join(run.out, TABLE), found, digits=7)
        record["regions"] = len(found)


def _held_out(run: Run, specimen: Specimen) -> bool:
    """Whether there are maps of cancer by a fold that left the specimen's patient out."""
    if not run.is_done("fit", specimen.name):
        return False
    return f"{specimen.name}/{MODELS[0]}" in open_group(run.predictions_url)


def _table_url(out: str, specimen: Specimen) -> str:
    return join(out, "regions", f"{specimen.name}.csv")


def _regions(out: str, specimen: Specimen, limits: Limits, config: RunConfig) -> dict[str, Any]:
    """One specimen's outlines, and its rows of the table; none without an annotation."""
    root = join(out, "predictions.zarr")
    with sound(root, specimen.name):
        group = open_group(join(root, specimen.name))
        source = open_group(join(out, "cohort.zarr", specimen.name))
        maps = {name: read(group, name) for name in MODELS}
        thresholds: Any = group.attrs.get("thresholds")
        if thresholds is None:
            raise InputError(f"{out}: fitted by an earlier version; run msiscale fit again")
        unlike = extrapolated(join(root, specimen.name), limits)
        cancer = read(source, "cancer")
    facts: dict[str, Any] = dict(source.attrs)
    placing, pixel_um = placing_of(source), PixelSize.of(facts["pixel_um"])
    words: dict[str, Any] = {
        "thresholds": thresholds,
        "least_probability": config.region_probability,
        "least_um2": config.region_um2,
    }
    whole = predicted_regions(maps, unlike, placing, pixel_um, **words)
    other = secondary_regions(maps, cancer, unlike, placing, pixel_um, **words)
    named = {
        kind: [(f"{specimen.name} {i}", region) for i, region in enumerate(found, start=1)]
        for kind, found in ((PREDICTED, whole), (SECONDARY, other))
    }
    x, y = facts.get("origin", (0.0, 0.0))
    write_regions(join(out, "regions", f"{specimen.name}.geojson"), named, (x, y))
    rows = table(specimen.name, specimen.patient, other, placing, PixelSize.of(facts["mpp"]))
    write_csv(_table_url(out, specimen), rows, digits=7)
    area = sum(f.area_um2 for f in other)
    return {"regions": len(whole), "secondary": len(other), "secondary_um2": area}
