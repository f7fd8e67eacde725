from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from msiscale.errors import InputError
from msiscale.features import encoders, weights
from msiscale.features.encoders import load_encoder, save_weights

LITE = "efficientnet-lite0"
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name in ("a.pth", "a.safetensors"):
        save_weights(LITE, "random:3", str(folder / name))
    return folder


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_gives_the_same_features_and_its_digest(files, name):
    encoder = load_encoder(LITE, str(files / name))
    assert encoder.sha256 == hashlib.sha256((files / name).read_bytes()).hexdigest()
    expected = load_encoder(LITE, "random:3")(IMAGE)
    assert encoder(IMAGE).tobytes() == expected.tobytes()
    assert 0.1 < expected.std() < 10


def test_wrapped_and_prefixed_states_and_a_classifier(files, tmp_path):
    state = {f"module.{k}": v.half() for k, v in torch.load(files / "a.pth").items()}
    state = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
    state["module._fc.weight"] = torch.zeros(2, 2)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pth")
    got = load_encoder(LITE, str(tmp_path / "b.pth"))(IMAGE)
    np.testing.assert_allclose(got, load_encoder(LITE, "random:3")(IMAGE), atol=0.1)


def test_a_file_that_changed_is_read_again(files, tmp_path):
    path = tmp_path / "c.pth"
    path.write_bytes((files / "a.pth").read_bytes())
    first = load_encoder(LITE, str(path))
    assert load_encoder(LITE, str(path)) is first
    save_weights(LITE, "random:4", str(path))
    assert load_encoder(LITE, str(path)).sha256 != first.sha256


def test_random_weights_leave_the_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    encoders._load("resnet50:layer3", "random:11", "cpu", "float32", 0.5)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    a, b = load_encoder(LITE, "random:1"), load_encoder(LITE, "random:2")
    assert a.sha256 != b.sha256


def test_an_encoder_travels_as_a_recipe_to_another_process():
    encoder = load_encoder(LITE, "random:3")
    assert pickle.loads(pickle.dumps(encoder)) is encoder
    assert len(pickle.dumps(encoder)) < 1000
    code = (
        "import sys, pickle, hashlib, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "encoder = pickle.loads(sys.stdin.buffer.read())\n"
        "image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)\n"
        "print(encoder.sha256, float(encoder(image).sum(dtype=np.float64)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(encoder), capture_output=True, check=True
    )
    digest, total = done.stdout.decode().split()
    assert digest == encoder.sha256
    assert float(total) == pytest.approx(encoder(IMAGE).sum(dtype=np.float64), rel=1e-5)


def test_other_weights_on_arrival_are_refused():
    with pytest.raises(InputError, match="SHA-256 differs") as error:
        encoders._arrive(LITE, "random:3", "cpu", "float32", False, 0.5, "0" * 64)
    one_line(error)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a weights file was run')",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_malicious_pickle_is_refused(tmp_path, name):
    torch.save({"x": torch.ones(2), "y": Evil()}, tmp_path / name)
    with pytest.raises(InputError, match=name) as error:
        load_encoder(LITE, str(tmp_path / name))
    one_line(error)
    (tmp_path / name).write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=name) as error:
        load_encoder(LITE, str(tmp_path / name))
    one_line(error)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_that_was_cut_is_one_line(files, tmp_path, name):
    whole = (files / name).read_bytes()
    for size in (0, 100, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(InputError, match=name) as error:
            load_encoder(LITE, str(tmp_path / name))
        one_line(error)


def test_weights_of_another_network_are_one_line(files, tmp_path):
    with pytest.raises(InputError, match=r"lacks .* and \d+ more") as error:
        load_encoder("resnet50:layer3", str(files / "a.pth"))
    one_line(error)
    state = torch.load(files / "a.pth")
    torch.save({**state, "extra": torch.ones(1)}, tmp_path / "extra.pth")
    with pytest.raises(InputError, match="unknown extra"):
        load_encoder(LITE, str(tmp_path / "extra.pth"))
    torch.save({**state, "_bn0.bias": torch.ones(1)}, tmp_path / "shape.pth")
    with pytest.raises(InputError, match=r"another shape of _bn0\.bias"):
        load_encoder(LITE, str(tmp_path / "shape.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="state_dict"):
        load_encoder(LITE, str(tmp_path / "list.pth"))


def test_weights_that_cannot_be_had_say_how_to_get_them(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    for given in (None, "IMAGENET1K_V2"):
        with pytest.raises(InputError, match=r"--weights FILE.*random:SEED") as error:
            load_encoder("resnet50:layer4", given)
        one_line(error)


def test_published_weights_come_from_the_cache_of_torch(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    cached = tmp_path / "checkpoints" / "resnet50-0676ba61.pth"
    sha256 = save_weights("resnet50:layer3", "random:0", str(cached))
    encoder = encoders._load("resnet50:layer3", None, "cpu", "float32", 0.5)
    assert encoder.sha256 == sha256


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("resnet51", None, "--encoder resnet51: unknown; give one of stains, resnet50:layer3"),
        (LITE, "no/such.pth", "no/such.pth: no such weights file"),
        (LITE, "random:x", "whole number"),
        ("timm:resnet34", "random:0", r"pip install 'msiscale\[timm\]'"),
    ],
)
def test_bad_names_are_one_line(name, given, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=message) as error:
        load_encoder(name, given)
    one_line(error)


def test_bad_device_and_precision_are_one_line():
    with pytest.raises(InputError, match="--precision"):
        load_encoder(LITE, precision="float8")
    with pytest.raises(InputError, match="--device"):
        load_encoder(LITE, device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="--device cuda") as error:
            load_encoder(LITE, device="cuda")
        one_line(error)


def test_bfloat16_is_close():
    exact = load_encoder(LITE)(IMAGE).reshape(-1, 1280)
    fast = load_encoder(LITE, precision="bfloat16")(IMAGE).reshape(-1, 1280)
    assert fast.dtype == np.float32
    cosine = (exact * fast).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(fast, axis=1)
    assert cosine.min() > 0.98


def test_digest_of_tensors_covers_name_shape_and_value():
    base = {"a": torch.ones(2, 3)}
    others = [{"b": torch.ones(2, 3)}, {"a": torch.ones(3, 2)}, {"a": torch.zeros(2, 3)}]
    assert len({weights.state_sha256(s) for s in (base, *others)}) == 4


def test_weights_behind_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from msiscale.store import write_bytes

    monkeypatch.setenv("MSISCALE_CACHE", str(tmp_path / "cache"))
    local = str(tmp_path / "lite0.safetensors")
    sha256 = save_weights("efficientnet-lite0", "random:3", local)
    url = f"memory://weights/{tmp_path.name}/lite0.safetensors"
    write_bytes(url, Path(local).read_bytes())
    encoder = load_encoder("efficientnet-lite0", url)
    assert (encoder.sha256, encoder.weights) == (sha256, url)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(InputError, match="no such weights file"):
        load_encoder("efficientnet-lite0", "memory://weights/none.pth")
