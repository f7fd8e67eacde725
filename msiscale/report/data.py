"""What a run left behind, read lazily: tables, records, and maps of one specimen at a time."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from msiscale.errors import InputError
from msiscale.store import (
    Ledger,
    at_once,
    exists,
    has_group,
    join,
    listing,
    open_group,
    read_bytes,
    read_json,
)

PROTOCOL = "leave_one_patient_out"
STAGES = (
    "manifest",
    "peaks",
    "ingest",
    "register",
    "features",
    "sums",
    "fit",
    "association",
    "figures",
)
MODELS = {
    "cancer_from_msi": "from MSI",
    "cancer_from_he": "from H&E",
    "cancer_from_predicted_msi": "from predicted MSI",
}
_METRIC_COLUMNS = ["protocol", "fold", "specimen", "model", "target", "metric", "value"]
_COMPARED = ["protocol", "model", "target", "metric"]
# tables that not every run has: the columns that the report reads, and those that hold words
OPTIONAL = {
    "intervals": ([*_COMPARED, "value", "low", "high"], _COMPARED),
    "comparisons": (
        ["protocol", "model", "against", "metric", "difference", "low", "high", "patients", "p"],
        ["protocol", "model", "against", "metric"],
    ),
    "reliability": (["protocol", "model", "predicted", "observed", "n"], ["protocol", "model"]),
    "robustness": (
        ["test", "level", "draw", "model", "target", "metric", "value"],
        ["test", "model", "target", "metric"],
    ),
    "switches": (["switch", *_COMPARED, "value", "base", "change"], ["switch", *_COMPARED]),
    "batch": (
        ["of", "specimen", "target", "metric", "value"],
        ["of", "specimen", "target", "metric"],
    ),
    "calibration": (["specimen", "matches"], ["specimen", "note"]),
    "annotations": (
        ["mz", "formula", "adduct", "names"],
        ["formula", "adduct", "names", "flags", "isotope_of", "isobars", "matrix_ion"],
    ),
    "secondary_regions": (["specimen", "patient", "region"], ["specimen", "patient"]),
}


@dataclass(frozen=True)
class State:
    """How far a specimen came: ``done``, ``failed`` (with the stage and why) or ``incomplete``."""

    specimen: str
    patient: str
    state: str
    stage: str
    reason: str


class Results:
    """The output folder (or URL) of one run. Every part may be missing."""

    def __init__(self, out: str) -> None:
        self.out = out

    @cached_property
    def run(self) -> dict[str, Any]:
        """``run.json``, or nothing."""
        url = join(self.out, "run.json")
        document = read_json(url) if exists(url) else {}
        if not isinstance(document, dict):
            raise InputError(f"{url}: not a JSON object; run the report's run again")
        return document

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """``metrics.csv``, tidy."""
        return self._table("metrics.csv", _METRIC_COLUMNS, text=_METRIC_COLUMNS[:-1])

    @cached_property
    def biomarkers(self) -> pd.DataFrame:
        """``biomarkers.csv``, strongest first."""
        return self._table(
            "biomarkers.csv", ["mz", "auc"], text=["annotation", "adduct", "formula"]
        )

    @cached_property
    def biomarkers_by_specimen(self) -> pd.DataFrame:
        """``biomarkers_by_specimen.csv``, tidy."""
        columns = ["specimen", "mz", "auc"]
        return self._table("biomarkers_by_specimen.csv", columns, text=["specimen", "patient"])

    @cached_property
    def registration(self) -> pd.DataFrame:
        """``registration.csv``, one row a specimen."""
        return self._table("registration.csv", ["specimen"], text=["specimen", "method", "why"])

    def table(self, name: str) -> pd.DataFrame:
        """A table of `OPTIONAL`; without rows where the run has none."""
        if name not in self._optional:
            columns, text = OPTIONAL[name]
            self._optional[name] = self._table(f"{name}.csv", columns, text)
        return self._optional[name]

    @cached_property
    def _optional(self) -> dict[str, pd.DataFrame]:
        return {}

    @cached_property
    def specimens(self) -> list[str]:
        """In the order of the manifest where the run recorded it, else by name."""
        listed = self.run.get("specimens")
        if isinstance(listed, list):
            return [str(name) for name in listed]
        names = set(listing(join(self.out, "cohort.zarr"))) - {"zarr.json"}
        for stage in STAGES:
            names |= set(Ledger(self.out).names(stage)) - {"cohort"}
        return sorted(names)

    def cohort(self, specimen: str) -> xr.Dataset | None:
        """``cohort.zarr/<specimen>``, lazy; None where there is none."""
        return _open(join(self.out, "cohort.zarr", specimen))

    def predictions(self, specimen: str) -> xr.Dataset | None:
        """``predictions.zarr/<specimen>``, lazy; None where there is none."""
        return _open(join(self.out, "predictions.zarr", specimen))

    def metric(
        self, specimen: str, model: str, target: str, metric: str, protocol: str = PROTOCOL
    ) -> float:
        """One value of ``metrics.csv`` (the mean over folds); NaN when it is not there."""
        return self._values.get((protocol, specimen, model, target, metric), math.nan)

    @cached_property
    def _values(self) -> dict[tuple[str, ...], float]:
        keys = ["protocol", "specimen", "model", "target", "metric"]
        means = self.metrics.groupby(keys, sort=False)["value"].mean()
        return dict(zip(map(tuple, means.index), map(float, means), strict=True))

    def states(self, only: list[str] | None = None) -> list[State]:
        """How far every specimen (or only some) came, and why not further."""
        names = self.specimens if only is None else only
        ledger, found = Ledger(self.out), []

        def read(stage: str) -> dict[str, dict[str, Any]]:
            if only is None:
                return ledger.read_all(stage)
            return {n: r for n in only if (r := ledger.read(stage, n)) is not None}

        records = dict(zip(STAGES, at_once(read, STAGES), strict=True))
        predicted = at_once(self._is_predicted, names)
        for name, maps in zip(names, predicted, strict=True):
            known = {stage: r[name] for stage, r in records.items() if name in r}
            found.append(_state(name, self._patient(name), known, maps))
        return found

    def _is_predicted(self, specimen: str) -> bool:
        return bool(set(listing(join(self.out, "predictions.zarr", specimen))) - {"zarr.json"})

    def _patient(self, specimen: str) -> str:
        patients = self.run.get("patients")
        if isinstance(patients, dict) and patients.get(specimen):
            return str(patients[specimen])
        data = self.cohort(specimen)
        return "" if data is None else str(data.attrs.get("patient", ""))

    def _table(self, name: str, columns: list[str], text: list[str]) -> pd.DataFrame:
        url = join(self.out, name)
        if not exists(url):
            return pd.DataFrame(columns=columns)
        try:
            table = pd.read_csv(
                io.BytesIO(read_bytes(url)),
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,
                na_values={c: [] if c in text else ["", "nan", "NaN"] for c in _header(url)},
            )
        except (ValueError, pd.errors.ParserError) as error:
            raise InputError(f"{url}: not a table ({error}); run its stage again") from None
        missing = [column for column in columns if column not in table]
        if missing:
            raise InputError(f"{url}: no column {missing[0]}; run its stage again")
        return table


def _header(url: str) -> list[str]:
    return list(pd.read_csv(io.BytesIO(read_bytes(url)), nrows=0).columns)


def _state(
    name: str,
    patient: str,
    records: Mapping[str, Mapping[str, Any]],
    predicted: bool,
) -> State:
    for stage, record in records.items():
        if record.get("status") == "failed":
            return State(name, patient, "failed", stage, str(record.get("reason", "")))
    if predicted:
        return State(name, patient, "done", "fit", "")
    done = [stage for stage, record in records.items() if record.get("status") == "done"]
    return State(name, patient, "incomplete", done[-1] if done else "", "")


def _open(url: str) -> xr.Dataset | None:
    if not has_group(url):
        return None
    group = open_group(url)
    return xr.open_zarr(
        group.store,
        group=group.path or None,
        consolidated=False,
        zarr_format=3,
        chunks=None,
    )


def pixel_um(data: xr.Dataset) -> tuple[float, float]:
    """(y, x) size of an MSI pixel in µm."""
    size = np.ravel(data.attrs["pixel_um"]).astype(float)
    return float(size[0]), float(size[-1])
