"""Encoders that turn H&E into dense features.

Dense means that the network sees the tissue around every cell. Such features differ from those of
isolated tiles (cosine 0.5 for EfficientNet-Lite0), so the two must never be mixed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from msiscale.errors import InputError
from msiscale.features import efficientnet, resnet, stains
from msiscale.features.architecture import Architecture, Loaded, common_geometry
from msiscale.features.banded import Banded, Margin
from msiscale.features.hub import state_of
from msiscale.features.layers import Group, Layer, Take
from msiscale.features.named import is_preset, load_preset
from msiscale.features.own import load_own
from msiscale.features.probe import Geometry
from msiscale.features.timm_models import load_timm
from msiscale.features.weights import fetched, reason, sha256_of, write_state
from msiscale.presets import PRESETS, Colours

_ROWS = 256  # of pixels, normalised at once
_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "tf32": torch.float32,
    "float16": torch.float16,
}
_OF_GPUS = ("tf32", "float16")


@dataclass(frozen=True)
class Encoder:
    """A network ready to run; it travels to other processes as a recipe, not as weights."""

    id: str  # ``resnet50:layer3``, ``efficientnet-lite0``, ...
    weights: str | None  # as asked for (None: the default of the encoder)
    sha256: str  # of the weights file; of the tensors themselves where there is no file
    stride: int  # input pixels a cell, each way
    halo: int  # around a region, makes its features those of the whole slide; whole cells
    channels: int
    # input pixels on the side of a transformer's tiles, which see nothing of each other and lie on
    # the slide edge to edge from its corner (`halo` is how far one sees at most); 0: a CNN
    tile: int
    mean: Colours  # of RGB in 0..1, for the normalisation
    std: Colours
    precision: str
    device: str
    network: Any = field(repr=False, compare=False)  # an `nn.Module`, or `Classical`
    layers: tuple[Layer, ...]  # that a forward pass gives
    mpp: float  # µm a pixel, for features of a physical size
    compiled: bool = False  # by ``torch.compile``
    native_mpp: float | None = None  # µm per pixel that it was trained at, where that is known

    @property
    def each(self) -> tuple[Encoder, ...]:
        """Itself: one encoder, as `Encoders` has several."""
        return (self,)

    def __call__(
        self, image: NDArray[np.uint8], margin: Margin = (0, 0, 0, 0)
    ) -> NDArray[np.float32]:
        """Features of an RGB image by an encoder of one layer; parameters as for `visit`.

        Returns
        -------
        float32 (h / stride, w / stride, channels), less the margin
        """
        (_,) = self.layers
        found: list[NDArray[np.float32]] = []
        self.visit(image, lambda _, dense: found.append(as_array(dense)), margin)
        return found[0]

    def visit(self, image: NDArray[np.uint8], take: Take, margin: Margin = (0, 0, 0, 0)) -> None:
        """Hand the features of an RGB image to `take`, layer by layer.

        Parameters
        ----------
        image : uint8 (h, w, 3)
            `h` and `w` multiples of `stride`, of `tile` where there are tiles.
        take : callable
            Called with the number of a layer and its (h / stride, w / stride, channels) less the
            margin, as soon as it is made; an array, or a Tensor on the device (see `as_array`),
            which may be written over afterwards.
        margin : (int, int, int, int)
            Cells (of `stride`) above, below, left and right of what is wanted.

        Raises
        ------
        ValueError
            The image is not made of whole cells or tiles.

        Notes
        -----
        On a CPU this sets torch to one thread in the calling thread, and leaves it so: oneDNN takes
        other algorithms for other numbers of threads, which changes the last bits. Use more
        processes, or Dask's threads, instead.
        """
        h, w = image.shape[:2]
        unit = self.tile or self.stride
        if h % unit or w % unit or not h or not w:
            raise ValueError(f"an image of {h} x {w} is not made of whole {unit} px cells")

        def cut(i: int, dense: Any) -> Any:
            top, bottom, left, right = (n * self.stride // self.layers[i].stride for n in margin)
            return dense[top : len(dense) - bottom, left : dense.shape[1] - right]

        def taken(i: int, out: Tensor, *, whole: bool = True) -> None:
            dense = out[0].permute(1, 2, 0)
            take(i, cut(i, dense) if whole else dense)

        dtype = _PRECISIONS[self.precision]
        if self.device == "cpu" and torch.get_num_threads() != 1:
            torch.set_num_threads(1)
        # With fixed algorithms, so that a GPU gives the same bits every time.
        tf32 = self.precision == "tf32"
        fixed = torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
        )
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.inference_mode(), fixed:
            pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
            if self.device.startswith("cuda"):  # a copy that the GPU makes while it computes
                pixels = pixels.pin_memory()
            pixels = pixels.to(self.device, non_blocking=True)
            if isinstance(self.network, stains.Classical):
                self.network.visit(pixels, lambda i, dense: take(i, cut(i, dense)))
                return
            mean = torch.tensor(self.mean, device=self.device) * 255
            std = torch.tensor(self.std, device=self.device) * 255
            batch = torch.empty((h, w, 3), dtype=dtype, device=self.device)
            for i in range(0, h, _ROWS):  # or the float32 of a window would be its largest array
                batch[i : i + _ROWS] = (pixels[i : i + _ROWS].float() - mean) / std
            # NHWC memory seen as NCHW is what torch calls channels_last.
            given = batch[None].permute(0, 3, 1, 2)
            if isinstance(self.network, Banded):
                self.network.visit(given, margin, partial(taken, whole=False))
            elif getattr(self.network, "layers", ()):
                self.network.visit(given, taken)
            else:
                taken(0, self.network(given))

    def __reduce__(self) -> tuple[Any, ...]:
        given = (self.device, self.precision, self.compiled, self.mpp)
        return _arrive, (self.id, self.weights, *given, self.sha256)

    @property
    def groups(self) -> list[Group]:
        """The groups of its channels, in their order; neighbours of one name are one group."""
        found: list[Group] = []
        for group in (group for layer in self.layers for group in layer.groups):
            if found and found[-1].name == group.name:
                group = group._replace(channels=found.pop().channels + group.channels)
            found.append(group)
        return found


@dataclass(frozen=True)
class Encoders:
    """Several encoders over one decode: the channels of each, one after another.

    It has the attributes of an `Encoder`; `stride` and `halo` are what windows of all of them need
    in common.
    """

    each: tuple[Encoder, ...]

    @property
    def id(self) -> str:
        """Names with commas."""
        return ",".join(one.id for one in self.each)

    @property
    def sha256(self) -> str:
        """The digest of the SHA-256 of each."""
        return hashlib.sha256("".join(one.sha256 for one in self.each).encode()).hexdigest()

    @property
    def common(self) -> Geometry:
        """What the windows of all of them need."""
        return common_geometry(tuple(layer for one in self.each for layer in one.layers))

    @property
    def stride(self) -> int:
        return self.common.stride

    @property
    def halo(self) -> int:
        return self.common.halo

    @property
    def channels(self) -> int:
        return self.common.channels

    @property
    def groups(self) -> list[Group]:
        """The groups of the channels of each encoder, in their order."""
        return [group for one in self.each for group in one.groups]

    @property
    def precision(self) -> str:
        return self.each[0].precision

    @property
    def device(self) -> str:
        return self.each[0].device


def as_array(dense: Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of a layer in the memory of the process.

    Parameters
    ----------
    dense
        (h, w, channels), on any device.

    Returns
    -------
    float32 (h, w, channels)
    """
    if isinstance(dense, Tensor):
        return np.asarray(dense.float().contiguous().cpu().numpy())
    return dense


