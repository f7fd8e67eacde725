"""What a run left behind, read lazily: tables, records, and maps of one specimen at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from msiscale.errors import InputError
from msiscale.report.modes import InModes
from msiscale.store import (
    HeldOut,
    Ledger,
    StoredSpecimen,
    at_once,
    exists,
    join,
    listing,
    read_csv,
    read_json,
)

PROTOCOL = "leave_one_patient_out"
WITHIN = ("spatial_blocks", "pixel_folds")  # what stands in for it where there is one patient
LEFT_OUT = {
    PROTOCOL: "the patient left out",
    "spatial_blocks": "blocks of the specimen left out",
    "pixel_folds": "pixels left out at random",
}
HELD_OUT = {
    PROTOCOL: "each patient held out in turn",
    "spatial_blocks": "blocks held out of one patient",
    "pixel_folds": "random pixels held out of one patient",
}
_GROUP = re.compile(r"fold \d+ of (\d+)")  # as `msiscale.models.folds.dealt` calls them
Records = Mapping[str, Mapping[str, Any]]
MODELS = {
    "cancer_from_msi": "from MSI",
    "cancer_from_he": "from H&E",
    "cancer_from_predicted_msi": "from predicted MSI",
}


@dataclass(frozen=True)
class CsvTable:
    """A table of a run that the report reads, declared where it is shown; a run may lack it.

    Attributes
    ----------
    name
        Of the file, without ``.csv``.
    header
        Its columns: ``mz`` is one of numbers, ``model*`` of words, even where these look like
        numbers, ``note?`` of words and may be missing.
    made_by
        What the reader is told to do for it.
    """

    name: str
    header: str
    made_by: str = ""

    @property
    def columns(self) -> list[str]:
        """Those that it must have."""
        return [c.rstrip("*") for c in self.header.split() if not c.endswith("?")]

    @property
    def text(self) -> list[str]:
        """Those of words."""
        return [c[:-1] for c in self.header.split() if c[-1] in "*?"]


# those that several sections read
METRICS = CsvTable(
    "metrics",
    "protocol* fold* specimen* model* target* metric* value",
    "msiscale fit, on two patients or more",
)
BIOMARKERS = CsvTable(
    "biomarkers",
    "mz auc annotation? adduct? formula?",
    "msiscale biomarkers, on annotated specimens",
)
IONS = CsvTable(
    "ions",
    "protocol* mz identification? r2 pearson tier?",
    "msiscale ions, after a fit that held pixels out",
)
REGISTERED = CsvTable("registration", "specimen* method? why?", "msiscale register")
OUTSIDE = CsvTable(
    "secondary_regions", "specimen* patient* region", "msiscale regions, after a fit"
)
OWN = (METRICS, REGISTERED, OUTSIDE)  # of which a specimen's page shows the specimen's rows


@dataclass(frozen=True)
class State:
    """How far a specimen came: ``done``, ``failed`` (with the stage and why) or ``incomplete``."""

    specimen: str
    patient: str
    state: str
    stage: str
    reason: str


class Results:
    """The output folder (or URL) of one run. Every part may be missing.

    Parameters
    ----------
    out
        The run's ``--out``.
    parts
        Names of the ledger's records of specimens, in the order in which they are made; default
        all that the ledger has.
    records
        Those of each part, by specimen, where they are in memory already.
    """

    def __init__(
        self,
        out: str,
        parts: Sequence[str] | None = None,
        records: Callable[[str], Records] | None = None,
    ) -> None:
        self.out = out
        self._parts = parts
        self._records = records or Ledger(out).read_all
        self._tables: dict[CsvTable, pd.DataFrame] = {}  # each is read once, by many sections
        self._rows: dict[CsvTable, dict[str, pd.DataFrame]] = {}
        self._kept: dict[str, Any] = {}

    def only(self, specimen: str) -> Results:
        """What the figures and the page of a specimen are made from: small enough to be sent."""
        found = Results(self.out, self.parts)
        found._tables = {table: self.rows(table, specimen) for table in OWN}
        shared = {name: getattr(self, name) for name in ("protocol", "labelled", "is_study")}
        run = {"specimens": [specimen], "patients": {specimen: self._patient(specimen)}}
        vars(found).update(shared, run=run)
        return found

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """What several sections need and only one is to make."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    @cached_property
    def run(self) -> dict[str, Any]:
        """``run.json``, or nothing."""
        url = join(self.out, "run.json")
        document = read_json(url) if exists(url) else {}
        if not isinstance(document, dict):
            raise InputError(f"{url}: not a JSON object; run the report's run again")
        return document

    @cached_property
    def parts(self) -> Sequence[str]:
        """Names of the ledger's records of specimens."""
        return Ledger(self.out).stages() if self._parts is None else self._parts

    def table(self, table: CsvTable) -> pd.DataFrame:
        """A table; without rows where the run has none."""
        if table not in self._tables:
            self._tables[table] = _read(join(self.out, f"{table.name}.csv"), table)
        return self._tables[table]

    def rows(self, table: CsvTable, specimen: str) -> pd.DataFrame:
        """Those of a specimen, of a table with a column of specimens."""
        if table not in self._rows:
            groups = self.table(table).groupby("specimen", sort=False)
            self._rows[table] = {str(name): rows for name, rows in groups}
        return self._rows[table].get(specimen, self.table(table).iloc[:0])

    @cached_property
    def protocol(self) -> str:
        """The one that the page is about: patients left out, else what the run has in its place."""
        there = set(self.table(METRICS)["protocol"])
        return next((p for p in (PROTOCOL, *WITHIN) if p in there), PROTOCOL)

    @cached_property
    def groups(self) -> str:
        """How many groups the patients were held out in; "" where each was by itself."""
        table = self.table(METRICS)
        folds = set(table.loc[table["protocol"] == PROTOCOL, "fold"]) - {"all"}
        found = [match and match[1] for match in map(_GROUP.fullmatch, folds)]
        return found[0] or "" if found and all(found) else ""

    @property
    def left_out(self) -> str:
        """What is held out in the figures that the page is about, within a sentence."""
        if self.protocol == PROTOCOL and self.groups:
            return f"patients left out in {self.groups} groups"
        return LEFT_OUT[self.protocol]

    @property
    def held_out_words(self) -> str:
        """The same at the beginning of a line."""
        if self.protocol == PROTOCOL and self.groups:
            return f"patients held out in {self.groups} groups"
        return HELD_OUT[self.protocol]

    @cached_property
    def labelled(self) -> bool:
        """Whether a specimen has an annotation; true where that is not known."""
        records = self._records("register").values()
        known = [r["labelled"] for r in records if "labelled" in r]
        return any(known) or not known

    @cached_property
    def used(self) -> list[str]:
        """The specimens that were not set aside."""
        return [name for name in self.specimens if name not in self.run.get("failed", {})]

    @cached_property
    def patients(self) -> set[str]:
        """Those of the specimens that are used."""
        return {self._patient(name) for name in self.used}

    @cached_property
    def is_study(self) -> bool:
        """Whether it is what the page was made for: annotated specimens of several patients."""
        return self.labelled and len(self.patients) != 1

    def registered(self, specimen: str) -> dict[Any, Any]:
        """Its row of ``registration.csv``."""
        rows = self.rows(REGISTERED, specimen).head(1).to_dict("records")
        return rows[0] if rows else {}

    @cached_property
    def specimens(self) -> list[str]:
        """In the order of the manifest where the run recorded it, else by name."""
        listed = self.run.get("specimens")
        if isinstance(listed, list):
            return [str(name) for name in listed]
        names = set(listing(join(self.out, "cohort.zarr"))) - {"zarr.json"}
        for part in self.parts:
            names |= set(Ledger(self.out).names(part)) - {"cohort"}
        return sorted(names)

    def cohort(self, specimen: str) -> StoredSpecimen | None:
        """What was read and placed of a specimen; None where nothing was."""
        found = StoredSpecimen.of(self.out, specimen)
        return found if found.exists else None

    def predictions(self, specimen: str) -> StoredSpecimen | None:
        """What was predicted of a specimen by `protocol`; None where nothing was."""
        if self.protocol == PROTOCOL:
            found = StoredSpecimen.predicted(self.out, specimen)
            return found if found.exists else None
        held = self.held_out(specimen)
        return None if held is None else InModes(held, self.out)

    def held_out(self, specimen: str) -> HeldOut | None:
        """What was predicted of each m/z by `protocol`; None where nothing was."""
        found = HeldOut(self.out, specimen, self.protocol)
        return found if found.exists else None

    def metric(
        self, specimen: str, model: str, target: str, metric: str, protocol: str = ""
    ) -> float:
        """One value of ``metrics.csv`` (mean over folds), by default of `protocol`; NaN if none."""
        key = (protocol or self.protocol, specimen, model, target, metric)
        return self._values.get(key, math.nan)

    @cached_property
    def _values(self) -> dict[tuple[str, ...], float]:
        keys = ["protocol", "specimen", "model", "target", "metric"]
        means = self.table(METRICS).groupby(keys, sort=False)["value"].mean()
        return dict(zip(map(tuple, means.index), map(float, means), strict=True))

    def states(self, only: list[str] | None = None) -> list[State]:
        """How far every specimen (or only some) came, and why not further."""
        names = self.specimens if only is None else only
        ledger, found = Ledger(self.out), []

        def read(part: str) -> Records:
            if only is None:
                return self._records(part)
            return {n: r for n in only if (r := ledger.read(part, n)) is not None}

        records = dict(zip(self.parts, at_once(read, self.parts), strict=True))
        predicted = at_once(self._is_predicted, names)
        for name, maps in zip(names, predicted, strict=True):
            known = {part: r[name] for part, r in records.items() if name in r}
            found.append(_state(name, self._patient(name), known, maps))
        return found

    @cached_property
    def axis(self) -> dict[str, Any]:
        """The record of the m/z axis: the window around an m/z, and what it captures."""
        return dict(self._records("axis").get("cohort", {}))

    def noticed(self, part: str) -> list[str]:
        """What was noticed when a part of the cohort was made."""
        return [str(text) for text in self._records(part).get("cohort", {}).get("notices", [])]

    def _is_predicted(self, specimen: str) -> bool:
        return bool(set(listing(join(self.out, "predictions.zarr", specimen))) - {"zarr.json"})

    def _patient(self, specimen: str) -> str:
        patients = self.run.get("patients")
        if isinstance(patients, dict) and patients.get(specimen):
            return str(patients[specimen])
        data = self.cohort(specimen)
        return "" if data is None else str(data.facts.get("patient", ""))


