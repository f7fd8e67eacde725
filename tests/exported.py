"""Results of a run in the store's layout, small and of known content."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from PIL import Image

from msiscale.grid import Floats, apply, as_matrix, centres_um
from msiscale.slide.annotations import write_geojson
from msiscale.slide.outlines import Outline
from msiscale.store import Ledger, create_array, join, open_group, put, write_bytes, write_json

PIXEL, MPP = (50.0, 40.0), (2.0, 2.0)
MZ = np.array([500.1, 600.2, 700.3, 700.30004, 800.5])
KEPT = [0, 1, 2, 4]  # m/z of the fold
SHAPE = (70, 85)
MODES = 3
TOOLS = ("anndata>=0.12", "spatialdata>=0.6", "ome-zarr>=0.12", "ome-zarr-models>=1.5")


def turned(shape: tuple[int, int]) -> Floats:
    """MSI lies mirrored and at an angle on the slide."""
    turn, cos, sin = np.eye(3), np.cos(0.4), np.sin(0.4)
    turn[:2, :2] = [[-cos * 20, -sin * 25], [-sin * 20, cos * 25]]
    corners = apply(turn, [(0, 0), (shape[1], 0), (0, shape[0]), shape[::-1]])
    turn[:2, 2] = 60 - corners.min(axis=0)
    return as_matrix(turn)


def specimen(out: str, name: str, seed: int, shape: tuple[int, int], mz: np.ndarray) -> None:
    """Cube and predictions; a corner was not measured, an edge is not tissue."""
    rng, kept = np.random.default_rng(seed), KEPT if len(mz) == len(MZ) else list(range(len(mz)))
    measured, tissue = np.ones(shape, bool), np.ones(shape, bool)
    measured[:9, :7] = False
    tissue[:, -5:] = False
    usable = measured & tissue
    matrix = turned(shape)
    group = open_group(join(out, "cohort.zarr", name), "a")
    cube = create_array(
        group,
        "intensity",
        (*shape, len(mz)),
        ("y", "x", "mz"),
        chunks=(32, 32, 64),
        shards=(64, 64, len(mz)),
        attrs={"normalisation": "tic"},
    )
    for y in range(0, shape[0], 64):
        for x in range(0, shape[1], 64):
            part = measured[y : y + 64, x : x + 64, None]
            values = rng.gamma(2, 3, (*part.shape[:2], len(mz)))
            cube[y : y + 64, x : x + 64] = np.where(part, values, np.nan).astype(np.float32)
    put(group, "norm", np.where(measured, 1, np.nan).astype(np.float32), ("y", "x"))
    put(group, "tissue", tissue, ("y", "x"))
    cancer = np.full(shape, np.nan, np.float32)
    if name == "A":
        cancer[:] = 0
        cancer[20:40, 30:60] = 1
    put(group, "cancer", cancer, ("y", "x"))
    put(group, "mz", mz, ("mz",))
    picture = rng.integers(0, 255, (shape[0] * 2, shape[1] * 2, 3), dtype=np.uint8)
    put(group, "preview", picture, ("yp", "xp", "rgb"))
    for axis, n, um in zip("yx", shape, PIXEL, strict=True):
        put(group, axis, centres_um(n, um), (axis,))
        put(group, f"{axis}p", centres_um(n * 2, um / 2), (f"{axis}p",))
    extent = apply(matrix, [(0, 0), (shape[1], 0), (0, shape[0]), shape[::-1]]).max(axis=0) + 60
    slide = str(Path(out).parent / f"{name}.png")
    pixels = np.zeros((int(extent[1]), int(extent[0]), 3), np.uint8)
    pixels[..., 0] = np.arange(pixels.shape[1]) % 256
    pixels[..., 1] = np.arange(pixels.shape[0])[:, None] % 256
    Image.fromarray(pixels).save(slide, compress_level=1)
    group.attrs.update(
        {
            "patient": f"P{seed}",
            "pixel_um": list(PIXEL),
            "mpp": list(MPP),
            "matrix": matrix.tolist(),
            "polarity": "-",
            "slide": slide,
            "encoder": "none",
        }
    )
    group = open_group(join(out, "predictions.zarr", name), "a")
    for model in ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"):
        values = np.where(usable, rng.random(shape), np.nan).astype(np.float32)
        put(group, model, values, ("y", "x"))
    scores = np.where(usable[..., None], rng.normal(0, 2, (*shape, MODES)), np.nan)
    put(group, "predicted_scores", scores.astype(np.float32), ("y", "x", "component"))
    components = rng.normal(size=(MODES, len(kept))).astype(np.float32)
    put(group, "components", components, ("component", "mz"))
    put(group, "mean", rng.gamma(2, 3, len(kept)).astype(np.float32), ("mz",))
    put(group, "mz", mz[kept], ("mz",))
    ledger = Ledger(out)
    for stage in ("ingest", "register", "fit"):
        ledger.write(stage, name, "d", "done")


def build(out: str, shape: tuple[int, int] = SHAPE, mz: np.ndarray = MZ, names: str = "AB") -> None:
    """A run of `names`, and C, which failed; its inputs lie beside it."""
    beside = Path(out).parent
    for store in ("cohort.zarr", "predictions.zarr"):
        open_group(join(out, store), "a")
    for seed, name in enumerate(names, start=1):
        specimen(out, name, seed, shape, mz)
    rng = np.random.default_rng(9)
    model = open_group(join(out, "model.zarr"), "a")
    put(model, "pca_mean", rng.gamma(2, 3, len(mz)).astype(np.float32), ("mz",))
    loadings = np.linalg.qr(rng.normal(size=(len(mz), 2)))[0].T.astype(np.float32)
    put(model, "pca_components", loadings, ("component", "mz"))
    ratio = np.array([0.5, 0.2], np.float32)
    put(model, "explained_variance_ratio", ratio, ("component",))
    model.attrs["polarity"] = ["-"]
    table = pd.DataFrame({"mz": mz[[4, 3]], "auc": [0.9, 0.8], "annotation": ["PC 34:1", None]})
    write_bytes(join(out, "biomarkers.csv"), table.to_csv(index=False).encode())
    inside = apply(turned(shape), [(30, 20), (59, 20), (59, 39), (30, 39)])
    regions = [Outline(shapely.Polygon(inside), "Tumor: Predicted")]
    write_geojson(join(out, "regions", "A.geojson"), regions)
    write_geojson(f"{beside}/A.geojson", [Outline(shapely.Polygon(inside), "Tumor")])
    for file in ("A.imzML", "A.ibd"):
        write_bytes(f"{beside}/{file}", b"")
    rows = b"specimen,msi,slide,annotation\nA,A.imzML,A.png,A.geojson\n"
    write_bytes(f"{beside}/manifest.csv", rows)
    write_json(
        join(out, "run.json"),
        {
            "manifest": f"{beside}/manifest.csv",
            "specimens": {**{n: f"P{i}" for i, n in enumerate(names, 1)}, "C": "P3"},
            "failed": {"C": "C.svs: will not open"},
        },
    )


def other_environment(folder: Path) -> str:
    """The Python of an environment that has the other tools; made where it is not there.

    What it lacks (torch, msiscale itself) it takes from the environment of the tests.
    """
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        make = [sys.executable, "-m", "venv", "--clear", str(folder)]
        get = [str(python), "-m", "pip", "install", "--quiet", *TOOLS]
        for command in (make, get):
            subprocess.run(command, capture_output=True, text=True, check=True)
        packages = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        below = [str(Path(__file__).parents[1]), sysconfig.get_path("purelib")]
        (packages / "below.pth").write_text("\n".join(below))
        done.touch()
    return str(python)


def in_other(python: str, program: str, *words: str) -> str:
    """What a program prints there."""
    command = [python, "-W", "ignore", "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
