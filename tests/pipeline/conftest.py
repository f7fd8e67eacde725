"""A small phantom cohort, run once, that the tests of the pipeline share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import CHOICES, installed

from msiscale.simulate import simulate


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three specimens; the manifest. Copy the folder before changing anything in it."""
    folder = tmp_path_factory.mktemp("phantom") / "cohort"
    simulate(folder, specimens=3, seed=1, pixels=(20, 22), mpp=4.0)
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def finished(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of an undisturbed run with one worker, of the installed command."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    said = installed("run", cohort, "--out", out, "--workers", "1", *CHOICES)
    assert said.code == 0, said.err
    return out


@pytest.fixture
def copied(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort to damage; its manifest."""
    shutil.copytree(cohort.parent, tmp_path / "cohort")
    return tmp_path / "cohort" / "manifest.csv"
