"""Pairs of pictures with known truth, and what automatic registration makes of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from msiscale.grid import Floats, PixelSize, apply, translation
from msiscale.pipeline.pictures import msi_picture, slide_channels, slide_picture
from msiscale.registration import Picture, register_pictures
from msiscale.registration.picture import Sampler
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working
from msiscale.store import open_group, read

PIXEL_UM = 100.0
CASES = ("whole", "part_of_msi", "part_of_slide", "both_parts", "tissue_only")
RIGHT_PX = 2.0  # of error; serial sections deform by more, which the best affine map tells
REAL_UM = 30.0  # an MSI pixel on that small slide


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Counts, and quantiles of the error of the accepted; without a truth all should be refused."""
    if not rows:
        return {}
    accepted = [r for r in rows if r["accepted"]]
    errors = np.array([r["error_px"] for r in accepted])
    cpu = np.array([r["cpu_s"] for r in rows])
    out = {"pairs": float(len(rows)), "accepted": float(len(accepted))}
    out |= {"refused": float(len(rows) - len(accepted))}
    out["wrong_accepted"] = float(sum(not r["right"] for r in accepted))
    out["right_but_refused"] = float(sum(r["right"] and not r["accepted"] for r in rows))
    out |= {"cpu_s_median": float(np.median(cpu)), "cpu_s_largest": float(cpu.max())}
    for name, pick in (("right", min), ("wrong", max)):  # how far from the bound they are
        some = [
            r["evidence"] * (not r["stretched"]) for r in rows if r["right"] == (name == "right")
        ]
        if some:
            out[f"evidence_of_{name}_{pick.__name__}"] = float(pick(some))
    if np.isfinite(errors).any():
        out["median_px"] = float(np.median(errors))
        out["best_affine_median_px"] = float(np.median([r["best_px"] for r in accepted]))
        out["p95_px"] = float(np.quantile(errors, 0.95))
        out["max_px"] = float(errors.max())
        out["below_1px"] = float((errors < 1).mean())
    return out


def phantom(index: int, folder: str, pairs: int, seed: int) -> list[dict[str, Any]]:
    """One specimen: whole, its cuts, and against the slide of the next one."""
    name, other = (f"S{i + 1:02d}" for i in (index, (index + 1) % pairs))
    truth_url = f"{folder}/cohort/truth/{name}"
    truth = np.array(json.loads(Path(f"{truth_url}.json").read_text())["matrix"])
    tissue = read(open_group(f"{truth_url}.zarr"), "tissue") >= 0.5
    msi = msi_picture(open_group(f"{folder}/run/cohort.zarr/{name}"), PixelSize(PIXEL_UM, PIXEL_UM))
    pictures = [
        slide_picture(open_reader(f"{folder}/cohort/{n}.tiff"), PixelSize(PIXEL_UM, PIXEL_UM))[:2]
        for n in (name, other)
    ]
    slide, to_slide = pictures[0]
    rng = np.random.default_rng([seed, index])
    rows = []
    for case in CASES:
        box = _box(rng, msi.shape) if case in ("part_of_msi", "both_parts") else (0, 0, *msi.shape)
        y0, x0, h, w = box
        part = msi.channels(msi.values[y0 : y0 + h, x0 : x0 + w])
        covered = tissue[y0 : y0 + h, x0 : x0 + w]
        if case == "tissue_only":
            part = part.channels(np.where(covered[..., None], part.values, np.nan))
        seen = _torn(rng, slide) if case in ("part_of_slide", "both_parts") else slide
        own = np.linalg.inv(to_slide) @ truth @ translation(x0, y0)
        rows.append(_row(case, name, part, seen, own, covered))
    rows.append(placed("other_slide", name, msi, pictures[1][0]))
    return rows


def _row(
    case: str,
    name: str,
    msi: Picture,
    slide: Picture,
    truth: Floats,
    tissue: NDArray[np.bool_],
) -> dict[str, Any]:
    """`truth` from MSI indices to µm of the slide picture."""
    xy = np.argwhere(tissue)[:, ::-1]
    return placed(case, name, msi, slide, (xy, apply(truth, xy)))


