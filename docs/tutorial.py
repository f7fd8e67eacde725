"""From nothing to cancer and chemistry read from a slide, in Python: a tour of msiscale.

    python docs/tutorial.py [FOLDER]

It simulates a cohort of four patients, so that it works offline and the truth is known; with your
own manifest in place of the simulated one, everything after step 1 is the same. Under a minute.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.metrics import roc_auc_score

import msiscale as ms
from msiscale.config import RunConfig
from msiscale.export import export
from msiscale.simulate import simulate

# The options of `msiscale run`, coarse for speed: by default ResNet-50 sees 0.5 µm a pixel.
CONFIG = RunConfig(
    encoder="efficientnet-lite0",
    mpp=4.0,
    components=10,
    alphas=(1.0,),  # one penalty, in place of several to choose from
    costs=(1e-2,),
    protocols=("leave_one_patient_out",),
    shifts=0,
)


def main(folder: Path) -> None:
    # 1. A cohort: imzML, slides, annotations, landmarks, and a manifest with a line a specimen.
    manifest = simulate(folder / "cohort", specimens=4, seed=1, pixels=(24, 28), mpp=4.0)
    print(pd.read_csv(manifest).to_string(index=False))

    # 2. Any input opens by itself, lazily and with its units.
    msi = ms.open_msi(str(folder / "cohort/S01.imzML"), mz=[788.6164], tolerance_ppm=5)
    slide = ms.open_slide(folder / "cohort/S01.tiff")
    print(f"\nS01: {dict(msi.sizes)}, pixels of {msi.pixel_um} µm")
    print(f"its slide: {dict(slide.sizes)}, pixels of {slide.mpp} µm")

    # 3. Spectra onto one m/z axis, slides registered, features of the slides on the MSI grid, fits
    # that leave out a patient each, and the m/z that mark cancer. What is done is not done again.
    out = str(folder / "results")
    stages = ("ingest", "register", "features", "fit", "biomarkers")
    result = ms.run(manifest, out, config=CONFIG, stages=stages, workers=1)
    print("", *result.summary(), sep="\n")
    planted = json.loads((folder / "cohort/truth/S01.json").read_text())["biomarkers"]
    print(f"planted by the simulation: {', '.join(f'{mz:.4f}' for mz in planted)}")

    # 4. All of it is stored, and opens with xarray.
    tree = xr.open_datatree(f"{out}/cohort.zarr", engine="zarr", consolidated=False)
    print(f"\nstored, read when asked for: {dict(tree['S01'].sizes)}")

    # 5. The fits by hand: sums a patient from one reading, and any of them left out afterwards.
    x, m, cancer, patient = stacked(tree)
    sums = ms.Moments.from_arrays(x, m, groups=patient)
    print("\nleft out   R² of MSI modes   AUC of cancer, both from H&E")
    for left_out in sums:
        training = ms.Moments.merge(s for name, s in sums.items() if name != left_out)
        scale = training.scale("x")
        alive = scale > 0.5 * np.sqrt(np.mean(scale**2))  # networks have nearly dead channels
        pca = ms.PCA.from_moments(training, "m", n_components=10)
        seen, unseen = (
            part.select(x=alive).project(pca.components_, pca.mean_)
            for part in (training, sums[left_out])
        )
        ridge = ms.Ridge.from_moments(seen, alpha=1.0)
        r2 = ridge.r2(unseen, train_mean=np.zeros(10)).weighted
        test = patient == left_out
        classifier = ms.LogisticRegression(C=1e-2).fit(x[~test], cancer[~test])
        auc = roc_auc_score(cancer[test], classifier.predict_proba(x[test])[:, 1])
        print(f"{left_out:8} {r2:12.2f} {auc:17.2f}")

    # 6. A slide that has no MSI: its chemistry and its cancer, from the model of all specimens.
    simulate(folder / "new", specimens=1, seed=9, pixels=(24, 28), mpp=4.0)
    predicted = str(folder / "predicted")
    failed = ms.predict(f"{out}/model.zarr", str(folder / "new/S01.tiff"), out=predicted, workers=1)
    ion = ms.predicted_intensity(predicted, planted[0])
    print(f"\npredicted ion image {dict(ion.sizes)}, failed: {failed or 'none'}")

    # 7. And into the tools that you have.
    for form in ("imzml", "geojson"):
        print(*export(predicted, f"{folder}/exported", form).written)


def stacked(tree: xr.DataTree) -> tuple[np.ndarray, ...]:
    """Features, intensities, cancer and patient of the pixels that have all of them, as rows."""
    parts = []
    for _, node in sorted(tree.children.items()):
        data = node.to_dataset()
        # at the rim of a slide the network sees glass: features to be left alone
        usable = (data.tissue & (data.coverage >= 0.5) & data.norm.notnull()).values
        cancer = data.cancer.values[usable]
        patient = np.full(len(cancer), node.attrs["patient"])
        labelled = np.isfinite(cancer)
        rows = data.features.values[usable], data.intensity.values[usable], cancer > 0.5, patient
        parts.append([column[labelled] for column in rows])
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "tutorial"))
