"""The resources that the Dask operator is given, without an API server."""

from __future__ import annotations

from functools import wraps
from importlib.resources import files

import dask
import jsonschema
import pytest
import yaml

from msiscale.cluster import WORKER_ENVIRONMENT, Where, connect
from msiscale.cluster.kubernetes import cluster_spec, gpu_spec
from msiscale.cluster.settings import settings_of
from msiscale.errors import InputError

from .conftest import flat

FILE = """
kind = "kubernetes"
workers = 6
[options]
name = "tissue"
namespace = "imaging"
image = "registry.example/msiscale:1"
resources = {limits = {cpu = "1", memory = "4Gi"}}
env = {AWS_REGION = "eu-west-1"}
[gpu]
workers = 2
image = "registry.example/msiscale-cuda:1"
resources = {limits = {"nvidia.com/gpu" = "1"}}
"""


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "k8s.toml").write_text(FILE)
    return settings_of(Where(cluster_config=str(tmp_path / "k8s.toml")))


def environment(container: dict) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def schema(kind: str) -> dict:
    chart = "operator/deployment/helm/dask-kubernetes-operator/crds"
    text = (files("dask_kubernetes") / chart / f"{kind}.yaml").read_text()
    return yaml.safe_load(text)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_the_cluster_resource(settings):
    spec = cluster_spec(settings)
    jsonschema.validate(spec, schema("daskcluster"))
    assert spec["metadata"]["name"].startswith("tissue-")
    assert spec["spec"]["worker"]["replicas"] == 6
    [worker] = spec["spec"]["worker"]["spec"]["containers"]
    [scheduler] = spec["spec"]["scheduler"]["spec"]["containers"]
    assert worker["args"][:4] == ["dask", "worker", "--nthreads", "1"]
    assert scheduler["args"] == ["dask", "scheduler", "--host", "0.0.0.0"]
    for container in (worker, scheduler):
        assert container["image"] == "registry.example/msiscale:1"
        assert container["resources"]["limits"]["memory"] == "4Gi"
        assert environment(container) == {
            **WORKER_ENVIRONMENT,
            "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
            "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60s",
            "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "600s",
            "CUDA_VISIBLE_DEVICES": "",
            "AWS_REGION": "eu-west-1",
            "MSISCALE_TERMINAL": "",  # the log of a job keeps what libraries say
        }


def test_two_runs_have_clusters_of_their_own(settings):
    names = {cluster_spec(settings)["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5


def test_the_gpu_pool_is_a_worker_group(settings):
    spec = gpu_spec(settings)
    group = {"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup"}
    group |= {"metadata": {"name": "x"}, "spec": {"cluster": "x", "worker": spec}}
    jsonschema.validate(group, schema("daskworkergroup"))
    [worker] = spec["spec"]["containers"]
    assert spec["replicas"] == 2
    assert worker["args"][:6] == ["dask", "worker", "--nthreads", "1", "--resources", "GPU=1"]
    assert worker["image"] == "registry.example/msiscale-cuda:1"
    assert worker["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    env = environment(worker)
    assert "CUDA_VISIBLE_DEVICES" not in env
    assert env["AWS_REGION"] == "eu-west-1"
    assert env["MALLOC_ARENA_MAX"] == "1"


def test_the_environment_is_read_by_dask(settings):
    [worker] = cluster_spec(settings)["spec"]["worker"]["spec"]["containers"]
    read = dask.config.collect_env(environment(worker))
    memory = dask.config.get("distributed.worker.memory", config=read)
    assert memory == {"spill": False, "target": False}
    assert dask.config.get("distributed.scheduler.no-workers-timeout", config=read) == "600s"


def test_what_msiscale_sets_is_refused(tmp_path):
    (tmp_path / "k8s.toml").write_text(FILE.replace('name = "tissue"', "custom_cluster_spec = 'x'"))
    settings = settings_of(Where(cluster_config=str(tmp_path / "k8s.toml")))
    with pytest.raises(InputError, match=r"\[options\] custom_cluster_spec: msiscale sets it"):
        cluster_spec(settings)


def test_tls_is_refused_as_the_operator_cannot(tmp_path):
    (tmp_path / "k8s.toml").write_text(FILE)
    pem = tmp_path / "x.pem"
    pem.touch()
    tls = {"ca-file": str(pem)}
    tls |= {role: {"cert": str(pem), "key": str(pem)} for role in ("scheduler", "worker", "client")}
    with (
        dask.config.set(flat(tls, "distributed.comm.tls.")),
        pytest.raises(InputError, match="dask-kubernetes does not speak"),
        connect(cluster_config=str(tmp_path / "k8s.toml")),
    ):
        pass


def test_a_failure_keeps_secrets(tmp_path, monkeypatch):
    """No API server: one line, and nothing of what the options hold."""
    from dask_kubernetes.operator.kubecluster import kubecluster

    @wraps(kubecluster.KubeCluster)
    def fails(**words):
        raise RuntimeError(f"could not send {words}")

    monkeypatch.setattr(kubecluster, "KubeCluster", fails)
    text = FILE.replace("eu-west-1", "hunter2-secret")
    (tmp_path / "k8s.toml").write_text(text)
    with (
        pytest.raises(InputError, match="could not be started: RuntimeError") as error,
        connect(cluster_config=str(tmp_path / "k8s.toml")),
    ):
        pass
    assert "hunter2-secret" not in str(error.value)
    assert error.value.__suppress_context__
