"""Encoders of `msiscale.presets`: built as their model cards say, filled and laid out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import torch
from torch import nn

from msiscale.errors import InputError
from msiscale.features import hub
from msiscale.features.architecture import Loaded, laid_out
from msiscale.features.coded import CODED
from msiscale.features.probe import tiled_geometry
from msiscale.features.tiled import Tiled, Tokens
from msiscale.features.timm_models import arguments_of, block_numbers
from msiscale.features.tokens import Kind, Transformer
from msiscale.features.weights import fill, load_into, random_seed, read_state, reason, sha256_of
from msiscale.presets import PRESETS, Normalisation, Preset

_DEPTH = "num_hidden_layers"  # as transformers calls it


class Asked(NamedTuple):
    """``NAME[?WORD=VALUE&…][:TOKENS|BLOCKS]`` in its parts."""

    preset: Preset
    words: dict[str, Any]
    kind: str
    blocks: str


def is_preset(name: str) -> bool:
    """Whether an encoder's name is one of a preset that is loaded here."""
    base = name.partition(":")[0].partition("?")[0]
    return base in PRESETS and PRESETS[base].library != "msiscale"


def asked_of(name: str) -> Asked:
    """The parts of an encoder's name.

    Parameters
    ----------
    name
        As ``uni2-h``, ``uni2-h:class``, ``virchow2:class+mean`` or ``uni:11+23``.

    Returns
    -------
    Asked

    Raises
    ------
    InputError
        It has no such tokens.
    """
    described, _, asked = name.partition(":")
    base, _, given = described.partition("?")
    preset = PRESETS[base]
    words = arguments_of(parse_qsl(given))
    if asked and asked.replace("+", "").isdecimal():
        if preset.library != "timm":
            raise InputError(
                f"--encoder {name}: blocks are given by encoders of timm alone; give one of "
                f"{', '.join(preset.tokens)} after the colon"
            )
        return Asked(preset, words, "patch", asked)
    if asked and asked not in preset.tokens:
        raise InputError(
            f"--encoder {name}: {base} has no tokens {asked!r}; give one of "
            f"{', '.join(preset.tokens)}, or numbers of blocks with + between them"
        )
    return Asked(preset, words, asked or preset.tokens[0], "")


def load_preset(name: str, weights: str | None, mpp: float) -> Loaded:
    """An encoder of a preset with its weights.

    Parameters
    ----------
    name
        As `asked_of` takes it.
    weights
        A file or folder as the hub lays it out (its ``config.json`` is obeyed), ``random:SEED``,
        or None for those of the encoder's page.
    mpp
        Not used: such networks see pixels.

    Returns
    -------
    Loaded

    Raises
    ------
    InputError
        A library or the weights are not there, or the weights do not fit.
    """
    asked = asked_of(name)
    preset, seed = asked.preset, random_seed(weights)
    file, said = None, hub.NOTHING
    if seed is None:
        file = hub.weights_file(weights) if weights else _published(preset)
        said = hub.said_beside(file)
    build = {"timm": _timm, "transformers": _transformers, "code": _coded}[preset.library]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed or 0)
        network, sha256 = build(name, asked, said, file, weights if seed is not None else None)
    network.eval()
    colours: Normalisation = said.normalisation or preset.normalisation
    blocks = block_numbers(name, asked.blocks, len(network.model.blocks)) if asked.blocks else ()
    whole = Tokens(network.model, blocks) if blocks else Kind(network, asked.kind)
    tiled = Tiled(whole, preset.patch)
    shape = tiled_geometry(name, tiled, preset.patch)
    found = laid_out(name, tiled, sha256, colours, shape, asked=asked.blocks)
    return found._replace(native_mpp=preset.mpp)


def _published(preset: Preset) -> str:
    if preset.page.count("/") != 1:
        raise InputError(
            f"--encoder {preset.name}: its weights are downloaded by hand from {preset.page}; give "
            "them as --weights FILE"
        )
    return hub.downloaded(preset.name, preset.page, gated=preset.gated)


def _library(name: str, preset: Preset) -> Any:
    library = "timm" if preset.library == "code" else preset.library
    try:
        return import_module(library)
    except ImportError:
        raise InputError(
            f"--encoder {name}: {library} is not installed; pip install 'msiscale[{library}]'"
        ) from None


@contextlib.contextmanager
def _made(name: str) -> Iterator[None]:
    """Errors of a library's constructor as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of many types
        raise InputError(
            f"--encoder {name}: cannot be built ({reason(error)}); check its arguments, or the "
            "config.json beside its weights"
        ) from None


def _timm(
    name: str, asked: Asked, said: hub.Said, file: str | None, random: str | None
) -> tuple[Any, str]:
    timm = _library(name, asked.preset)
    words = arguments_of({**asked.preset.words, **said.words, **asked.words}.items())
    words.pop("num_classes", None)
    with _made(name):
        made = timm.create_model(asked.preset.model, pretrained=False, num_classes=0, **words)
    network = Transformer(made, made.num_prefix_tokens)
    return network, fill(made, file or random, ("head.", "head_dist."), asked.preset.patch)


def _transformers(
    name: str, asked: Asked, said: hub.Said, file: str | None, random: str | None
) -> tuple[Any, str]:
    library = _library(name, asked.preset)
    kind: Any = getattr(library, asked.preset.model)
    config = kind.config_class()
    depth = {_DEPTH: asked.words["depth"]} if "depth" in asked.words else {}
    own = {k: v for k, v in said.words.items() if hasattr(config, k) and not k.startswith("_")}
    kept = {k: v for k, v in own.items() if k not in ("architectures", "model_type", "dtype")}
    with _made(name):
        config = kind.config_class(**{**asked.preset.words, **kept, **depth})
        plain = {"add_pooling_layer": False} if asked.preset.model == "ViTModel" else {}
        made = kind(config, **plain)
    if file is None:
        sha256 = fill(made, random, side=asked.preset.patch)
    else:
        made, sha256 = _filled(name, kind, config, plain, file), sha256_of(file)
    registers = int(getattr(config, "num_register_tokens", 0) or 0)
    return Transformer(made, 1 + registers), sha256


def _filled(name: str, kind: Any, config: Any, plain: dict[str, Any], file: str) -> nn.Module:
    """A model of transformers with the tensors of a file, whose names its library converts."""
    said: Any = import_module("transformers.utils.logging")
    said.disable_progress_bar()
    said.set_verbosity_error()
    left_out = ("pooler.", "classifier.", "lm_head.")
    state = {k: v for k, v in read_state(file).items() if not k.startswith(left_out)}
    made, found = kind.from_pretrained(
        None, config=config, state_dict=state, output_loading_info=True, **plain
    )
    odd = {
        "lacks": found["missing_keys"],
        "has unknown": found["unexpected_keys"],
        "has another shape of": found["mismatched_keys"],
    }
    for problem, keys in odd.items():
        if keys:
            first = sorted(str(key) for key in keys)
            more = f" and {len(first) - 3} more" if first[3:] else ""
            raise InputError(
                f"{file}: the weights are of another network than {name}: the file {problem} "
                f"{', '.join(first[:3])}{more}; give --weights of the encoder's own architecture"
            )
    network: nn.Module = made.float()
    return network


def _coded(
    name: str, asked: Asked, said: hub.Said, file: str | None, random: str | None
) -> tuple[Any, str]:
    _library(name, asked.preset)
    with _made(name):
        found = CODED[asked.preset.model](**asked.words)
    if file is None:
        return found.network, fill(found.network, random, side=asked.preset.patch)
    load_into(found.network, found.wanted(read_state(file)), file, ())
    return found.network, sha256_of(file)
