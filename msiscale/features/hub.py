"""Files of weights as a model hub lays them out, and what its ``config.json`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from msiscale.errors import InputError
from msiscale.features.weights import reason, sha256_of
from msiscale.presets import Colours, Normalisation

FILES = (
    *("model.safetensors", "pytorch_model.bin"),
    *("pytorch_model_vision.bin", "pytorch_model.pth", "model.pth"),
)
CONFIG = "config.json"
MOST_BYTES = 1 << 20  # of a config.json


class Said(NamedTuple):
    """What a ``config.json`` says of a model."""

    words: dict[str, Any]  # keywords of the constructor
    normalisation: Normalisation | None


NOTHING = Said({}, None)


def weights_file(weights: str) -> str:
    """The file of weights in a folder that a hub laid out; a file itself.

    Parameters
    ----------
    weights
        Path of a file or folder.

    Returns
    -------
    str
        Path of the file.

    Raises
    ------
    InputError
        The folder has none, or several that could be meant.
    """
    folder = Path(weights)
    if not folder.is_dir():
        return weights
    for name in FILES:
        if (folder / name).is_file():
            return str(folder / name)
    others = [p for p in sorted(folder.iterdir()) if p.suffix in {".safetensors", ".bin", ".pth"}]
    if len(others) == 1:
        return str(others[0])
    found = ", ".join(p.name for p in others) or "none"
    raise InputError(
        f"{weights}: --weights is a folder without {FILES[0]} or {FILES[1]} (files of weights in"
        f" it: {found}); name the file"
    )


def state_of(weights: str) -> str:
    """What changes when a file of weights, or the ``config.json`` beside it, does."""
    file = weights_file(weights)
    beside = Path(file).parent / CONFIG
    return "-".join(sha256_of(str(path)) for path in (file, beside) if Path(path).is_file())


def said_beside(file: str) -> Said:
    """What the ``config.json`` beside a file of weights says of its model.

    Parameters
    ----------
    file
        Path of the weights.

    Returns
    -------
    Said
        Nothing where there is no such file, or it is not of a model.

    Raises
    ------
    InputError
        It is not JSON, or its mean and deviation are not three numbers each.
    """
    path = Path(file).parent / CONFIG
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        return NOTHING
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({reason(error)}); download it again or remove it"
        ) from None
    if not isinstance(found, dict):
        return NOTHING
    if "architecture" in found:  # timm's
        recipe = {**found, **(found.get("pretrained_cfg") or {})}
        words = dict(found.get("model_args") or {})
        return Said(words, _normalisation(path, recipe.get("mean"), recipe.get("std")))
    if "model_type" in found:  # of transformers
        beside = path.parent / "preprocessor_config.json"
        recipe = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else {}
        colours = _normalisation(beside, recipe.get("image_mean"), recipe.get("image_std"))
        return Said(found, colours)
    return NOTHING


def _normalisation(path: Path, mean: Any, std: Any) -> Normalisation | None:
    if mean is None and std is None:
        return None

    def three(values: Any) -> Colours:
        try:
            red, green, blue = (float(v) for v in values)
        except (TypeError, ValueError):
            raise InputError(
                f"{path}: mean and std are not three numbers each; download it again"
            ) from None
        return red, green, blue

    return three(mean), three(std)


def downloaded(name: str, page: str, *, gated: bool) -> str:
    """The weights of a repository of the Hugging Face hub, from its cache or the network.

    Parameters
    ----------
    name
        Of the encoder, for messages.
    page
        ``OWNER/NAME`` of the repository.
    gated
        Whether it asks for a login.

    Returns
    -------
    str
        Path of the file; its ``config.json`` lies beside it where there is one.

    Raises
    ------
    InputError
        It cannot be had, with the page and the way without a network.
    """
    address = f"https://huggingface.co/{page}"
    ask = f"accept its terms at {address} and set HF_TOKEN, or " if gated else ""
    remedy = (
        f"{ask}download {FILES[0]} or {FILES[1]} and {CONFIG} from {address} on a machine with a"
        " network and give their folder: --weights FOLDER"
    )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError:
        raise InputError(
            f"--encoder {name}: huggingface_hub is not installed; pip install 'msiscale[timm]', or"
            f" {remedy}"
        ) from None

    def fetched(file: str) -> str | None:
        try:
            return hf_hub_download(page, file)
        except LocalEntryNotFoundError:  # offline, or no answer; it is an EntryNotFoundError too
            raise
        except EntryNotFoundError:
            return None

    try:
        for file in FILES:
            found = fetched(file)
            if found is not None:
                for other in (CONFIG, "preprocessor_config.json"):
                    fetched(other)
                return found
    except Exception as error:  # of the hub, of many types
        raise InputError(
            f"--encoder {name}: its weights are not on this machine and cannot be downloaded"
            f" ({type(error).__name__}); {remedy}"
        ) from None
    raise InputError(f"--encoder {name}: {page} has no file of weights; {remedy}")
