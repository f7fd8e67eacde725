"""Probes of what is installed: libraries, extras, torch, OpenSlide, the encoder and its weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from msiscale.doctor.probe import Asked, Finding
from msiscale.errors import InputError

EXTRAS = {  # what each is for, and the package that tells whether it is there
    "timm": ("timm", "encoders of timm"),
    "published": ("dask-ml", "--pca incremental"),
    "export": ("anndata", "export to AnnData"),
    "spatialdata": ("spatialdata", "export to SpatialData"),
    "aws": ("boto3", "credentials of a profile in ~/.aws"),
    "jobqueue": ("dask-jobqueue", "SLURM, PBS and Grid Engine"),
    "kubernetes": ("dask-kubernetes", "Kubernetes"),
    "ssh": ("asyncssh", "hosts reached by SSH"),
    "cuda": ("dask-cuda", "--cluster cuda"),
}
OF_CLUSTER = {"slurm": "jobqueue", "pbs": "jobqueue", "sge": "jobqueue"}
OF_CLUSTER |= {kind: kind for kind in ("kubernetes", "ssh", "cuda")}
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def libraries(asked: Asked) -> Iterator[Finding]:
    """Whether every package that msiscale needs is there, and new enough."""
    try:
        own, needed = version("msiscale"), requires("msiscale") or []
    except PackageNotFoundError:
        remedy = "pip install . in its folder, or make venv"
        yield Finding("libraries", "note", "msiscale itself is not installed", remedy)
        return
    lacking = []
    for each in map(Requirement, needed):
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        found = _version(each.name)
        if found is None:
            lacking.append(f"no {each.name}")
        elif not each.specifier.contains(found, prereleases=True):
            lacking.append(f"{each.name} {found}, not {each.specifier}")
    if lacking:
        remedy = "pip install --upgrade msiscale"
        yield Finding("libraries", "missing", f"msiscale {own}: {', '.join(lacking)}", remedy)
    else:
        yield Finding("libraries", "ok", f"msiscale {own} and all that it needs")


def extras(asked: Asked) -> Iterator[Finding]:
    """The optional parts: those there, and those that what was asked for needs."""
    there = {extra for extra, (package, _) in EXTRAS.items() if _version(package) is not None}
    for extra in sorted(_needed(asked) - there):
        package, use = EXTRAS[extra]
        remedy = f"pip install 'msiscale[{extra}]'"
        yield Finding("extras", "missing", f"no {package}, which {use} needs", remedy)
    absent = ", ".join(extra for extra in EXTRAS if extra not in there)
    some = ", ".join(f"{e} ({_version(EXTRAS[e][0])})" for e in EXTRAS if e in there)
    tail = f"; not installed, and not asked for: {absent}" if absent else ""
    if not _needed(asked) - there:
        yield Finding("extras", "ok", f"{some or 'none'}{tail}")


def _needed(asked: Asked) -> set[str]:
    found = {"timm"} if "timm:" in asked.config.encoder else set()
    if asked.config.pca == "incremental":
        found.add("published")
    try:
        kind = asked.settings.kind if asked.settings is not None else ""
    except InputError:  # said by the probe of the cluster
        kind = ""
    return found | {OF_CLUSTER[kind]} if kind in OF_CLUSTER else found


def torch(asked: Asked) -> Iterator[Finding]:
    """The build of PyTorch; whether it sees a GPU is another line."""
    try:
        import torch
    except Exception as error:  # a build for another machine fails in many ways
        remedy = "install torch for this machine (pytorch.org says how)"
        yield Finding("torch", "missing", Finding.of("", error).value, remedy)
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs"
    yield Finding("torch", "ok", f"{torch.__version__}, built for {build}")


def openslide(asked: Asked) -> Iterator[Finding]:
    """The library of the slide formats."""
    try:
        found = import_module("openslide")
        yield Finding("OpenSlide", "ok", f"{found.__library_version__} ({found.__version__})")
    except Exception as error:  # its C library is not found, or is for another machine
        remedy = "pip install --force-reinstall openslide-bin openslide-python"
        yield Finding("OpenSlide", "missing", Finding.of("", error).value, remedy)


def encoder(asked: Asked) -> Iterator[Finding]:
    """The encoder that was asked for, with its weights."""
    try:
        found = asked.encoder
    except (InputError, OSError, ImportError) as error:
        yield Finding.of("encoder", error)
        return
    weights = f"weights {found.sha256[:12]}"
    yield Finding(
        "encoder", "ok", f"{found.id}: {found.channels:,} features for each pixel, {weights}"
    )


def licence(asked: Asked) -> Iterator[Finding]:
    """Whether there is a token for weights behind a licence; its value is never read."""
    if "timm:" not in asked.config.encoder or asked.config.weights is not None:
        return
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    named = next((name for name in TOKENS if os.environ.get(name)), None)
    if named is not None or (home / "token").is_file():
        yield Finding("licence", "ok", f"a Hugging Face token is set ({named or home / 'token'})")
        return
    remedy = (
        "accept the licence on the page of the model, make a token there and export it as "
        "HF_TOKEN; or give --weights FILE"
    )
    try:
        _ = asked.encoder
    except (InputError, OSError, ImportError):
        yield Finding("licence", "missing", "no Hugging Face token is set", remedy)
    else:
        yield Finding("licence", "ok", "no Hugging Face token is set, and none was needed")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
