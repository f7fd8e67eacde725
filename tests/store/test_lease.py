"""Of many that want an output one has it, and who is gone does not keep it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msiscale.errors import InputError, RunStopped
from msiscale.store import create_bytes, read_json, write_json
from msiscale.store.lease import Lease, held


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    out = str(tmp_path)
    refused = pytest.raises(InputError, match=rf"another run .*process {os.getpid()}")
    with held(out), refused, held(out):
        pytest.fail("two runs write at once")
    with held(out) as lease:  # given back
        assert lease.generation == 2


def test_of_racers_one_wins(tmp_path: Path) -> None:
    out = str(tmp_path)

    def race(_: int) -> bool:
        try:
            with held(out):
                time.sleep(0.5)
            return True
        except InputError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1


def test_a_killed_run_does_not_keep_it(tmp_path: Path) -> None:
    code = f"import os\nfrom msiscale.store.lease import held\nwith held({str(tmp_path)!r}):\n"
    code += "    os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with held(str(tmp_path)) as lease:
        assert lease.generation == 2


def elsewhere(lease: Lease, beat: int) -> None:
    """The same holder, as if it ran on another machine."""
    holder = {**read_json(lease.path()), "host": "elsewhere", "beat": beat}
    write_json(lease.path(), holder)


def test_a_holder_elsewhere_is_watched(tmp_path: Path) -> None:
    out, said = str(tmp_path), []
    with held(out, renew_s=60) as lease:
        elsewhere(lease, 7)
        with held(out, say=said.append, stale_s=0.5) as newer:  # it never renews: it is gone
            assert newer.generation == lease.generation + 1
            with pytest.raises(RunStopped, match="taken over"):
                lease.guard()
            newer.guard()
    assert "elsewhere" in said[0]


def test_a_holder_elsewhere_that_renews_is_left_alone(tmp_path: Path) -> None:
    out = str(tmp_path)
    with held(out, renew_s=60) as lease, ThreadPoolExecutor(1) as pool:
        elsewhere(lease, 1)

        def renew() -> None:
            time.sleep(0.5)
            elsewhere(lease, 2)

        pool.submit(renew)
        with pytest.raises(InputError, match="another run is writing"), held(out, stale_s=5):
            pass


def test_the_lease_names_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    with held(str(tmp_path)) as lease:
        assert set(json.loads(Path(lease.path()).read_text())) == {
            "token",
            "host",
            "pid",
            "process_started",
            "started",
            "beat",
        }


def test_a_lost_answer_does_not_refuse_its_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msiscale.store import lease as module

    def unanswered(url: str, data: bytes) -> bool:
        create_bytes(url, data)
        return False  # the repeated request finds what the first has made

    monkeypatch.setattr(module, "create_bytes", unanswered)
    with held(str(tmp_path)) as lease:
        assert lease.generation == 1
