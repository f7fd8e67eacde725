"""``msiscale fuse``: the measured ion images of a run sharpened with the H&E, by several methods.

Works on what a run has ingested, registered and extracted. A specimen is one task a stage; what
was finished is not done again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from msiscale.cluster import Where, WhereWords, connect
from msiscale.cohort import Specimen, read_manifest
from msiscale.config import RunConfig, kept_options, permitted
from msiscale.errors import InputError
from msiscale.fusion import DEFAULT, METHODS
from msiscale.fusion.restoring import RESIDUAL, model_of
from msiscale.fusion.variables import parts_of
from msiscale.pipeline import fuse_tasks
from msiscale.pipeline.context import Run, say
from msiscale.pipeline.fuse_specimen import FusedSpecimen
from msiscale.pipeline.fuse_tasks import CONSISTENCY, METRICS
from msiscale.pipeline.places import files_of, located
from msiscale.pipeline.progress import specimens
from msiscale.pipeline.stages import stage_named, stage_of
from msiscale.pipeline.tasks import Task
from msiscale.store import Ledger, absolute, at_once, join, open_group, read, write_csv
from msiscale.store.lease import held
from msiscale.store.seen import check_seen

NEEDED = stage_named("fuse").before
MOST_PARTS = 32  # of an MSI pixel on the fine grid, and of a degraded one, each way
COLUMNS = ["specimen", "method", "factor", "mz", "metric", "value"]


@dataclass(frozen=True)
class Fused:
    """What was done: `table` is ``fusion.csv``, `failed` the specimens that were set aside."""

    out: str
    table: pd.DataFrame
    failed: dict[str, str] = field(default_factory=dict)

    def summary(self) -> list[str]:
        """Lines for the user: each factor's methods, by their mean over ions and specimens."""
        lines = []
        for factor, rows in self.table[self.table["factor"] > 1].groupby("factor"):
            means = rows.groupby(["method", "metric"])["value"].mean().unstack()
            wins, images = winners(rows), len(rows[["specimen", "mz"]].drop_duplicates())
            lines.append(f"degraded {factor}x and restored: means over {images} ion images")
            for method in means.sort_values("correlation", ascending=False).index:
                found = means.loc[method]
                lines.append(
                    f"  {method:<18} correlation {found['correlation']:.3f}  "
                    f"rmse {found['rmse']:.3f}  ssim {found['ssim']:.3f}  "
                    f"means off by {found['consistency_rmse']:.3f}  "
                    f"best for {wins.get(method, 0)} of {images} images"
                )
        return [*lines, f"scores: {join(self.out, 'fusion.csv')}"]


def winners(rows: pd.DataFrame) -> dict[str, int]:
    """How many ion images (of a specimen) each method restored with the highest correlation."""
    found = rows[rows["metric"] == "correlation"].dropna()
    best = found.loc[found.groupby(["specimen", "mz"])["value"].idxmax(), "method"]
    return {str(k): int(v) for k, v in best.value_counts().items()}


