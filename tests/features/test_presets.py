"""Every preset gives what the code of its model card gives; the cards are written out here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

from msiscale.cli import cli
from msiscale.encoder_names import in_full, native_mpp
from msiscale.errors import InputError
from msiscale.features.encoders import load_encoder
from msiscale.features.encoders_table import with_table
from msiscale.features.weights import write_state
from msiscale.presets import PRESETS

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OPTIMUS = ((0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517))
LUNIT = ((0.70322989, 0.53606487, 0.66096631), (0.21716536, 0.26081574, 0.20723464))
HIBOU = ((0.7068, 0.5755, 0.722), (0.195, 0.2316, 0.1816))
GLU = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU}
VIRCHOW = {"init_values": 1e-5, "mlp_ratio": 5.3375, "global_pool": "", **GLU}
REG4 = "vit_giant_patch14_reg4_dinov2"
# timm's name, keywords, normalisation and the first patch token in the output, as on the cards
CARDS: dict[str, tuple[str, dict[str, Any], Any, int]] = {
    "uni": ("vit_large_patch16_224", {"init_values": 1e-5}, IMAGENET, 1),
    "uni2-h": (
        "vit_giant_patch14_224",
        {"img_size": 224, "num_heads": 24, "init_values": 1e-5, "embed_dim": 1536}
        | {"mlp_ratio": 2.66667 * 2, "no_embed_class": True, "reg_tokens": 8, **GLU},
        IMAGENET,
        9,
    ),
    "virchow": ("vit_huge_patch14_224", VIRCHOW, IMAGENET, 1),
    "virchow2": ("vit_huge_patch14_224", {**VIRCHOW, "reg_tokens": 4}, IMAGENET, 5),
    "prov-gigapath": (
        "vit_giant_patch14_dinov2",
        {"img_size": 224, "patch_size": 16, "num_heads": 24, "mlp_ratio": 5.33334},
        IMAGENET,
        1,
    ),
    "h-optimus-0": (REG4, {"img_size": 224, "init_values": 1e-5}, OPTIMUS, 5),
    "h-optimus-1": (REG4, {"img_size": 224, "init_values": 1e-5}, OPTIMUS, 5),
    "h0-mini": (
        "vit_base_patch14_reg4_dinov2",
        {"img_size": 224, "mlp_ratio": 5.33334, "init_values": 1e-5, **GLU},
        OPTIMUS,
        5,
    ),
    "gpfm": ("vit_large_patch14_dinov2", {"img_size": 224, "init_values": 1e-5}, IMAGENET, 1),
    "kaiko-vits16": ("vit_small_patch16_224", {"dynamic_img_size": True}, HALF, 1),
    "kaiko-vitb16": ("vit_base_patch16_224", {"dynamic_img_size": True}, HALF, 1),
    "kaiko-vitb8": ("vit_base_patch8_224", {"dynamic_img_size": True}, HALF, 1),
    "kaiko-vitl14": (
        "vit_large_patch14_reg4_dinov2",
        {"img_size": 518, "dynamic_img_size": True},
        HALF,
        5,
    ),
    "lunit-vits16": ("vit_small_patch16_224", {}, LUNIT, 1),
    "lunit-vits8": ("vit_small_patch8_224", {}, LUNIT, 1),
    "dinov3-vitl16": ("vit_large_patch16_dinov3", {"img_size": 224}, IMAGENET, 5),
}
OF_TRANSFORMERS: dict[str, tuple[str, dict[str, Any], Any, int]] = {
    "phikon": ("ViT", {}, IMAGENET, 1),
    "phikon-v2": (
        "Dinov2",
        {"hidden_size": 1024, "num_attention_heads": 16, "image_size": 224, "patch_size": 16},
        IMAGENET,
        1,
    ),
    "midnight-12k": (
        "Dinov2",
        {"hidden_size": 1536, "num_attention_heads": 24, "image_size": 224, "patch_size": 14}
        | {"use_swiglu_ffn": True},
        HALF,
        1,
    ),
    "hibou-b": (
        "Dinov2WithRegisters",
        {"hidden_size": 768, "num_attention_heads": 12, "image_size": 224, "patch_size": 14},
        HIBOU,
        5,
    ),
    "hibou-l": (
        "Dinov2WithRegisters",
        {"hidden_size": 1024, "num_attention_heads": 16, "image_size": 224, "patch_size": 14},
        HIBOU,
        5,
    ),
}
QUICK = ("h0-mini", "lunit-vits16", "phikon", "hibou-b")
IMAGE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def every(names: Any) -> list[Any]:
    slow = pytest.mark.slow(reason="hundreds of megabytes of random weights")
    return [n if n in QUICK else pytest.param(n, marks=slow) for n in names]


def normalised(image: np.ndarray, colours: Any) -> Tensor:
    mean, std = (torch.tensor(three) for three in colours)
    return (((torch.from_numpy(image) / 255) - mean) / std).permute(2, 0, 1)[None].float()


def compared(name: str, weights: Path, tokens: Tensor, first: int) -> None:
    """Each kind of output against all tokens of the card's model, (count, channels)."""
    patches = tokens[first:]
    expected = {
        "patch": patches,
        "class": tokens[:1],
        "class+mean": torch.cat([tokens[0], patches.mean(0)])[None],
    }
    for kind, wanted in expected.items():
        encoder = load_encoder(f"{name}?depth=2:{kind}", str(weights))
        found = torch.from_numpy(encoder(IMAGE)).reshape(wanted.shape)
        alike = nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0)
        assert alike >= 0.99999, (name, kind)
        assert encoder.native_mpp == PRESETS[name].mpp
        if kind == "patch":
            assert (encoder.channels, encoder.stride) == (PRESETS[name].width, PRESETS[name].stride)


