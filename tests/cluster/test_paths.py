"""Paths mean what they mean where the command was given, and a worker that lacks one says so."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from commands import CHOICES, msiscale

from msiscale.errors import RunStopped
from msiscale.simulate import simulate
from msiscale.store import seen
from msiscale.store.lease import Lease

from .conftest import Start

STAGE = ("ingest", "register")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    simulate(folder, specimens=2, seed=1, pixels=(10, 12), mpp=4.0)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for the leases of those who look."""
    found = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "lease")
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


def test_a_worker_in_another_folder(start: Start, scheduler_file, cohort, tmp_path, monkeypatch):
    """Its folder is that of the fixture; the command is given in `here`."""
    start("worker", "--scheduler-file", scheduler_file, "--nthreads", "1", "--no-dashboard")
    here = tmp_path / "here"
    shutil.copytree(cohort, here / "data")
    (here / "masses.csv").write_text("mz\n703.5746\n760.5851\n810.6007\n")
    monkeypatch.chdir(here)
    words = ["--out", "results", "--axis", "masses.csv", "--scheduler", scheduler_file]
    said = msiscale("ingest", "data/manifest.csv", *words, *CHOICES)
    assert said.code == 0, said.err
    assert sorted(p.name for p in (here / "results" / "cohort.zarr").iterdir() if p.is_dir()) == [
        "S01",
        "S02",
    ]
    assert not (tmp_path / "results").exists()
    # by the same words from elsewhere it is another place, by its own name the same
    monkeypatch.chdir(tmp_path)
    said = msiscale("verify", "here/results", "--scheduler", scheduler_file)
    assert said.code == 0, said.out + said.err


def hidden_by_mount(folder: Path) -> list[str]:
    """Words before a command that then sees nothing in `folder`; skips where that takes rights."""
    cover = f'mount -t tmpfs none "{folder}" && exec "$@"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", cover, "sh"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("a file system of its own takes root and unshare")
    return words


@pytest.mark.parametrize("hidden", ["data", "results"])
def test_a_worker_that_does_not_see_it(
    start: Start, scheduler_file, cohort, scheduler, tmp_path, hidden
):
    folders = {"data": tmp_path / "of_all" / "data", "results": tmp_path / "mine" / "results"}
    shutil.copytree(cohort, folders["data"])
    manifest, out = folders["data"] / "manifest.csv", folders["results"]
    words = ["--out", out, *CHOICES]
    done = msiscale("ingest", manifest, *words, "--scheduler", scheduler)
    assert done.code == 0, done.err
    before = files(out)

    covered = folders[hidden].parent
    start("worker", "--scheduler-file", scheduler_file, "--nthreads", "1", "--no-dashboard",
          before=hidden_by_mount(covered))  # fmt: skip
    # a change that has something to do: what is there would be made again
    for command in (["ingest", manifest, *words, "--tolerance-ppm", "7"], ["verify", out]):
        if (hidden, command[0]) == ("data", "verify"):
            continue
        said = msiscale(*command, "--scheduler", scheduler_file)
        assert said.code == 1
        assert said.err.splitlines()[-1] == (
            f"msiscale: worker {socket.gethostname()} does not see {folders[hidden]}: share it "
            "with every worker, or use an object store"
        )
        assert "set aside" not in said.err
        assert files(out) == before


def test_a_task_on_a_worker_that_came_later(tmp_path, monkeypatch):
    """It asks for itself, once, before it does anything."""
    monkeypatch.setattr(seen, "PATIENCE_S", 0.0)
    (tmp_path / "out" / "lease").mkdir(parents=True)
    lease = Lease(str(tmp_path / "out"), 3)
    file = tmp_path / "data" / "a.imzML"
    here = Lease(lease.out, 3, (lease.path(), str(file)))
    for missing, make in ((lease.out, Path(lease.path())), (str(file.parent), file)):
        with pytest.raises(RunStopped, match=f"does not see {missing}.*: share it"):
            seen.see(here)
        make.parent.mkdir(exist_ok=True)
        make.write_text("")
    seen.see(here)


def test_one_file_stands_for_its_folder_and_its_mount(tmp_path):
    one, two = tmp_path / "a" / "1", tmp_path / "b" / "2"
    for file in (one, two, one.with_name("3"), tmp_path / "elsewhere" / "4"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
    link = tmp_path / "a" / "link"
    link.symlink_to(tmp_path / "elsewhere" / "4")
    asked = [str(one), None, str(one.with_name("3")), str(two), str(link), "s3://bucket/x"]
    found = seen.one_a_folder([*asked, str(tmp_path / "none")])
    assert found == sorted([str(one), str(two), str(link)])
    assert len(seen.one_a_mount(found)) == len({os.stat(f).st_dev for f in found}) == 1
