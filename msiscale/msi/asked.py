"""What a user asks of an image, beyond what its file says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from msiscale.grid import PixelSize

Polarity = Literal["+", "-"]
Duplicates = Literal["refuse", "first", "mean"]
POLARITIES: tuple[str, ...] = get_args(Polarity)
DUPLICATES: tuple[str, ...] = get_args(Duplicates)


@dataclass(frozen=True)
class Asked:
    """How a file is to be read, where it says nothing, or too much.

    Attributes
    ----------
    pixel_um : size of a pixel in µm, which overrides the file's
    polarity : of the spectra that are read
    ms_level : of the spectra that are read, 1 or more
    duplicates : what to do with spectra of one pixel that differ
    trust_ibd : read an .ibd whose UUID is not that of its imzML
    """

    pixel_um: PixelSize | None = None
    polarity: Polarity | None = None
    ms_level: int | None = None
    duplicates: Duplicates = "refuse"
    trust_ibd: bool = False


NOTHING = Asked()
