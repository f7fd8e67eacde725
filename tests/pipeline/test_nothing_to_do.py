"""What a run asks for where all is done: nothing; and where pages are due: a task each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import CHOSEN, environment

from msiscale.cluster import client as clusters
from msiscale.config import RunConfig
from msiscale.pipeline import context, run
from msiscale.pipeline.tasks import Outcome, run_tasks
from msiscale.pipeline.verify import verify
from msiscale.report import apart
from msiscale.store import Ledger

DONE = ("ingest", "register", "fit", "biomarkers", "regions", "ions", "report")
HEAVY = ("torch", "matplotlib", "bokeh")


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stage and name of every task that is sent from here on."""
    found: list[tuple[str, str]] = []

    def noted(client: Any, tasks: Any, stage: str, **words: Any) -> Outcome:
        def each() -> Any:
            for task in tasks:
                found.append((stage, task.name))
                yield task

        return run_tasks(client, each(), stage, **words)

    monkeypatch.setattr(context, "run_tasks", noted)
    return found


def no_cluster(*_: Any, **__: Any) -> None:
    pytest.fail("a cluster was asked for")


def test_where_all_is_done_no_cluster_starts_and_nothing_is_written(
    cohort: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "connect", no_cluster)
    before = {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()}
    workers = json.loads((done / "run.json").read_text())["workers"]
    result = run(str(cohort), str(done), config=RunConfig(**CHOSEN), stages=DONE)
    assert result.failed == {}
    after = {p: p.stat().st_mtime_ns for p in done.rglob("*") if p.is_file()}
    changed = {p.relative_to(done).as_posix() for p in after if before.get(p) != after[p]}
    assert {name.split("/")[0] for name in changed} <= {"run.json", "lease"}
    assert json.loads((done / "run.json").read_text())["workers"] == workers == 1


def test_where_all_is_done_nothing_heavy_is_imported(cohort: Path, done: Path) -> None:
    script = (
        "import sys\n"
        "from msiscale.config import RunConfig\n"
        "from msiscale.pipeline import run\n"
        f"run({str(cohort)!r}, {str(done)!r}, config=RunConfig(**{CHOSEN!r}), stages={DONE!r})\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert _printed(script) == ""


def test_status_imports_no_table_and_no_cluster(finished: Path) -> None:
    script = (
        "import sys\n"
        "from msiscale.pipeline.status import status\n"
        f"lines = status({str(finished)!r})\n"
        f"heavy = {(*HEAVY, 'pandas', 'xarray', 'distributed')!r}\n"
        "print(*[name for name in heavy if name in sys.modules])\n"
    )
    assert _printed(script) == ""


def _printed(script: str) -> str:
    command = [sys.executable, "-c", script]
    words = {"capture_output": True, "text": True, "env": environment(), "check": True}
    return subprocess.run(command, **words).stdout.strip()


def test_an_encoder_is_asked_once_what_it_is(
    cohort: Path, done: Path, scheduler: str, sent: list[tuple[str, str]]
) -> None:
    config = RunConfig(**{**CHOSEN, "encoder": "stains", "mpp": 8.0})
    words: dict[str, Any] = {"stages": ("features",), "scheduler": scheduler}
    run(str(cohort), str(done), config=config, **words)
    assert [stage for stage, _ in sent].count("encoder") == 1
    assert {stage for stage, _ in sent} == {"encoder", "features"}
    sent.clear()
    run(str(cohort), str(done), config=config, **words)
    assert sent == []
    other = RunConfig(**CHOSEN)  # a user's function, which may be another one today
    for _ in range(2):
        run(str(cohort), str(done), config=other, **words)
    assert [stage for stage, _ in sent].count("encoder") == 2


def test_pages_of_a_large_cohort_are_tasks_and_made_when_due(
    cohort: Path,
    done: Path,
    scheduler: str,
    sent: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def report(**words: Any) -> list[tuple[str, str]]:
        sent.clear()
        chosen = RunConfig(**CHOSEN)
        run(str(cohort), str(done), config=chosen, stages=("report",), scheduler=scheduler)
        return sorted(sent)

    names = ["S01", "S02", "S03"]
    monkeypatch.setattr(apart, "TOGETHER", 2)
    assert report() == [("pages", name) for name in names]
    pages = {name: done / "report" / f"{name}.html" for name in names}
    made = {name: page.read_bytes() for name, page in pages.items()}
    numbers = re.findall(rb'"id":"p(\d+)"', made["S03"])
    assert min(map(int, numbers)) == 1  # whatever its worker has drawn before
    links = re.findall(r'href="(report/[^"]+)"', (done / "report.html").read_text())
    assert set(links) == {f"report/{name}.html" for name in names}
    assert {f"figures/thumbnail_{n}.json" for n in names} <= {
        p.relative_to(done).as_posix() for p in done.rglob("*.json")
    }
    assert report() == []

    ledger = Ledger(str(done))
    kept = ledger.read("regions", "S02")
    assert kept is not None
    ledger.write("regions", "S02", "another", "done")
    assert report() == [("pages", "S02")]
    assert {name: page.read_bytes() for name, page in pages.items()} == made

    monkeypatch.setattr(apart, "TOGETHER", 12)
    assert report() == []
    assert not [p for p in pages.values() if p.exists()]
    assert Ledger(str(done)).names("pages") == []
    assert not verify(str(done)).damages


def test_figures_of_the_strongest_are_tasks(
    cohort: Path, done: Path, scheduler: str, sent: list[tuple[str, str]]
) -> None:
    figures = sorted((done / "figures").glob("biomarker-*.png"))
    before = [p.read_bytes() for p in figures]
    for path in figures:
        path.unlink()
    Ledger(str(done)).forget("biomarkers", ["cohort"])
    words: dict[str, Any] = {"stages": ("biomarkers",), "scheduler": scheduler}
    run(str(cohort), str(done), config=RunConfig(**CHOSEN), **words)
    assert sent == [("biomarkers", f"figure/{i + 1}") for i in range(len(figures))]
    assert [p.read_bytes() for p in figures] == before
    record = Ledger(str(done)).read("biomarkers", "cohort")
    assert record is not None
    assert {f"figures/{p.name}" for p in figures} <= set(record["written"])