Loader = Callable[[str, str | None, float], Loaded]  # of a name, its weights and µm a pixel
# The name of every encoder and what loads it.
ENCODERS: dict[str, Loader] = {
    "stains": stains.load_stains,
    "resnet50:layer3": resnet.LAYER3,
    "resnet50:layer4": resnet.LAYER4,
    "efficientnet-lite0": efficientnet.LITE0,
    "retccl": resnet.RETCCL,
}
HIDDEN: dict[str, Loader] = {"colour": stains.load_colours}  # which nobody asks for
# Encoders with a name of the user's own after these.
FAMILIES: dict[str, Loader] = {
    "resnet50:LAYERS": resnet.layered,
    "efficientnet-lite0:LAYERS": efficientnet.layered,
    "timm:NAME": load_timm,
    "own:MODULE:FUNCTION": load_own,
}

# one network a process, whatever the number of threads and tasks that use it
_loaded: dict[tuple[str, ...], Encoder] = {}
_lock = threading.Lock()


def load_encoders(
    names: str,
    weights: str | None = None,
    *,
    device: str = "cpu",
    precision: str = "float32",
    compiled: bool = False,
    mpp: float = 0.5,
) -> Encoder | Encoders:
    """One encoder, or several with commas between them; `weights` has as many, or is left out."""
    load = partial(load_encoder, device=device, precision=precision, compiled=compiled, mpp=mpp)
    each = names.split(",")
    if len(each) == 1:
        return load(names, weights)  # in which a comma is a comma
    files = weights.split(",") if weights else [""] * len(each)
    networks = [i for i, name in enumerate(each) if name != "stains"]  # which has no weights
    if len(files) == 1 == len(networks):
        files = [files[0] if i in networks else "" for i in range(len(each))]
    if len(files) != len(each):
        raise InputError(
            f"--weights {weights}: give one for each of the {len(each)} encoders, with commas "
            "between them; nothing between two commas is the default"
        )
    return Encoders(tuple(load(n, f or None) for n, f in zip(each, files, strict=True)))


