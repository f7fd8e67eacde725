"""The page about clusters, and the files of deploy/, say what the program takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from msiscale.cluster import WORKER_ENVIRONMENT, Where
from msiscale.cluster.settings import settings_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
BLOCKS = [b.replace("\n    ", "\n") for b in re.findall(r"    (kind = .*?)\n\n", PAGE, re.S)]
FILES = sorted((ROOT / "deploy").glob("**/*.toml"))


@pytest.mark.parametrize("text", [*BLOCKS, *(f.read_text() for f in FILES)])
def test_an_example_is_read(tmp_path, text):
    (tmp_path / "cluster.toml").write_text(text)
    settings = settings_of(Where(cluster_config=str(tmp_path / "cluster.toml")))
    check = {"kubernetes": kubernetes, "ssh": ssh}.get(settings.kind)
    if settings.kind in ("slurm", "pbs", "sge"):
        check = queue
    if check:
        check(settings)


def kubernetes(settings):
    from msiscale.cluster.kubernetes import cluster_spec, gpu_spec

    assert cluster_spec(settings)["spec"]["worker"]["replicas"] == settings.workers
    assert gpu_spec(settings)["replicas"] == settings.gpu_workers


def ssh(settings):
    from msiscale.cluster.ssh import ssh_specs

    assert len(ssh_specs(settings, None)[1]) == 2 + settings.gpu_workers


def queue(settings):
    from msiscale.cluster.jobs import OURS, known_options, queue_class

    settings.check_options(known_options(queue_class(settings)), OURS)


def test_every_kind_has_its_example():
    kinds = {re.match(r'kind = "(\w+)"', block)[1] for block in BLOCKS}
    assert kinds == {"local", "slurm", "kubernetes", "ssh", "cuda"}


def test_the_environment_is_the_programs():
    found = dict(re.findall(r"(\b[A-Z_]+)=(\d+)", " ".join(re.findall(r"export .*", PAGE))))
    assert found == WORKER_ENVIRONMENT
