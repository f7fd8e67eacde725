"""Features on a GPU: equal to those of a processor, and how near to the bare network end to end."""

from __future__ import annotations

import argparse
import os

from benchmarks.common.measure import measured
from benchmarks.common.places import folder_of
from benchmarks.common.progress import Progress

TAKES = "5 minutes on one H200; 2 without a GPU, small"
FULL: dict[str, object] = {}
NETWORKS = {
    "resnet50": "resnet50:layer3",
    "vit_l_14": "timm:vit_large_patch14_dinov2?img_size=224",
    "vit_h_14": "timm:vit_huge_patch14_224",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes; sizes are smaller where there is no GPU."""
    parser.add_argument("--device", help="as torch names it [cuda where there is one, else cpu]")
    parser.add_argument("--side", type=int, help="pixels of the slide [20480]")
    parser.add_argument("--pixel-um", type=float, help="of the MSI [50]")
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, help="[all]")
    parser.add_argument("--precisions", nargs="*", help="[float32 tf32 bfloat16]")
    parser.add_argument("--threads", type=int, nargs="*", help="blocks at work at once [1 4]")
    parser.add_argument("--decoders", type=int, default=0, help="threads that decode [all cores]")
    parser.add_argument("--windows", type=int, nargs="*", help="[2432 8192]")
    parser.add_argument("--compile", action="store_true", help="also by torch.compile (a minute)")
    parser.add_argument("--data", metavar="DIR", help="where the slide is made and kept")


GPU = {
    "side": 20_480,
    "pixel_um": 50.0,
    "networks": list(NETWORKS),
    "precisions": ["float32", "tf32", "bfloat16"],
    "windows": [2432, 8192],
    "threads": [1, 4],
}
CPU = {
    "side": 2048,
    "pixel_um": 10.0,
    "networks": ["resnet50"],
    "precisions": ["float32"],
    "windows": [896],
    "threads": [1, 4],
}


def measure(words: argparse.Namespace, progress: Progress) -> dict[str, float]:
    """Print tables; all figures together."""
    device = words.device or default_device()
    for name, value in (CPU if device == "cpu" else GPU).items():
        if getattr(words, name) is None:
            setattr(words, name, value)
    progress("all of it in one process, as a device is warmed up once")
    with folder_of(words.data) as folder:
        settings = {
            "folder": str(folder),
            "device": device,
            "networks": {name: NETWORKS[name] for name in words.networks},
            "decoders": words.decoders or os.cpu_count() or 1,
            **{n: getattr(words, n) for n in ("side", "pixel_um", "precisions", "windows")},
            **{n: getattr(words, n) for n in ("threads", "compile")},
        }
        cost = measured("benchmarks.gpu.sides:everything", settings=settings)
    return dict(zip(map(str, cost.result["keys"]), map(float, cost.result["values"]), strict=True))


def default_device() -> str:
    """``cuda`` where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