@pytest.mark.parametrize("name", every(CARDS))
def test_timm_as_on_the_card(name: str, tmp_path: Path) -> None:
    model, words, colours, first = CARDS[name]
    torch.manual_seed(3)
    made = timm.create_model(model, num_classes=0, depth=2, **words).eval()
    write_state(made.state_dict(), str(tmp_path / "pytorch_model.bin"))
    with torch.inference_mode():
        tokens = made.forward_features(normalised(IMAGE, colours))[0]
    compared(name, tmp_path / "pytorch_model.bin", tokens, first)


@pytest.mark.parametrize("name", every(OF_TRANSFORMERS))
def test_transformers_as_on_the_card(name: str, tmp_path: Path) -> None:
    kind, words, colours, first = OF_TRANSFORMERS[name]
    config = getattr(transformers, f"{kind}Config")(num_hidden_layers=2, **words)
    torch.manual_seed(3)
    made = getattr(transformers, f"{kind}Model")(config).eval()
    made.save_pretrained(tmp_path)  # by the names that the hub's files have
    with torch.inference_mode():
        tokens = made(pixel_values=normalised(IMAGE, colours)).last_hidden_state[0]
    compared(name, tmp_path / "model.safetensors", tokens, first)
    compared(name, tmp_path, tokens, first)  # the folder with its config.json


def test_every_preset_has_its_published_size() -> None:
    """Parameters in millions, at full depth on the meta device."""
    from msiscale.features.coded import CODED
    from msiscale.features.timm_models import arguments_of

    sizes = {
        "uni": 303,
        "uni2-h": 681,
        "virchow": 631,
        "virchow2": 631,
        "prov-gigapath": 1134,
        "h-optimus-0": 1134,
        "h-optimus-1": 1134,
        "h0-mini": 85,
        "gpfm": 303,
        "phikon": 85,
        "phikon-v2": 303,
        "midnight-12k": 1134,
        "hibou-b": 85,
        "hibou-l": 303,
        "kaiko-vits16": 21,
        "kaiko-vitb16": 85,
        "kaiko-vitb8": 85,
        "kaiko-vitl14": 304,
        "lunit-vits16": 21,
        "lunit-vits8": 21,
        "dinov3-vitl16": 303,
        "conch": 87,
        "conch-v1.5": 306,
        "ctranspath": 27,
    }
    assert {n for n, p in PRESETS.items() if p.library != "msiscale"} == set(sizes)
    for name, millions in sizes.items():
        preset = PRESETS[name]
        with torch.device("meta"):
            if preset.library == "timm":
                words = arguments_of(preset.words.items())
                made: Any = timm.create_model(preset.model, num_classes=0, **words)
            elif preset.library == "transformers":
                kind = getattr(transformers, preset.model)
                made = kind(kind.config_class(**preset.words))
            else:
                made = CODED[preset.model]().network
        assert sum(p.numel() for p in made.parameters()) // 10**6 == pytest.approx(millions, abs=1)


