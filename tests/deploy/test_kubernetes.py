"""The Kubernetes files, by the schemas of Kubernetes and of the Dask operator."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import dask
import pytest
import yaml
from dask.utils import parse_bytes
from distributed.cli import dask_scheduler, dask_worker

from msiscale.cli import cli

DASK = "kubernetes.dask.org/v1"
APPLIED = ("namespace", "cluster", "gpu-workers", "autoscaler", "job")


def documents(deploy: Path, *names: str) -> list[dict[str, Any]]:
    found = []
    for name in names or APPLIED:
        text = (deploy / "kubernetes" / f"{name}.yaml").read_text()
        found += [d for d in yaml.safe_load_all(text) if d]
    return found


def pods(deploy: Path) -> dict[str, dict[str, Any]]:
    """Pod specifications by what they are."""
    (cluster,) = documents(deploy, "cluster")
    (gpu,) = documents(deploy, "gpu-workers")
    (job,) = documents(deploy, "job")
    return {
        "scheduler": cluster["spec"]["scheduler"]["spec"],
        "worker": cluster["spec"]["worker"]["spec"],
        "gpu": gpu["spec"]["worker"]["spec"],
        "run": job["spec"]["template"]["spec"],
    }


def arguments(pod: dict[str, Any]) -> dict[str, Any]:
    """Of the container's command, by the parser of that command."""
    (container,) = pod["containers"]
    assert "command" not in container  # the images have no entry point: args are the command
    commands: dict[tuple[str, ...], click.Command] = {
        ("dask", "scheduler"): dask_scheduler.main,
        ("dask", "worker"): dask_worker.main,
        ("msiscale", "run"): cli.commands["run"],
    }
    words = container["args"]
    return commands[tuple(words[:2])].make_context("", list(words[2:])).params


