"""`msiscale doctor`: what is there is found, what is not has a remedy, and nothing stays behind."""

from __future__ import annotations

import json
import os
from collections import namedtuple
from pathlib import Path
from typing import Any

import dask
import pytest
from commands import msiscale

from msiscale.cluster import Where
from msiscale.config import RunConfig
from msiscale.doctor import PROBES, Asked, Finding, findings, machine, places, software, workers
from msiscale.doctor.probe import GIB, gib
from msiscale.errors import InputError

SMALL = RunConfig(encoder="own:small_encoder:small", mpp=4.0)
TREE = namedtuple("TREE", "total used free")


def one(found: Any) -> Finding:
    (only,) = found
    assert isinstance(only, Finding)
    return only


def test_a_line_each_and_json_with_the_same(tmp_path: Path) -> None:
    words = ["--out", tmp_path / "new" / "run", "--encoder", "own:small_encoder:small"]
    said = msiscale("doctor", *words)
    assert said.code == 0, said.out + said.err
    lines = said.out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note"}
    assert [*tmp_path.iterdir()] == []  # nothing is left behind
    as_json = msiscale("doctor", *words, "--json")
    listed = json.loads(as_json.out)["findings"]
    assert [f["name"] for f in listed] == [line[8:21].strip() for line in lines]
    assert all(f.keys() == {"name", "state", "value", "remedy"} for f in listed)
    assert all(f["remedy"] for f in listed if f["state"] != "ok")
    names = {f["name"] for f in listed}
    assert {"Python", "torch", "GPU", "memory", "OpenSlide", "encoder", "store", "disk"} <= names
    assert "manifest" not in names and "licence" not in names  # not asked for


def test_what_was_asked_for_and_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["--encoder", "resnet50:layer3", "--weights", tmp_path / "none.pth"]
    said = msiscale("doctor", tmp_path / "none.csv", "--out", tmp_path / "file/run", *words)
    assert said.code == 1
    missing = {x[8:21].strip(): x for x in said.out.splitlines() if x.startswith("missing")}
    assert missing.keys() == {"encoder", "manifest", "store"}
    assert "no such weights file — check --weights" in missing["encoder"]
    assert "no such manifest — give the path of a CSV file" in missing["manifest"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    found = one(places.store(Asked(out=str(tmp_path / "run"))))
    tmp_path.chmod(0o700)
    assert found.state == "missing" and found.remedy


def test_a_store_that_creates_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(url: str, data: bytes) -> bool:
        Path(url).write_bytes(data)
        return True

    monkeypatch.setattr(places, "create_bytes", create)
    found = one(places.store(Asked(out=str(tmp_path))))
    assert found.state == "missing" and "create-only" in found.value and found.remedy
    assert [*tmp_path.iterdir()] == []


def test_a_clock_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "modified", lambda url: Path(url).stat().st_mtime - 900)
    store, clock = places.store(Asked(out=str(tmp_path)))
    assert store.state == "ok" and (clock.name, clock.state) == ("clock", "note")
    assert "-900 s" in clock.value


def test_a_store_in_memory(tmp_path: Path) -> None:
    assert one(places.store(Asked(out="memory://doctor/run"))).state == "ok"


