"""Slide -> deep features on the MSI grid. The MSI grid pulls: one task is one block of it."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from msiscale import __version__
from msiscale.cohort import Specimen
from msiscale.config import RunConfig
from msiscale.encoder_names import MPP, native_mpp
from msiscale.errors import InputError, RunStopped
from msiscale.features import encoder_of
from msiscale.features.extract import extract_block, whole_units
from msiscale.features.layers import SIDE, WIDTHS_UM, Group
from msiscale.grid import Block
from msiscale.pipeline.context import Run, identity
from msiscale.pipeline.plausible import coarser_than_trained
from msiscale.pipeline.scattered import attributes
from msiscale.pipeline.stages import COHORT
from msiscale.pipeline.tasks import Task
from msiscale.placing import affine_of
from msiscale.slide.decoding import use_threads
from msiscale.slide.reader import open_reader
from msiscale.slide.working import WorkingImage, as_asked
from msiscale.store import (
    StoredSpecimen,
    array_of,
    create_array,
    divisor,
    is_url,
    join,
    local_path,
    open_group,
    placing_of,
    put,
    read,
    write_block,
)

if TYPE_CHECKING:  # torch takes seconds
    from msiscale.features.encoders import Encoder, Encoders

ELSEWHERE = ("own:", "timm:")  # encoders whose code may change without this package
MOST_KNOWN = 4  # encoders whose facts are kept
COLOURS = 12  # six optical densities and their squares: the baseline of every network
MODES = {
    "dense": "dense, with context",
    "centred": "a tile around each MSI pixel",
    "tiles": "tiles without context, as in the published study",
}


def features(run: Run) -> None:
    """``features``, ``colour`` and ``coverage`` of every specimen.

    Memory: one window and one block a task.
    """
    if not list(run.specimens()):
        return
    _choose_mpp(run)
    config, facts = run.config, encoder_facts(run)
    part = config.part("mpp", "precision", "feature_mode", "compile") | {
        "window": config.pixels_a_window
    }
    if config.feature_mode == "tiles":  # which see nothing of each other
        facts = {**facts, "halo": config.pixels_a_window}
    elif config.feature_mode == "centred":  # on all sides the same
        half = facts["side"] // 2
        groups = [[name, channels, own, half] for name, channels, own, _ in facts["groups"]]
        facts = {**facts, "halo": half, "groups": groups}
    keys, shapes, records, cells = {}, {}, {}, {}
    for s in run.specimens():
        records[s.name] = run.upstream("register", s)
        shapes[s.name] = tuple(run.upstream("peaks", s)["shape"])
        cells[s.name] = run.upstream("peaks", s)["cells"]
        facts_of = [records[s.name]["geometry"], part, facts, *(cells[s.name] or ())]
        keys[s.name] = run.key("features", *facts_of)

    def create(specimen: Specimen) -> dict[str, Any]:
        shape, size = shapes[specimen.name], config.block
        group = open_group(join(run.cohort_url, specimen.name), "a")
        left_out = attributes(cells[specimen.name], shape, size)
        chunk = divisor(size, 16)
        create_array(
            group,
            "features",
            (*shape, facts["channels"]),
            ("y", "x", "channel"),
            chunks=(chunk, chunk, 256),
            shards=(size, size, facts["channels"]),
            attrs={
                **facts,
                **part,
                "mode": MODES[config.feature_mode],
                "coordinates": "group",
                **left_out,
            },
        )
        names = [name for name, count, *_ in facts["groups"] for _ in range(count)]
        put(group, "group", names, ("channel",))
        create_array(
            group,
            "colour",
            (*shape, COLOURS),
            ("y", "x", "density"),
            chunks=(size, size, COLOURS),
            attrs={
                "mpp": config.mpp,
                "what": "optical densities of red, green and blue, of the "
                f"pixel and of {max(WIDTHS_UM):g} µm around, then their squares",
                **left_out,
            },
        )
        create_array(group, "coverage", shape, ("y", "x"), chunks=(size, size), attrs=left_out)
        group.attrs["encoder"] = facts["encoder"]
        return {}

    def task(specimen: Specimen, block: Block) -> tuple[Any, tuple[Any, ...]]:
        url = join(run.cohort_url, specimen.name)
        return _features, (
            url,
            specimen,
            keys[specimen.name],
            block,
            config,
            facts["sha256"],
        )

    def combine(parts: list[dict[str, Any]]) -> dict[str, Any]:
        pixels = sum(p["pixels"] for p in parts)
        return {"pixels": pixels, "slide_mpix": sum(p["mpix"] for p in parts)}

    run.blockwise("features", keys, shapes, create, task, combine, cells=cells, gpu=True)


def _choose_mpp(run: Run) -> None:
    """Where none is asked for: the encoder's own, or the coarsest slide's, as none is enlarged."""
    if run.config.mpp is None:
        own = max(max(run.upstream("register", s)["mpp"]) for s in run.specimens())
        native = native_mpp(run.config.encoder)
        mpp = max(native, round(float(own), 3))
        if mpp > native:
            text = (
                f"the encoder sees the slides at {mpp:g} µm per pixel in place of {native:g}, as "
                "the coarsest slide is no finer (--mpp)"
            )
            run.notice("features", "", text)
        run.config = replace(run.config, mpp=mpp)
        run.encoder = {}


def stored_groups(specimen: StoredSpecimen) -> list[Group]:
    """The groups of the channels that are stored of a specimen."""
    known: Any = specimen.features.attrs["groups"]
    return [Group(*fields) for fields in known]


def encoder_facts(run: Run) -> dict[str, Any]:
    """What identifies the encoder, found once on a worker, which must be able to load it anyway."""
    if run.encoder:
        return run.encoder
    config = run.config
    key = _encoder_key(run)
    record = run.record("encoder", COHORT) or {}
    known: dict[str, Any] = {**record.get("known", {})}
    if key not in known:
        asked = Task("encoder", "", _encoder_facts, (config,))
        outcome = run.tasks([asked], "encoder", gpu=True)
        if outcome.failed:
            raise InputError(outcome.failed[""])
        known[key] = outcome.results["encoder"]
        kept = dict([*known.items()][-MOST_KNOWN:])
        run.write("encoder", COHORT, "", "done", known=kept)
    for text in known[key]["notices"]:
        run.notice("encoder", "", text)
    run.encoder = dict(known[key]["facts"])
    return run.encoder


def _encoder_key(run: Run) -> str:
    """What the encoder's facts depend on; never the same twice where not all of that is known."""
    # so that no later run loads the encoder to find the same
    config, weights = run.config, run.config.weights
    there = weights is not None and not is_url(weights) and local_path(weights).is_file()
    named = weights is None or not ("/" in weights or local_path(weights).suffix)
    if any(word in config.encoder for word in ELSEWHERE) or not (there or named):
        return run.key("encoder", time.time_ns())
    part = config.part("encoder", "weights", "tokens", "mean", "std", "precision", "compile", "mpp")
    libraries = [version(name) for name in ("torch", "torchvision")]
    file = identity(weights) if there else None
    return run.key("encoder", __version__, libraries, part, file)