def load_encoder(
    name: str,
    weights: str | None = None,
    *,
    device: str = "cpu",
    precision: str = "float32",
    compiled: bool = False,
    mpp: float = 0.5,
) -> Encoder:
    """An encoder in evaluation mode; loaded once a process.

    Parameters
    ----------
    name : str
        ``resnet50:layer3`` (1024 channels, stride 16), ``resnet50:layer4`` (2048, 32),
        ``efficientnet-lite0`` (1280, 32), some layers of these such as
        ``efficientnet-lite0:stem+b2+b4`` or ``resnet50:all``, ``stains``
        (`msiscale.features.stains`), ``timm:NAME`` for a convolutional model or a vision
        transformer of timm (`load_timm`), or ``own:MODULE:FUNCTION`` for the network that a
        function of yours returns (`load_own`).
    weights : str, optional
        A ``.pth`` (read with ``weights_only``) or ``.safetensors`` file or URL; a name of
        torchvision (``IMAGENET1K_V1``, the default of ResNet-50 as in the published study, or
        ``IMAGENET1K_V2``); or ``random:SEED``. The default of EfficientNet-Lite0 is installed with
        msiscale.
    device : str
        As torch names it: ``cpu``, ``cuda``, ``cuda:1``.
    precision : {'float32', 'bfloat16', 'tf32', 'float16'}
        Of weights and activations; features are float32 either way. The last two need a GPU.
    compiled : bool
        By ``torch.compile``: takes a minute, and is for GPUs.
    mpp : float
        Micrometres a pixel of the images to come, for features of a physical size.

    Returns
    -------
    Encoder

    Raises
    ------
    InputError
        Unknown encoder, weights that are not to be had or do not fit, a device that is not there,
        a model that is neither convolutional nor a transformer, a machine that cannot compile it.
    """
    if precision not in _PRECISIONS:
        raise InputError(f"--precision {precision}: give one of {', '.join(_PRECISIONS)}")
    if precision in _OF_GPUS and device == "cpu":
        raise InputError(f"--precision {precision}: needs a GPU; give float32 or bfloat16")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"--device {device}: {reason(error)}") from None
    with _lock:
        file = fetched(weights)
        content = state_of(file) if file and Path(file).exists() else ""
        key = (name, str(weights), content, device, precision, str(compiled), str(mpp))
        if key not in _loaded:
            made = replace(_load(name, file, device, precision, mpp), weights=weights)
            _loaded[key] = _compiled(made) if compiled else made
        return _loaded[key]