def _read(url: str, table: CsvTable) -> pd.DataFrame:
    if not exists(url):
        return pd.DataFrame(columns=table.columns)
    nothing = ["", "nan", "NaN"]
    try:
        found = read_csv(
            url,
            dtype=dict.fromkeys(table.text, str),
            keep_default_na=False,
            na_values={c: [] if c in table.text else nothing for c in read_csv(url, nrows=0)},
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{url}: not a table ({error}); run its stage again") from None
    missing = [column for column in table.columns if column not in found]
    if missing:
        raise InputError(f"{url}: no column {missing[0]}; run its stage again")
    return found


def _state(
    name: str, patient: str, records: Mapping[str, Mapping[str, Any]], predicted: bool
) -> State:
    for part, record in records.items():
        if record.get("status") == "failed":
            return State(name, patient, "failed", part, str(record.get("reason", "")))
    if predicted or records.get("fit", {}).get("status") == "done":
        return State(name, patient, "done", "fit", "")
    done = [part for part, record in records.items() if record.get("status") == "done"]
    return State(name, patient, "incomplete", done[-1] if done else "", "")


def identification(row: Mapping[Any, Any]) -> str:
    """The lipid of a row of ``biomarkers.csv``, and its adduct, in words."""
    return f"{row.get('annotation') or 'not annotated'} {row.get('adduct') or ''}".strip()
