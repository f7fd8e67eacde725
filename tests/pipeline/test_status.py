"""A run that is watched: until nobody writes there, with a line a minute or a screen."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import psutil
import pytest
from click.exceptions import Exit
from commands import msiscale

from msiscale.cli import watching
from msiscale.pipeline.status import counts, watched
from msiscale.store import lease as leases
from msiscale.store.lease import Watch, held


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_the_counts_of_a_finished_run(done: Path) -> None:
    said = counts(str(done))
    assert "ingest 3 of 3" in said and "axis done" in said and not any("failed" in x for x in said)
    record = done / "ledger/register/S02.json"
    record.write_text(json.dumps({"status": "failed", "digest": "", "reason": "why"}))
    part = done / "ledger/features/S01.json"
    part.write_text(json.dumps({**json.loads(part.read_text()), "status": "started"}))
    said = counts(str(done))
    assert "register 2 of 3" in said and "features 2 of 3 (1 under way)" in said
    assert said[-1] == "1 failed"


def test_the_command_ends_when_no_run_writes_and_then_says_all(done: Path) -> None:
    said = msiscale("status", done, "--watch")
    assert said.code == 0, said.err
    first, *rest = said.out.splitlines()
    assert "ingest 3 of 3" in first and rest == msiscale("status", done).out.splitlines()
    said = msiscale("status", done.parent / "none", "--watch")
    assert said.code == 1 and "no run there" in said.err


def test_it_goes_on_while_a_run_holds_the_lease(done: Path) -> None:
    looks = 0
    enough = threading.Event()
    with held(str(done)):
        assert Watch(str(done)).lives()
        for _ in watched(str(done), pause=lambda _: None):
            looks += 1
            if looks == 3:
                enough.set()
                break
    assert enough.is_set() and not Watch(str(done)).lives()
    assert len([*watched(str(done), pause=lambda _: pytest.fail("it waits"))]) == 1


def test_a_run_elsewhere_lives_as_long_as_it_renews_its_lease(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(str(done)) as lease:
        content = json.loads(Path(lease.path()).read_text())
    (done / "lease" / "00000099.json").write_text(json.dumps({**content, "host": "x", "beat": 1}))
    watch = Watch(str(done), stale_s=0.2)
    assert watch.lives()
    monkeypatch.setattr(leases.time, "monotonic", lambda: 1e9)
    assert not watch.lives()
    (done / "lease" / "00000099.json").write_text(json.dumps({**content, "host": "x", "beat": 2}))
    assert watch.lives()
    # one of this machine whose process is gone
    gone = {**content, "beat": 3, "pid": os.getpid(), "process_started": 0.0}
    (done / "lease" / "00000099.json").write_text(json.dumps(gone))
    assert not watch.lives() and psutil.pid_exists(os.getpid())


def test_a_line_a_minute_and_only_what_is_new(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])

    def looks() -> object:
        for i in range(200):
            now[0] += 1
            yield [f"ingest {i // 100} of 3"]

    watching.show("run", looks())  # type: ignore[arg-type]
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said == ["ingest 0 of 3", "ingest 1 of 3"]


def test_ctrl_c_ends_the_watching_only(capsys: pytest.CaptureFixture[str]) -> None:
    def looks() -> object:
        yield ["ingest 1 of 3"]
        raise KeyboardInterrupt

    with pytest.raises(Exit) as stopped:
        watching.show("run", looks())  # type: ignore[arg-type]
    assert stopped.value.exit_code == 130
    assert "the run itself goes on" in capsys.readouterr().err


def test_a_terminal_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleared = []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(watching.click, "clear", lambda: cleared.append(1))
    watching.show("run", [["ingest 1 of 3"], ["ingest 2 of 3", "1 failed"]])
    said = capsys.readouterr().out
    assert len(cleared) == 2 and "  ingest 2 of 3\n  1 failed\n" in said
