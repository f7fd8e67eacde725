"""``model.zarr``: what `msiscale predict` needs of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from msiscale import __version__
from msiscale.cohort import Specimen
from msiscale.models import Classifier, FoldModel
from msiscale.models.calibration import Calibration
from msiscale.models.fold_model import FOURIER, Mapped
from msiscale.pipeline.axis import load_axis
from msiscale.pipeline.context import Run
from msiscale.pipeline.ingest import scaling_of
from msiscale.pipeline.margins import write_margins
from msiscale.pipeline.novelty import calibrate
from msiscale.pipeline.pixel_rows import PixelRows
from msiscale.prediction.model import CURVED, FORMAT
from msiscale.store import array_of, join, open_group, put

MSI, HE, PREDICTED = "cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi"
HE_MODES = "cancer_from_he_modes"  # H&E cut to as many modes as the MSI has
COLOUR = "cancer_from_colour"  # the baseline: H&E as twelve numbers
MODELS = (MSI, HE, PREDICTED)
COMPARED = (*MODELS, HE_MODES, COLOUR)
Classifiers = dict[tuple[str, str], Classifier]


def write_model(
    run: Run,
    model: FoldModel,
    classifiers: Classifiers,
    specimens: list[Specimen],
    key: str,
    held_out: Sequence[Mapped],
    tables: dict[str, PixelRows],
) -> None:
    """Float32 arrays and plain attributes, of the fold that was trained on all `specimens`.

    The coefficients of the classifiers are those of the fit; ``calibration`` has, by model and
    class, what makes probabilities of them (`Calibration.facts`). ``fourier`` makes Fourier
    features, where there are any; along ``channel`` they come after the features of the slide.
    The folds that left a patient out say what a distance from the training means (`calibrate`),
    and how far predictions err (`write_margins`).
    """
    novelty, limits = calibrate(run, model, held_out, tables)
    root = open_group(join(run.out, "model.zarr"), "a")
    for name in list(root.keys()):
        del root[name]
    root.attrs.put({})
    put(root, "mz", load_axis(run)["mz"].values, ("mz",), attrs={"units": "m/z"})
    arrays = {
        "pca_mean": (model.mean, ("mz",)),
        "pca_components": (model.components, ("component", "mz")),
        "explained_variance_ratio": (model.explained_variance_ratio, ("component",)),
        "ridge_coef": (model.coef.T, ("channel", "component")),
        "ridge_intercept": (model.intercept, ("component",)),
    }
    calibration = {}
    for name in MODELS:
        if (name, "final") in classifiers:
            fitted = classifiers[name, "final"]
            # one class only: there is no fit, and nothing to calibrate
            there = bool(np.isfinite(fitted.intercept).all())
            of = fitted.calibration if there else Calibration.none(1)
            calibration[name] = {"cancer": of.facts}
            axis = "mz" if name == MSI else "channel"
            arrays[f"{name}_coef"] = (fitted.coef[:, 0], (axis,))
            put(root, f"{name}_intercept", np.float64(fitted.intercept[0]), ())
    for name, (values, dims) in arrays.items():
        put(root, name, values.astype(np.float32), dims)
    if model.fourier is not None:
        model.fourier.save(root.require_group(FOURIER))
    group = root.require_group("novelty")
    novelty.save(group)
    limits.save(group)
    records = [run.upstream("peaks", s) for s in specimens]
    features = array_of(open_group(join(run.cohort_url, specimens[0].name)), "features").attrs
    root.attrs.update(
        {
            "msiscale_model": FORMAT if model.fourier is None else CURVED,
            "head": run.config.head,
            "version": __version__,
            "digest": key,
            "specimens": [s.name for s in specimens],
            "pixel_um": float(np.median([r["pixel_um"] for r in records])),
            "polarity": sorted({str(r["polarity"]) for r in records}),
            "msi": {
                **run.config.part("normalise", "reference_mz", "transform", "tolerance_ppm"),
                "window": run.records("axis")["cohort"]["window"],
                "unit": scaling_of(run.config).unit,  # what counts as 1 before the transform
            },
            "features": {**dict(features), "weights": run.config.weights},
            "alpha": model.alpha,
            "weights": model.weights,
            "calibration": calibration,
        }
    )
    if held_out:
        predicted = [n for n in (HE, PREDICTED) if (n, "final") in classifiers]
        write_margins(run, model, tables, predicted)
