"""A small run's output in the store's layout, with one failed specimen and an unlabelled one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from msiscale.biomarkers import (
    biomarker_table,
    builtin_lipids,
    ion_mz,
    specimen_association,
    tidy,
)
from msiscale.grid import centres_um
from msiscale.pipeline.ion_sums import ion_sums
from msiscale.pipeline.ions import OfSpecimen, scores
from msiscale.store import (
    HeldOut,
    Ledger,
    create_array,
    join,
    open_group,
    put,
    read,
    read_json,
    remove,
    write_bytes,
    write_json,
)

PIXEL = 120.0
NAMES = {"s1": "P1", "s2": "P2", "s3": "P3", "wide": "P4"}
REASON = "slides/<b>x</b>.svs: will not open & cannot be read; get it anew"
MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")


def _csv(url: str, table: pd.DataFrame) -> None:
    write_bytes(url, table.to_csv(index=False).encode())


def _specimen(
    out: str, name: str, patient: str, seed: int, mz: np.ndarray, raised: int
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    ny, nx = (26, 70) if name == "wide" else (44, 56)
    y, x = np.mgrid[:ny, :nx]
    tissue = ((y - ny / 2) / (0.45 * ny)) ** 2 + ((x - nx / 2) / (0.45 * nx)) ** 2 < 1
    cancer = np.zeros((ny, nx), np.float32)
    if name != "s3":
        away = np.hypot(y - 0.42 * ny, x - 0.6 * nx) / (0.2 * ny)
        cancer = np.clip(1.5 - away, 0, 1).astype(np.float32)
    else:
        cancer[:] = np.nan
    k, n_mz = 5, mz.size
    truth = (
        np.nan_to_num(cancer)[..., None] * rng.normal(size=k)
        + gaussian_filter(rng.normal(size=(ny, nx, k)), (3, 3, 0)) * 4
    )
    components = np.linalg.qr(rng.normal(size=(n_mz, k)))[0].T.astype(np.float32)
    mean = rng.gamma(0.6, 4, n_mz).astype(np.float32)
    intensity = mean + truth @ components + rng.normal(0, 0.1, (ny, nx, n_mz))
    intensity[..., raised] += 6 * np.nan_to_num(cancer)
    intensity = np.maximum(intensity, 0).astype(np.float32)
    measured = np.ones((ny, nx), bool)
    measured[:, :2] = False
    intensity[~measured] = np.nan

    group = open_group(join(out, "cohort.zarr", name), "a")
    cube = create_array(
        group,
        "intensity",
        intensity.shape,
        ("y", "x", "mz"),
        chunks=(32, 32, 64),
        shards=(32, 32, n_mz),
        attrs={"normalisation": "tic"},
    )
    cube[...] = intensity
    put(group, "norm", np.where(measured, 1, np.nan).astype(np.float32), ("y", "x"))
    put(group, "tissue", tissue, ("y", "x"))
    put(group, "cancer", cancer, ("y", "x"))
    put(group, "mz", mz, ("mz",))
    stain = np.where(tissue[..., None], (214, 150, 190), (243, 242, 244))
    picture = np.kron(stain, np.ones((4, 4, 1))) + rng.normal(0, 9, (ny * 4, nx * 4, 1))
    put(group, "preview", np.clip(picture, 0, 255).astype(np.uint8), ("yp", "xp", "rgb"))
    for axis, n in (("y", ny), ("x", nx)):
        put(group, axis, centres_um(n, PIXEL), (axis,))
        put(group, f"{axis}p", centres_um(n * 4, PIXEL / 4), (f"{axis}p",))
    group.attrs.update({"patient": patient, "pixel_um": [PIXEL, PIXEL], "polarity": "+"})

    group = open_group(join(out, "predictions.zarr", name), "a")
    usable = tissue & measured
    for i, model in enumerate(MODELS):
        logit = 6 * np.nan_to_num(cancer) - 3 + rng.normal(0, 0.5 + i, (ny, nx))
        probability = np.where(usable, 1 / (1 + np.exp(-logit)), np.nan)
        put(group, model, probability.astype(np.float32), ("y", "x"))
    scores = np.where(usable[..., None], truth, np.nan).astype(np.float32)
    guess = (0.7 * scores + rng.normal(0, 0.2, scores.shape)).astype(np.float32)
    put(group, "scores", scores, ("y", "x", "component"))
    put(group, "predicted_scores", guess, ("y", "x", "component"))
    keep = np.arange(n_mz) % 7 != 3  # the fold supports fewer m/z than the cohort
    put(group, "components", components[:, keep], ("component", "mz"))
    put(group, "mean", mean[keep], ("mz",))
    put(group, "mz", mz[keep], ("mz",))
    group.attrs.update({"fold": patient, "protocol": "leave_one_patient_out"})
    return specimen_association(intensity, cancer, tissue, mz=mz)


def _metrics() -> pd.DataFrame:
    rows = []
    for name in [*NAMES, "all"]:
        for i, model in enumerate(MODELS):
            if name == "s3":
                continue
            values = {"auc": 0.97 - 0.05 * i, "average_precision": 0.8, "prevalence": 0.12}
            values |= {"accuracy": 0.93, "majority_accuracy": 0.88, "dice": 0.7}
            for metric, value in values.items():
                rows.append(["leave_one_patient_out", "P1", name, model, "cancer", metric, value])
                rows.append(["pixel_folds", "0", name, model, "cancer", metric, value + 0.02])
        for k in range(5):
            values = {"r2": 0.6 - 0.1 * k, "explained_variance_ratio": 0.3 / (k + 1)}
            for metric, value in (values | {"r2_tissue_mask": 0.05}).items():
                row = ["leave_one_patient_out", "P1", name, "msi_from_he", f"mode_{k:03d}"]
                rows.append([*row, metric, value])
        rows.append(["leave_one_patient_out", "P1", name, "msi_from_he", "weighted", "r2", 0.45])
    columns = ["protocol", "fold", "specimen", "model", "target", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def _ions(out: str, names: list[str], protocol: str) -> pd.DataFrame:
    mz = HeldOut(out, names[0], protocol).mz
    found = {n: OfSpecimen.of([ion_sums(out, n, protocol, 0, len(mz))]) for n in names}
    words = ["PC 34:1 [M+H]+", *[""] * (len(mz) - 1)]
    return scores(protocol, mz, words, found, NAMES)


def build(out: str) -> None:
    rng = np.random.default_rng(0)
    mz = np.sort(rng.uniform(500, 900, 120))
    mz[10] = ion_mz("C42H82NO8P", "[M+H]+")
    raised = int(np.argsort(mz).tolist().index(10))
    mz = np.sort(mz)
    tables = {
        name: _specimen(out, name, patient, i, mz, raised)
        for i, (name, patient) in enumerate(NAMES.items())
    }
    table = biomarker_table(tables, NAMES, builtin_lipids(), polarity="+")
    _csv(join(out, "biomarkers.csv"), table)
    _csv(join(out, "biomarkers_by_specimen.csv"), tidy(tables, NAMES))
    for name, own in tables.items():
        _csv(join(out, "association", f"{name}.csv"), own)
    _csv(join(out, "metrics.csv"), _metrics())
    _csv(join(out, "ions.csv"), _ions(out, [*NAMES], "leave_one_patient_out"))
    registration = [[name, "affine", 0.4 * PIXEL, 0.4] for name in NAMES]
    columns = ["specimen", "method", "residual_um", "residual_px"]
    _csv(join(out, "registration.csv"), pd.DataFrame(registration, columns=columns))
    ledger = Ledger(out)
    for name in NAMES:
        for stage in ("peaks", "ingest", "register", "features", "fit"):
            ledger.write(stage, name, "d", "done")
    ledger.write("peaks", "broken", "d", "done")
    ledger.write("register", "broken", "d", "failed", reason=REASON)
    ledger.write("fit", "cohort", "d", "done")
    write_json(
        join(out, "run.json"),
        {
            "manifest": "cohort.csv",
            "specimens": {**NAMES, "broken": "P5"},
            "started": "2026-10-01T10:00:00+00:00",
            "stages": {
                "ingest": {"wall_s": 12.34, "cpu_s": 20.0, "peak_mib": 512.0},
                "features": {"wall_s": 60.1, "cpu_s": 110.0, "peak_mib": 900.0, "blocks": 8},
            },
            "versions": {"msiscale": "0.1.0", "numpy": "2.4.6"},
            "parameters": {"encoder": "efficientnet-lite0", "cancer_classes": ["<i>Tumor</i>"]},
        },
    )


@pytest.fixture(scope="session")
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole of it, figures not yet drawn."""
    folder = tmp_path_factory.mktemp("report") / "out"
    build(str(folder))
    return folder


