"""Slides that have no MSI: cancer and chemistry by a fitted model, on a grid of the user's choice.

Every predictor is linear in the features, so a pixel costs one product with a few columns; the
dense features never touch the disk.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale import store
from msiscale.cluster import Where, connect, task_device
from msiscale.cohort import Cohort, Specimen
from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.features.extract import extract_block, whole_units
from msiscale.features.preview import preview
from msiscale.grid import Block, as_matrix, centres_um, scaling, translation
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.features import encoder_facts
from msiscale.pipeline.register import tissue_on_grid
from msiscale.slide.reader import Slide, open_reader
from msiscale.slide.working import working
from msiscale.store import create_array, join, open_group, put, write_block, write_bytes
from msiscale.store.lease import held
from msiscale.work import reason

MAPS = ("cancer_from_he", "cancer_from_predicted_msi")
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Model:
    """What ``model.zarr`` holds of use without MSI.

    ``scores`` is (channel, component) with its intercepts; ``cancer`` (channel, len(maps)) gives
    the log-odds of ``maps`` (none, when the cohort had no annotation); ``spectrum``
    (component, mz) and ``mean`` (mz,) turn scores into spectra.
    """

    attrs: dict[str, Any]
    digest: str
    scores: Float32
    scores_intercept: Float32
    maps: tuple[str, ...]
    cancer: Float32
    cancer_intercept: Float32
    spectrum: Float32
    mean: Float32
    mz: NDArray[np.float64]


def load_model(url: str) -> Model:
    """Read ``model.zarr``; one line when it is not one, or of another format."""
    group = open_group(url)
    if group.attrs.get("msiscale_model") != 1:
        raise InputError(f"{url}: not a model of this version of msiscale; fit it again")

    read = partial(store.read, group)
    maps = tuple(m for m in MAPS if f"{m}_coef" in group)
    none = np.empty((read("ridge_coef").shape[0], 0), np.float32)
    return Model(
        attrs=dict(group.attrs),
        digest=str(group.attrs["digest"]),
        scores=read("ridge_coef"),
        scores_intercept=read("ridge_intercept"),
        maps=maps,
        cancer=np.stack([read(f"{m}_coef") for m in maps], axis=1) if maps else none,
        cancer_intercept=np.array([read(f"{m}_intercept") for m in maps], np.float32),
        spectrum=read("pca_components"),
        mean=read("pca_mean"),
        mz=read("mz").astype(np.float64),
    )


def predict(
    model: str,
    slides: str | Sequence[str],
    *,
    out: str,
    pixel_um: float | None = None,
    slide_mpp: float | None = None,
    mz: Sequence[float] | None = None,
    weights: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    cluster_config: str | None = None,
    dashboard: str | None = None,
    performance_report: str | None = None,
    debug: bool = False,
) -> dict[str, str]:
    """Predict cancer and MSI of slides by a fitted model.

    Parameters
    ----------
    model
        ``model.zarr`` of a run.
    slides
        Paths or URLs; each becomes ``out/predictions.zarr/<name>`` and ``out/<name>.png``.
    pixel_um
        Grid of the prediction, µm; default the MSI pixel size of the training.
    slide_mpp
        µm a level-0 pixel, where the slides do not say.
    mz
        Also write ``predicted_intensity`` (y, x, mz) of the axis' m/z nearest to these.
    weights
        The encoder's weights file, where the model was fitted with one that has moved.
    scheduler, workers, cluster, cluster_config, dashboard, performance_report
        Where it runs (`msiscale.cluster.Where`); default: as Dask is configured, else here.

    Returns
    -------
    dict
        Slide name -> reason, of those that failed; the others are done.
    """
    if pixel_um is not None and not 0 < pixel_um < float("inf"):
        raise InputError(f"--pixel-um {pixel_um}: give a positive number of micrometres")
    fitted = load_model(model)
    parameters = fitted.attrs["features"]
    config = RunConfig(
        encoder=parameters["encoder"],
        weights=weights or parameters["weights"],
        mpp=parameters["mpp"],
        window=parameters["window"],
        precision=parameters["precision"],
    )
    names = _names([slides] if isinstance(slides, str) else slides)
    specimens = [
        Specimen(name, msi="", slide=slide, patient=name, mpp=slide_mpp, pixel_um=pixel_um)
        for name, slide in names.items()
    ]
    columns = _columns(fitted, mz)
    where = Where(scheduler, workers, cluster, cluster_config, dashboard, performance_report)
    with held(out) as lease, connect(where) as client:
        run = Run(out, Cohort(model, tuple(specimens)), config, client, lease, debug=debug)
        facts = encoder_facts(run)
        if facts["sha256"] != parameters["sha256"]:
            raise InputError(
                f"{model}: fitted on {parameters['encoder']} weights {parameters['sha256'][:12]}…, "
                f"but {config.weights or 'the default'} is {facts['sha256'][:12]}…; give --weights"
            )
        open_group(run.predictions_url, "a")
        _predict(run, fitted, model, columns)
    return run.failed


def _names(slides: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for slide in slides:
        name = PurePosixPath(slide.rstrip("/")).name.split(".")[0] or "slide"
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        if safe in names:
            raise InputError(f"{slide}: a second slide named {safe!r}; give it another --out")
        names[safe] = slide
    return names


def _columns(model: Model, mz: Sequence[float] | None) -> list[int]:
    columns = []
    for value in mz or ():
        nearest = int(np.argmin(np.abs(model.mz - value)))
        if abs(model.mz[nearest] / value - 1) > 2e-5:
            near = f"{model.mz[nearest]:.4f}"
            raise InputError(f"m/z {value} is not on the model's axis; the nearest is {near}")
        columns.append(nearest)
    return columns


def _predict(run: Run, model: Model, url: str, columns: list[int]) -> None:
    pixel_um = run.cohort.specimens[0].pixel_um or float(model.attrs["pixel_um"])
    keys, shapes, grids = {}, {}, {}
    for s in list(run.specimens()):
        try:
            slide = open_reader(s.slide, mpp=s.mpp)
        except (InputError, OSError) as error:
            run.set_aside("predict", s.name, "", reason(error))
            continue
        grids[s.name] = grid_of(slide, pixel_um)
        shapes[s.name] = grids[s.name][0]
        facts = [identity(s.slide), slide.mpp, pixel_um, model.digest, columns]
        keys[s.name] = run.key("predict", *facts)

    def create(specimen: Specimen) -> dict[str, Any]:
        shape, matrix = grids[specimen.name]
        size = run.config.block
        group = open_group(run.predictions_url, "r+").require_group(specimen.name)
        for name in (*model.maps, "coverage"):
            create_array(group, name, shape, ("y", "x"), chunks=(size, size))
        modes = model.scores.shape[1]
        create_array(
            group,
            "predicted_scores",
            (*shape, modes),
            ("y", "x", "component"),
            chunks=(size, size, 32),
            shards=(size, size, modes),
        )
        if columns:
            create_array(
                group,
                "predicted_intensity",
                (*shape, len(columns)),
                ("y", "x", "mz"),
                chunks=(size, size, 1),
                shards=(size, size, len(columns)),
            )
            put(group, "mz", model.mz[columns], ("mz",), attrs={"units": "m/z"})
        for name, n in zip(("y", "x"), shape, strict=True):
            put(group, name, centres_um(n, pixel_um), (name,), attrs={"units": "µm"})
        group.attrs.update({"slide": specimen.slide, "model": url, "matrix": matrix.tolist()})
        return {}

    def task(specimen: Specimen, block: Block) -> tuple[Any, tuple[Any, ...]]:
        target = join(run.predictions_url, specimen.name)
        shape, matrix = grids[specimen.name]
        words = (specimen, shape, matrix.tolist(), block, run.config, url, columns)
        return _predict_block, (target, *words)

    def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {"pixels": sum(p["pixels"] for p in parts)}

    run.blockwise("predict", keys, shapes, create, task, combine, gpu=True)
    for specimen in run.specimens():
        shape, matrix = grids[specimen.name]
        if not model.maps:
            run.say(f"{specimen.name}: the model was fitted without annotations; modes only")
            continue
        _overlay(run, specimen, shape, matrix)


def grid_of(slide: Slide, pixel_um: float) -> tuple[tuple[int, int], np.ndarray]:
    """Shape and matrix (pixel index -> level 0) of a grid that covers the whole slide."""
    step_y, step_x = pixel_um / slide.mpp[0], pixel_um / slide.mpp[1]
    shape = int(np.ceil(slide.shape[0] / step_y)), int(np.ceil(slide.shape[1] / step_x))
    return shape, scaling(step_x, step_y) @ translation(0.5, 0.5)


def _predict_block(
    target: str,
    specimen: Specimen,
    shape: tuple[int, int],
    matrix: list[list[float]],
    block: Block,
    config: RunConfig,
    url: str,
    columns: list[int],
) -> dict[str, Any]:
    from msiscale.features.encoders import load_encoder  # torch, on workers only

    model = load_model(url)
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    around = whole_units(block, shape)
    placed = as_matrix(matrix) @ translation(around.x0, around.y0)
    tissue = tissue_on_grid(slide, placed, around.shape)
    encoder = load_encoder(
        config.encoder, config.weights, device=task_device(), precision=config.precision
    )
    features, coverage = extract_block(
        working(slide, config.mpp),
        as_matrix(matrix),
        block,
        tissue,
        encoder,
        window=config.pixels_a_window,
        around=around,
    )
    group = open_group(target, "r+")
    log_odds = features @ model.cancer + model.cancer_intercept
    scores = features @ model.scores + model.scores_intercept
    results = {name: _sigmoid(log_odds[..., i]) for i, name in enumerate(model.maps)}
    results |= {"coverage": coverage, "predicted_scores": scores}
    if columns:
        spectra = scores @ model.spectrum[:, columns] + model.mean[columns]
        results["predicted_intensity"] = np.maximum(spectra, 0)
    for name, values in results.items():
        write_block(store.array_of(group, name), block, values.astype(np.float32))
    return {"pixels": int(tissue[block.within(around)].sum())}


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-log_odds))


def _overlay(run: Run, specimen: Specimen, shape: tuple[int, int], matrix: np.ndarray) -> None:
    """``<name>.png``: the slide with the probability of cancer over its tissue."""
    from matplotlib.figure import Figure

    per_pixel = max(1, min(32, 1600 // max(shape)))
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    pixel_um = float(matrix[0, 0]) * slide.mpp[1]
    image = working(slide, max(pixel_um / per_pixel, *slide.mpp))
    picture = preview(image, matrix, shape, per_pixel)
    values = store.read(open_group(join(run.predictions_url, specimen.name)), "cancer_from_he")
    figure = Figure(figsize=(8, 8 * shape[0] / shape[1] + 0.6), layout="constrained", dpi=150)
    axes = figure.subplots()
    extent = (0.0, shape[1] * pixel_um, shape[0] * pixel_um, 0.0)
    axes.imshow(picture, extent=extent)
    painted = axes.imshow(
        values, extent=extent, cmap="viridis", vmin=0, vmax=1, alpha=0.45, interpolation="nearest"
    )
    figure.colorbar(painted, ax=axes, shrink=0.7, label="probability of cancer, from H&E")
    axes.set(title=specimen.name, xlabel="x (µm)", ylabel="y (µm)")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    write_bytes(join(run.out, f"{specimen.name}.png"), file.getvalue())