def _compiled(encoder: Encoder) -> Encoder:
    """The encoder with its network compiled, for windows of any size."""
    if isinstance(encoder.network, stains.Classical):
        return encoder  # nothing to compile
    if isinstance(encoder.network, Banded):
        raise InputError(
            f"--compile: is for GPUs; on a CPU {encoder.id} runs in bands, which take minutes to "
            "compile and gain nothing; leave --compile out"
        )
    encoder.network.compile(dynamic=True)
    side = encoder.tile or 4 * encoder.stride
    try:
        # compiles; a task is no place to fail
        encoder.visit(np.zeros((side, side, 3), np.uint8), lambda *_: None)
    except Exception as error:  # of the compiler, of many types
        raise InputError(
            f"--compile: {encoder.id} cannot be compiled on this machine "
            f"({type(error).__name__}: {reason(error)}); leave --compile out"
        ) from None
    return replace(encoder, compiled=True)


def unfolded(name: str, weights: str | None) -> tuple[nn.Module, Geometry]:
    """A built-in network with its batch norms in their places, in float32 on the CPU."""
    architecture = _built_in(name)
    network, _ = architecture.filled(name, fetched(weights))
    return network.eval().requires_grad_(False), architecture.geometry


def save_weights(name: str, weights: str | None, path: str) -> str:
    """Write the weights of a built-in encoder, such as ``random:SEED``; their SHA-256."""
    network, _ = _built_in(name).filled(name, weights)
    write_state(network.state_dict(), path)
    return sha256_of(path)


def _arrive(
    name: str,
    weights: str | None,
    device: str,
    precision: str,
    compiled: bool,
    mpp: float,
    sha256: str,
) -> Encoder:
    given = {"device": device, "precision": precision, "compiled": compiled, "mpp": mpp}
    encoder = load_encoder(name, weights, **given)  # type: ignore[arg-type]
    if encoder.sha256 != sha256:
        raise InputError(
            f"{name}: the weights {weights or 'of the default'} on this machine are not those that "
            "the run began with (SHA-256 differs); give every machine the same --weights FILE"
        )
    return encoder


def _load(name: str, weights: str | None, device: str, precision: str, mpp: float) -> Encoder:
    kind, colon, _ = name.partition(":")
    of_kind = {known.partition(":")[0]: load for known, load in FAMILIES.items()} if colon else {}
    load = ENCODERS.get(name) or HIDDEN.get(name) or (load_preset if is_preset(name) else None)
    load = load or of_kind.get(kind) or _built_in(name)
    loaded = load(name, weights, mpp)
    network, shape = loaded.network, loaded.geometry
    if isinstance(network, nn.Module):
        if loaded.banded and device == "cpu":  # a GPU wants much at once
            network = Banded(network)
        network = network.eval().requires_grad_(False)
        network = network.to(device, _PRECISIONS[precision]).to(memory_format=torch.channels_last)
    whole = Group(name, shape.channels, halo=shape.halo)
    layers = loaded.layers or (Layer(shape.stride, shape.halo, (whole,)),)
    facts = (loaded.sha256, *shape, loaded.mean, loaded.std, precision, device)
    return Encoder(name, weights, *facts, network, layers, mpp, native_mpp=loaded.native_mpp)


def _built_in(name: str) -> Architecture:
    found = ENCODERS.get(name)
    if not isinstance(found, Architecture):
        known = ", ".join([*ENCODERS, *FAMILIES])
        near = get_close_matches(name, PRESETS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(
            f"--encoder {name}: unknown; give one of {known}, or one that `msiscale encoders` lists"
            f"{hint}"
        )
    return found