@pytest.mark.parametrize(("free", "state"), [(1e12, "ok"), (7e6, "note"), (1e6, "missing")])
def test_room_for_the_results(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    # 2 specimens of 20 x 22 pixels, 1,000 m/z and 96 channels of 4 bytes: 3.9 MB; with them 7.7
    monkeypatch.setattr("shutil.disk_usage", lambda _: TREE(0, 0, free))
    asked = Asked(str(phantom), str(tmp_path), SMALL)
    assert places._estimate(asked) == 4 * 4 * 20 * 22 * (1000 + asked.encoder.channels)
    found = one(places.disk(asked))
    assert found.state == state and bool(found.remedy) is (state != "ok")
    assert one(places.manifest(asked)).value.startswith("4 specimens in ")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from msiscale.simulate import simulate

    folder = tmp_path_factory.mktemp("phantom")
    simulate(folder, specimens=4, seed=1, pixels=(20, 22), mpp=8.0)
    return folder / "manifest.csv"


def test_a_row_that_cannot_be_used_sends_to_check(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("specimen,msi,slide\na,a.imzML,a.svs\n")
    found = one(places.manifest(Asked(str(tmp_path / "m.csv"))))
    assert found.state == "missing" and "msiscale check" in found.remedy


def test_memory_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.machine, "memory", lambda: 9 * GIB)
    monkeypatch.setattr(machine.machine, "gpus", list)
    asked = Asked(where=Where(workers=4))
    found = one(machine.memory(asked))
    assert found.state == "note" and found.value == "9 GiB, 2.25 GiB for each of 4 workers"
    assert "--workers 2" in found.remedy and "--window 1280" in found.remedy
    assert one(machine.memory(Asked(where=Where(workers=2)))).state == "ok"
    elsewhere = Asked(where=Where(scheduler="tcp://head:8786"))
    assert "elsewhere" in one(machine.memory(elsewhere)).value


def test_what_an_option_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str | None:
        return None

    monkeypatch.setattr(software, "_version", absent)
    asked = Asked(config=RunConfig(encoder="timm:resnet18", pca="incremental"), where=Where())
    found = [*software.extras(asked)]
    assert [f.state for f in found] == ["missing", "missing"]
    assert {f.remedy for f in found} == {
        "pip install 'msiscale[published]'",
        "pip install 'msiscale[timm]'",
    }
    assert one(software.libraries(asked)).state == "missing"
    on_slurm = Asked(where=Where(cluster="slurm"))
    assert "msiscale[jobqueue]" in one(software.extras(on_slurm)).remedy


def test_the_token_is_looked_for_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in software.TOKENS:
        monkeypatch.delenv(name, raising=False)
    gated = Asked(config=RunConfig(encoder="timm:some_gated_model"))
    assert [*software.licence(Asked())] == []
    found = one(software.licence(gated))
    assert found.state == "missing" and "HF_TOKEN" in found.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    found = one(software.licence(gated))
    assert found.state == "ok" and "hf_secret" not in str(found)


def test_the_cluster_that_is_asked_for(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = one(workers.cluster(Asked(where=Where(scheduler=scheduler))))
    assert found.state == "ok" and "versions are the same" in found.value, found

    def other(client: Any) -> None:
        raise InputError("tcp://x: a worker has msiscale 0; install there what runs here: 1")

    monkeypatch.setattr(workers, "check_versions", other)
    found = one(workers.cluster(Asked(where=Where(scheduler=scheduler))))
    assert found.state == "missing" and found.remedy.startswith("install there")
    monkeypatch.setattr(workers, "CONNECT", {"distributed.comm.timeouts.connect": "1s"})
    found = one(workers.cluster(Asked(where=Where(scheduler="tcp://127.0.0.1:9"))))
    assert found.state == "missing" and "no Dask scheduler could be reached" in found.value
    monkeypatch.setenv("PATH", str(tmp_path))
    found = one(workers.cluster(Asked(where=Where(cluster="slurm", workers=2))))
    assert found.state == "missing" and "sbatch" in found.value
    with dask.config.set({"scheduler-address": "tcp://head:1"}):
        assert Asked().scheduler == "tcp://head:1" and not Asked().here
        assert Asked(where=Where(workers=1)).here
    assert "this machine" in one(workers.cluster(Asked())).value
    found = one(workers.cluster(Asked(where=Where(cluster_config="none.toml"))))
    assert found.state == "missing" and "no such cluster file" in found.value


def test_a_gpu_that_is_asked_for_and_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr(machine, "_driver", lambda: None)
    assert one(machine.gpu(Asked())).state == "ok"
    found = one(machine.gpu(Asked(where=Where(cluster="cuda"))))
    assert found.state == "missing" and "driver" in found.remedy
    monkeypatch.setattr(machine, "_driver", lambda: "driver 550.1 (H200 with 143771 MiB)")
    monkeypatch.setattr("torch.version.cuda", None)
    found = one(machine.gpu(Asked()))
    assert found.state == "note" and "build for CPUs" in found.value
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "unset CUDA_VISIBLE_DEVICES" in one(machine.gpu(Asked())).remedy


def test_few_open_files_and_another_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert one(machine.open_files(Asked())).remedy == "ulimit -n 4096"
    monkeypatch.setattr("locale.getpreferredencoding", lambda _: "ANSI_X3.4-1968")
    assert one(machine.encoding(Asked())).state == "note"


def test_a_probe_that_fails_is_a_note_and_the_others_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(asked: Asked) -> list[Finding]:
        raise RuntimeError("odd")

    monkeypatch.setattr("msiscale.doctor.PROBES", (broken, machine.python))
    found = [*findings(Asked())]
    assert [f.state for f in found] == ["note", "ok"] and "odd" in found[0].value
    assert len({probe.__name__ for probe in PROBES}) == len(PROBES)


def test_sizes_are_said_as_a_person_reads_them() -> None:
    assert [gib(x) for x in (3 * 2**20, 1.5 * GIB, 250.4 * GIB)] == ["3 MiB", "1.5 GiB", "250 GiB"]


def test_check_sends_to_the_doctor_where_the_machine_fails(phantom: Path, tmp_path: Path) -> None:
    words = ["--encoder", "resnet50:layer3", "--weights", tmp_path / "none.pth"]
    said = msiscale("check", phantom, *words)
    assert said.code == 1 and "msiscale doctor" in said.out
    said = msiscale("check", phantom, "--encoder", "own:small_encoder:small", "--mpp", "8")
    assert "msiscale doctor" not in said.out
