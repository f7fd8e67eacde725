"""`msiscale predict`: slides without MSI by a fitted model, on a grid of the user's choice.

Every predictor is linear in the features, or in Fourier features of them, so a pixel costs one or
two products with a few columns; the dense features never touch the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Unpack

import numpy as np

from msiscale.cluster import Where, WhereWords, connect
from msiscale.cohort import Cohort, Specimen
from msiscale.config import RunConfig, permitted
from msiscale.errors import InputError
from msiscale.grid import Block, PixelSize, as_matrix, centres_um
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.features import encoder_facts
from msiscale.pipeline.places import files_of, located
from msiscale.pipeline.tasks import Task
from msiscale.prediction.blocks import SlidePlan, predict_block
from msiscale.prediction.grid import check_pixel, grid_of
from msiscale.prediction.model import Model, bound_names, load_model, of_model
from msiscale.prediction.overlay import draw_overlay
from msiscale.prediction.regions import PREDICTED, consensus, write_regions
from msiscale.prediction.secondary import predicted_regions
from msiscale.slide.origin import said_offset
from msiscale.slide.reader import open_reader
from msiscale.store import (
    absolute,
    create_array,
    join,
    open_group,
    put,
    read,
    split_scene,
    write_bytes,
)
from msiscale.store.lease import held
from msiscale.store.seen import check_seen
from msiscale.work import reason

MEASURES = ("feature_distance", "feature_unexplained")
TELL = 0.25  # of the tissue unlike the training, from which on it is said


def predict(
    model: str,
    slides: str | Sequence[str],
    *,
    out: str,
    pixel_um: float | None = None,
    slide_mpp: float | None = None,
    mz: Sequence[float] | None = None,
    region_probability: float | None = None,
    region_um2: float | None = None,
    prevalence: float | None = None,
    weights: str | None = None,
    encoder: str | None = None,
    where: Where | None = None,
    debug: bool = False,
    **words: Unpack[WhereWords],
) -> dict[str, str]:
    """Predict cancer and MSI of slides by a fitted model.

    Parameters
    ----------
    model
        ``model.zarr`` of a run.
    slides
        Paths or URLs; each becomes ``out/predictions.zarr/<name>``, ``out/<name>.png`` and
        ``out/regions/<name>.geojson``.
    out
        Folder or URL of the results.
    pixel_um
        Grid of the prediction, µm; default the MSI pixel size of the training, at least a cell of
        the features (16 px of 0.5 µm are 8 µm).
    slide_mpp
        µm a level-0 pixel, where the slides do not say.
    mz
        Also write ``predicted_intensity`` (y, x, mz) of the axis' m/z nearest to these;
        `predicted_intensity` has them of any m/z afterwards.
    region_probability, region_um2
        Least mean probability of a pixel and least area of a region of predicted cancer;
        default the thresholds that the model's training patients chose, and as in `RunConfig`.
    prevalence
        Share of the tissue's pixels that is taken to be cancer in slides such as these, before
        they are looked at; default that of the training patients. It moves all log-odds, and the
        thresholds with them: the probabilities change, the pixels that are called cancer do not.
    weights
        The encoder's weights file, where the model was fitted with one that has moved.
    encoder
        The model's own encoder again, where it is code of the user's (``own:MODULE:FUNCTION``): a
        model does not decide what is run.
    where, **words
        Where it runs, and its fields by name, which win; default: as Dask is configured, else here.
    debug
        Raise unexpected errors with their traceback in place of setting the slide aside.

    Returns
    -------
    dict
        Slide name -> reason, of those that failed; the others are done.

    Raises
    ------
    InputError
        No model, other weights than it was fitted with, a grid finer than the features, an m/z
        that it does not predict, or a prevalence that is not between 0 and 1.

    Examples
    --------
    >>> import msiscale as ms
    >>> ms.predict("results/model.zarr", "new/S01.tiff", out="predicted", workers=1)
    {}
    """
    where = replace(where or Where(), **words)
    model, out = absolute(model), absolute(out)
    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"--prevalence {prevalence:g}: give a share between 0 and 1")
    fitted = load_model(model).at_prevalence(prevalence)
    parameters = fitted.attrs["features"]
    if parameters["feature_mode"] != "dense":
        raise InputError(f"{model}: fitted on features of tiles; fit it with --feature-mode dense")
    trained_um = float(fitted.attrs["pixel_um"])
    check_pixel(pixel_um, parameters["cell"], parameters["mpp"], trained_um)
    given = {"region_probability": region_probability, "region_um2": region_um2}
    config = RunConfig(
        encoder=permitted(parameters["encoder"], encoder, model),
        weights=weights or parameters["weights"],
        mpp=parameters["mpp"],
        window=parameters["window"],
        precision=parameters["precision"],
        compile=parameters.get("compile", False),
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    names = _names([slides] if isinstance(slides, str) else slides)
    specimens = [
        Specimen(name, msi="", slide=slide, patient=name, mpp=slide_mpp)
        for name, slide in names.items()
    ]
    columns = fitted.columns(mz)
    config, cohort = located(config), Cohort(model, tuple(specimens))
    with held(out) as lease, connect(where) as client:
        lease = check_seen(client, [model, *files_of(cohort, config)], lease)
        run = Run(out, cohort, config, lambda: client, lease, debug=debug)
        facts = encoder_facts(run)
        if facts["sha256"] != parameters["sha256"]:
            raise InputError(
                f"{model}: fitted on {parameters['encoder']} weights {parameters['sha256'][:12]}…, "
                f"but {config.weights or 'the default'} is {facts['sha256'][:12]}…; give --weights"
            )
        recipe = parameters.get("recipe", facts["recipe"])  # a model of before has none
        if recipe != facts["recipe"]:
            raise InputError(
                f"{model}: fitted on features of the recipe {recipe}, but the encoder here has "
                f"{facts['recipe']}; give the --weights, with their config.json, of the fit"
            )
        open_group(run.predictions_url, "a")
        _say_unknown(run, fitted)
        plans = _plans(run, fitted, model, columns, pixel_um or trained_um, prevalence)
        _predict(run, fitted, plans)
        _outline(run, fitted, plans)
    return run.failed


def _say_unknown(run: Run, model: Model) -> None:
    """What is not known of the model's errors."""
    if not model.margins:
        run.say(
            "no bounds are predicted: the model was fitted without held-out patients, or by an "
            "older msiscale"
        )
    if model.tiers is None:
        run.say("no ions.csv is beside the model, so which ions can be read from H&E is not known")


