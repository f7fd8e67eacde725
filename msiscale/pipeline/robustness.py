"""How far the figures depend on where the slide lies, and what is left of them by chance.

Leave-one-patient-out, fitted again with features that are taken from 0.5, 1, 2 MSI pixels away
(``jitter``), from the mirrored slide (``null_registration``), or with an annotation that was moved
over the tissue as a whole (``null_labels``): it keeps its shape, and so its autocorrelation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from msiscale.cohort import Specimen
from msiscale.errors import SpecimenError
from msiscale.models import leave_one_group_out
from msiscale.models.metrics import POOLED
from msiscale.pipeline.context import Run
from msiscale.pipeline.elsewhere import HERE, Elsewhere
from msiscale.pipeline.evaluate import clear, evaluate
from msiscale.pipeline.fit import open_pixels
from msiscale.pipeline.metrics import classification, regression
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.pipeline.protocols import (
    blocks_within,
    channel_groups,
    few_folds,
    held_out_together,
    supported_columns,
)
from msiscale.pipeline.setting import Setting
from msiscale.store import at_once, digest, join, remove, write_csv

COLUMNS = ["test", "level", "draw", "model", "target", "metric", "value"]
KEPT = ("auc", "average_precision", "prevalence", "r2")
MIRRORED = ((True, True), (True, False), (False, True))  # there is no fourth


def robustness(run: Run) -> None:
    """``robustness.csv``; nothing where neither `jitter` nor `null` is asked for.

    Cost: a fit for every level of jitter and every draw. Memory: as `msiscale.pipeline.evaluate`.
    """
    config, specimens = run.config, list(run.specimens())
    patients = {s.name: s.patient for s in specimens}
    if not (config.jitter or config.null):
        return
    if len(set(patients.values())) < 2:
        run.say("robustness: there is one patient only, so nothing can be compared")
        return
    fitted = run.record("fit", "cohort") or {}
    key = run.key("robustness", fitted.get("digest"), config.part("jitter", "null"))
    if run.done("robustness", "cohort", key):
        return
    try:
        with run.making("robustness", key, redone=1):
            rows = _rows(run, specimens, patients, key)
            write_csv(join(run.out, "robustness.csv"), rows, COLUMNS, digits=12)
    except SpecimenError as error:  # its stored data are damaged
        run.set_aside("robustness", error.specimen, "", str(error))


def _rows(
    run: Run, specimens: list[Specimen], patients: dict[str, str], key: str
) -> list[dict[str, Any]]:
    """Pooled figures of each test, fitted and held out anew."""
    opened = at_once(partial(open_pixels, run), specimens)
    tables = {s.name: table for s, table in zip(specimens, opened, strict=True)}
    units, columns = held_out_together(run, specimens), supported_columns(run)
    folds = leave_one_group_out(units)
    groups = channel_groups(tables, bool(few_folds(patients, folds)))
    root, rows = join(run.state_url, "robustness"), []
    try:
        for test, level, draw, moves in tests(run, tables):
            run.say(f"robustness: {test} {level:g}" + (f", draw {draw + 1}" if draw else ""))
            moved = {n: table.moved(**moves[n]) for n, table in tables.items()}
            inner = blocks_within(moved, patients, folds, groups)
            mine = digest([key, test, level, draw])
            words: dict[str, Any] = {"below": "maps", "inner": inner, "groups": groups, "key": mine}
            words |= {"people": patients, "calibrate": None if test == "jitter" else "none"}
            setting = Setting.of_patients(test, moved, folds, units, columns, **words)
            found = evaluate(run, setting, root).evaluation
            clear(run)
            records = regression(found)
            records += classification(found) if found.truth else []
            rows += [
                {"test": test, "level": level, "draw": draw, **record}
                for record in records
                if record["specimen"] == POOLED and record["metric"] in KEPT
            ]
    finally:
        remove(root)
    return rows


Moves = dict[str, dict[str, Elsewhere]]


def tests(run: Run, tables: dict[str, PixelRows]) -> Iterator[tuple[str, float, int, Moves]]:
    """Name, level, draw, and for every specimen where its features and labels come from."""
    for level in run.config.jitter:
        yield "jitter", level, 0, {n: {"features": _away(n, level)} for n in tables}
    for draw, (y, x) in enumerate(MIRRORED if run.config.null else ()):
        mirrored = Elsewhere(flip_y=y, flip_x=x)
        yield "null_registration", 0.0, draw, {n: {"features": mirrored} for n in tables}
    for draw in range(run.config.null):
        moves = {n: {"labels": _anywhere(n, draw, t.mask.shape)} for n, t in tables.items()}
        yield "null_labels", 0.0, draw, moves


def _random(*facts: object) -> np.random.Generator:
    return np.random.default_rng(int(digest(list(facts))[:12], 16))


def _away(name: str, level: float) -> Elsewhere:
    """`level` pixels in a direction that is the specimen's own, the same for every level."""
    angle = _random("jitter", name).uniform(0, 2 * np.pi)
    if level == 0:
        return HERE
    return Elsewhere(round(level * np.sin(angle), 6), round(level * np.cos(angle), 6))


def _anywhere(name: str, draw: int, shape: tuple[int, ...]) -> Elsewhere:
    """Moved by a quarter of the image at least, mirrored by chance."""
    random = _random("null", name, draw)
    dy, dx = (int(random.integers(n // 4, n - n // 4 + 1)) for n in shape)
    return Elsewhere(dy, dx, bool(random.integers(2)), bool(random.integers(2)))
