"""How many patients are enough: a learning curve of a finished run, and the power of biomarkers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from msiscale.biomarkers.patients import MIN_PATIENTS
from msiscale.biomarkers.power import COLUMNS, HALF, power_table, spread_of_patients
from msiscale.cluster import Where, connect
from msiscale.errors import InputError
from msiscale.models import learning
from msiscale.models.patient_means import patient_mean
from msiscale.models.validation import Rules
from msiscale.pipeline.features import COLOURS, stored_groups
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.sums import StoredSums
from msiscale.pipeline.tasks import Task, run_tasks
from msiscale.store import (
    Ledger,
    StoredSpecimen,
    absolute,
    digest,
    exists,
    join,
    read_csv,
    write_csv,
)
from msiscale.store.lease import held
from msiscale.store.seen import check_seen
from msiscale.store.written import recording

LEARNING, POWER = "learning.csv", "power.csv"
EFFECTS = (0.6, 0.7, 0.8, 0.9)
PATIENTS = (3, 4, 6, 8, 10, 15, 20, 30, 50, 100)
BEYOND = (1.5, 2.0, 3.0)  # times the patients of the cohort
WANTED = 0.8


def power(
    out: str,
    *,
    effects: Sequence[float] = EFFECTS,
    patients: Sequence[float] = PATIENTS,
    debug: bool = False,
    where: Where | None = None,
) -> list[str]:
    """Write ``learning.csv`` and ``power.csv`` of the finished run at `out`.

    The curve is of the spectrum predicted from H&E, by the penalties and features of the run. It
    reads every specimen's sums some twenty times, in tasks on the cluster, and no pixel. Memory: a
    worker as `msiscale.models.learning.learn` says.

    Parameters
    ----------
    out
        Folder or URL of the run.
    effects
        AUCs of biomarkers, above 0.5 and below 1.
    patients
        Whole numbers of patients, 3 or more.
    debug
        Failures of tasks are raised with their traceback.
    where
        A cluster.

    Returns
    -------
    list of str
        Lines for the user.

    Raises
    ------
    InputError
        `out` holds no finished fit, or an effect or a number is out of range.
    """
    out = absolute(out)
    if not all(HALF < auc < 1 for auc in effects):
        raise InputError("--effect: give AUCs above 0.5 and below 1")
    if min(patients, default=0) < MIN_PATIENTS or any(n != int(n) for n in patients):
        raise InputError(f"--patients: give whole numbers of {MIN_PATIENTS} or more")
    ledger = Ledger(out)
    plan = ledger.plan()
    fit = ledger.read("fit", COHORT)
    if plan is None or fit is None or fit.get("status") != "done":
        raise InputError(f"{out}: no finished fit there; msiscale run it first")
    names = [s for s in plan["specimens"] if _done(ledger, s)]
    specimens: dict[str, list[str]] = {}
    for name in names:
        specimens.setdefault(str(plan["patients"].get(name, name)), []).append(name)
    with held(out), recording(out) as noted:
        ledger.forget("power", [COHORT])
        lines = _curve(out, specimens, plan["parameters"], debug, where)
        lines += _biomarkers(out, effects, patients)
    facts = [fit["digest"], [*effects], [*patients]]
    ledger.write("power", COHORT, digest(facts), "done", written=noted.parts)
    return lines


def _done(ledger: Ledger, specimen: str) -> bool:
    return (ledger.read("sums", specimen) or {}).get("status") == "done"


def _curve(
    out: str,
    specimens: dict[str, list[str]],
    parameters: dict[str, Any],
    debug: bool,
    where: Where | None,
) -> list[str]:
    orders = learning.orders([*specimens])
    at = learning.sizes(orders)
    columns = ["kind", "patients", "value", "low", "high", "n"]
    if not at:
        write_csv(join(out, LEARNING), [], columns)
        n = len(specimens)
        return [
            f"learning curve: none, as {n} patients are too few; a curve takes 4, and its "
            "extension to more patients 6"
        ]
    first = StoredSpecimen.of(out, next(iter(specimens.values()))[0])
    alphas = tuple(float(a) for a in parameters["alphas"])
    groups = tuple(stored_groups(first))
    rules = Rules(int(parameters["components"]), alphas, groups, COLOURS, None)
    tasks = [
        Task(f"order-{i}", "", _learned, (out, specimens, order, at, rules))
        for i, order in enumerate(orders)
    ]
    with connect(where or Where()) as client:
        check_seen(client, [join(out, "run.json")])
        outcome = run_tasks(client, tasks, "learning curve", debug=debug)
    for why in outcome.failed.values():
        raise InputError(f"{out}: the learning curve could not be computed: {why}")
    rows = pd.DataFrame([row for task in tasks for row in outcome.results[task.name]["rows"]])
    values = rows.pivot(index="patient", columns="patients", values="r2")
    values = values.loc[[p for p in specimens if p in values.index], at]  # the cohort's order
    found = [{"kind": "measured", "patients": m, **_mean(values[m].to_numpy(float))} for m in at]
    if len(at) >= learning.FEWEST_SIZES:
        beyond = [round(len(specimens) * times) for times in BEYOND]
        found += [
            {"kind": "expected", **vars(one)}
            for one in learning.extrapolated(at, values.to_numpy(float), beyond)
        ]
    write_csv(join(out, LEARNING), found, columns, digits=6)
    head = parameters.get("head", "linear")
    other = [
        f"learning curve: this is that of linear maps; the maps of the run (--head {head}) differ"
    ]
    lines = [_said(row) for row in (found[0], *found[max(1, len(at) - 1) :])]
    return lines if head == "linear" else [*other, *lines]


def _learned(
    out: str,
    specimens: dict[str, list[str]],
    order: learning.Order,
    at: list[int],
    rules: Rules,
) -> dict[str, Any]:
    state = join(out, "state.zarr")
    urls = {s: [join(state, s, "moments")] for of in specimens.values() for s in of}
    sums = StoredSums(urls, state)
    return {"rows": learning.learn(sums, specimens, order, at, rules)}


def _mean(values: np.ndarray) -> dict[str, float]:
    found = patient_mean(values)
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _said(row: dict[str, Any]) -> str:
    what = "is" if row["kind"] == "measured" else "is expected to be"
    return (
        f"learning curve: R² of the spectrum from H&E {what} {row['value']:.2f} with "
        f"{row['patients']} training patients (95 % interval {row['low']:.2f} to {row['high']:.2f})"
    )


def _biomarkers(out: str, effects: Sequence[float], patients: Sequence[float]) -> list[str]:
    url = join(out, "biomarkers_by_specimen.csv")
    spread = spread_of_patients(read_csv(url)) if exists(url) else np.zeros(0)
    if not spread.size:
        write_csv(join(out, POWER), [], COLUMNS)
        return ["power: none, as the run has no biomarkers from three or more annotated patients"]
    table = power_table(spread, effects, [int(n) for n in patients])
    write_csv(join(out, POWER), table, COLUMNS, digits=6)
    lines = []
    for (between, auc), rows in table.groupby(["between", "effect"], sort=False):
        if between == "typical":
            fewest = rows["needed"].iloc[0]
            many = f"{fewest:.0f} patients" if np.isfinite(fewest) else "more than 1000 patients"
            lines.append(
                f"power: an m/z with an AUC of {auc:g} is found with a probability of {WANTED:.0%} "
                f"by {many} (q of 0.05 among {len(spread)} m/z, with the median spread between "
                f"patients)"
            )
    return lines
