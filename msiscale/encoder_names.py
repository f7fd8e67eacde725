"""Names of encoders: what an option adds to them, and the resolution at which they were trained."""

from __future__ import annotations

from collections.abc import Sequence

from msiscale.errors import InputError
from msiscale.presets import PRESETS

MPP = 0.5  # µm a pixel: 20x, for which most encoders are made


def base_of(name: str) -> str:
    """The name of a preset without arguments, tokens and blocks."""
    return name if name in PRESETS else name.partition(":")[0].partition("?")[0]


def native_mpp(encoder: str) -> float:
    """The µm per pixel that the encoders of a name were trained at, the finest of several."""
    known = [PRESETS[base_of(n)].mpp for n in encoder.split(",") if base_of(n) in PRESETS]
    return min(known, default=MPP)


def in_full(
    encoder: str,
    tokens: str | None,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> str:
    """The name of an encoder, or of several, with its tokens and its normalisation.

    Parameters
    ----------
    encoder
        As ``--encoder`` has it.
    tokens
        Kind of output of those that are transformers; None leaves them as they are.
    mean, std
        Of RGB, for those that timm builds; None likewise.

    Returns
    -------
    str
        As ``uni:class``, ``timm:NAME?mean=0.5 0.5 0.5&std=0.2 0.2 0.2``.

    Raises
    ------
    InputError
        No encoder among them takes what is given.
    """
    each = encoder.split(",")
    if mean is not None and std is not None:
        if not any(name.startswith("timm:") for name in each):
            raise InputError(
                "option mean and option std are for encoders of timm:NAME; presets have their own"
            )
        each = [_normalised(n, mean, std) if n.startswith("timm:") else n for n in each]
    if tokens is not None:
        named = [n for n in each if _takes(n, tokens)]
        if not named:
            raise InputError(
                f"option tokens = {tokens!r}: {encoder} has no such tokens; leave it out, or give "
                "a vision transformer (msiscale encoders)"
            )
        each = [f"{n}:{tokens}" if n in named else n for n in each]
    return ",".join(each)


def _normalised(name: str, mean: Sequence[float], std: Sequence[float]) -> str:
    described, colon, asked = name.removeprefix("timm:").partition(":")
    words = "&".join(
        f"{what}={' '.join(f'{v:g}' for v in three)}"
        for what, three in (("mean", mean), ("std", std))
    )
    return f"timm:{described}{'&' if '?' in described else '?'}{words}{colon}{asked}"


def _takes(name: str, tokens: str) -> bool:
    """Whether a name says no tokens or blocks yet, and may."""
    if name.startswith("timm:"):
        return ":" not in name.removeprefix("timm:")
    found = PRESETS.get(base_of(name))
    return ":" not in name and found is not None and tokens in found.tokens