def _encoder_facts(config: RunConfig) -> dict[str, Any]:
    encoder = encoder_of(config)
    notices = coarser_than_trained(encoder, config.mpp or MPP)
    return {"facts": _facts(encoder), "notices": notices}


def _facts(encoder: Encoder | Encoders) -> dict[str, Any]:
    return {
        "encoder": encoder.id,
        "sha256": encoder.sha256,
        "channels": encoder.channels,
        "stride": encoder.stride,
        "cell": min(layer.stride for one in encoder.each for layer in one.layers),
        "halo": encoder.halo,
        "groups": [list(group[:4]) for group in encoder.groups],  # `stored_groups`
        "side": max(one.tile or SIDE for one in encoder.each),  # of a tile around a pixel
        "recipe": [
            {"encoder": one.id, "mean": [*one.mean], "std": [*one.std], "tile": one.tile}
            for one in encoder.each
            if one.id != "stains"  # which sees the pixels as they are
        ],
    }


# a worker reads the blocks of a specimen one after another, all from one slide
@lru_cache(maxsize=4)
def _image(path: str, mpp: float | None, target: float, key: str) -> WorkingImage:
    # the stage's key covers the file's size and time: a file that changed is opened again
    return as_asked(open_reader(path, mpp=mpp), target)


def _features(
    url: str,
    specimen: Specimen,
    key: str,
    block: Block,
    config: RunConfig,
    sha256: str,
) -> dict[str, Any]:
    from msiscale.features.encoders import Encoders, load_encoder

    group = open_group(url, "r+")
    mpp = config.mpp or MPP
    image = _image(specimen.slide, specimen.mpp, mpp, key)
    encoder, colours = encoder_of(config), load_encoder("colour", mpp=mpp)
    if encoder.sha256 != sha256:
        raise RunStopped(
            f"{config.encoder}: the weights {config.weights or 'of the default'} differ between "
            "machines (SHA-256); give all of them the same --weights, a URL for instance"
        )
    tissue = read(open_group(url), "tissue").astype(bool)
    placed, wanted = placing_of(group), tissue[block.slices]
    around = whole_units(block, tissue.shape)
    part = tissue[around.slices]
    if encoder.device != "cpu":  # which would wait for one decoder
        use_threads(min(8, os.cpu_count() or 1))
    window = config.pixels_a_window
    if config.feature_mode == "tiles":
        from msiscale.features.published import published_block

        recipe = (config.encoder, config.weights, encoder.device)
        values, coverage = published_block(image, placed, block, wanted, recipe, tile=window)
        densities, _ = extract_block(image, placed, block, part, colours, around=around)
    elif config.feature_mode == "centred":
        from msiscale.features.centred import centred_block

        densities, coverage = extract_block(image, placed, block, part, colours, around=around)
        values = centred_block(image, placed, block, wanted & (coverage > 0), encoder)
    else:
        both = Encoders((*encoder.each, colours))
        found, coverage = extract_block(
            image, placed, block, part, both, window=window, around=around
        )
        values, densities = found[..., : encoder.channels], found[..., encoder.channels :]
    write_block(array_of(group, "features"), block, values)
    colour = np.concatenate([densities, densities**2], axis=-1)
    write_block(array_of(group, "colour"), block, colour)
    write_block(array_of(group, "coverage"), block, coverage)
    # slide pixels at the working resolution that lie under the block's tissue
    area = abs(np.linalg.det(affine_of(placed)[:2, :2]))
    mpix = int(wanted.sum()) * area / (image.downsample[0] * image.downsample[1]) / 1e6
    return {"pixels": int(wanted.sum()), "mpix": float(mpix)}
