"""What `gpu` measures; all of it in one process, as a device is warmed up once."""

from __future__ import annotations

import argparse
import math
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks.common.measure import table
from msiscale.features.area_sums import area_sums
from msiscale.features.encoders import Encoder, Encoders, load_encoder
from msiscale.features.extract import extract_block, to_cells, units
from msiscale.grid import Block, scaling, translation
from msiscale.regridding import overlap
from msiscale.simulate.write import TILE, write_slide
from msiscale.slide.decoding import use_threads
from msiscale.slide.reader import open_reader
from msiscale.slide.working import WorkingImage, working

LIBRARIES = ("torch",)
MPP = 0.5
TEXTURE = 2048  # px, repeated over the slide: how it looks does not change what it costs
CHECKED = (
    "resnet50:layer3",
    "efficientnet-lite0:all",
    "timm:vit_small_patch16_224",
    "stains",
)
Rows = list[dict[str, Any]]


def everything(settings: dict[str, Any]) -> dict[str, Any]:
    """Print a table of each part as it is measured; names of all figures, and their values."""
    words = argparse.Namespace(**settings)
    print(machine(words.device), flush=True)
    path = slide(Path(words.folder), words.side)
    found: dict[str, float] = {}
    _shown(differences(path, words.device), "differences", found)
    _shown(parts(path, words), "parts", found)
    for name, encoder in words.networks.items():
        _shown(throughput(path, encoder, words), name, found)
    if words.compile:
        _shown(compiled(words), "compiled", found)
    return {"keys": np.array(list(found)), "values": np.array(list(found.values()))}


def _shown(rows: Rows, name: str, found: dict[str, float]) -> None:
    print(table(rows), end="\n\n", flush=True)
    for row in rows:
        of = row[""].replace(", ", ".").replace(" ", "_")
        for key, value in row.items():
            if isinstance(value, float):
                found[f"{name}.{of}.{key.replace(' ', '_').replace('/', '_')}"] = value


def machine(device: str) -> str:
    """What it is measured on, in a line."""
    card = torch.cuda.get_device_name(device) if device.startswith("cuda") else "no GPU"
    return f"{card}, {os.cpu_count()} cores, torch {torch.__version__}"