def _names(slides: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for slide in slides:
        file, scene = split_scene(slide)
        name = PurePosixPath(file.rstrip("/")).name.split(".")[0] or "slide"
        name = name if scene is None else f"{name}_{scene}"
        safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        if safe in names:
            raise InputError(f"{slide}: a second slide named {safe!r}; give it another --out")
        names[safe] = absolute(slide)
    return names


def _plans(
    run: Run,
    model: Model,
    url: str,
    columns: list[int],
    pixel_um: float,
    prevalence: float | None,
) -> dict[str, SlidePlan]:
    """What is to be done of each slide; those that will not open are set aside."""
    plans = {}
    tiers = [] if model.tiers is None else model.tiers.tier.tolist()
    for s in list(run.specimens()):
        try:
            slide, file = open_reader(s.slide, mpp=s.mpp), identity(s.slide)
        except (InputError, OSError) as error:
            run.set_aside("predict", s.name, "", reason(error))
            continue
        shape, matrix = grid_of(slide, pixel_um)
        facts = [file, slide.mpp, pixel_um, model.digest, columns, tiers, prevalence]
        plans[s.name] = SlidePlan(
            target=join(run.predictions_url, s.name),
            model=url,
            key=run.key("predict", *facts),
            matrix=tuple(map(tuple, matrix.tolist())),
            shape=shape,
            pixel_um=pixel_um,
            columns=tuple(columns),
            prevalence=prevalence,
        )
    cell = model.attrs["features"]["cell"] * run.config.mpp
    if plans and model.fourier is not None and pixel_um != float(model.attrs["pixel_um"]):
        run.say(
            f"the model is not linear (--head {model.attrs['head']}), and these pixels differ in "
            "size from those of the training: their scores and log-odds do not average to those "
            "of the training's pixels"
        )
    if plans and pixel_um < cell:
        run.say(
            f"pixels of {pixel_um:g} µm, as in the training, are finer than the {cell:g} µm that "
            "each feature value covers, so neighbouring pixels share values"
        )
    return plans


def _predict(run: Run, model: Model, plans: dict[str, SlidePlan]) -> None:
    """``predictions.zarr``, a task a block."""

    def create(specimen: Specimen) -> dict[str, Any]:
        _create(run, model, specimen, plans[specimen.name])
        return {}

    def task(specimen: Specimen, block: Block) -> tuple[Any, tuple[Any, ...]]:
        return predict_block, (plans[specimen.name], specimen, block, run.config)

    def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {"pixels": sum(p["pixels"] for p in parts)}

    keys = {name: plan.key for name, plan in plans.items()}
    shapes = {name: plan.shape for name, plan in plans.items()}
    run.blockwise("predict", keys, shapes, create, task, combine, gpu=True)


def _create(run: Run, model: Model, specimen: Specimen, plan: SlidePlan) -> None:
    """The arrays of a slide, and all that `predicted_intensity` needs beside the scores."""
    shape, size, modes = plan.shape, run.config.block, model.scores.shape[1]
    group = open_group(run.predictions_url, "r+").require_group(specimen.name)
    maps = [name for m in model.maps for name in (m, f"{m}_log_odds")]
    maps += [name for m in model.maps if m in model.margins for name in bound_names(m)]
    images = ["predicted_intensity"] if plan.columns else []
    images += bound_names("predicted_intensity") if plan.columns and model.margins else ()
    for name in (*maps, "coverage", *MEASURES):
        create_array(group, name, shape, ("y", "x"), chunks=(size, size))
    create_array(
        group,
        "predicted_scores",
        (*shape, modes),
        ("y", "x", "component"),
        chunks=(size, size, 32),
        shards=(size, size, modes),
    )
    for name in images:
        create_array(
            group,
            name,
            (*shape, len(plan.columns)),
            ("y", "x", "mz"),
            chunks=(size, size, 1),
            shards=(size, size, len(plan.columns)),
        )
    if plan.columns:
        put(group, "mz", model.mz[list(plan.columns)], ("mz",), attrs={"units": "m/z"})
    put(group, "mz_axis", model.mz, ("mz_axis",), attrs={"units": "m/z"})
    put(group, "components", model.spectrum, ("component", "mz_axis"))
    put(group, "mean", model.mean, ("mz_axis",))
    for name, n in zip(("y", "x"), shape, strict=True):
        put(group, name, centres_um(n, plan.pixel_um), (name,), attrs={"units": "µm"})
    known = of_model(model)
    for name, (values, axis) in known.items():
        put(group, name, values, (axis,))
    kept = {*maps, *images, *known, *MEASURES, "coverage", "predicted_scores", "y", "x"}
    kept |= {"mz_axis", "components", "mean"}
    kept |= {"mz"} if plan.columns else set()
    for name in set(group.keys()) - kept:  # of an earlier prediction
        del group[name]
    facts = {"slide": specimen.slide, "model": plan.model, "matrix": np.array(plan.matrix).tolist()}
    said = {"prevalence": model.prevalence, "thresholds": model.thresholds}
    group.attrs.update({**facts, "pixel_um": plan.pixel_um, **said})


def _outline(run: Run, model: Model, plans: dict[str, SlidePlan]) -> None:
    """``extrapolated``, ``regions/<name>.geojson`` and ``<name>.png``, a task a slide."""
    slides = list(run.specimens())
    part = run.config.part("region_probability", "region_um2")
    keys = {
        s.name: run.key("outline", plans[s.name].key, part, s.annotation_origin) for s in slides
    }

    def task(specimen: Specimen) -> Task:
        args = (run.out, specimen, plans[specimen.name], run.config)
        return Task(specimen.name, specimen.name, _outline_slide, args)

    run.each("outline", keys, task)
    for specimen in run.specimens():
        found = run.upstream("outline", specimen)
        share = found["extrapolated"] / max(found["pixels"], 1)
        if not model.maps:
            why = "the model was fitted without annotations, so only modes are predicted"
            run.say(f"{specimen.name}: {why}")
        if not found["pixels"]:
            run.say(f"{specimen.name}: no tissue found; nothing is predicted")
        elif share >= TELL:
            run.say(
                f"{specimen.name}: {share:.0%} of the tissue is unlike the training; do not "
                "trust the prediction there (`extrapolated`)"
            )


def _outline_slide(
    out: str, specimen: Specimen, plan: SlidePlan, config: RunConfig
) -> dict[str, Any]:
    """Memory: some ten maps of the slide, 4 bytes a pixel each."""
    model = load_model(plan.model).at_prevalence(plan.prevalence)
    group, matrix = open_group(plan.target), as_matrix(plan.matrix)
    distance, unexplained = (read(group, name) for name in MEASURES)
    pixels = max(1.0, float(model.attrs["pixel_um"]) / plan.pixel_um)
    unlike = model.limits.exceeded(distance, unexplained, pixels)
    size = (config.block, config.block)
    put(open_group(plan.target, "r+"), "extrapolated", unlike, ("y", "x"), chunks=size)
    facts = {"pixels": int(np.isfinite(distance).sum()), "extrapolated": int(unlike.sum())}
    if not model.maps:
        return facts
    probabilities = {name: read(group, name) for name in model.maps}
    found = predicted_regions(
        probabilities,
        unlike,
        matrix,
        PixelSize.of(plan.pixel_um),
        thresholds=model.thresholds,
        least_probability=config.region_probability,
        least_um2=config.region_um2,
    )
    named = [(f"{i}", region) for i, region in enumerate(found, start=1)]
    slide = open_reader(specimen.slide, mpp=specimen.mpp)
    url = join(out, "regions", f"{specimen.name}.geojson")
    write_regions(
        url, {PREDICTED: named}, said_offset(specimen.annotation_origin or "bounds", slide)
    )
    picture = draw_overlay(
        slide,
        specimen.name,
        consensus(probabilities),
        unlike,
        found,
        matrix,
        plan.pixel_um,
    )
    write_bytes(join(out, f"{specimen.name}.png"), picture)
    return {**facts, "regions": len(found), "area_um2": sum(f.area_um2 for f in found)}
