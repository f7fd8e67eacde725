"""``msiscale encoders``: which encoders there are, what is missing here, and a look at weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from msiscale.encoder_names import base_of
from msiscale.errors import InputError
from msiscale.presets import PRESETS, Preset

HUB = "https://huggingface.co/"


def missing(preset: Preset) -> list[str]:
    """What this machine lacks to use an encoder, apart from its weights.

    Parameters
    ----------
    preset
        The encoder.

    Returns
    -------
    list of str
        As ``pip install 'msiscale[timm]'``; empty if nothing is missing.
    """
    absent = preset.requires and find_spec(preset.requires) is None
    return [f"pip install 'msiscale[{preset.requires}]'"] if absent else []


def table() -> list[dict[str, Any]]:
    """The facts of every encoder, with what is missing here, for ``--json``."""
    return [{**p.as_dict(), "missing": missing(p)} for p in PRESETS.values()]


def lines() -> Iterator[str]:
    """The encoders as a table for a terminal."""
    head = ("name", "channels", "patch", "µm/px", "licence of the weights", "needs")
    rows = [
        (p.name, str(p.width), str(p.patch), f"{p.mpp:g}", p.licence, "; ".join(missing(p)) or "-")
        for p in PRESETS.values()
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, *rows):
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    yield ""
    yield "stains is an encoder without weights; timm:NAME and own:MODULE:FUNCTION take any other."
    yield "msiscale encoders NAME says how to get its weights; --weights FILE|FOLDER checks them."


def described(name: str) -> Iterator[str]:
    """What is known of one encoder, and how to get its weights.

    Parameters
    ----------
    name
        Of a preset, with or without tokens.

    Yields
    ------
    str
        Lines.

    Raises
    ------
    InputError
        There is no such preset.
    """
    preset = PRESETS.get(base_of(name))
    if preset is None:
        raise InputError(f"{name}: no encoder of that name; `msiscale encoders` lists them")
    mean, std = (", ".join(f"{v:g}" for v in three) for three in preset.normalisation)
    yield f"{preset.name}: {preset.width} channels, one cell in {preset.stride} px"
    yield f"built by {preset.library} as {preset.model}{_words(preset)}"
    yield f"normalised by mean {mean} and standard deviation {std}"
    yield f"trained on patches of {preset.patch} px at {preset.mpp:g} µm per pixel"
    yield (
        f"outputs: {', '.join(preset.tokens)} (default {preset.tokens[0]}; its model card takes "
        f"{preset.card}); choose with --tokens"
    )
    yield f"licence of the weights: {preset.licence}; keeping to it is up to you"
    yield from _how(preset)
    for remedy in missing(preset):
        yield f"missing here: {remedy}"


def _words(preset: Preset) -> str:
    given = ", ".join(f"{key}={value}" for key, value in preset.words.items())
    return f"({given})" if given else ""


def _how(preset: Preset) -> Iterator[str]:
    if preset.page.count("/") != 1:
        if preset.library == "msiscale" and "github" not in preset.page:
            yield f"weights: {preset.page}"
        else:
            yield f"weights: download them from {preset.page} and give --weights FILE"
        return
    if preset.gated:
        token = "is set" if os.environ.get("HF_TOKEN") else "is not set here"
        yield f"weights: accept the terms at {HUB}{preset.page}; HF_TOKEN {token}"
    else:
        yield f"weights: {HUB}{preset.page}"
    yield (
        "offline: download model.safetensors (or pytorch_model.bin) and config.json there, and "
        "give their folder with --weights FOLDER"
    )


def checked(name: str, weights: str) -> Iterator[str]:
    """Load an encoder with weights, and say what was found.

    Parameters
    ----------
    name
        Of the encoder.
    weights
        File or folder, or ``random:SEED``.

    Yields
    ------
    str
        Lines.
    """
    from msiscale.features.encoders import load_encoder  # torch takes seconds

    found = load_encoder(name, weights)
    mean, std = (", ".join(f"{v:g}" for v in three) for three in (found.mean, found.std))
    yield f"{weights}: fits {name}"
    yield f"SHA-256 {found.sha256}"
    yield f"{found.channels} channels, one cell in {found.stride} px; mean {mean}; std {std}"
