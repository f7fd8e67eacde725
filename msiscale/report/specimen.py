"""What the page of a specimen can show: pictures and maps at the MSI's resolution, bounded."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import find_contours

from msiscale.grid import Block, blocks
from msiscale.report import packing
from msiscale.report.data import BIOMARKERS, MODELS, Results, identification
from msiscale.report.tables import mz as mz_words
from msiscale.store import StoredSpecimen

IONS = 30  #: measured ion images, at most
STRONGEST = 20  #: of them biomarkers
MODES = 24  #: at most
MZ = 4096  #: of the spectra, at most: the most intense
WHOLE = 4 << 20  #: bytes of a cube of which every m/z is embedded, at most, before compression
PIXELS = 1 << 18  #: shown; of a larger map every second, third, … one
BYTES = 8 << 20  #: before compression: fewer ions and modes where pixels are many
PICTURE = 1200  #: of the H&E, on the longer side, at most
_FEWEST_IONS, _FEWEST_MODES = 8, 6
_TILE = 64  # MSI pixels of the cube that are read at a time, a side
_CANCER = 0.5


@dataclass(frozen=True)
class Bounds:
    """How much of a specimen is embedded."""

    step: int  # every `step`-th pixel
    ions: int  # listed
    images: int  # of ions in all; of every m/z, where the cube is small
    modes: int
    pixels: int

    @classmethod
    def of(cls, shape: tuple[int, int], n_mz: int) -> Bounds:
        """For a cube of this shape and so many m/z."""
        step = max(1, math.ceil(math.sqrt(shape[0] * shape[1] / PIXELS)))
        n = -(-shape[0] // step) * -(-shape[1] // step)
        share = min(1.0, BYTES / (n * (IONS + 4 * MODES)))
        ions = max(_FEWEST_IONS, int(share * IONS))
        images = n_mz if n * n_mz <= WHOLE else min(ions, n_mz)
        return cls(step, ions, images, max(_FEWEST_MODES, int(share * MODES)), n)

    @property
    def bytes(self) -> int:
        """About how large the page becomes, at most, without the library that draws."""
        return self.pixels * (self.images + 4 * self.modes + 8) + (1 << 19)


def content(results: Results, name: str) -> dict[str, Any] | None:
    """Everything that `report.js` draws of a specimen, as JSON; None where nothing is known."""
    # in memory: a tile of 64 x 64 pixels of the cube, and what `BYTES` and `PICTURE` allow
    data = results.cohort(name)
    if data is None or "tissue" not in data:
        return None
    bounds, pixel, tissue = bounds_of(data), data.pixel_um, data.tissue
    shape = tissue.shape
    thin = (slice(None, None, bounds.step),) * 2
    predicted = results.predictions(name)
    tissue = tissue[thin]
    maps = _maps(data, predicted, thin)
    kept = tissue.copy()
    for values in maps.values():
        kept |= np.isfinite(values)
    at = np.flatnonzero(kept).astype(np.uint32)
    arrays: dict[str, NDArray[Any]] = {"at": at}
    arrays |= {k: packing.fractions(v.ravel()[at]) for k, v in maps.items()}
    ions, whole = _ions(results, data, predicted, bounds), False
    if ions:
        axis = data.mz
        wanted, whole = [i["index"] for i in ions], bounds.images == len(axis)
        wanted += sorted(set(range(len(axis))) - set(wanted)) if whole else []
        levels, tops = _measured(data, wanted, at, bounds.step)
        arrays |= {"ions": levels, "tops": tops, "measured_mz": axis[wanted]}
    spectra = {} if predicted is None else _spectra(predicted, at, bounds)
    arrays |= {k: v for k, v in spectra.items() if isinstance(v, np.ndarray)}
    return {
        "name": name,
        "shape": list(tissue.shape),
        "step": bounds.step,
        "size_um": [shape[1] * pixel[1], shape[0] * pixel[0]],
        "pixel_um": [pixel[1] * bounds.step, pixel[0] * bounds.step],
        "models": {k: v for k, v in MODELS.items() if k in maps},
        "ions": [{k: v for k, v in ion.items() if k != "index"} for ion in ions],
        "whole": whole,
        "modes": _modes(results, name, spectra.get("modes", 0)),
        "all_modes": spectra.get("all_modes", 0),
        "normalisation": str(data.intensity.attrs.get("normalisation", "as stored"))
        if "intensity" in data
        else "",
        "outline": outline(data, pixel),
        "slide": picture(data, PICTURE),
        "packed": packing.pack(arrays),
    }


def bounds_of(data: StoredSpecimen) -> Bounds:
    """For a specimen of the store."""
    ny, nx = data.array("tissue").shape
    return Bounds.of((ny, nx), len(data.mz) if "mz" in data else 0)


def _maps(
    data: StoredSpecimen, predicted: StoredSpecimen | None, thin: tuple[slice, slice]
) -> dict[str, NDArray[np.floating]]:
    """The annotation and the predictions of cancer, on the pixels that are shown."""
    found = {}
    if "cancer" in data:
        found["cancer"] = data.cancer[thin]
    for model in MODELS:
        if predicted is not None and model in predicted:
            found[model] = predicted.read(model)[thin]
    return found


def _ions(
    results: Results, data: StoredSpecimen, predicted: StoredSpecimen | None, bounds: Bounds
) -> list[dict[str, Any]]:
    """The strongest biomarkers, then the most intense m/z of those that are left."""
    if not data.has("intensity", "mz"):
        return []
    axis = data.mz
    found: dict[int, dict[str, Any]] = {}
    most = min(STRONGEST, bounds.ions)
    for row in results.table(BIOMARKERS).head(most).to_dict("records"):
        index, words = data.column(row["mz"], math.inf), identification(row)
        auc = f"AUC {row['auc']:.2f}" if math.isfinite(row["auc"]) else ""
        ion = {"mz": float(axis[index]), "words": words, "score": auc, "biomarker": True}
        found.setdefault(index, {"index": index, **ion})
    if predicted is not None and predicted.has("mean", "mz"):
        for i in np.argsort(-predicted.read("mean"), kind="stable")[: bounds.ions]:
            if len(found) >= bounds.ions:
                break
            index = data.column(predicted.mz[i], math.inf)
            ion = {"mz": float(axis[index]), "words": "", "score": "", "biomarker": False}
            found.setdefault(index, {"index": index, **ion})
    for ion in found.values():
        parts = (mz_words(ion["mz"]), str(ion["words"]), str(ion["score"]))
        ion["label"] = " ".join(part for part in parts if part)
    return list(found.values())


def _measured(
    data: StoredSpecimen, wanted: list[int], at: NDArray[np.uint32], step: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Ion images (ion, pixel), read tile by tile, and their largest values."""
    cube = data.intensity
    shape = (cube.shape[0], cube.shape[1])
    images = np.full((len(wanted), -(-shape[0] // step), -(-shape[1] // step)), np.nan, np.float32)
    for block in blocks(shape, (_TILE, _TILE)):
        inside, there = _thinned(block, step)
        if min(len(range(*s.indices(n))) for s, n in zip(inside, shape, strict=True)):
            tile = np.asarray(cube[block.slices])[inside]
            images[:, *there] = np.moveaxis(tile[..., wanted], -1, 0)
    packed = [packing.intensities(image.ravel()[at]) for image in images]
    return np.stack([p[0] for p in packed]), np.array([p[1] for p in packed])


def _thinned(block: Block, step: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Which pixels of a block are shown, and where they lie among those that are."""
    inside, there = [], []
    for start, stop in ((block.y0, block.y1), (block.x0, block.x1)):
        first = -(-start // step)
        inside.append(slice(first * step - start, None, step))
        there.append(slice(first, -(-stop // step)))
    return (inside[0], inside[1]), (there[0], there[1])


def _spectra(predicted: StoredSpecimen, at: NDArray[np.uint32], bounds: Bounds) -> dict[str, Any]:
    """Scores and components from which the page makes any pixel's spectrum and any ion image."""
    if not predicted.has("scores", "predicted_scores", "components", "mean", "mz"):
        return {}
    total = predicted.array("components").shape[0]
    k, thin = min(bounds.modes, total), (slice(None, None, bounds.step),) * 2
    mean = predicted.read("mean").astype(np.float32)
    most = np.sort(np.argsort(-mean, kind="stable")[:MZ])
    components = predicted.read("components")[:k, most]
    found: dict[str, Any] = {"modes": k, "all_modes": total}
    found |= {"mz": predicted.mz[most], "mean": mean[most]}
    found["components"], found["components_step"] = packing.scores(components)
    for name, source in (("scores", "scores"), ("predicted", "predicted_scores")):
        values = np.moveaxis(np.asarray(predicted.array(source)[..., :k]), -1, 0)
        rows = values[:, *thin].reshape(k, -1)[:, at]
        found[name], found[f"{name}_step"] = packing.scores(rows)
    return found


def _modes(results: Results, name: str, k: int) -> list[str]:
    """The embedded modes in words."""
    found = []
    for i in range(k):
        r2 = results.metric(name, "msi_from_he", f"mode_{i:03d}", "r2")
        found.append(f"mode {i + 1}" + (f", R² {r2:.2f}" if math.isfinite(r2) else ""))
    return found


def outline(data: StoredSpecimen, pixel: tuple[float, float]) -> list[list[list[float]]]:
    """Borders of the annotated cancer in µm, as lists of x and of y."""
    if "cancer" not in data:
        return []
    mask = np.pad(np.nan_to_num(data.cancer) >= _CANCER, 1)
    lines = []
    for line in find_contours(mask.astype(float), 0.5):
        y, x = ((line - 0.5) * pixel).T  # padded by one, and pixel centres lie at a half
        lines.append([np.round(x, 1).tolist(), np.round(y, 1).tolist()])
    return lines


def picture(data: StoredSpecimen, side: int) -> str:
    """The H&E on the MSI grid as a JPEG of at most `side` pixels, as a data URI; "" without one."""
    if "preview" not in data:
        return ""
    image = Image.fromarray(np.ascontiguousarray(data.read("preview")))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return data_uri(encoded(image, "JPEG", 82), "jpeg")


def encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    """A picture in a compressed form."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """A picture as text that a page holds."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")
