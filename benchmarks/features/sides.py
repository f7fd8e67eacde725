"""What `features` measures: each function runs in a process of its own, on one core."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import openslide
import torch

from msiscale.features.encoders import load_encoder
from msiscale.features.extract import extract_block, give_back
from msiscale.grid import Block, blocks, scaling, translation
from msiscale.slide.backend import on_white
from msiscale.slide.openslides import OpenSlideBackend
from msiscale.slide.reader import open_reader
from msiscale.slide.working import working

LIBRARIES = ("torch", "torchvision")
ENCODER, WEIGHTS = "resnet50:layer3", "random:0"
MPP = 0.5
Figures = dict[str, Any]


def decode(path: str, reader: str, side: int, region: int) -> Figures:
    """A square of level 0 in regions, by the slide reader or by OpenSlide."""
    if reader == "openslide":
        slide = openslide.OpenSlide(path)

        def read(y: int, x: int) -> np.ndarray:
            return on_white(np.asarray(slide.read_region((x, y), 0, (region, region))))
    else:
        ours = OpenSlideBackend(path)

        def read(y: int, x: int) -> np.ndarray:
            return ours.read(0, y, x, region, region)

    seen = []
    for y in range(0, side - region + 1, region):
        for x in range(0, side - region + 1, region):
            # enough to see a difference, few enough not to be measured
            seen.append(read(y, x)[::37, ::41].copy())
    return {"pixels": np.stack(seen)}


def bare(encoder: Any, size: int) -> float:
    """MPix/s of the network alone on pixels that are there."""
    give_back()  # what the engine holds is not the network's
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8)
    began = time.perf_counter()
    encoder(pixels)
    return size * size / 1e6 / (time.perf_counter() - began)


def dense(path: str, precision: str, pixel_um: float, units: int | None = None) -> Figures:
    """The engine end to end: the slide to features on its MSI grid, block by block.

    ``units`` of 64 x 64 MSI pixels, spread over the slide; default all. The network alone is
    timed before and after, with the size of the windows.
    """
    torch.set_num_threads(1)
    encoder = load_encoder(ENCODER, WEIGHTS, precision=precision)
    image = working(open_reader(path), MPP)
    px = pixel_um / MPP
    matrix = scaling(px) @ translation(0.5, 0.5)
    shape = int(image.shape[0] // px), int(image.shape[1] // px)
    every = list(blocks(shape, (64, 64)))
    if units is not None:
        every = [every[i] for i in np.linspace(0, len(every) - 1, units).astype(int)]
    size = 3488
    bare(encoder, size)
    before = bare(encoder, size)
    began, pixels, total = time.perf_counter(), 0.0, 0.0
    for block in every:
        values, _ = extract_block(image, matrix, block, np.ones(block.shape, bool), encoder)
        pixels += math.prod(block.shape) * px * px / 1e6
        total += float(np.nansum(values))
    seconds = time.perf_counter() - began
    after = bare(encoder, size)
    return {
        "mpix": np.array(pixels),
        "mpix_s": np.array(pixels / seconds),
        "bare_mpix_s": np.array((before + after) / 2),
        "sum": np.array(total),
    }


class Tiles(torch.utils.data.Dataset[torch.Tensor]):
    """224 px tiles of a square of a slide through OpenSlide, as tile pipelines read them."""

    def __init__(self, path: str, side: int, stride: int) -> None:
        self.slide = openslide.OpenSlide(path)
        starts = range(0, side - 224 + 1, stride)
        self.corners = [(x, y) for y in starts for x in starts]

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, i: int) -> torch.Tensor:
        tile = self.slide.read_region(self.corners[i], 0, (224, 224)).convert("RGB")
        pixels = torch.from_numpy(np.asarray(tile).copy()).permute(2, 0, 1).float() / 255
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        return (pixels - mean) / std


def untrained() -> torch.nn.Module:
    """ResNet-50 up to its third layer."""
    from torchvision.models import resnet50

    full = resnet50(weights=None)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    return torch.nn.Sequential(*(getattr(full, name) for name in names))


def tile_loop(path: str, side: int, stride: int) -> Figures:
    """The same network in float32 over 224 px tiles in batches of 32, pooled a tile."""
    torch.set_num_threads(1)
    network = untrained().eval()
    tiles = Tiles(path, side, stride)
    loader = torch.utils.data.DataLoader(tiles, batch_size=32)
    began = time.perf_counter()
    with torch.inference_mode():
        rows = [network(batch).mean((2, 3)) for batch in loader]
    seconds = time.perf_counter() - began
    # the pixels of the slide that the tiles stand for
    mpix = len(tiles) * stride * stride / 1e6
    return {"mpix_s": np.array(mpix / seconds), "rows": np.array(sum(len(r) for r in rows))}


def precisions(path: str, pixel_um: float) -> Figures:
    """One block in float32 and in bfloat16: cosine of the features, and their relative error."""
    torch.set_num_threads(1)
    image = working(open_reader(path), MPP)
    px = pixel_um / MPP
    y, x = (int(n // px) // 2 - 6 for n in image.shape)
    block, wanted = Block(y, y + 12, x, x + 12), np.ones((12, 12), bool)
    matrix = scaling(px) @ translation(0.5, 0.5)
    a, b = (
        extract_block(
            image, matrix, block, wanted, load_encoder(ENCODER, WEIGHTS, precision=p), window=2048
        )[0].reshape(144, -1)
        for p in ("float32", "bfloat16")
    )
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    error = np.sqrt(((a - b) ** 2).mean(0) / np.maximum(a.var(0), 1e-12))
    return {"cosine_min": cosine.min(), "error_of_sd": np.median(error)}