def placed(
    case: str,
    name: str,
    msi: Picture,
    slide: Picture,
    same: tuple[NDArray[Any], Floats] | None = None,
) -> dict[str, Any]:
    """Register a pair: CPU seconds, verdict and, of `same` places (MSI index, µm), the error."""
    start = time.process_time()
    found = register_pictures(msi, slide)
    spent = time.process_time() - start
    row: dict[str, Any] = {"case": case, "pair": name, "cpu_s": spent, "right": False}
    row |= {"accepted": found.accepted, "evidence": found.confidence * found.z}
    row |= {"error_px": np.nan, "best_px": np.nan}
    row |= {"stretched": "a stretch" in "; ".join(found.why)}
    if same is not None:
        xy, lies = same
        known = np.column_stack([xy, np.ones(len(xy))])
        best = known @ np.linalg.lstsq(known, lies, rcond=None)[0]
        for key, there in (("error_px", apply(found.matrix, xy)), ("best_px", best)):
            miss = ((there - lies) ** 2).sum(axis=1)
            row[key] = float(np.sqrt(miss.mean()) / msi.pixel_um.side)
        row["right"] = row["error_px"] < max(RIGHT_PX, 2 * row["best_px"])
    return row


def half(msi: Picture, rng: np.random.Generator) -> Picture:
    """Measured on one side of the middle only."""
    values = msi.values.copy()
    turned = np.rot90(values, int(rng.integers(4)))  # a view
    turned[len(turned) // 2 :] = np.nan
    return msi.channels(values)


def _box(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """A rectangle (y, x, h, w) of 50 to 90 % of the rows and columns."""
    h, w = (int(n * rng.uniform(0.5, 0.9)) for n in shape)
    return int(rng.integers(shape[0] - h + 1)), int(rng.integers(shape[1] - w + 1)), h, w


def _torn(rng: np.random.Generator, slide: Picture) -> Picture:
    """Without 10 to 30 % of the slide on one side: not scanned."""
    values = slide.values.copy()
    turned = np.rot90(values, int(rng.integers(4)))  # a view
    turned[: int(len(turned) * rng.uniform(0.1, 0.3))] = np.nan
    return slide.channels(values)


def real(index: int, path: str, seed: int) -> list[dict[str, Any]]:
    """A warped copy of a real slide as an MSI: stains mixed and bent, noise, unrelated channels."""
    slide = open_reader(path)
    image = working(slide, REAL_UM / 4)
    rgb = image.read(0, 0, *image.shape)
    picture = slide_channels(rgb, image.mpp, REAL_UM)
    rng = np.random.default_rng([seed, 7, index])
    angle, mirrored = rng.uniform(0, 2 * np.pi), bool(rng.integers(2))
    stretch = np.diag(rng.uniform(0.98, 1.02, 2) * [-1 if mirrored else 1, 1])
    c, s = np.cos(angle), np.sin(angle)
    # the MSI: a square that lies within the slide, of 70 % of its shorter side
    extent = np.array([n * um for n, um in zip(picture.shape, picture.pixel_um, strict=True)])[::-1]
    n = int(0.7 * extent.min() / REAL_UM)
    truth = np.eye(3)
    truth[:2, :2] = REAL_UM * np.array([[c, -s], [s, c]]) @ stretch
    spread = np.abs(truth[:2, :2]).sum(axis=1) * n / 2
    room = np.maximum(extent / 2 - spread, 0)
    truth[:2, 2] = extent / 2 + rng.uniform(-room, room) - truth[:2, :2] @ np.full(2, (n - 1) / 2)
    copy = _copy(picture, truth, n)
    mixed = np.tanh(copy @ rng.standard_normal((copy.shape[-1], 3)))
    mixed += 0.5 * mixed.std(axis=(0, 1)) * rng.standard_normal(mixed.shape)
    alone = ndimage.gaussian_filter(rng.standard_normal((n, n, 3)), (3, 3, 0))
    values = np.concatenate([mixed, alone], axis=-1)
    msi = Picture(values.astype(np.float32), PixelSize(REAL_UM, REAL_UM))
    return [_row("real_slide", f"R{index + 1:02d}", msi, picture, truth, np.ones((n, n), bool))]


def _copy(picture: Picture, truth: Floats, n: int) -> Floats:
    """Standardised channels (n, n, c) of the slide as the MSI pixels see them."""
    values = Sampler(picture)(np.linalg.inv(picture.to_um) @ truth, (n, n)).astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nanmean(values, axis=(0, 1)))
    return np.asarray((values - values.mean(axis=(0, 1))) / values.std(axis=(0, 1)))
