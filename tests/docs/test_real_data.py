"""The words of docs/real-data.md, typed as they stand: a download, a run, and its figures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import typed

PAGE = Path(__file__).parents[2] / "docs" / "real-data.md"
WHEEL = ["--no-deps", "--only-binary=:all:", "msight==1.0.24"]


def words() -> str:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.S)
    return block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page begins; without the package's index there is nothing to try."""
    command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(tmp_path), *WHEEL]
    if subprocess.run(command, capture_output=True, check=False, timeout=300).returncode:
        pytest.skip("the package msight cannot be downloaded here")
    return tmp_path


@pytest.mark.slow(reason="139 MB to download and a run at the default options")
def test_the_words_end_in_the_figures_of_the_page(folder: Path) -> None:
    said = typed(folder, words(), 1800)
    assert "all inputs can be used" in said and "report: results/report.html" in said
    ions = pd.read_csv(folder / "results" / "ions.csv")
    ions = ions[ions["protocol"] == "spatial_blocks"]
    metrics = pd.read_csv(folder / "results" / "metrics.csv")
    pooled = metrics[(metrics["specimen"] == "all") & (metrics["target"] == "weighted")]
    pooled = pooled[(pooled["metric"] == "r2") & (pooled["protocol"] == "spatial_blocks")]
    r2 = pooled.set_index("model")["value"]
    assert r2["msi_from_he"] > max(r2["msi_from_colour"], 0.2)
    assert ions["pearson"].median() > 0.25
    nearest = np.abs(ions["mz"] - 881.26).to_numpy().argmin()
    assert ions["pearson"].iloc[nearest] > 0.74
    assert (folder / "results" / "figures" / "ions_R0008.png").stat().st_size > 50_000


@pytest.mark.slow(reason="139 MB to download")
def test_the_scale_of_the_file_is_warned_of(folder: Path) -> None:
    without = words().partition("msiscale check")[0].replace(",25,2.413", ",25,")
    typed(folder, without, 300)
    found = typed(folder, "msiscale check manifest.csv", 120)
    text = PAGE.read_text()
    (line,) = (li for li in (*found.splitlines(), "") if "smaller than its MSI" in li)
    assert "0.44 x 0.33 mm" in line and "6.85 x 4.08 mm" in line and line[:40] in text
