"""How an image is opened: the same for check and for a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from msiscale.config import RunConfig
from msiscale.msi import write_hdf5
from msiscale.pipeline.check import check


def test_check_understands_full_even_bins_as_a_run_does(tmp_path: Path) -> None:
    """Even bins, most of them full, as noise is: not smooth."""
    path, xy = tmp_path / "a.h5", np.array([(x, 0) for x in range(4)])
    rows = np.random.default_rng(5).uniform(1, 9, (4, 500)).astype("f4")
    write_hdf5(str(path), np.linspace(600, 800, 500), xy, rows, pixel_um=50)
    Image.fromarray(np.full((60, 250, 3), 200, np.uint8)).save(tmp_path / "a.png")
    manifest = tmp_path / "m.csv"
    manifest.write_text("specimen,msi,slide,mpp\na,a.h5,a.png,1\n")
    found = check(str(manifest), RunConfig(encoder="stains"))
    (understood,) = found.understood
    assert understood.msi["spectra"] == "profile"
    (notice,) = [n for n in found.notices if "full; read as profile" in n.text]
    assert (notice.specimen, notice.field, notice.severity) == ("a", "msi", "warning")
