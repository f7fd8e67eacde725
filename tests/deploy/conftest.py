"""The files of `deploy/`; a real scheduler and worker, started by the compose file's words."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


@dataclass(frozen=True)
class Services:
    """A running scheduler and its worker."""

    address: str
    ports: dict[str, str]  # of the compose file -> here


@pytest.fixture(scope="session")
def deploy() -> Path:
    """The folder."""
    return REPOSITORY / "deploy"


@pytest.fixture(scope="session")
def compose(deploy: Path) -> dict[str, Any]:
    """The compose file, its variables at their defaults."""
    return dict(interpolated(yaml.safe_load((deploy / "compose.yaml").read_text())))


def interpolated(node: Any) -> Any:
    """As Compose does it, with no variable set; what is required becomes its name."""
    if isinstance(node, dict):
        return {key: interpolated(value) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value) for value in node]
    if not isinstance(node, str):
        return node
    text = VARIABLE.sub(lambda m: m[3] if m[2] == "-" else m[1], node)
    return text.replace("$$", "$")


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope="session")
def services(deploy: Path, compose: dict[str, Any], tmp_path_factory: Any) -> Iterator[Services]:
    """Scheduler and worker of the compose file with deploy/dask.yaml, on loopback."""
    ports = {port: free_port() for port in ("8786", "8787", "8788")}
    folder = tmp_path_factory.mktemp("services")
    started = []
    try:
        for name in ("scheduler", "worker"):
            words = [here(w, ports) for w in compose["services"][name]["command"]]
            words[0] = str(Path(sys.executable).parent / words[0])
            log = (folder / f"{name}.log").open("w")
            environment = os.environ | {"DASK_CONFIG": str(deploy / "dask.yaml")}
            started.append(
                subprocess.Popen(words, stdout=log, stderr=log, env=environment, cwd=folder)
            )
            answers(f"http://127.0.0.1:{ports['8787' if name == 'scheduler' else '8788']}/health")
        yield Services(f"tcp://127.0.0.1:{ports['8786']}", ports)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)


def here(word: str, ports: dict[str, str]) -> str:
    """A word of the compose file, for processes of one host."""
    word = word.replace("tcp://scheduler:", "tcp://127.0.0.1:").replace("0.0.0.0", "127.0.0.1")
    for port, instead in ports.items():
        word = re.sub(rf"(?<!\d){port}(?!\d)", instead, word)
    return f"127.0.0.1{word}" if word.startswith(":") else word


def answers(url: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
