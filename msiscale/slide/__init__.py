"""Slides: pixels of any format, tissue, annotations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from msiscale.grid import centres_um

if TYPE_CHECKING:
    import xarray as xr

    from msiscale.slide.reader import Slide

CHUNK = 1024


def open_slide(
    path: str | os.PathLike[str], *, mpp: float | None = None, level: int = 0
) -> xr.DataArray:
    """A level of a slide as a labelled, lazy array.

    Parameters
    ----------
    path : str or path
        Any slide that `msiscale.slide.reader.open_reader` reads.
    mpp : float, optional
        µm per level-0 pixel; overrules the file.
    level : int
        Resolution, 0 the finest.

    Returns
    -------
    xarray.DataArray
        ``image`` (y, x, c) uint8, Dask-backed; ``y`` and ``x`` are pixel centres in µm from the
        corner of the slide, ``c`` is R, G, B. attrs: ``path``, ``mpp`` (y, x) of this level,
        ``level``, ``levels`` (shape and downsample of each).

    Raises
    ------
    InputError
        The file cannot be read or has no µm per pixel.
    ValueError
        No such level.

    Examples
    --------
    >>> import msiscale as ms
    >>> slide = ms.open_slide("cohort/S01.tiff")
    >>> slide.dims, slide.mpp
    (('y', 'x', 'c'), [4.0, 4.0])
    >>> slide.sel(y=slice(1000, 1200), x=slice(1000, 1400)).shape  # in µm
    (50, 100, 3)
    """
    import dask.array as da
    import xarray as xr

    from msiscale.slide.reader import open_reader

    slide = open_reader(path, mpp=mpp)
    if not 0 <= level < len(slide.levels):
        raise ValueError(f"level {level}: {slide.path} has levels 0 to {len(slide.levels) - 1}")
    this = slide.levels[level]
    size = [m * d for m, d in zip(slide.mpp, this.downsample, strict=True)]
    lazy: Any = da  # without types
    image = lazy.map_blocks(
        _read_chunk,
        chunks=(*lazy.core.normalize_chunks(CHUNK, this.shape), (3,)),
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
        slide=slide,
        level=level,
    )
    return xr.DataArray(
        image,
        name="image",
        dims=("y", "x", "c"),
        coords={
            "y": ("y", centres_um(this.shape[0], size[0]), {"units": "µm"}),
            "x": ("x", centres_um(this.shape[1], size[1]), {"units": "µm"}),
            "c": ["R", "G", "B"],
        },
        attrs={
            "path": slide.path,
            "mpp": size,
            "level": level,
            "levels": [
                {"shape": list(v.shape), "downsample": list(v.downsample)} for v in slide.levels
            ],
        },
    )


def _read_chunk(*, slide: Slide, level: int, block_info: Any = None) -> np.ndarray:
    (y0, y1), (x0, x1), _ = block_info[None]["array-location"]
    return slide.read(level, y0, x0, y1 - y0, x1 - x0)