def fuse(
    manifest: str,
    out: str,
    *,
    factors: Sequence[float] = (2, 4, 8),
    methods: Sequence[str] | None = None,
    ions: str | int | Sequence[float] = 20,
    pixel_um: float | None = None,
    scores_only: bool = False,
    consistent: bool = False,
    weights: str | None = None,
    encoder: str | None = None,
    where: Where | None = None,
    debug: bool = False,
    **words: Unpack[WhereWords],
) -> Fused:
    """Degrade the MSI of a run, restore it by each method and score that; then sharpen it.

    Parameters
    ----------
    manifest, out
        Of a run whose stages ingest, register and features are done.
    factors
        By which the MSI is degraded; whole numbers of 2 to 32.
    methods
        Out of `msiscale.fusion.METHODS`; default all but PLS on deep features.
    ions
        How many, those with the most spatial structure (the share of their variance that is left
        after 2 x 2 pixels became one, mean over the specimens); or their m/z; or either as text.
        An m/z in a text of one has a decimal point.
    pixel_um
        Pixels of the sharpened images, at most this many µm: an MSI pixel is cut into 2, 4, 8, ...
        each way. Default a quarter of the MSI pixel.
    scores_only
        Do not write sharpened images.
    consistent
        Make the mean of the parts of each measured pixel what it measured, in what is restored and
        in what is sharpened.
    weights
        The encoder's weights file, where that of the run has moved.
    encoder
        The run's own encoder again, where it is code of the user's (``own:MODULE:FUNCTION``).
    where, **words
        Where it runs, and its fields by name, which win; default: as Dask is configured, else here.
    debug
        Raise unexpected errors with their traceback in place of setting the specimen aside.

    Returns
    -------
    Fused
        What was written, and the specimens that failed.

    Raises
    ------
    InputError
        A choice cannot be used, `out` holds no run, or no specimen has finished the stages.
    """
    where = dataclasses.replace(where or Where(), **words)
    wanted = _factors(factors)
    chosen = _methods(methods)
    if pixel_um is not None and not 0 < pixel_um < float("inf"):
        raise InputError(f"--pixel-um {pixel_um}: give a positive number of micrometres")
    asked = _ions(ions)
    given, out = out, absolute(out)
    config = located(_config(out, weights, encoder))
    cohort = read_manifest(absolute(manifest))
    with held(out, say=say) as lease, connect(where) as client:
        lease = check_seen(client, files_of(cohort, config), lease)
        run = Run(out, cohort, config, lambda: client, lease, debug=debug)
        _set_aside(run)
        columns = _columns(run, asked)
        fused = {s.name: _place(run, s, columns, pixel_um, scores_only) for s in run.specimens()}
        keys = _keys(run, fused)
        _each(run, "fusion_inputs", _fine_keys(run, keys, fused), fused, fuse_tasks.inputs)
        # the MSI's own numbers do not depend on how finely a pixel is cut, unless the raster does
        facts = wanted, chosen, config.alphas, consistent
        scored = {n: run.key("fuse", k, *facts) for n, k in keys.items()}
        _each(run, "fuse", scored, fused, fuse_tasks.restoring, wanted, chosen, consistent)
        fine: dict[str, str] = {}
        if not scores_only:
            open_group(join(out, "fusion.zarr"), "a")
            part = config.part("encoder", "mpp", "precision") | {"window": config.pixels_a_window}
            fine = {n: run.key("fused", scored[n], one.parts, part) for n, one in fused.items()}
            _each(run, "fused", fine, fused, fuse_tasks.sharpening, chosen, consistent)
        table = _table(run, fused, wanted, chosen, run.key("fusion", scored, fine), bool(fine))
    return Fused(given, table, run.failed)


def _factors(factors: Sequence[float]) -> tuple[int, ...]:
    found = tuple(sorted({int(f) for f in factors}))
    if not found or any(f != int(f) or not 2 <= f <= MOST_PARTS for f in factors):
        given = ",".join(f"{f:g}" for f in factors)
        raise InputError(f"--factors {given}: give whole numbers of 2 to {MOST_PARTS}, as 2,4,8")
    return found


def _methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    if methods is None:
        return DEFAULT
    for method in methods:
        if method not in METHODS:
            raise InputError(f"--methods {method}: not one of {', '.join(METHODS)}")
    if not methods:
        raise InputError("--methods: give one or more")
    # what adds a residual needs the images of the model itself
    needed = {*methods, *(str(model_of(m)) for m in methods if m.endswith(RESIDUAL))}
    return tuple(m for m in METHODS if m in needed)


def _ions(ions: str | int | Sequence[float]) -> int | tuple[float, ...]:
    """How many, or which m/z."""
    if isinstance(ions, str):
        words = [w.strip() for w in ions.split(",") if w.strip()]
        if len(words) == 1 and words[0].isdigit():
            return _ions(int(words[0]))
        try:
            return _ions([float(w) for w in words])
        except ValueError:
            raise InputError(f"--ions {ions}: give a number of ions, or m/z with commas") from None
    if isinstance(ions, int):
        if ions < 1:
            raise InputError(f"--ions {ions}: give 1 or more, or m/z")
        return ions
    if not len(ions):
        raise InputError("--ions: give a number of ions, or m/z with commas")
    return tuple(float(m) for m in ions)


def _config(out: str, weights: str | None, encoder: str | None) -> RunConfig:
    """The choices of the run."""
    plan = Ledger(out).plan()
    if plan is None or "parameters" not in plan:
        raise InputError(f"{out}: no run there; start one with msiscale run MANIFEST --out {out}")
    chosen = kept_options(plan["parameters"])
    chosen["encoder"] = permitted(chosen.get("encoder", RunConfig.encoder), encoder, out)
    if weights:
        chosen["weights"] = weights
    return RunConfig(**chosen)


def _set_aside(run: Run) -> None:
    """Those with a stage missing are left out; nothing is recorded of them."""
    run.failed.update(run.cohort.problems)
    why = ""
    for specimen in list(run.specimens()):
        missing = next((p for p in NEEDED if not run.is_done(p, specimen.name)), None)
        if missing:
            name = stage_of(missing)
            why = f"stage {name} is not done; run msiscale {name} first"
            run.failed[specimen.name] = why
    if not list(run.specimens()):
        why = why or "no row of the manifest can be used"
        raise InputError(f"{run.out}: {why} (with the same manifest and --out)")


