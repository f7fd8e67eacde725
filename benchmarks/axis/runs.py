"""Runs of the ingest stage with the options as they are, and what they found."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import msiscale as ms
from benchmarks.axis.cohorts import Floats, Truth, manifest, write
from msiscale.errors import InputError
from msiscale.msi import open_source
from msiscale.msi.pixel_size import worded
from msiscale.msi.window import Window
from msiscale.store import StoredSpecimen, read, read_json


def scores(folder: Path, kind: str, seed: int, specimens: int) -> dict[str, float]:
    """How well the cubes of a cohort of one instrument agree with what it was made of."""
    cohort, known = write(folder, kind, seed, specimens)
    out = str(folder / "out")
    ms.run(str(cohort), out, stages=("ingest",), workers=1)
    return judged(out, known)


def judged(out: str, known: Truth) -> dict[str, float]:
    """How well the cubes of a run agree with what its spectra were made of."""
    document = read_json(f"{out}/run.json")
    window = Window(**document["mz_window"])
    names = [f"S{i}" for i in range(len(known.images))]
    cubes = [StoredSpecimen.of(out, name).group for name in names]
    mz = read(cubes[0], "mz")
    away = np.abs(mz[:, None] / known.mz - 1) * 1e6
    right = away <= np.asarray(window.half_ppm(known.mz)) / 2
    nearest = away.argmin(axis=0)
    correlations = [
        _correlations(read(cube, "intensity")[..., nearest], read(cube, "norm"), images)
        for cube, images in zip(cubes, known.images, strict=True)
    ]
    return {
        "correlation": float(np.median(correlations)),
        "correlation_least": float(np.min(correlations)),
        "found": float(right.any(axis=0).sum()),
        "false": float(len(mz) - right.any(axis=1).sum()),
        "captured": min(document["captured"].values()),
        "window_ppm": window.ppm,
    }


def _correlations(intensity: Floats, norm: Floats, images: Floats) -> Floats:
    """Of every ion's image with the truth, the normalisation undone."""
    raw = (intensity * norm[..., None]).reshape(len(images), -1)
    return np.array(
        [np.corrcoef(a, b)[0, 1] for a, b in zip(raw.T, images.T, strict=True)], np.float64
    )


def real_files(folder: Path) -> list[Path]:
    """The imzML files below a folder."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() == ".imzml")


def real_share(folder: Path, path: Path) -> dict[str, float]:
    """Share of a file's ion current that reaches its cube; what is said is printed as it comes."""
    out = str(folder / "out")
    source = open_source(str(path))
    size = "unknown" if source.pixel_um is None else worded(source.pixel_um)
    print(f"{path.name}: pixel size {size}: {source.pixel_from}")
    cohort = manifest(folder, [f"S0,P0,{path.resolve()},50"])
    try:
        if ms.run(str(cohort), out, stages=("ingest",), workers=1).failed:
            return {}
    except InputError as error:
        print(f"{path.name}: {error}")
        return {}
    document = read_json(f"{out}/run.json")
    columns = len(read(StoredSpecimen.of(out, "S0").group, "mz"))
    window = float(document["mz_window"]["ppm"])
    return {"captured": document["captured"]["S0"], "mz": float(columns), "window_ppm": window}
