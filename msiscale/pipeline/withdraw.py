"""Specimens that leave a cohort: out of what a run presents, or out of its store altogether."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from typing import Any

from msiscale.errors import InputError
from msiscale.notices import COLUMNS, table
from msiscale.pipeline.axis import axis_url, stored_axis
from msiscale.pipeline.context import Run
from msiscale.pipeline.stages import COHORT, PARTS
from msiscale.store import (
    Ledger,
    join,
    listing,
    open_group,
    remove,
    write_csv,
    write_json,
)
from msiscale.store.lease import held


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
    """Remove what comes of a specimen and others together; whether there was any."""
    removed = []
    for part in PARTS.values():
        if part.pooled:
            run.forget(part.name, [name])
            removed += [remove(join(run.out, path)) for path in part.of_specimen(name)]
    return any(removed)


def _remove_results(out: str, known: set[str]) -> None:
    """Whatever comes of all specimens together; records go before what they vouch for."""
    ledger, parts = Ledger(out), PARTS.values()
    for part in parts:
        if part.cohort:
            ledger.forget(part.name, [COHORT])
        if part.pooled:
            ledger.forget(part.name, known)
    for part in parts:
        found = [p for path in part.of_cohort for p in _matching(out, path)]
        if part.pooled:
            found += [path.removesuffix("/{}") for path in part.owns if path.endswith("/{}")]
            found += [p for name in known for p in part.of_specimen(name)]
        for path in found:
            remove(join(out, path))


def _sweep(out: str) -> None:
    """Remove what a write that was killed left behind, and folders that are empty now."""
    owned = {path.rpartition("/")[0] for part in PARTS.values() for path in part.owns}
    folders = {folder for folder in owned if folder and ".zarr" not in folder}
    for folder in (".", *sorted(folders), *(f"ledger/{stage}" for stage in Ledger(out).stages())):
        for file in listing(join(out, folder)):
            if file.startswith(".") and file.endswith(".part"):
                remove(join(out, folder, file))
        if folder in folders and not listing(join(out, folder)):
            remove(join(out, folder))


def _matching(out: str, path: str) -> list[str]:
    """The paths that a path of a part means; more than one where its last name has a ``*``."""
    if "*" not in path:
        return [path]
    folder, _, last = path.rpartition("/")
    return [f"{folder}/{name}" for name in fnmatch.filter(listing(join(out, folder)), last)]


def withdraw(out: str, names: Sequence[str]) -> list[str]:
    """Delete all that a run holds of some specimens, and every result that they had a part in.

    A call that was stopped half way is finished by the same call. Run the manifest without these
    specimens to make the results anew; the others are not read again.

    Parameters
    ----------
    out : str
        Folder or URL of the run.
    names : sequence of str
        The specimens.

    Returns
    -------
    list of str
        Lines for the user.

    Raises
    ------
    InputError
        `out` holds no run, or the run knows no specimen of that name.
    """
    ledger = Ledger(out)
    document = ledger.plan()
    if document is None:
        raise InputError(f"{out}: no run there; give the folder or URL of --out")
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
    _remove_results(out, known)
    kept = stored_axis(axis_url(out))
    if kept is not None:
        asked = {n: key for n, key in kept[1]["asked"].items() if n not in names}
        open_group(axis_url(out), "r+").attrs.put({**kept[1], "asked": asked})
    for name in names:
        for stage in ledger.stages():
            if stage != "manifest":  # the name is known until all else is gone
                ledger.forget(stage, [name])
                ledger.forget_parts(stage, name)
        for part in PARTS.values():
            for path in part.of_specimen(name, whole=True):
                remove(join(out, path))
    _sweep(out)
    left = [n for n in document["specimens"] if n not in names]
    tables = [k for k in ("patients", "failed", "cost", "captured") if k in document]
    facts = {k: {n: v for n, v in document[k].items() if n in left} for k in tables}
    noticed = [n for n in document.get("notices", []) if n["specimen"] in left]
    write_csv(join(out, "notices.csv"), table(noticed), COLUMNS)
    write_json(plan, {**document, "specimens": left, "notices": noticed, **facts})
    ledger.forget("manifest", names)
    lines = [
        f"{out}: withdrawn: {', '.join(names)}; deleted with them: model, metrics, maps, figures"
        " and report, which were computed from them too",
        "take them out of the manifest and run it again to make these; no other specimen is read"
        " again",
    ]
    if kept is not None and any(kept[1]["asked"].get(n) for n in names):
        lines.append(
            "the m/z axis stays, though it was found from them too; `run --new-axis` finds it"
            " without them and reads every MSI file again"
        )
    return lines