def _keys(run: Run, fused: dict[str, FusedSpecimen]) -> dict[str, str]:
    found = {}
    for name, one in fused.items():
        stamps = [run.upstream(s, one.specimen)["digest"] for s in NEEDED]
        least = run.config.part("min_coverage")
        found[name] = run.key("fusion", stamps, least, one.columns, one.per_pixel)
    return found


def _fine_keys(run: Run, keys: dict[str, str], fused: dict[str, FusedSpecimen]) -> dict[str, str]:
    return {n: run.key("fusion_inputs", keys[n], one.parts) for n, one in fused.items()}


def _each(
    run: Run,
    stage: str,
    keys: dict[str, str],
    fused: dict[str, FusedSpecimen],
    work: Any,
    *words: Any,
) -> None:
    run.say(f"{stage} ({specimens(len(list(run.specimens())))})")

    def task(specimen: Specimen) -> Task:
        args = (fused[specimen.name], run.config, *words)
        return Task(specimen.name, specimen.name, work, args)

    run.each(stage, keys, task)


def _place(
    run: Run,
    specimen: Specimen,
    columns: tuple[int, ...],
    pixel_um: float | None,
    scores_only: bool,
) -> FusedSpecimen:
    own = max(run.upstream("peaks", specimen)["pixel_um"])
    wanted = own if scores_only else (pixel_um or own / 4)
    parts = parts_of(own, wanted)
    if parts > MOST_PARTS:
        raise InputError(
            f"--pixel-um {wanted:g}: the MSI pixel of {specimen.name} is {own:g} µm; "
            f"give {own / MOST_PARTS:g} or more"
        )
    if pixel_um and not scores_only and abs(own / parts - pixel_um) > 1e-6 * pixel_um:
        run.say(f"{specimen.name}: pixels of {own / parts:g} µm, as {own:g} / {parts}")
    return FusedSpecimen(run.out, specimen, columns, parts)


def _columns(run: Run, asked: int | tuple[float, ...]) -> tuple[int, ...]:
    """Columns of the axis, ascending."""
    first = run.stored(next(run.specimens()))
    if isinstance(asked, tuple):
        return tuple(sorted({first.column(value) for value in asked}))
    facts = run.config.part("min_coverage")
    keys = {
        s.name: run.key("fusion_ions", [run.upstream(n, s)["digest"] for n in NEEDED], facts)
        for s in run.specimens()
    }

    def task(s: Specimen) -> Task:
        args = (run.cohort_url, run.state_url, s.name, run.config)
        return Task(s.name, s.name, fuse_tasks.structure, args)

    run.each("fusion_ions", keys, task)
    _some_left(run)
    urls = [join(run.state_url, s.name, "fusion") for s in run.specimens()]
    total = np.sum(at_once(lambda url: read(open_group(url), "structure"), urls), axis=0)
    order = np.argsort(-total, kind="stable")[: min(asked, len(first.mz))]
    return tuple(sorted(int(i) for i in order))


def _some_left(run: Run) -> None:
    if not list(run.specimens()):
        why = next(iter(run.failed.values()), "no specimen")
        raise InputError(f"{run.out}: nothing is left to fuse: {why}")


def _table(
    run: Run,
    fused: dict[str, FusedSpecimen],
    factors: Sequence[int],
    methods: Sequence[str],
    key: str,
    sharpened: bool,
) -> pd.DataFrame:
    """``fusion.csv``: a row a number; those of factor 1 are of the MSI's own resolution."""
    parts = [pd.DataFrame(columns=COLUMNS)]
    for specimen in run.specimens():
        one = fused[specimen.name]
        for factor, pixels in run.upstream("fuse", specimen)["left_out"].items():
            run.say(f"{specimen.name}: {factor}x leaves {pixels} pixels, too few for a regression")
        mz = one.stored.mz[list(one.columns)]
        group = open_group(join(one.state_url, "fusion"))
        scores = read(group, "scores")
        if sharpened:
            at = [METRICS.index(name) for name in CONSISTENCY]
            scores[:, 0, at] = read(group, "consistency")
        index = pd.MultiIndex.from_product(
            [[specimen.name], methods, [1, *factors], METRICS, mz],
            names=["specimen", "method", "factor", "metric", "mz"],
        )
        parts.append(pd.Series(scores.ravel(), index, name="value").dropna().reset_index())
    table = pd.concat(parts[1:] or parts)[COLUMNS].reset_index(drop=True)
    with run.making("fusion", key, "fuse"):
        write_csv(join(run.out, "fusion.csv"), table, digits=12)
    return table
