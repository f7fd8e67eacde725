"""Specimens that leave a cohort: out of what a run presents, or out of its store altogether."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msiscale.errors import InputError
from msiscale.pipeline.axis import axis_url, stored_axis
from msiscale.pipeline.context import Run
from msiscale.store import (
    Ledger,
    exists,
    join,
    listing,
    open_group,
    read_json,
    remove,
    write_json,
)
from msiscale.store.lease import held

# what was computed from all specimens, and would still hold traces of one that has left
COHORT = (
    "report.html",
    "figures",
    "metrics.csv",
    "comparisons.csv",
    "intervals.csv",
    "switches.csv",
    "switches",
    "robustness.csv",
    "reliability.csv",
    "biomarkers.csv",
    "biomarkers_by_specimen.csv",
    "annotations.csv",
    "annotations_by_specimen.csv",
    "registration.csv",
    "calibration.csv",
    "batch.csv",
    "model.zarr",
    "predictions.zarr",
    "fusion.csv",
    "secondary_regions.csv",
    "regions",
    "state.zarr/folds",
    "state.zarr/protocols",
    "state.zarr/robustness",
    "state.zarr/novelty",
    "state.zarr/strongest",
    "state.zarr/axis/support",
)
COHORT_STAGES = ("axis", "fit", "robustness", "biomarkers", "annotate", "fuse", "regions", "report")


def leave_out(run: Run, held_out: Collection[str]) -> None:
    """Remove what an earlier fit presented of specimens that are not held out in this one.

    Their own data stay, as hours of work may lie in them; `withdraw` deletes those.
    """
    gone = []
    for name in run.ledger.names("manifest"):
        if name not in held_out and _forget_results(run, name) and name not in run.names:
            gone.append(name)
    if gone:
        run.say(
            f"not in the manifest and left out: {', '.join(gone)};"
            f" `msiscale withdraw {run.out} {' '.join(gone)}` deletes their data too"
        )


def _forget_results(run: Run, name: str) -> bool:
    """Remove a specimen's maps and figures; whether there were any."""
    out = run.out
    for stage in ("fit", "regions", "figures"):
        run.forget(stage, [name])
    figures = [f for f in listing(join(out, "figures")) if f.partition("_")[2] == f"{name}.png"]
    parts = [f"predictions.zarr/{name}", *(f"figures/{file}" for file in figures)]
    parts += [f"regions/{name}.geojson", f"regions/{name}.csv"]
    removed = [remove(join(out, part)) for part in parts]
    return any(removed)


def withdraw(out: str, names: Sequence[str]) -> list[str]:
    """Delete all that a run holds of some specimens, and every result that they had a part in.

    Stopped half way, it is finished by the same call.

    Parameters
    ----------
    out : URL of the run
    names : specimens

    Returns
    -------
    list of str, lines for the user. Run the manifest without them again to make the results anew:
    the others are not read again.

    Raises
    ------
    InputError
        `out` holds no run, or the run knows no specimen of that name.
    """
    if not exists(join(out, "run.json")):
        raise InputError(f"{out}: no run there; give the folder or URL of --out")
    document, ledger = read_json(join(out, "run.json")), Ledger(out)
    # nothing but these names, which the manifest allowed, becomes part of a path
    known = {*document["specimens"], *ledger.names("manifest")}
    for name in names:
        if name not in known:
            raise InputError(
                f"{out}: the run has no specimen {name!r}; `msiscale status {out}` lists them"
            )
    with held(out):
        return _withdraw(out, names, document, known)


def _withdraw(
    out: str, names: Sequence[str], document: dict[str, Any], known: set[str]
) -> list[str]:
    plan, ledger = join(out, "run.json"), Ledger(out)
    for stage in COHORT_STAGES:
        ledger.forget(stage, ["cohort"])
    for stage in ("fit", "regions", "figures", "strongest"):
        ledger.forget(stage, known)
    for part in COHORT:
        remove(join(out, part))
    kept = stored_axis(axis_url(out))
    if kept is not None:
        asked = {n: key for n, key in kept[1]["asked"].items() if n not in names}
        open_group(axis_url(out), "r+").attrs.put({**kept[1], "asked": asked})
    for name in names:
        for stage in ledger.stages():
            if stage != "manifest":  # the name is known until all else is gone
                ledger.forget(stage, [name])
                ledger.forget_parts(stage, name)
        for folder in ("cohort.zarr", "state.zarr", "fusion.zarr"):
            remove(join(out, folder, name))
        remove(join(out, "association", f"{name}.csv"))
    for folder in (".", "association", *(f"ledger/{stage}" for stage in ledger.stages())):
        for file in listing(join(out, folder)):
            if file.startswith(".") and file.endswith(".part"):  # of a write that was killed
                remove(join(out, folder, file))
    left = [n for n in document["specimens"] if n not in names]
    tables = [k for k in ("patients", "failed", "cost") if k in document]
    facts = {k: {n: v for n, v in document[k].items() if n in left} for k in tables}
    write_json(plan, {**document, "specimens": left, **facts})
    ledger.forget("manifest", names)
    lines = [
        f"{out}: withdrawn: {', '.join(names)}; deleted with them: model, metrics, maps, figures"
        " and report, as they had a part in these",
        "take them out of the manifest and run it to make these anew; no other is read again",
    ]
    if kept is not None and any(kept[1]["asked"].get(n) for n in names):
        lines.append(
            "the m/z axis, found from them too, stays; `run --new-axis` finds it without them and"
            " reads every MSI file again"
        )
    return lines
