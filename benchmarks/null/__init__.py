"""A finished run with its labels or its registration shuffled: what is left must be chance.

Within each specimen the annotation is dealt out anew over its pixels, or the features are (as if
the slide lay anywhere on the MSI); then the folds, penalties and classifiers are fitted as in the
run itself.
"""

from __future__ import annotations

import argparse
from statistics import mean

from benchmarks.common.progress import Progress

TAKES = "2 minutes; --full 6 (of a demo that was made before)"
FULL = {"shuffles": 20}
MODELS = ("cancer_from_msi", "cancer_from_he", "cancer_from_predicted_msi")


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--run", default="demo/run", help="results of a run [demo/run]")
    parser.add_argument("--shuffles", type=int, default=6, help="of each kind [6]")
    parser.add_argument("--seed", type=int, default=0)


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """AUC as it is, and its mean, least and greatest over the shuffles."""
    import numpy as np

    from benchmarks.null.shuffles import auc, linear, rows, shuffle
    from msiscale.pipeline.features import stored_groups
    from msiscale.store import StoredSpecimen, join, read_json

    progress.total = 1 + 2 * words.shuffles
    progress("as it is")
    run = read_json(join(words.run, "run.json"))
    patients = {s: run["patients"][s] for s in run["specimens"] if s not in run["failed"]}
    data = {s: rows(join(words.run, "cohort.zarr", s)) for s in patients}
    channels = stored_groups(StoredSpecimen.of(words.run, next(iter(patients))))
    rng = np.random.default_rng(words.seed)
    parameters = run["parameters"]
    models = linear(data, patients, parameters, channels)
    honest = auc(data, models, patients, parameters, MODELS)
    found = {f"honest.{m}.auc": v for m, v in honest.items()}
    for shuffled in ("labels", "registration"):
        # the predictor from MSI does not see the slide, the linear maps do not see the labels
        moved = shuffled == "registration"
        scores: dict[str, list[float]] = {m: [] for m in (MODELS[1:] if moved else MODELS)}
        for _ in progress.each(range(words.shuffles), f"{shuffled} shuffled"):
            null = {s: shuffle(part, shuffled, rng) for s, part in data.items()}
            if moved:
                models = linear(null, patients, parameters, channels)
            for model, value in auc(null, models, patients, parameters, tuple(scores)).items():
                scores[model].append(value)
        for model, values in scores.items():
            for name, of in (("mean", mean), ("least", min), ("greatest", max)):
                found[f"{shuffled}_shuffled.{model}.auc_{name}"] = float(of(values))
    return found
