"""The options of the command line reach the cluster."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import msiscale

from msiscale.cli import cli
from msiscale.cluster import Where


def test_one_line_for_a_cluster_that_cannot_be(tmp_path: Path):
    (tmp_path / "m.csv").write_text("specimen,msi,slide\n")
    said = msiscale("run", tmp_path / "m.csv", "--out", tmp_path / "out", "--cluster", "slrum")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("msiscale: ")
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "command", ["run", "ingest", "features", "fit", "report", "predict", "demo"]
)
def test_every_word_is_handed_on(command, monkeypatch, tmp_path):
    given = {
        "scheduler": "tls://head:8786",
        "workers": 3,
        "cluster": "slurm",
        "cluster_config": "queue.toml",
        "dashboard": "127.0.0.1:8787",
        "performance_report": "report.html",
    }
    seen: dict[str, object] = {}

    def record(*_: object, **words: object) -> dict[str, str]:
        seen.update(words)
        raise SystemExit(0)

    for target in (
        "msiscale.pipeline.run",
        "msiscale.pipeline.predict.predict",
        "msiscale.demo.run",
    ):
        monkeypatch.setattr(target, record)
    monkeypatch.setattr("msiscale.demo.simulate", record_nothing)
    words = [w for k, v in given.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    inputs = {"predict": ["model.zarr", "slide.svs"], "demo": []}.get(command, ["manifest.csv"])
    done = CliRunner().invoke(cli, [command, *inputs, "--out", str(tmp_path), *words])
    assert done.exit_code == 0, done.output
    assert {k: v for k, v in seen.items() if k in given} == given


def test_words_win_over_where(monkeypatch, tmp_path):
    """And a word that there is not is an error, in every function that takes them."""
    from msiscale.pipeline import driver, fuse
    from msiscale.pipeline.predict import predict

    seen = []
    monkeypatch.setattr(driver, "connecting", lambda where: seen.append(where) or {}["stop"])
    (tmp_path / "m.csv").write_text("specimen,patient,msi,slide\na,a,a.imzML,a.svs\n")
    where = Where(workers=2, cluster="slurm")
    with pytest.raises(KeyError, match="stop"):
        driver.run(str(tmp_path / "m.csv"), str(tmp_path / "o"), where=where, workers=3, mpp=1.0)
    assert seen == [Where(workers=3, cluster="slurm")]
    for function in (driver.run, fuse.fuse, partial(predict, "model.zarr")):
        with pytest.raises(TypeError, match="wokers"):
            function(str(tmp_path / "m.csv"), out=str(tmp_path / "o"), wokers=1)


def record_nothing(*_: object, **__: object) -> None:
    """In place of a simulation."""
