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


@pytest.mark.parametrize("field", ["boot", "pid_namespace"])
def test_the_same_process_number_elsewhere_is_another_run(tmp_path: Path, field: str) -> None:
    out, said = str(tmp_path), []
    with held(out, renew_s=60) as lease:
        # this very process, as a lease from before a reboot or from another container has it
        write_json(lease.path(), {**read_json(lease.path()), field: "another"})
        with held(out, say=said.append, stale_s=0.5) as newer:
            assert newer.generation == 2
    assert "watching" in said[0]


def test_a_run_in_another_container_is_not_taken_for_dead(tmp_path: Path) -> None:
    code = f"""
import sys
from msiscale.store.lease import held
with held({str(tmp_path)!r}, renew_s=0.2):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as other:
        assert other.stdout is not None
        if other.stdout.readline() != b"held\n":
            pytest.skip("a PID namespace of its own needs root and unshare")
        # its process number is of its own count, where it is gone or somebody else's here
        with pytest.raises(InputError, match="another run is writing"), held(str(tmp_path)):
            pass
        other.communicate(b"")
    with held(str(tmp_path)) as lease:
        assert lease.generation == 2


@pytest.mark.parametrize("content", ["", '{"token": "a', "{}", "[1]"])
def test_a_lease_that_is_empty_or_cut_holds_nothing(tmp_path: Path, content: str) -> None:
    out, said = str(tmp_path), []
    with held(out) as lease:
        pass
    Path(lease.path()).write_text(content)
    with held(out, say=said.append, stale_s=0.3) as newer:
        assert newer.generation == 2
    assert len(said) == 1 and "empty or cut" in said[0]


def test_a_cut_lease_that_its_holder_mends_is_held(tmp_path: Path) -> None:
    out = str(tmp_path)
    with held(out, renew_s=0.3) as lease:
        Path(lease.path()).write_text("")
        with pytest.raises(InputError, match="another run is writing"), held(out):
            pass


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
            "boot",
            "pid_namespace",
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