def test_a_folder_of_the_hub_is_obeyed(tmp_path: Path) -> None:
    """``config.json`` of timm says the depth and the normalisation."""
    made = timm.create_model("vit_small_patch16_224", num_classes=0, depth=2).eval()
    write_state(made.state_dict(), str(tmp_path / "model.safetensors"))
    said = {
        "architecture": "vit_small_patch16_224",
        "model_args": {"depth": 2},
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    }
    (tmp_path / "config.json").write_text(json.dumps(said))
    found = load_encoder("lunit-vits16", str(tmp_path))
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    other = load_encoder("timm:vit_small_patch16_224?depth=2", str(tmp_path))
    assert other.mean == found.mean
    np.testing.assert_array_equal(other(IMAGE), found(IMAGE))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        load_encoder("lunit-vits16", str(tmp_path))


def test_a_file_without_a_normalisation_is_refused(tmp_path: Path) -> None:
    made = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1)
    file = tmp_path / "mine.safetensors"
    write_state(made.state_dict(), str(file))
    name = "timm:vit_tiny_patch16_224?depth=1"
    with pytest.raises(InputError, match=r"--mean 0\.485,0\.456,0\.406 --std") as error:
        load_encoder(name, str(file))
    assert "\n" not in str(error.value)
    full = in_full(name, None, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert load_encoder(full, str(file)).mean == (0.1, 0.2, 0.3)


def test_options_become_part_of_the_name() -> None:
    assert in_full("uni", "class+mean", None, None) == "uni:class+mean"
    assert in_full("stains,uni2-h", "class", None, None) == "stains,uni2-h:class"
    assert in_full("uni:11", None, None, None) == "uni:11"
    with pytest.raises(InputError, match="has no such tokens"):
        in_full("stains", "class", None, None)
    with pytest.raises(InputError, match="presets have their own"):
        in_full("uni", None, (0.5,) * 3, (0.5,) * 3)
    assert native_mpp("stains,ctranspath") == 1.0
    assert native_mpp("stains,efficientnet-lite0:all") == 0.5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ctranspath", "downloaded by hand from github.com/Xiyue-Wang/TransPath"),
        ("retccl", "downloaded by hand"),
        ("uni:layer3", "has no tokens 'layer3'"),
        ("phikon:3+5", "blocks are given by encoders of timm alone"),
        ("unii", "did you mean uni?"),
    ],
)
def test_what_cannot_be_had_is_one_line(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_encoder(name)
    assert "\n" not in str(error.value)


def test_a_gated_model_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"huggingface\.co/MahmoodLab/UNI and set HF_TOKEN"
    ) as error:
        load_encoder("uni")
    assert "--weights FOLDER" in str(error.value) and "\n" not in str(error.value)