def slide(folder: Path, side: int) -> str:
    """A slide of `side` x `side` px at 0.5 µm, of a texture with the colours of H&E."""
    path = folder / f"texture-{side}.tiff"
    if not path.exists():
        rng = np.random.default_rng(0)
        shape = (TEXTURE, TEXTURE)
        dense = ndimage.gaussian_filter(rng.standard_normal(shape), 6.0, mode="wrap")
        grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.0, mode="wrap")
        nuclei = np.clip(2 * dense / dense.std() - 1 + 0.3 * grain / grain.std(), 0, 1)
        colour = np.array([225, 160, 200]) - nuclei[..., None] * np.array([130, 90, 60])
        tile = np.clip(colour + 6 * rng.standard_normal((*shape, 1)), 0, 255).astype(np.uint8)
        repeats = -(-side // TEXTURE)
        band = np.tile(tile, (1, repeats, 1))[:, :side]
        starts = range(0, side, TILE)
        bands = (band[y % TEXTURE :][: min(TILE, side - y)] for y in starts)
        write_slide(path, bands, (side, side), MPP)
    return str(path)


def differences(path: str, device: str) -> Rows:
    """Features on the device beside those of the processor in float32."""
    image = working(open_reader(path), MPP)
    matrix = scaling(50 / MPP) @ translation(1.5, 1.5)
    block, wanted = Block(0, 4, 0, 4), np.ones((4, 4), bool)
    precisions = ["float32", "bfloat16"] if device == "cpu" else list(_ALL)
    rows = []
    for name in CHECKED:
        weights = None if name == "stains" else "random:0"
        mine = load_encoder(name, weights)
        expected, _ = extract_block(image, matrix, block, wanted, mine, window=640)
        for precision in precisions if name != "stains" else ["float32"]:
            other = load_encoder(name, weights, device=device, precision=precision)
            got, again = (
                extract_block(image, matrix, block, wanted, other, window=640)[0] for _ in range(2)
            )
            a, b = (v.reshape(16, -1).astype(np.float64) for v in (expected, got))
            cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
            error = np.abs(a - b).max(0) / np.maximum(a.std(0), 1e-6 * np.abs(a).max())
            rows.append(
                {
                    "": f"{name}, {precision}",
                    "cosine min": float(cosine.min()),
                    "1 - cosine": float(1 - cosine.min()),
                    "error of sd": float(np.median(error)),
                    "worst error of sd": float(error.max()),
                    "same bits again": float(np.array_equal(got, again)),
                }
            )
    return rows


_ALL = ("float32", "tf32", "bfloat16", "float16")


def parts(path: str, words: argparse.Namespace) -> Rows:
    """Each part of the way alone: MPix/s of slide."""
    image, device, cores = working(open_reader(path), MPP), words.device, words.decoders
    rows = []
    for threads in dict.fromkeys((1, 8, cores)):
        use_threads(1)
        use_threads(threads)
        rows.append(_rate(f"decode, {threads} threads", *_decoded(image, readers=1)))
    rows.append(_rate(f"decode, {cores} threads, 4 readers", *_decoded(image, readers=4)))
    unit, matrix, px = _unit(image, words.pixel_um)
    mpix = math.prod(unit.shape) * px * px / 1e6
    for name in ("resnet50:layer3", "efficientnet-lite0:all", "stains"):
        encoder = load_encoder(name, None if name == "stains" else "random:0", device=device)
        began = time.perf_counter()
        shared = {
            layer.stride: overlap(
                to_cells(matrix, image, layer.stride),
                unit,
                (-(-image.shape[0] // layer.stride), -(-image.shape[1] // layer.stride)),
                wanted=np.ones(unit.shape, bool),
            )
            for layer in encoder.layers
        }
        rows.append(_rate(f"areas, {name}", mpix, time.perf_counter() - began))
        seconds = 0.0
        for layer in encoder.layers:
            common = shared[layer.stride]
            cells = common.bounds()
            assert cells is not None
            dense = torch.rand((*cells.shape, layer.channels), device=device)
            sums = area_sums(encoder, len(common.start) - 1, layer.channels)
            sums.add(dense, common, cells)
            _done(device)
            began = time.perf_counter()
            sums.add(dense, common, cells)
            sums.found()
            seconds += time.perf_counter() - began
        rows.append(_rate(f"sums, {name}", mpix, seconds))
    for name in ("stains", "colour"):
        side = 2048
        encoder = load_encoder(name, device=device)
        pixels = image.read(0, 0, side, side)
        encoder.visit(pixels, lambda *_: None)
        _done(device)
        began = time.perf_counter()
        encoder.visit(pixels, lambda *_: None)
        _done(device)
        rows.append(_rate(f"{name}, alone", side * side / 1e6, time.perf_counter() - began))
    return rows


def throughput(path: str, name: str, words: argparse.Namespace) -> Rows:
    """The bare network, and the way from the slide to the MSI grid."""
    image, device = working(open_reader(path), MPP), words.device
    use_threads(1)
    use_threads(words.decoders)
    rows = []
    colours = load_encoder("colour", device=device, mpp=MPP)
    for precision in words.precisions:
        encoder = load_encoder(name, "random:0", device=device, precision=precision)
        # a transformer sees its tiles alone, whatever the window
        for window in words.windows[:1] if encoder.tile else words.windows:
            bare = _bare(encoder, device, window)
            for threads in words.threads:
                _reset_peak(device)
                with _busy(device) as busy:
                    done, seconds = _end_to_end(
                        image,
                        Encoders((encoder, colours)),
                        words.pixel_um,
                        window,
                        threads,
                        min(200.0, 5 * bare),
                    )
                rows.append(
                    {
                        "": f"{precision}, window {window}, {threads} blocks",
                        "bare MPix/s": bare,
                        "end to end MPix/s": done / seconds,
                        "of bare": done / seconds / bare,
                        "busy": float(np.mean(busy)) / 100 if busy else None,
                        "peak GiB": _peak_gib(device),
                        "seconds": seconds,
                    }
                )
        _forget(device)
    return rows


def compiled(words: argparse.Namespace) -> Rows:
    """The bare ResNet by ``torch.compile``, and how long that takes."""
    words_of = {"device": words.device, "precision": "bfloat16"}
    rows = []
    for how in (False, True):
        began = time.perf_counter()
        encoder = load_encoder("resnet50:layer3", "random:0", compiled=how, **words_of)
        seconds = time.perf_counter() - began
        bare = _bare(encoder, words.device, words.windows[-1])
        name = "resnet50, compiled" if how else "resnet50"
        rows.append({"": name, "bare MPix/s": bare, "seconds": seconds})
    return rows


def _bare(encoder: Encoder, device: str, window: int) -> float:
    """MPix/s of the network on pixels that are on the device and normalised."""
    side = encoder.tile or encoder.stride
    side *= max(1, window // side)
    dtype = next(encoder.network.parameters()).dtype
    given = torch.rand((1, 3, side, side), device=device).to(dtype)
    given = given.to(memory_format=torch.channels_last)
    tf32 = encoder.precision == "tf32"
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
    )
    torch.backends.cuda.matmul.allow_tf32 = tf32
    with torch.inference_mode(), flags:
        encoder.network(given)
        _done(device)
        began, times = time.perf_counter(), 0
        while times < 1 or (time.perf_counter() - began < 0.5 and times < 50):
            encoder.network(given)
            _done(device)
            times += 1
        seconds = (time.perf_counter() - began) / times
    return side * side / 1e6 / seconds


def _end_to_end(
    image: WorkingImage,
    encoder: Encoders,
    pixel_um: float,
    window: int,
    threads: int,
    most: float,
) -> tuple[float, float]:
    """Megapixels of slide and seconds, blocks of 64 x 64 MSI pixels, some at once."""
    px = pixel_um / MPP
    matrix = scaling(px) @ translation(0.5, 0.5)
    shape = int(image.shape[0] // px), int(image.shape[1] // px)
    every = units(Block(0, shape[0], 0, shape[1]))
    every = every[: max(1, int(most / (64 * px) ** 2 * 1e6))]

    def one(block: Block) -> float:
        values, _ = extract_block(
            image, matrix, block, np.ones(block.shape, bool), encoder, window=window
        )
        return float(np.nansum(values[..., 0]))

    one(every[0] & Block(0, 4, 0, 4) or every[0])  # memory and algorithms are there
    began = time.perf_counter()
    with ThreadPoolExecutor(min(threads, len(every))) as pool:
        list(pool.map(one, every))
    seconds = time.perf_counter() - began
    return sum(math.prod(b.shape) for b in every) * px * px / 1e6, seconds


def _unit(image: WorkingImage, pixel_um: float) -> tuple[Block, Any, float]:
    px = pixel_um / MPP
    side = min(64, int(min(image.shape) // px))
    return Block(0, side, 0, side), scaling(px) @ translation(0.5, 0.5), px


def _decoded(image: WorkingImage, readers: int) -> tuple[float, float]:
    side, window = min(image.shape), 2048
    corners = [
        (y, x)
        for y in range(0, side - window + 1, window)
        for x in range(0, side - window + 1, window)
    ]
    corners = corners[:64]
    image.read(0, 0, window, window)
    began = time.perf_counter()
    with ThreadPoolExecutor(readers) as pool:
        list(pool.map(lambda at: image.read(at[0], at[1], window, window).shape, corners))
    return len(corners) * window * window / 1e6, time.perf_counter() - began


def _rate(name: str, mpix: float, seconds: float) -> dict[str, Any]:
    return {"": name, "MPix/s": mpix / seconds, "seconds": seconds}


def _done(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def _peak_gib(device: str) -> float | None:
    return torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None


def _forget(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


@contextmanager
def _busy(device: str) -> Iterator[list[float]]:
    """Percent of the time in which the GPU computed, sampled."""
    found: list[float] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            found.append(float(torch.cuda.utilization()))

    try:
        if device.startswith("cuda"):
            torch.cuda.utilization()
    except (ModuleNotFoundError, RuntimeError):  # without nvidia-ml-py
        yield found
        return
    if not device.startswith("cuda"):
        yield found
        return
    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
