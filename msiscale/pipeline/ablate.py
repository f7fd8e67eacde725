"""What each choice of the published study changes on the user's own cohort, one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from msiscale.config import STUDY, SWITCHES, RunConfig
from msiscale.errors import InputError
from msiscale.pipeline.context import say
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.subrun import sub_run
from msiscale.store import (
    Ledger,
    digest,
    exists,
    join,
    listing,
    read_bytes,
    read_csv,
    remove,
    write_csv,
    written,
)
from msiscale.store.written import recording

PROTOCOLS = ("leave_one_patient_out", "pixel_folds")
KEPT = ("auc", "auc_swapped", "average_precision", "accuracy", "r2")
TARGETS = ("cancer", "mode_000", "weighted")
SAME = ["protocol", "model", "target", "metric"]


def ablate(manifest: str, out: str, config: RunConfig, **where: Any) -> str:
    """Run the cohort again with each switch of `msiscale.config.SWITCHES`, and with all of them.

    Each is a run of its own in ``out/switches``, which begins with a copy of the finished work
    (where `out` is a folder; elsewhere with nothing) and leaves only its figures. A call that was
    stopped is continued by the same call.

    Returns
    -------
    str
        URL of ``switches.csv``: switch, protocol, model, target, metric, value, base, change.

    Raises
    ------
    InputError
        `out` holds no finished run, the encoder is not one whole network, a protocol is lacking, or
        a specimen failed in a run.
    """
    if not exists(join(out, "metrics.csv")):
        raise InputError(f"{out}: no finished run there; msiscale run {manifest} --out {out} first")
    base_config = replace(config, protocols=PROTOCOLS, jitter=(), null=0)
    changes = {**SWITCHES, "published": STUDY}
    configs = {name: replace(base_config, **change) for name, change in changes.items()}
    base = _kept(join(out, "metrics.csv"))
    missing = set(PROTOCOLS) - set(base["protocol"])
    if missing:
        raise InputError(f"{out}: its metrics.csv has no {min(missing)}; run it with that protocol")
    fit = Ledger(out).read_all("fit").get("cohort") or {}
    tables = {}
    for name, change in changes.items():
        key = digest([fit.get("digest"), name, change])[:12]
        figures = join(out, "switches", f"{name}-{key}.csv")
        if not exists(figures):
            say(f"switch {name}")
            _once(manifest, out, configs[name], name, figures, where)
        tables[figures] = _kept(figures).assign(switch=name)
    found = pd.concat(tables.values()).merge(base.rename(columns={"value": "base"}), on=SAME)
    found["change"] = found["value"] - found["base"]
    columns = ["switch", *SAME, "value", "base", "change"]
    target = join(out, "switches.csv")
    for file in listing(join(out, "switches")):
        if join(out, "switches", file) not in tables:
            remove(join(out, "switches", file))  # of an earlier fit
    with recording(out) as noted:
        for figures in tables:
            written.file(figures, read_bytes(figures))
        write_csv(target, found, columns, digits=6)
    Ledger(out).write("switches", COHORT, digest(list(tables)), "done", written=noted.parts)
    return target


def _once(
    manifest: str, out: str, config: RunConfig, name: str, figures: str, where: dict[str, Any]
) -> None:
    place = join(out, "switches", name)
    sub_run(manifest, out, place, config, f"switch {name}", {"metrics.csv": figures}, where)


def _kept(url: str) -> pd.DataFrame:
    table = read_csv(url)
    kept = (
        (table["specimen"] == "all")
        & table["protocol"].isin(PROTOCOLS)
        & table["metric"].isin(KEPT)
        & table["target"].isin(TARGETS)
    )
    return table.loc[kept, [*SAME, "value"]]