def conch_reference(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """CONCH's own forward pass of its contrastive token, from its published names."""
    trunk = timm.models.vision_transformer.VisionTransformer(img_size=448, num_classes=0, depth=2)
    own = "visual.trunk."
    trunk.load_state_dict({k.removeprefix(own): v for k, v in state.items() if k.startswith(own)})
    pool, width = "visual.attn_pool_contrast.", 512
    norm = nn.functional.layer_norm
    tokens = trunk.eval().forward_features(x)
    keys = norm(tokens, (768,), state[f"{pool}ln_k.weight"], state[f"{pool}ln_k.bias"])
    query = norm(
        state[f"{pool}query"], (width,), state[f"{pool}ln_q.weight"], state[f"{pool}ln_q.bias"]
    )
    of_query, of_keys, of_values = state[f"{pool}attn.in_proj_bias"].chunk(3)
    q = query @ state[f"{pool}attn.q_proj_weight"].T + of_query
    k = keys[0] @ state[f"{pool}attn.k_proj_weight"].T + of_keys
    v = keys[0] @ state[f"{pool}attn.v_proj_weight"].T + of_values
    heads = [part.reshape(len(part), 8, 64).transpose(0, 1) for part in (q, k, v)]
    seen = ((heads[0] @ heads[1].transpose(1, 2)) / 8).softmax(-1) @ heads[2]
    out = seen.transpose(0, 1).reshape(1, width) @ state[f"{pool}attn.out_proj.weight"].T
    out = out + state[f"{pool}attn.out_proj.bias"]
    return norm(out, (width,), state["visual.ln_contrast.weight"], state["visual.ln_contrast.bias"])


def randomly(network: nn.Module, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {k: torch.randn_like(v) * 0.05 for k, v in network.state_dict().items()}


def test_conch_as_its_own_code(tmp_path: Path) -> None:
    from msiscale.features.coded import conch

    state = {f"visual.{k}": v for k, v in randomly(conch(depth=2).network, 5).items()}
    state |= {"text.positional_embedding": torch.zeros(3), "logit_scale": torch.zeros(())}
    write_state(state, str(tmp_path / "pytorch_model.bin"))
    image = np.random.default_rng(1).integers(0, 256, (448, 448, 3), dtype=np.uint8)
    with torch.inference_mode():
        wanted = conch_reference(state, normalised(image, PRESETS["conch"].normalisation))
    encoder = load_encoder("conch?depth=2:class", str(tmp_path / "pytorch_model.bin"))
    np.testing.assert_allclose(encoder(image).ravel(), wanted.numpy().ravel(), atol=1e-4)


def test_ctranspath_is_read_by_its_old_names(tmp_path: Path) -> None:
    """Its file is of timm 0.5: steps down belong to the layer before, masks are in the file."""
    from msiscale.features.coded import ctranspath

    made = ctranspath().network.eval()
    state = {}
    for name, value in made.state_dict().items():
        name = name.removeprefix("swin.")
        for layer in (1, 2, 3):
            name = name.replace(f"layers.{layer}.downsample", f"layers.{layer - 1}.downsample")
        state[name] = value
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(2)
    torch.save({"model": state}, tmp_path / "ctranspath.pth")
    encoder = load_encoder("ctranspath:mean", str(tmp_path / "ctranspath.pth"))
    with torch.inference_mode():
        wanted = made(normalised(IMAGE, IMAGENET)).mean((1, 2))
    np.testing.assert_allclose(encoder(IMAGE).ravel(), wanted.numpy().ravel(), atol=1e-5)
    assert (encoder.channels, encoder.stride, encoder.tile) == (768, 224, 224)


def test_the_list_and_one_of_it(tmp_path: Path) -> None:
    run: Callable[..., Any] = CliRunner().invoke
    found = json.loads(run(cli, ["encoders", "--json"]).output)
    assert len(found) >= 24
    keys = {"name", "mean", "std", "mpp", "patch", "channels", "tokens", "licence", "requires"}
    assert all(keys <= set(one) for one in found)
    said = run(cli, ["encoders", "uni2-h"]).output
    assert "https://huggingface.co/MahmoodLab/UNI2-h" in said and "CC-BY-NC-ND-4.0" in said
    made = timm.create_model("vit_small_patch16_224", num_classes=0)
    write_state(made.state_dict(), str(tmp_path / "model.safetensors"))
    said = run(cli, ["encoders", "lunit-vits16", "--weights", str(tmp_path)]).output
    assert "fits lunit-vits16" in said
    wrong = run(cli, ["encoders", "kaiko-vitb16", "--weights", str(tmp_path)])
    assert wrong.exit_code != 0


def test_the_page_has_the_table_of_presets() -> None:
    page = (Path(__file__).parents[2] / "docs" / "encoders.md").read_text()
    assert with_table(page) == page, "run python -m msiscale.features.encoders_table"


@pytest.mark.parametrize("name", ["resnet50:layer3", "resnet50:layer4", "efficientnet-lite0"])
def test_the_list_is_true_of_what_is_built_in(name: str) -> None:
    made, said = load_encoder(name, "random:0"), PRESETS[name]
    assert (made.mean, made.std) == said.normalisation
    assert (made.channels, made.stride) == (said.width, said.stride)
