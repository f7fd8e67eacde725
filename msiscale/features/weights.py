"""Weights of an encoder: found, read without executing anything, and known by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msiscale.errors import InputError
from msiscale.grid import Floats
from msiscale.store import file_sha256, is_url, local_copy

State = dict[str, Tensor]
_RANDOM = "random:"


def read_state(path: str) -> State:
    """The tensors of a ``.pth``/``.pt`` or ``.safetensors`` file; InputError if it holds more."""
    # taken off: a {"state_dict": ...} (or "model") wrapper, the prefix of data-parallel training
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file; check --weights")
    try:
        if path.lower().endswith(".safetensors"):
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: --weights holds more than tensors, or is not a weights file, and loading it "
            "could run code; save its state_dict() as .safetensors"
        ) from None
    except Exception as error:  # the readers raise many types for a broken file
        why = reason(error)
        raise InputError(f"{path}: --weights cannot be read ({why}); is it complete?") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: --weights is not a table of tensors; save a state_dict() there")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def fetched(weights: str | None) -> str | None:
    """`weights`, a URL as the path of a local copy; InputError where nothing can be read."""
    if weights is None or not is_url(weights):
        return weights
    try:
        return local_copy(weights)
    except FileNotFoundError:
        raise InputError(f"{weights}: no such weights file; check --weights") from None
    except OSError as error:
        raise InputError(f"{weights}: --weights cannot be read ({reason(error)})") from None


def load_into(network: nn.Module, state: State, what: str, ignored: tuple[str, ...]) -> None:
    """Give `network` all tensors of `state` but those of `ignored` prefixes, or InputError."""
    wanted = network.state_dict()
    given = {name: value for name, value in state.items() if not name.startswith(ignored)}
    for name in wanted:  # a counter of the training, not saved by old versions of torch
        if name.endswith("num_batches_tracked"):
            given.setdefault(name, torch.tensor(0))
    odd = {
        "lacks": sorted(wanted.keys() - given.keys()),
        "has unknown": sorted(given.keys() - wanted.keys()),
        "has another shape of": sorted(
            name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape
        ),
    }
    for problem, names in odd.items():
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
            raise InputError(
                f"{what}: the weights are of another network: the file {problem} {shown}; "
                "give --weights of the encoder's own architecture"
            )
    network.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in given.items()}, assign=True
    )


def reason(error: Exception) -> str:
    """What an exception says, in one line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def random_seed(weights: str | None) -> int | None:
    """The seed of ``random:SEED``, None for other weights."""
    if weights is None or not weights.startswith(_RANDOM):
        return None
    text = weights.removeprefix(_RANDOM)
    if not text.isdecimal():
        raise InputError(f"--weights {weights}: the seed is a whole number, as in random:0")
    return int(text)


def randomise(network: nn.Module, seed: int, side: int = 160) -> None:
    """Weights that mean nothing but behave: He's init, then batch norms set on `side` px of noise.

    Calibrated norms keep activations of order one through the depth of the network. All draws are
    of a generator of their own, and the calibration runs in float64 and is rounded, so the same
    seed gives the same weights on other processors and numbers of threads.
    """
    random = np.random.default_rng(seed)
    norms = []
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan_in = module.weight[0].numel()
            draw = random.standard_normal(tuple(module.weight.shape), np.float32)
            draw *= np.float32(np.sqrt(2 / fan_in))
            module.weight = nn.Parameter(torch.from_numpy(draw))
            if module.bias is not None:
                module.bias = nn.Parameter(torch.zeros(module.bias.shape))
        elif isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            module.weight, module.bias = (nn.Parameter(f(n)) for f in (torch.ones, torch.zeros))
            module.running_mean, module.running_var = torch.zeros(n), torch.ones(n)
            module.num_batches_tracked = torch.tensor(0)
            norms.append(module)
    network.double().eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(torch.from_numpy(_texture(random, 2, side)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean = norm.running_mean.to(torch.bfloat16)
        norm.running_var = norm.running_var.to(torch.bfloat16)
    network.float().eval()


def _texture(random: np.random.Generator, n: int, size: int) -> Floats:
    """(n, 3, size, size) float64: noise of every scale, about as normalised H&E is distributed."""
    times = -(-size // 160)
    image = np.zeros((n, 3, 160 * times, 160 * times))
    for pixels in (32, 16, 8, 4, 2, 1):
        cells = 160 * times // pixels
        noise = random.standard_normal((n, 3, cells, cells))
        image += noise.repeat(pixels, axis=2).repeat(pixels, axis=3)
    return np.asarray(0.7 + 0.9 * image[:, :, :size, :size] / np.sqrt(6))


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values of tensors, independent of any file format."""
    sha = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        sha.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def sha256_of(path: str) -> str:
    """SHA-256 of a file; computed anew when its size or time changes."""
    status = os.stat(path)
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


# every task loads its encoder by its digest, and a file of weights takes seconds to read
@lru_cache(maxsize=64)
def _sha256_of(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(path)


def write_state(state: Mapping[str, Tensor], path: str) -> None:
    """Write tensors to `path`: ``.safetensors``, or ``.pth`` that ``weights_only`` can read."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if path.lower().endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(tensors, path)
    else:
        torch.save(tensors, path)


def fill(
    network: nn.Module,
    weights: str | None,
    ignored: tuple[str, ...] = (),
    side: int = 0,
    what: str | None = None,
) -> str:
    """Weights from a file or ``random:SEED``, or None for those there are; their SHA-256."""
    seed = random_seed(weights)
    if seed is not None:
        randomise(network, seed, side or 160)
    elif weights is not None:
        load_into(network, read_state(weights), what or weights, ignored)
        return sha256_of(weights)
    return state_sha256(network.state_dict())
