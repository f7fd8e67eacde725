"""Pathology encoders by name: how each is built, and how it wants its pixels.

One entry an encoder. Constructors, normalisation and pooling are those of the model cards; nothing
here is loaded or downloaded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Colours = tuple[float, float, float]
Normalisation = tuple[Colours, Colours]

IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LITE: Normalisation = ((127 / 255,) * 3, (128 / 255,) * 3)
CLIP: Normalisation = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
OPTIMUS: Normalisation = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
HIBOU: Normalisation = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
LUNIT: Normalisation = (
    (0.70322989, 0.53606487, 0.66096631),
    (0.21716536, 0.26081574, 0.20723464),
)
TOKENS = ("patch", "class", "class+mean")  # of transformers that have a class token
NO_DERIVATIVES = "CC-BY-NC-ND-4.0"


@dataclass(frozen=True)
class Preset:
    """What msiscale knows of an encoder.

    Attributes
    ----------
    name : as ``--encoder`` has it
    library : ``msiscale`` (built in), ``timm``, ``transformers`` or ``code`` (built here)
    model : the library's name of the architecture
    words : keywords of its constructor, as on the model card
    normalisation : mean and standard deviation of RGB, 0 to 1
    patch : pixels on a side of what it was trained on
    stride : pixels on a side of a patch token or cell
    width : channels of one token
    mpp : µm per pixel that it was trained at
    tokens : the kinds of output it has; the model card's own stands in `card`
    card : the kind of output that its model card takes
    licence : of the weights, an SPDX identifier where there is one
    page : where the weights come from; OWNER/NAME is a repository of the Hugging Face hub
    gated : whether that page asks for a login and consent
    """

    name: str
    library: str
    model: str
    normalisation: Normalisation
    patch: int
    stride: int
    width: int
    licence: str
    page: str
    words: Mapping[str, Any] = field(default_factory=dict)
    mpp: float = 0.5
    tokens: tuple[str, ...] = TOKENS
    card: str = "class"
    gated: bool = False

    @property
    def requires(self) -> str:
        """The extra of msiscale that it needs; empty if none."""
        return {"timm": "timm", "code": "timm", "transformers": "transformers"}.get(
            self.library, ""
        )

    def as_dict(self) -> dict[str, Any]:
        """The facts, for ``msiscale encoders --json``."""
        mean, std = self.normalisation
        return {
            "name": self.name,
            "mean": list(mean),
            "std": list(std),
            "mpp": self.mpp,
            "patch": self.patch,
            "stride": self.stride,
            "channels": self.width,
            "tokens": list(self.tokens),
            "card_tokens": self.card,
            "licence": self.licence,
            "requires": self.requires,
            "weights": self.page,
            "gated": self.gated,
        }


_DYNAMIC = {"dynamic_img_size": True}
_SWIGLU = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
_VIRCHOW = {"img_size": 224, "init_values": 1e-5, "mlp_ratio": 5.3375, **_SWIGLU, **_DYNAMIC}
_GIANT = {"img_size": 224, "init_values": 1e-5, **_DYNAMIC}


def _kaiko(name: str, model: str, stride: int, width: int, page: str, size: int = 224) -> Preset:
    words = {"img_size": size, **_DYNAMIC}
    facts = (HALF, 224, stride, width, "other (see its page)", f"1aurent/{page}")
    return Preset(f"kaiko-{name}", "timm", model, *facts, words=words)


def _lunit(stride: int) -> Preset:
    model = f"vit_small_patch{stride}_224"
    facts = (LUNIT, 224, stride, 384, "Lunit non-commercial", f"1aurent/{model}.lunit_dino")
    return Preset(f"lunit-vits{stride}", "timm", model, *facts, words={"img_size": 224, **_DYNAMIC})


def _hibou(size: str, width: int, depth: int, heads: int) -> Preset:
    words = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "image_size": 224,
        "patch_size": 14,
        "num_register_tokens": 4,
        "mlp_ratio": 4,
    }
    facts = (HIBOU, 224, 14, width, "Apache-2.0", f"histai/hibou-{size}")
    name = f"hibou-{size.lower()}"
    return Preset(
        name, "transformers", "Dinov2WithRegistersModel", *facts, words=words, gated=size == "L"
    )


_ALL = (
    Preset(
        *("resnet50:layer3", "msiscale", "resnet50", IMAGENET, 224, 16, 1024),
        *("BSD-3-Clause", "torchvision IMAGENET1K_V1"),
        tokens=("cell",),
        card="cell",
    ),
    Preset(
        *("resnet50:layer4", "msiscale", "resnet50", IMAGENET, 224, 32, 2048),
        *("BSD-3-Clause", "torchvision IMAGENET1K_V1"),
        tokens=("cell",),
        card="cell",
    ),
    Preset(
        *("efficientnet-lite0", "msiscale", "efficientnet-lite0", LITE, 224, 32, 1280),
        *("Apache-2.0", "installed with msiscale"),
        tokens=("cell",),
        card="cell",
    ),
    Preset(
        *("retccl", "msiscale", "resnet50", IMAGENET, 256, 32, 2048),
        *("GPL-3.0-only", "github.com/Xiyue-Wang/RetCCL"),
        tokens=("cell",),
        card="cell",
    ),
    Preset(
        *("uni", "timm", "vit_large_patch16_224", IMAGENET, 224, 16, 1024),
        *(NO_DERIVATIVES, "MahmoodLab/UNI"),
        words={"img_size": 224, "patch_size": 16, "init_values": 1e-5, **_DYNAMIC},
        gated=True,
    ),
    Preset(
        *("uni2-h", "timm", "vit_giant_patch14_224", IMAGENET, 224, 14, 1536),
        *(NO_DERIVATIVES, "MahmoodLab/UNI2-h"),
        words={
            "img_size": 224,
            "patch_size": 14,
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
            **_SWIGLU,
            **_DYNAMIC,
        },
        gated=True,
    ),
    Preset(
        *("virchow", "timm", "vit_huge_patch14_224", IMAGENET, 224, 14, 1280),
        *("Apache-2.0", "paige-ai/Virchow"),
        words=_VIRCHOW,
        card="class+mean",
        gated=True,
    ),
    Preset(
        *("virchow2", "timm", "vit_huge_patch14_224", IMAGENET, 224, 14, 1280),
        *(NO_DERIVATIVES, "paige-ai/Virchow2"),
        words={**_VIRCHOW, "reg_tokens": 4},
        card="class+mean",
        gated=True,
    ),
    Preset(
        *("prov-gigapath", "timm", "vit_giant_patch14_dinov2", IMAGENET, 224, 16, 1536),
        *("Apache-2.0", "prov-gigapath/prov-gigapath"),
        words={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
            **_DYNAMIC,
        },
        gated=True,
    ),
    Preset(
        *("h-optimus-0", "timm", "vit_giant_patch14_reg4_dinov2", OPTIMUS, 224, 14, 1536),
        *("Apache-2.0", "bioptimus/H-optimus-0"),
        words=_GIANT,
        gated=True,
    ),
    Preset(
        *("h-optimus-1", "timm", "vit_giant_patch14_reg4_dinov2", OPTIMUS, 224, 14, 1536),
        *(NO_DERIVATIVES, "bioptimus/H-optimus-1"),
        words=_GIANT,
        gated=True,
    ),
    Preset(
        *("h0-mini", "timm", "vit_base_patch14_reg4_dinov2", OPTIMUS, 224, 14, 768),
        *(NO_DERIVATIVES, "bioptimus/H0-mini"),
        words={**_GIANT, "mlp_ratio": 5.33334, **_SWIGLU},
        gated=True,
    ),
    Preset(
        *("gpfm", "timm", "vit_large_patch14_dinov2", IMAGENET, 224, 14, 1024),
        *("other (see its page)", "majiabo/GPFM"),
        words=_GIANT,
    ),
    Preset(
        *("phikon", "transformers", "ViTModel", IMAGENET, 224, 16, 768),
        *("Owkin non-commercial", "owkin/phikon"),
        words={"image_size": 224, "patch_size": 16},
    ),
    Preset(
        *("phikon-v2", "transformers", "Dinov2Model", IMAGENET, 224, 16, 1024),
        *("Owkin non-commercial", "owkin/phikon-v2"),
        words={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 16,
        },
    ),
    Preset(
        *("midnight-12k", "transformers", "Dinov2Model", HALF, 224, 14, 1536),
        *("MIT", "kaiko-ai/midnight"),
        words={
            "hidden_size": 1536,
            "num_hidden_layers": 40,
            "num_attention_heads": 24,
            "image_size": 224,
            "patch_size": 14,
            "use_swiglu_ffn": True,
        },
        card="class+mean",
    ),
    _hibou("b", 768, 12, 12),
    _hibou("L", 1024, 24, 16),
    _kaiko(
        *("vits16", "vit_small_patch16_224", 16, 384),
        "vit_small_patch16_224.kaiko_ai_towards_large_pathology_fms",
    ),
    _kaiko(
        *("vitb16", "vit_base_patch16_224", 16, 768),
        "vit_base_patch16_224.kaiko_ai_towards_large_pathology_fms",
    ),
    _kaiko(
        *("vitb8", "vit_base_patch8_224", 8, 768),
        "vit_base_patch8_224.kaiko_ai_towards_large_pathology_fms",
    ),
    _kaiko(
        *("vitl14", "vit_large_patch14_reg4_dinov2", 14, 1024),
        "vit_large_patch14_reg4_224.kaiko_ai_towards_large_pathology_fms",
        518,  # whose table of positions is resampled to 224
    ),
    _lunit(16),
    _lunit(8),
    Preset(
        *("conch", "code", "conch", CLIP, 448, 16, 768),
        *(NO_DERIVATIVES, "MahmoodLab/CONCH"),
        tokens=("patch", "class"),  # its class token is what its attention pools
        gated=True,
    ),
    Preset(
        *("conch-v1.5", "code", "conch_v1_5", IMAGENET, 448, 16, 1024),
        *(NO_DERIVATIVES, "MahmoodLab/conchv1_5"),
        tokens=("patch", "class"),
        gated=True,
    ),
    Preset(
        *("ctranspath", "code", "ctranspath", IMAGENET, 224, 32, 768),
        *("GPL-3.0-only", "github.com/Xiyue-Wang/TransPath"),
        mpp=1.0,
        tokens=("patch", "mean"),
        card="mean",
    ),
    Preset(
        *("dinov3-vitl16", "timm", "vit_large_patch16_dinov3", IMAGENET, 224, 16, 1024),
        *("DINOv3 licence", "timm/vit_large_patch16_dinov3.lvd1689m"),
        words={"img_size": 224, **_DYNAMIC},
    ),
)
PRESETS = {preset.name: preset for preset in _ALL}
