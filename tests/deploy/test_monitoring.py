"""Prometheus and Grafana files: valid, and every metric in them is one that Dask serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client

pytest.importorskip("prometheus_client", reason="prometheus_client is not installed")

METRIC = re.compile(r"\b(?:dask|process)_\w+")


@pytest.fixture(scope="module")
def served(services: Any) -> dict[str, str]:
    """/metrics of the scheduler and of the worker, after a task and with one that waits."""
    with Client(services.address, timeout="30s") as client:
        client.submit(sum, [1, 2]).result(timeout=30)
        waiting = client.submit(sum, [3, 4], resources={"GPU": 1})
        url = f"http://127.0.0.1:{services.ports['8787']}/metrics"
        text = ""
        for _ in range(50):
            text = metrics(url)
            if 'dask_scheduler_tasks{state="no-worker"} 1' in text:
                break
        waiting.release()
        worker = metrics(f"http://127.0.0.1:{services.ports['8788']}/metrics")
    return {"dask-scheduler": text, "dask-workers": worker}


def metrics(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def expressions(deploy: Path) -> list[str]:
    """Of the alerts and of the dashboard."""
    rules = yaml.safe_load((deploy / "monitoring" / "rules.yml").read_text())
    alerts = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((deploy / "monitoring" / "grafana-dashboard.json").read_text())
    return alerts + [t["expr"] for panel in board["panels"] for t in panel["targets"]]


def test_every_metric_is_served(deploy: Path, served: dict[str, str]) -> None:
    names = {job: set(METRIC.findall(text)) for job, text in served.items()}
    used = 0
    for expression in expressions(deploy):
        job = re.search(r'job="([\w-]+)"', expression)
        of = names[job[1]] if job else names["dask-scheduler"]
        found = set(METRIC.findall(expression))
        used += len(found)
        assert found <= of, expression
    assert used >= 15


def test_states_are_those_that_dask_names(deploy: Path, served: dict[str, str]) -> None:
    known = set(re.findall(r'state="([\w-]+)"', served["dask-scheduler"]))
    asked = {s for e in expressions(deploy) for s in re.findall(r'state!?="([\w-]+)"', e)}
    assert asked
    assert asked <= known


def test_a_task_without_a_worker_shows(served: dict[str, str]) -> None:
    """What the alert of lost GPU workers looks at."""
    assert 'dask_scheduler_tasks{state="no-worker"} 1' in served["dask-scheduler"]


def test_targets_are_the_services(deploy: Path, compose: dict[str, Any]) -> None:
    config = yaml.safe_load((deploy / "monitoring" / "prometheus.yml").read_text())
    scheduler, workers = config["scrape_configs"]
    name, _, port = scheduler["static_configs"][0]["targets"][0].partition(":")
    assert f":{port}" in compose["services"][name]["command"]
    (found,) = workers["dns_sd_configs"]
    for name in found["names"]:
        assert f":{found['port']}" in compose["services"][name]["command"]


def test_promtool_accepts_them(deploy: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    file = str(deploy / "monitoring" / "prometheus.yml")
    done = subprocess.run(
        [promtool, "check", "config", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_lie_side_by_side(deploy: Path) -> None:
    board = json.loads((deploy / "monitoring" / "grafana-dashboard.json").read_text())
    places = [p["gridPos"] for p in board["panels"]]
    assert len({(p["x"], p["y"]) for p in places}) == len(places)
    assert len({p["id"] for p in board["panels"]}) == len(places)
    assert all(p["x"] + p["w"] <= 24 for p in places)
