"""The compose file: valid, without credentials, closed to strangers, and its commands are real."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dask.utils import parse_bytes
from distributed import Client
from distributed.cli import dask_scheduler, dask_worker

from msiscale.cli import cli

SECRET = re.compile(r"SECRET|ACCESS_KEY|PASSWORD|TOKEN")
FILES = ("compose.yaml", "compose.tls.yaml")
DASK = ("scheduler", "worker", "gpu-worker", "run")


def parsed(words: list[str]) -> dict[str, Any]:
    """A command's parameters, by the parser of that command; refused as the command would."""
    commands: dict[tuple[str, ...], click.Command] = {
        ("dask", "scheduler"): dask_scheduler.main,
        ("dask", "worker"): dask_worker.main,
        ("msiscale", "run"): cli.commands["run"],
    }
    command = commands[tuple(words[:2])]
    return command.make_context(" ".join(words[:2]), list(words[2:])).params


@pytest.mark.parametrize("name", FILES)
def test_compose_specification(deploy: Path, name: str) -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema (PyPI) is not installed")
    words = ["--builtin-schema", "vendor.compose-spec", str(deploy / name)]
    command = [sys.executable, "-m", "check_jsonschema", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_option_that_is_none_is_noticed() -> None:
    with pytest.raises(click.UsageError):
        parsed(["dask", "worker", "tcp://scheduler:8786", "--no-such-option", "1"])
    with pytest.raises(click.UsageError):
        parsed(["msiscale", "run", "manifest.csv", "--out", "x", "--no-such-option"])


def test_commands_are_real(compose: dict[str, Any]) -> None:
    said = {name: parsed(compose["services"][name]["command"]) for name in DASK}
    assert said["scheduler"]["port"] == "8786"
    for name in ("worker", "gpu-worker"):
        assert said[name]["scheduler"] == "tcp://scheduler:8786"
        assert said[name]["nthreads"] == 1
        assert said[name]["dashboard"] is False
        assert said[name]["nanny"] is True
    assert said["worker"]["resources"] is None
    assert said["gpu-worker"]["resources"] == "GPU=1"
    assert said["run"]["scheduler"] == "tcp://scheduler:8786"
    assert said["run"]["manifest"].startswith("s3://")
    assert said["run"]["out"].startswith("s3://")


def test_over_tls_the_same_commands(deploy: Path, compose: dict[str, Any]) -> None:
    over = yaml.safe_load((deploy / "compose.tls.yaml").read_text())["services"]
    assert set(over) == set(DASK)
    plain = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    for name in ("worker", "gpu-worker", "run"):
        assert over[name]["command"] == [
            w.replace("tcp://", "tls://") for w in plain[name]["command"]
        ]
    for service in over.values():
        assert service["environment"]["DASK_CONFIG"].endswith("/dask-tls.yaml")


def test_no_credential_stands_in_the_files(deploy: Path) -> None:
    services = yaml.safe_load((deploy / "compose.yaml").read_text())["services"]
    secret = [
        value
        for service in services.values()
        for name, value in service.get("environment", {}).items()
        if SECRET.search(name)
    ]
    assert len(secret) >= 4
    assert all(re.fullmatch(r"\$\{\w+:\?[^}]*\}", value) for value in secret)
    example = (deploy / ".env.example").read_text()
    for name, value in re.findall(r"^(\w+)=(.*)$", example, re.M):
        assert not SECRET.search(name) or value.startswith("example-")
    needed = re.findall(r"\$\{(\w+):\?", (deploy / "compose.yaml").read_text())
    assert set(needed) <= set(re.findall(r"^(\w+)=", example, re.M))


def test_only_loopback_is_published(compose: dict[str, Any]) -> None:
    published = [p for s in compose["services"].values() for p in s.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any(port.endswith(":8786") for port in published)


def test_services_come_back_and_say_how_they_are(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name in ("store", "scheduler", "worker", "gpu-worker"):
        assert services[name]["restart"] == "unless-stopped"
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert services["gpu-worker"]["profiles"] == ["gpu"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            waits = how["condition"] == "service_healthy"
            assert ("healthcheck" in services[other]) == waits
    for image in (s["image"] for s in services.values()):
        assert image.rpartition(":")[2] not in ("", "latest", image)


@pytest.mark.parametrize("name", ["worker", "gpu-worker"])
def test_a_workers_memory_holds_a_window(compose: dict[str, Any], name: str) -> None:
    """Up to 3 GiB (README) before it pauses; the container leaves room for the nanny."""
    service = compose["services"][name]
    limit = parse_bytes(parsed(service["command"])["memory_limit"])
    assert 0.8 * limit >= 3 * 2**30
    container = parse_bytes(
        {"m": "{}MiB", "g": "{}GiB"}[service["mem_limit"][-1]].format(service["mem_limit"][:-1])
    )
    assert container >= limit + 256 * 2**20


def test_health_checks_answer(compose: dict[str, Any], services: Any) -> None:
    """The very words of the file, against the running scheduler and worker; and when they fail."""
    for name, port in (("scheduler", "8787"), ("worker", "8788")):
        words = compose["services"][name]["healthcheck"]["test"][1:]
        assert words[0] == "python"
        code = words[2].replace(port, services.ports[port])
        assert code != words[2]
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        nobody = words[2].replace(port, "1")
        done = subprocess.run([sys.executable, "-c", nobody], capture_output=True, check=False)
        assert done.returncode != 0


def test_the_worker_works(services: Any) -> None:
    with Client(services.address, timeout="30s") as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
        (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert worker["nthreads"] == 1
        assert worker["memory_limit"] == 4 * 2**30