def test_kinds_of_kubernetes(deploy: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate (PyPI)")
    core = [d for d in documents(deploy) if d["apiVersion"] != DASK]
    assert {d["kind"] for d in core} == {
        "Namespace",
        "ServiceAccount",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Job",
    }
    for document in core:
        validate.validate(document, validate.latest_version(), strict=True)


def closed(schema: Any) -> Any:
    """Field names that the schema does not have are errors (the server would drop them)."""
    if isinstance(schema, list):
        return [closed(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    new = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        new.setdefault("additionalProperties", False)
    return new


def problems(document: dict[str, Any]) -> list[str]:
    """What the operator's own resource definition has against a document."""
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema (PyPI)")
    package = find_spec("dask_kubernetes")
    if package is None or package.origin is None:
        pytest.skip("dask-kubernetes (PyPI) is not installed")
    chart = Path(package.origin).parent / "operator" / "deployment" / "helm"
    name = document["kind"].lower()
    definition = yaml.safe_load(
        (chart / "dask-kubernetes-operator" / "crds" / f"{name}.yaml").read_text()
    )
    schema = closed(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"apiVersion": {"const": DASK}, "kind": {}, "metadata": {}}
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{e.json_path}: {e.message}" for e in validator.iter_errors(document)]


def test_kinds_of_the_dask_operator(deploy: Path) -> None:
    ours = [d for d in documents(deploy) if d["apiVersion"] == DASK]
    assert [d["kind"] for d in ours] == ["DaskCluster", "DaskWorkerGroup", "DaskAutoscaler"]
    for document in ours:
        assert problems(document) == []


def made_by_the_operator(deploy: Path) -> list[dict[str, Any]]:
    """Deployments and the service that it creates from the files, by its own code."""
    operator = pytest.importorskip(
        "dask_kubernetes.operator.controller.controller", reason="dask-kubernetes (PyPI)"
    )
    (cluster,), (gpu,) = documents(deploy, "cluster"), documents(deploy, "gpu-workers")
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    scheduler = spec["scheduler"]
    made = [
        operator.build_scheduler_deployment_spec(name, scheduler["spec"], {}, {}),
        operator.build_scheduler_service_spec(name, scheduler["service"], {}, {}),
    ]
    group = operator.build_default_worker_group_spec(name, spec["worker"], {}, {})
    for document, its in ((group, "default"), (gpu, gpu["metadata"]["name"])):
        pod = document["spec"]["worker"]["spec"]
        words = (f"{name}-{its}", "msiscale", name, "0123456789", pod)
        made.append(operator.build_worker_deployment_spec(*words, {}, {}))
    return made


def test_what_the_operator_makes_of_them(deploy: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate (PyPI)")
    made = made_by_the_operator(deploy)
    assert [d["kind"] for d in made] == ["Deployment", "Service", "Deployment", "Deployment"]
    for document in made:
        validate.validate(document, validate.latest_version(), strict=True)
    started = [*(d for d in made if d["kind"] == "Deployment"), *documents(deploy, "job")]
    pods = [d["spec"]["template"]["metadata"]["labels"] for d in started]

    def chosen(labels: dict[str, str]) -> int:
        return sum(labels.items() <= pod.items() for pod in pods)

    assert chosen(made[1]["spec"]["selector"]) == 1  # the service finds the scheduler
    guarded = [
        d for d in documents(deploy) if d["kind"] in ("NetworkPolicy", "PodDisruptionBudget")
    ]
    assert len(guarded) >= 3
    for document in guarded:
        selector = document["spec"].get("podSelector", document["spec"].get("selector"))
        assert chosen(selector.get("matchLabels", {})) >= 1, document["metadata"]["name"]


def test_a_misspelt_field_is_noticed(deploy: Path) -> None:
    (cluster,) = documents(deploy, "cluster")
    cluster["spec"]["worker"]["spec"]["containers"][0]["resource"] = {}
    assert len(problems(cluster)) == 1


def test_names_agree(deploy: Path) -> None:
    (cluster,) = documents(deploy, "cluster")
    (gpu,), (scaler,) = documents(deploy, "gpu-workers"), documents(deploy, "autoscaler")
    name = cluster["metadata"]["name"]
    assert gpu["spec"]["cluster"] == scaler["spec"]["cluster"] == name
    spaces = {d["metadata"].get("namespace") for d in documents(deploy) if d["kind"] != "Namespace"}
    assert spaces == {"msiscale"}
    accounts = {p["serviceAccountName"] for p in pods(deploy).values()}
    assert accounts == {
        d["metadata"]["name"] for d in documents(deploy) if d["kind"] == "ServiceAccount"
    }
    run = arguments(pods(deploy)["run"])
    assert run["scheduler"] == f"tcp://{name}-scheduler:8786"


def test_commands_are_real(deploy: Path) -> None:
    said = {name: arguments(pod) for name, pod in pods(deploy).items()}
    assert said["scheduler"]["port"] == "8786"
    for name in ("worker", "gpu"):
        assert said[name]["nthreads"] == 1
        assert said[name]["dashboard"] is False
        assert said[name]["name"] == "$(DASK_WORKER_NAME)"  # the operator retires by it
    assert said["worker"]["resources"] is None
    assert said["gpu"]["resources"] == "GPU=1"
    assert said["run"]["manifest"].startswith("s3://")
    assert said["run"]["out"].startswith("s3://")


def test_one_gpu_a_gpu_worker(deploy: Path) -> None:
    for name, pod in pods(deploy).items():
        resources = pod["containers"][0]["resources"]
        for bound in ("requests", "limits"):
            assert resources[bound].get("nvidia.com/gpu") == ("1" if name == "gpu" else None)


def test_memory_holds_a_window(deploy: Path) -> None:
    """As in the compose file: 3 GiB below the pause, and room for the nanny in the pod."""
    for name in ("worker", "gpu"):
        pod = pods(deploy)[name]
        limit = parse_bytes(arguments(pod)["memory_limit"])
        assert 0.8 * limit >= 3 * 2**30
        bound = parse_bytes(pod["containers"][0]["resources"]["limits"]["memory"] + "B")
        assert bound >= limit + 256 * 2**20
        assert pod["containers"][0]["resources"]["requests"]["memory"] + "B"


def test_pods_have_no_rights_and_no_secret(deploy: Path) -> None:
    for pod in pods(deploy).values():
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["cpu"]
        for variable in container["env"]:
            assert not re.search(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY", variable["name"])
    text = "".join(p.read_text() for p in (deploy / "kubernetes").glob("*.yaml"))
    assert "kind: Secret\n" not in text
    references = {
        source["secretRef"]["name"]
        for pod in pods(deploy).values()
        for source in pod["containers"][0].get("envFrom", [])
    }
    assert references == {"msiscale-store"}


def test_scheduler_is_reached_from_its_namespace_and_the_operator_only(deploy: Path) -> None:
    policies = {d["metadata"]["name"]: d for d in documents(deploy) if d["kind"] == "NetworkPolicy"}
    scheduler = policies["scheduler"]["spec"]
    assert scheduler["policyTypes"] == ["Ingress"]
    assert scheduler["podSelector"]["matchLabels"]["dask.org/component"] == "scheduler"
    outside = []
    for rule in scheduler["ingress"]:
        assert rule["from"] and rule["ports"]
        for source in rule["from"]:
            assert "ipBlock" not in source
            if "namespaceSelector" in source:
                space = source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                outside += [(space, port["port"]) for port in rule["ports"]]
    assert outside == [("dask-operator", 8786), ("dask-operator", 8787), ("monitoring", 8787)]
    run = documents(deploy, "job")[0]["spec"]["template"]["metadata"]["labels"]
    inside = [s["podSelector"]["matchLabels"] for s in scheduler["ingress"][0]["from"]]
    assert run in inside
    (cluster,) = documents(deploy, "cluster")
    assert cluster["spec"]["scheduler"]["service"]["type"] == "ClusterIP"


def test_the_operators_interface_is_served(deploy: Path) -> None:
    """The variable is a list to Dask: its own routes, and that of the operator's calls."""
    (variable,) = [
        v
        for v in pods(deploy)["scheduler"]["containers"][0]["env"]
        if v["name"].startswith("DASK_DISTRIBUTED")
    ]
    found = dask.config.collect_env({variable["name"]: variable["value"]})
    routes = found["distributed"]["scheduler"]["http"]["routes"]
    defaults = dask.config.get("distributed.scheduler.http.routes")
    assert set(routes) == {*defaults, "distributed.http.scheduler.api"}


def test_kustomize_sets_every_image(deploy: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    command = [kubectl, "kustomize", str(deploy / "kubernetes")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    images = re.findall(r"^\s*-? ?image: (.*)$", made, re.M)
    assert len(images) == 3
    assert all(re.fullmatch(r"[\w.]+/msiscale:[\d.]+-(cpu|cuda)", i) for i in images)