def build_alone(out: str) -> None:
    """The specimen without a label alone: blocks of it were held out, each with its own modes."""
    build(out)
    for name in set(NAMES) - {"s3"}:
        remove(join(out, "cohort.zarr", name))
        remove(join(out, "predictions.zarr", name))
    for table in ("biomarkers.csv", "biomarkers_by_specimen.csv", "association"):
        remove(join(out, table))
    group = open_group(join(out, "predictions.zarr", "s3"), "a")
    arrays = {n: read(group, n) for n in ("predicted_scores", "components", "mean", "mz")}
    for name in list(group.keys()):
        del group[name]
    whole = open_group(join(out, "cohort.zarr", "s3"))
    mz, guess = read(whole, "mz"), arrays["predicted_scores"]
    ny, nx, k = guess.shape
    signs = np.array([1, -1, 1, -1], np.float32)
    y, x = np.mgrid[:ny, :nx]
    fold = np.where(np.isfinite(guess[..., 0]), 2 * (y >= ny // 2) + (x >= nx // 2), -1)
    at = np.searchsorted(mz, arrays["mz"])
    mean, components = np.zeros(len(mz)), np.zeros((k, len(mz)))
    mean[at], components[:, at] = arrays["mean"], arrays["components"]
    supported = np.isin(np.arange(len(mz)), at)
    blocks = group.require_group("spatial_blocks")
    put(blocks, "mz", mz, ("mz",))
    put(blocks, "fold", fold.astype(np.int16), ("y", "x"))
    turned = guess * signs[fold][..., None]
    put(blocks, "predicted_scores", turned.astype(np.float32), ("y", "x", "component"))
    every = (components * signs[:, None, None]).astype(np.float32)
    put(blocks, "components", every, ("folds", "component", "mz"))
    put(blocks, "mean", np.tile(mean, (4, 1)).astype(np.float32), ("folds", "mz"))
    put(blocks, "supported", np.tile(supported, (4, 1)), ("folds", "mz"))
    model = open_group(join(out, "model.zarr"), "a")
    put(model, "pca_mean", mean.astype(np.float32), ("mz",))
    put(model, "pca_components", components.astype(np.float32), ("component", "mz"))
    metrics = _metrics()
    metrics = metrics[metrics["specimen"].isin(["s3", "all"]) & (metrics["model"] == "msi_from_he")]
    _csv(join(out, "metrics.csv"), metrics.assign(protocol="spatial_blocks", fold="all"))
    _csv(join(out, "ions.csv"), _ions(out, ["s3"], "spatial_blocks"))
    ledger = Ledger(out)
    for stage in ("peaks", "ingest", "register", "features", "fit"):
        for name in ("s1", "s2", "wide", "broken"):
            ledger.forget(stage, [name])
    ledger.write("register", "s3", "d", "done", labelled=False)
    plan = join(out, "run.json")
    write_json(plan, {**read_json(plan), "specimens": ["s3"], "patients": {"s3": "P3"}})


@pytest.fixture(scope="session")
def alone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one specimen without a label, its figures drawn."""
    from msiscale.report import write_figures

    folder = tmp_path_factory.mktemp("alone") / "out"
    build_alone(str(folder))
    write_figures(str(folder), "s3")
    return folder


@pytest.fixture(scope="session")
def drawn_folder(results_folder: Path) -> Path:
    """The same with the figures of three specimens."""
    from msiscale.report import write_figures

    for name in ("s1", "s3", "wide"):
        write_figures(str(results_folder), name)
    return results_folder
