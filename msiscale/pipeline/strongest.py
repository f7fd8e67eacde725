"""Figures of the strongest m/z: each specimen's images and percentiles, then one figure an m/z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from msiscale.cohort import Specimen
from msiscale.pipeline.context import Run, noting
from msiscale.pipeline.tasks import Outcome, Task
from msiscale.report.biomarker_figures import BOXES, IMAGES, Seen, biomarker_figure, percentiles
from msiscale.report.drawing import png
from msiscale.store import (
    StoredSpecimen,
    at_once,
    join,
    nearest_column,
    open_group,
    put,
    read,
    write_bytes,
    written,
)

STRONGEST = 6
CANCER = 0.5  # annotated fraction of a pixel, from which it counts as cancer


def draw_strongest(
    run: Run, found: pd.DataFrame, tables: Mapping[str, pd.DataFrame], specimens: list[Specimen]
) -> None:
    """Draw ``figures/biomarker-<rank>.png`` of the first m/z of `found`, the strongest first.

    `tables` maps each specimen to its `specimen_association`. Memory: workers read the images, and
    only those that are drawn are kept.
    """
    top = found.head(STRONGEST)
    wanted = top["mz"].tolist()
    keys = {
        s.name: run.key(
            "strongest", run.upstream("association", s)["digest"], [float(m).hex() for m in wanted]
        )
        for s in specimens
    }

    def task(specimen: Specimen) -> Task:
        args = (join(run.cohort_url, specimen.name), _group(run, specimen), wanted)
        return Task(specimen.name, specimen.name, _strongest, args)

    open_group(join(run.state_url, "strongest"), "a")
    run.each("strongest", keys, task, among=specimens)
    kept = [s for s in specimens if s.name not in run.failed]
    drawn, images = kept[:BOXES], kept[:IMAGES]
    seen = at_once(lambda s: _seen(run, s, tables[s.name], s in images), drawn)
    tasks = []
    for rank, row in enumerate(top.to_dict("records")):
        url = join(run.out, "figures", f"biomarker-{rank + 1}.png")
        args = (run.lease, _figure, (url, row, [one[rank] for one in seen]))
        tasks.append(Task(f"figure/{rank + 1}", "", noting, args))
    _adopted(run, run.tasks(tasks, "biomarkers"))


def _adopted(run: Run, outcome: Outcome) -> None:
    """Take what the figures' tasks wrote for the run's own."""
    if outcome.failed:
        raise RuntimeError(f"figures of the strongest m/z: {outcome.failed['']}")
    run.account.add("biomarkers", outcome)
    for _, wrote in outcome.results.values():
        written.adopt(wrote["written"])


def _figure(url: str, row: Mapping[Any, Any], seen: list[Seen]) -> dict[str, Any]:
    write_bytes(url, png(biomarker_figure(row, seen)))
    return {}


def _group(run: Run, specimen: Specimen) -> str:
    # apart from the specimen's own: which m/z are the strongest depends on the others
    return join(run.state_url, "strongest", specimen.name)


def _strongest(url: str, target: str, wanted: list[float]) -> dict[str, Any]:
    """Images, AUCs and percentiles of the m/z `wanted`."""
    source = StoredSpecimen(url)
    cube, fraction = source.intensity, source.cancer
    known = source.tissue & np.isfinite(fraction)
    images = np.stack([np.asarray(cube[:, :, source.column(m)]) for m in wanted])
    classes = (known & (fraction >= CANCER), known & (fraction < CANCER))
    boxes = [[percentiles(image[c]) for c in classes] for image in images]
    out = open_group(target, "a")
    put(out, "image", images.astype(np.float32), ("ion", "y", "x"))
    put(out, "boxes", np.array(boxes), ("ion", "class", "percentile"))
    put(out, "mz", np.array(wanted), ("ion",), attrs={"units": "m/z"})
    return {}


def _seen(run: Run, specimen: Specimen, table: pd.DataFrame, whole: bool) -> list[Seen]:
    """What is drawn of a specimen; its images only where they are."""
    group = open_group(_group(run, specimen))
    boxes, wanted = read(group, "boxes"), read(group, "mz")
    source = run.stored(specimen)
    none = np.zeros((1, 1))
    images = read(group, "image") if whole else [none] * len(wanted)
    tissue = source.tissue if whole else none > 0
    cancer = np.nan_to_num(source.cancer) >= CANCER if whole else none > 0
    mz = table["mz"].to_numpy(float)
    auc = [float(table["auc"].iloc[nearest_column(mz, m)]) for m in wanted]
    return [
        Seen(specimen.name, specimen.patient, image, cancer, tissue, source.pixel_um, box, value)
        for image, box, value in zip(images, boxes, auc, strict=True)
    ]
