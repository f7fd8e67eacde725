"""The stages biomarkers and annotate on a small cohort."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from msiscale.biomarkers.lipids import builtin_lipids
from msiscale.cluster import Where
from msiscale.config import RunConfig, load_config
from msiscale.errors import InputError, MsiscaleWarning
from msiscale.pipeline import run
from msiscale.pipeline.annotate import analyser_of
from msiscale.pipeline.stages import STAGES
from msiscale.pipeline.verify import verify
from msiscale.pipeline.withdraw import withdraw
from msiscale.store import Ledger, open_group, read, read_json


class Done:
    """A run of three specimens up to the annotation, on a cluster that the tests share."""

    def __init__(self, manifest: Path, folder: Path, scheduler: str) -> None:
        self.manifest, self.out, self.scheduler = manifest, folder / "run", scheduler
        self.lipids, self.matrix = folder / "lipids.csv", folder / "matrix.csv"
        truth = read_json(str(manifest.parent / "truth" / "S01.json"))
        self.true = pd.DataFrame(truth["lipids"])
        every = builtin_lipids()
        held = every["formula"].isin(self.true["formula"]) | (every.index % 40 == 0)
        every[held][["name", "formula"]].to_csv(self.lipids, index=False)
        pd.DataFrame({"mz": truth["matrix_ions"]}).to_csv(self.matrix, index=False)
        self.stages("ingest", "register", "biomarkers")
        self.before = self.table("biomarkers.csv")
        self.stages("annotate")

    def stages(self, *names: str, **choices: Any) -> None:
        words: dict[str, Any] = {"lipids": str(self.lipids), "decoys": 5, "shifts": 120}
        words |= {"matrix_ions": str(self.matrix), **choices}
        result = run(
            str(self.manifest), str(self.out), scheduler=self.scheduler, stages=names, **words
        )
        assert not result.failed

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.out / name)


@pytest.fixture(scope="module")
def done(cohort: Path, scheduler: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(cohort, tmp_path_factory.mktemp("annotated"), scheduler)


def test_biomarkers_have_their_columns_and_the_planted_ions_lead(done: Done) -> None:
    table = done.table("biomarkers.csv")
    contract = ["mz", "auc", "effect", "standardized_difference", "p", "q", "n_patients"]
    assert list(table.columns[:7]) == contract
    more = {"p_t", "q_t", "p_dl", "p_least", "auc_low", "auc_high", "n_same_sign", "auc_between"}
    more |= {"annotation", "adduct", "annotation_fdr", "msm"}
    assert more <= set(table.columns)
    truth = read_json(str(done.manifest.parent / "truth" / "S01.json"))["biomarkers"]
    for mz in truth:
        row = table[(table["mz"] / mz - 1).abs() < 5e-6].iloc[0]
        assert row["p_dl"] < 1e-3  # three patients cannot give a small q where they may differ
        assert row["p_least"] < row["p"] < 0.05
        assert row.name < 5
    single = done.table("biomarkers_by_specimen.csv")
    assert {"auc_sd", "p_shift", "n_places", "effective_cancer"} <= set(single.columns)
    assert (single["n_places"] == 121).all()


def test_names_get_the_rates_of_the_annotation(done: Done) -> None:
    assert "annotation_fdr" not in done.before
    table = done.table("biomarkers.csv")
    pd.testing.assert_frame_equal(table[done.before.columns], done.before)
    rates = done.table("annotations.csv").set_index(["formula", "adduct"])["fdr"]
    named = table[table["annotation_fdr"].notna()]
    assert len(named) > 10
    for row in named.itertuples():
        assert row.annotation_fdr == rates[(row.formula, row.adduct)]


def test_annotations_are_of_the_raw_spectra(done: Done) -> None:
    table = done.table("annotations.csv")
    columns = {"formula", "adduct", "mz", "names", "msm", "chaos", "spatial", "spectral", "fdr"}
    assert columns | {"flags", "primary", "fdr_metaspace"} <= set(table.columns)
    # the phantom has the first isotope of its abundant lipids
    truth = read_json(str(done.manifest.parent / "truth" / "S01.json"))
    strong = {round(i["of"], 3) for i in truth["isotopes"]}
    wanted = done.true[done.true["mz"].round(3).isin(strong)]
    keys = set(zip(table["formula"], table["adduct"], strict=True))
    found = [k in keys for k in zip(wanted["formula"], wanted["adduct"], strict=True)]
    assert np.mean(found) > 0.9
    single = done.table("annotations_by_specimen.csv")
    assert set(single["specimen"]) == {"S01", "S02", "S03"}
    assert (done.out / "figures" / "biomarker-1.png").stat().st_size > 10_000


def test_what_is_done_is_not_done_again(done: Done) -> None:
    ledger = Ledger(str(done.out))
    before = {s: ledger.read_all(s) for s in ("scores", "annotate", "association", "biomarkers")}
    done.stages("biomarkers")
    done.stages("annotate")
    assert before == {s: ledger.read_all(s) for s in before}
    assert not verify(str(done.out), where=Where(done.scheduler)).damages


@pytest.mark.slow(reason="scores every formula three times over")
def test_more_decoys_are_another_answer_and_fewer_bring_the_first_back(done: Done) -> None:
    first = done.table("annotations.csv")
    done.stages("annotate", decoys=9)
    more = done.table("annotations.csv")
    merged = first.merge(more, on=["formula", "adduct"], suffixes=("", "_more"))
    np.testing.assert_allclose(merged["msm"], merged["msm_more"])
    assert not np.allclose(merged["fdr_metaspace"], merged["fdr_metaspace_more"])
    done.stages("annotate")
    pd.testing.assert_frame_equal(done.table("annotations.csv"), first)


def test_bad_tables_and_options_are_said_in_a_line(done: Done, tmp_path: Path) -> None:
    bad = tmp_path / "matrix.csv"
    bad.write_text("name\nx\n")
    with pytest.raises(InputError, match="no column mz"):
        done.stages("annotate", matrix_ions=str(bad))
    lipids = tmp_path / "lipids.csv"
    lipids.write_text("name,formula\nmethane,CH4\n")
    with pytest.raises(InputError, match="no ion of the lipid table has a peak"):
        done.stages("annotate", lipids=str(lipids))
    for option, value in (("shifts", 20), ("decoys", 0), ("resolving_power", 2.0)):
        with pytest.raises(InputError, match=option):
            load_config(None, **{option: value})


def test_the_analyser_is_the_files_unless_it_is_given() -> None:
    def taken(said: dict[str, str | None], given: str | None = None) -> str:
        run = SimpleNamespace(
            config=RunConfig(analyser=given),  # type: ignore[arg-type]
            upstream=lambda _, s: {"analyser": said[s.name]},
            cohort=SimpleNamespace(path="manifest.csv"),
        )
        return analyser_of(run, [SimpleNamespace(name=n) for n in said])  # type: ignore[arg-type,list-item]

    assert taken({"a": "tof", "b": "tof"}) == "tof"
    assert taken({"a": None}, "ft-icr") == "ft-icr"
    with pytest.warns(MsiscaleWarning, match="files of b name no analyser; ft-icr is assumed"):
        assert taken({"a": "ft-icr", "b": None}) == "ft-icr"
    with pytest.warns(MsiscaleWarning, match="orbitrap is assumed"):
        assert taken({"a": None}) == "orbitrap"
    with pytest.raises(InputError, match="differ in analyser; give --analyser"):
        taken({"a": "tof", "b": "orbitrap"})


def test_a_run_does_not_annotate_unless_asked() -> None:
    assert [s.name for s in STAGES if s.asked_for] == [
        *("annotate", "place", "fuse", "ablate", "rank", "power"),
    ]


def test_a_specimen_with_too_little_of_a_class_has_no_say(done: Done) -> None:
    single = done.table("biomarkers_by_specimen.csv").groupby("specimen").first()
    least = single[["effective_cancer", "effective_other"]].min(axis=1).sort_values()
    done.stages("biomarkers", min_pixels=(least.iloc[0] + least.iloc[1]) / 2)
    assert (done.table("biomarkers.csv")["n_patients"] == 2).all()
    (text,) = Ledger(str(done.out)).read("biomarkers", "cohort")["notices"]
    assert text.startswith(f"{least.index[0]} has ")
    assert text.endswith("so it is left out of the biomarkers")
    assert text in {n["text"] for n in read_json(str(done.out / "run.json"))["notices"]}
    done.stages("biomarkers", min_pixels=1e5)
    assert not (done.out / "biomarkers.csv").exists()


def test_a_specimen_that_leaves_takes_its_scores_along(done: Done) -> None:
    """Last, as the run is not the same after it."""
    scores = read(open_group(str(done.out / "state.zarr" / "S03" / "annotation")), "scores")
    assert scores.shape[1] == 5
    withdraw(str(done.out), ["S03"])
    for part in ("annotations.csv", "annotations_by_specimen.csv", "biomarkers.csv", "figures"):
        assert not (done.out / part).exists()
    assert not (done.out / "state.zarr" / "S03").exists()
    assert Ledger(str(done.out)).read("scores", "S03") is None
    assert not (done.out / "state.zarr" / "strongest").exists()
