"""Jobs of a queue: their text without a queue, and a queue of a few lines of shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import pytest
from distributed import Client

from msiscale.cluster import (
    WORKER_ENVIRONMENT,
    Where,
    connect,
    cpu_workers,
    resources_of,
    task_device,
)
from msiscale.cluster.jobs import gpu_jobs, idle_cluster
from msiscale.cluster.security import tls
from msiscale.cluster.settings import settings_of
from msiscale.errors import InputError

from .conftest import configured, wait_for


def settings(folder: Path, text: str):
    (folder / "queue.toml").write_text(text)
    return settings_of(Where(cluster_config=str(folder / "queue.toml")))


OF_QUEUE = {
    "slurm": ("#SBATCH -p regular", "#SBATCH --cpus-per-task=4", "#SBATCH --gres=gpu:1"),
    "pbs": ("#PBS -q regular", "select=1:ncpus=4", "#PBS --gres=gpu:1"),
    "sge": ("#$ -q regular", "#$ -l h_rt=01:00:00", "#$ --gres=gpu:1"),
}


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge"])
def test_the_text_of_a_job(tmp_path, kind):
    found = settings(
        tmp_path,
        f"""
        kind = "{kind}"
        workers = 8
        [options]
        queue = "regular"
        cores = 4
        memory = "16 GiB"
        walltime = "01:00:00"
        job_script_prologue = ["module load cuda"]
        [gpu]
        workers = 2
        job_extra_directives = ["--gres=gpu:1"]
        """,
    )
    with idle_cluster(found, None) as cluster:
        text = cluster.job_script()
        jobs = gpu_jobs(found, cluster)
        first = next(iter(jobs.values()))
        gpu_text = first["cls"]("tcp://s:1", name="g", **first["options"]).job_script()
        bound = [s.getsockname()[0] for s in cluster.scheduler.http_server._sockets.values()]
        assert bound == ["127.0.0.1"]
    for name, value in WORKER_ENVIRONMENT.items():
        assert f"export {name}={value}\n" in text
        assert f"export {name}={value}\n" in gpu_text
    for job in (text, gpu_text):
        assert "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False\n" in job
        assert "module load cuda\n" in job
        assert "--nthreads 1 " in job
        assert "--no-dashboard" in job
    queue, cpus, gres = OF_QUEUE[kind]
    assert queue in text
    assert cpus in text
    assert "--nworkers 4" in text
    assert "--memory-limit 4.00GiB" in text
    assert "export CUDA_VISIBLE_DEVICES=''\n" in text
    assert "GPU=1" not in text
    assert len(jobs) == 2
    assert queue in gpu_text
    assert gres in gpu_text
    assert gres not in text
    assert "--resources GPU=1" in gpu_text
    assert "CUDA_VISIBLE_DEVICES" not in gpu_text
    assert "--nworkers" not in gpu_text


def test_the_sites_own_configuration_is_kept(tmp_path):
    site = {"cores": 2, "memory": "4 GiB", "job-script-prologue": ["module load site"]}
    with (
        dask.config.set({"jobqueue.slurm": dask.config.get("jobqueue.slurm") | site}),
        idle_cluster(settings(tmp_path, "kind = 'slurm'\nworkers = 1"), None) as cluster,
    ):
        text = cluster.job_script()
    assert "module load site\n" in text
    assert "export OMP_NUM_THREADS=1\n" in text
    assert "--nworkers 2" in text


def test_tls_reaches_the_jobs(tmp_path, certificates):

    text = "kind = 'slurm'\nworkers = 1\n[options]\nmemory = '1 GiB'"
    with (
        dask.config.set(configured(certificates)),
        idle_cluster(settings(tmp_path, text), tls()) as cluster,
    ):
        assert cluster.scheduler_address.startswith("tls://")
        job = cluster.job_script()
    assert f"--tls-ca-file {certificates}/ca.pem" in job
    assert f"--tls-key {certificates}/key.pem" in job
    assert "--protocol tls://" in job


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("queu = 'x'", "[options] queu: unknown; did you mean 'queue'?"),
        ("security = true", "[options] security: msiscale sets it"),
        ("cores = 4\nprocesses = 2", "processes = 2 with cores = 4: workers have one thread"),
        ("queue = 'x'", "must specify how much cores and memory"),
    ],
)
def test_options_that_a_queue_does_not_have(tmp_path, queue, options, said):
    file = tmp_path / "queue.toml"
    file.write_text(f"kind = 'slurm'\nworkers = 1\n[options]\n{options}")
    with pytest.raises(InputError) as error, connect(cluster_config=str(file)):
        pass
    assert said in str(error.value)


def test_ctrl_c_is_heard_as_before():
    """In a process of its own: dask-jobqueue takes the signal when it is first imported."""
    program = (
        "import signal\n"
        "from msiscale.cluster.jobs import queue_class\n"
        "from msiscale.cluster.settings import Settings\n"
        "queue_class(Settings('slurm', 'x'))\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_where_there_is_no_queue(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "queue.toml"
    file.write_text("kind = 'slurm'\nworkers = 1\n[options]\nmemory = '1 GiB'")
    with (
        pytest.raises(InputError, match="sbatch is not on this machine"),
        connect(cluster_config=str(file)),
    ):
        pass


def test_a_queue_from_beginning_to_end(tmp_path, queue, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    file = tmp_path / "queue.toml"
    file.write_text(
        """
        kind = "slurm"
        minimum = 1
        maximum = 2
        wait = "1 minute"
        [options]
        memory = "1 GiB"
        interface = "lo"
        [gpu]
        workers = 1
        """
    )
    fast = {"distributed.adaptive.interval": "100ms", "distributed.adaptive.wait-count": 2}
    with dask.config.set(fast), connect(cluster_config=str(file)) as client:
        assert client.submit(task_device, resources={"GPU": 1}, pure=False).result() == "cuda"
        first = cpu_workers(client)
        assert len(first) == 1
        assert_of_the_run(client, home / ".msiscale", queue)
        # more work than one worker does soon: a second job; then idle: it goes, the GPU stays
        busy = client.map(time.sleep, [0.5] * 40, pure=False, workers=None)
        wait_for(lambda: len(cpu_workers(client)) == 2)
        client.cancel(busy)
        wait_for(lambda: len(cpu_workers(client)) == 1)
        assert sum("GPU" in r for r in resources_of(client).values()) == 1

        # a GPU job whose time is up is asked for again
        [gpu] = [address for address, r in resources_of(client).items() if r]
        job = next(f for f in queue.glob("*.sh") if "GPU=1" in f.read_text())
        with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}):
            os.killpg(int(job.stem), signal.SIGKILL)
            wait_for(
                lambda: any(r and a != gpu for a, r in resources_of(client).items()), seconds=90
            )
        assert client.submit(task_device, resources={"GPU": 1}, pure=False).result() == "cuda"
    submitted = {f.stem for f in queue.glob("*.sh")}
    ended = {f.stem for f in queue.glob("*.ended")} | {job.stem}
    assert submitted == ended
    assert list((home / ".msiscale").iterdir()) == []


def assert_of_the_run(client: Client, home: Path, queue: Path) -> None:
    """Certificates made for this run, in files that the user alone may read, named by the jobs."""
    assert client.scheduler.address.startswith("tls://")
    (folder,) = home.iterdir()
    assert {f.name for f in folder.iterdir()} == {"cert.pem", "key.pem"}
    assert {p.stat().st_mode & 0o077 for p in (folder, *folder.iterdir())} == {0}
    for job in queue.glob("*.sh"):
        assert f"--tls-key {folder}/key.pem" in job.read_text()
    key = (folder / "key.pem").read_text().splitlines()[1]
    assert not any(key in f.read_text() for f in queue.iterdir())
    http = client.run(lambda dask_worker: dask_worker.http_server.address)
    assert set(http.values()) == {"127.0.0.1"}


def test_a_site_may_do_without_encryption(tmp_path, queue):
    """A queue's cluster only: a local one is never without."""
    file = tmp_path / "queue.toml"
    options = "memory = '1 GiB'\ninterface = 'lo'"
    file.write_text(f"kind = 'slurm'\nworkers = 1\n[options]\n{options}")
    with dask.config.set({"distributed.comm.require-encryption": False}):
        with connect(cluster_config=str(file)) as client:
            assert client.scheduler.address.startswith("tcp://")
        with connect(workers=1) as client:
            assert client.scheduler.address.startswith("tls://")


def test_a_home_that_cannot_be_written(tmp_path, queue, monkeypatch):
    (tmp_path / "file").write_text("")
    file = tmp_path / "queue.toml"
    file.write_text(
        "kind = 'slurm'\nworkers = 1\n[options]\nmemory = '1 GiB'\n"
        f"shared_temp_directory = '{tmp_path / 'file'}'"
    )
    with (
        pytest.raises(InputError, match="certificates of the run cannot be written"),
        connect(cluster_config=str(file)),
    ):
        pass


def test_a_queue_that_refuses(tmp_path, queue):
    sbatch = queue.parent / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'error: invalid partition specified: regular' >&2; exit 1")
    file = tmp_path / "queue.toml"
    file.write_text(
        "kind = 'slurm'\nworkers = 1\n[options]\nmemory = '1 GiB'\nqueue = 'regular'\n"
        "[gpu]\nworkers = 1"
    )
    with (
        pytest.raises(InputError, match="invalid partition specified: regular"),
        connect(cluster_config=str(file)),
    ):
        pass
