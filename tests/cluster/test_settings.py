"""What a user may say of a cluster, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from msiscale.cluster import Where, connect
from msiscale.cluster.settings import settings_of
from msiscale.errors import InputError


def written(folder: Path, text: str) -> str:
    file = folder / "cluster.toml"
    file.write_text(text)
    return str(file)


def test_a_file_is_read(tmp_path):
    file = written(
        tmp_path,
        """
        kind = "slurm"
        minimum = 2
        maximum = 40
        wait = "20 minutes"
        [options]
        queue = "regular"
        [gpu]
        workers = 3
        queue = "gpu"
        """,
    )
    found = settings_of(Where(cluster_config=file))
    assert (found.kind, found.range, found.wait_s) == ("slurm", (2, 40), 1200)
    assert (found.options, found.gpu, found.gpu_workers) == (
        {"queue": "regular"},
        {"queue": "gpu"},
        3,
    )
    # the command line wins
    assert settings_of(Where(cluster_config=file, workers=7)).range == (7, 7)
    assert "regular" not in repr(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = 'slurm", "not valid TOML"),
        ("workers = 2", "kind: not given; one of local, slurm"),
        ("kind = 'slrum'", "kind = 'slrum': give one of"),
        ("kind = 'local'\nworker = 2", "worker: unknown; did you mean 'workers'?"),
        ("kind = 'local'\nworkers = 0", "workers = 0: give a whole number, 1 or more"),
        ("kind = 'local'\nworkers = 'two'", "workers = 'two': give a whole number"),
        ("kind = 'slurm'\nminimum = 2", "minimum and maximum: give both, or workers"),
        ("kind = 'slurm'\nminimum = 3\nmaximum = 2", "minimum = 3 is more than maximum = 2"),
        ("kind = 'ssh'\nminimum = 1\nmaximum = 2", "kind ssh has a fixed size"),
        ("kind = 'local'\nwait = 'soon'", "wait = 'soon': give seconds"),
        ("kind = 'local'\noptions = 3", "options: should be a table"),
        ("kind = 'slurm'\n[gpu]\nqueue = 'gpu'", "[gpu] workers: not given"),
        ("kind = 'local'\n[options]\nmemory = '1GB'", "did you mean 'memory_limit'?"),
        ("kind = 'local'\n[gpu]\nworkers = 99", "[gpu] workers = 99, but this machine has"),
        ("kind = 'slurm'\n[options]\nqueu = 'x'", "no size for the cluster"),
        ("kind = 'ssh'\n[options]\nhosts = ['a', 'b']", "workers: not given; how many a host?"),
        ("kind = 'ssh'\nworkers = 1\n[options]\nhosts = ['a']", "[options] hosts: give a list"),
        ("kind = 'ssh'\nworkers = 1\n[options]\nhots = ['a']", "did you mean 'hosts'?"),
        ("kind = 'kubernetes'\nworkers = 1", "[options] image: not given"),
        ("kind = 'kubernetes'\nworkers = 1\n[options]\nimag = 'x'", "did you mean 'image'?"),
        (
            "kind = 'kubernetes'\nminimum = 1\nmaximum = 9\n[gpu]\nworkers = 1",
            "would scale idle GPU workers away",
        ),
        ("kind = 'cuda'", "pip install 'msiscale[cuda]'"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path, text, said):
    file = written(tmp_path, text)
    with pytest.raises(InputError) as error, connect(cluster_config=file):
        pass
    assert said in str(error.value)
    assert str(error.value).startswith(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"cluster": "slrum"}, "--cluster slrum: give one of local, slurm"),
        ({"workers": 0}, "--workers 0"),
        (
            {"scheduler": "tcp://a:1", "workers": 2},
            "--workers: is of a cluster that msiscale starts",
        ),
        ({"scheduler": "tcp://a:1", "cluster": "ssh"}, "--cluster: is of a cluster"),
        ({"scheduler": "nowhere.json"}, "nowhere.json: no such scheduler file"),
        ({"cluster_config": "nowhere.toml"}, "nowhere.toml: no such cluster file"),
        ({"dashboard": "8787"}, "--dashboard 8787: give HOST:PORT"),
        ({"cluster": "kubernetes", "dashboard": ":1"}, "use kubectl port-forward"),
        ({"performance_report": "no/such/folder/x.html"}, "--performance-report"),
        ({"cluster": "slurm"}, "--cluster slurm: no size for the cluster"),
    ],
)
def test_words_that_do_not_fit_are_refused(tmp_path, monkeypatch, choices, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r".") as error, connect(**choices):
        pass
    assert said in str(error.value)


def test_a_file_of_another_kind(tmp_path):
    file = written(tmp_path, "kind = 'pbs'\nworkers = 1")
    with pytest.raises(InputError, match="kind = 'pbs', but --cluster is slurm"):
        settings_of(Where(cluster="slurm", cluster_config=file))


def test_no_scheduler_at_the_address():
    with (
        pytest.raises(InputError, match=r"^tcp://127.0.0.1:9: no Dask scheduler could be reached"),
        connect(scheduler="tcp://127.0.0.1:9"),
    ):
        pass


def test_not_a_scheduler_file(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with (
        pytest.raises(InputError, match="not a scheduler file"),
        connect(scheduler=str(tmp_path / "x.json")),
    ):
        pass
