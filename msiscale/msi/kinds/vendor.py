"""Raw data of instruments, which only their makers' libraries read: what converts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from msiscale.errors import InputError
from msiscale.msi.asked import Asked
from msiscale.store import is_url, local_path

_THYRA = "thyra ({address}) writes a Zarr that msiscale reads".format(
    address="github.com/M4i-Imaging-Mass-Spectrometry/thyra"
)
#: What the name of a file or folder ends in, what it is, and the remedy.
VENDORS = {
    ".d": ("raw data of Bruker", f"export imzML from SCiLS Lab or flexImaging; or {_THYRA}"),
    ".raw": (
        "raw data of Waters or Thermo",
        f"of Waters, export imzML from HDI, or {_THYRA}; of Thermo, convert to imzML with "
        "ImageQuest or jimzMLConverter",
    ),
    ".slx": ("a project of SCiLS Lab", "export imzML from SCiLS Lab"),
    ".sbd": ("a file of SCiLS Lab", "export imzML from SCiLS Lab"),
    ".imdx": ("raw data of Shimadzu", "export imzML from IMAGEREVEAL MS"),
    ".wiff": ("raw data of SCIEX", "convert to imzML with jimzMLConverter"),
    ".mis": ("a flexImaging sequence", f"export imzML from flexImaging; or {_THYRA}"),
    ".mzml": ("spectra without pixels", "convert to imzML with jimzMLConverter"),
}
_RAPIFLEX = ("_poslog.txt", "_info.txt")


def _ending(path: str) -> str:
    name = path.rstrip("/\\").lower()
    return next((ending for ending in VENDORS if name.endswith(ending)), "")


def is_vendor(path: str, _: Callable[[], bytes]) -> bool:
    """Whether a path is raw data of an instrument, by its name or by what is in the folder."""
    return bool(_ending(path)) or _is_rapiflex(path)


def _is_rapiflex(path: str) -> bool:
    if is_url(path) or not local_path(path).is_dir():
        return False
    names = [p.name.lower() for p in local_path(path).iterdir()]
    return all(any(name.endswith(mark) for name in names) for mark in _RAPIFLEX)


def refuse_vendor(path: str, _: Asked) -> NoReturn:
    """Say in one line what converts such data."""
    what, remedy = VENDORS[_ending(path) or ".d"]
    raise InputError(f"{path}: is {what}, not an image msiscale reads; {remedy}")
