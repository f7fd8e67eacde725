"""Files of a phantom specimen: imzML, slide, landmarks and truth, each the same for a seed."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.grid import Floats, apply, centres_um
from msiscale.simulate.chemistry import Measurement
from msiscale.store import open_group, put, write_bytes

TILE = 256
_SMALLEST_LEVEL = 700  # px: the longer side of the last level may be up to twice this


def write_imzml(path: Path, measurement: Measurement, pixel_um: float, identity: uuid.UUID) -> None:
    """Write `path` (.imzML) and its .ibd: processed centroids of every pixel, positive mode."""
    from pyimzml.ImzMLWriter import ImzMLWriter

    types = {"mz_dtype": np.float64, "intensity_dtype": np.float32, "mode": "processed"}
    writer = ImzMLWriter(str(path), **types, spec_type="centroid", polarity="positive")
    with writer:
        # the writer draws its own UUID and puts the path into the file; both would differ
        writer.uuid = identity
        writer.sha1 = hashlib.sha1(identity.bytes, usedforsecurity=False)
        writer.ibd.seek(0)
        writer.ibd.write(identity.bytes)
        writer.run_id = path.stem
        for y in range(measurement.shape[0]):
            for x, (mz, intensity) in enumerate(measurement.spectra(y)):
                writer.addSpectrum(mz, intensity, (x + 1, y + 1, 1))
    _add_pixel_size(path, measurement.shape, pixel_um)


def _add_pixel_size(path: Path, shape: tuple[int, int], pixel_um: float) -> None:
    """The writer has no field for the pixel size: add it to the scan settings."""
    unit = 'unitCvRef="UO" unitAccession="UO:0000017" unitName="micrometer"'
    size = {"x": shape[1] * pixel_um, "y": shape[0] * pixel_um}
    terms = (
        ("IMS:1000044", "max dimension x", size["x"]),
        ("IMS:1000045", "max dimension y", size["y"]),
        ("IMS:1000046", "pixel size (x)", pixel_um),
        ("IMS:1000047", "pixel size y", pixel_um),
    )
    term = '      <cvParam cvRef="IMS" accession="{}" name="{}" value="{!r}" {}/>\n'
    lines = "".join(term.format(*fields, unit) for fields in terms)
    text = path.read_text(encoding="ascii")
    end = "    </scanSettings>"
    if text.count(end) != 1:
        raise RuntimeError(f"{path}: pyimzML wrote no scan settings to put the pixel size in")
    write_bytes(str(path), text.replace(end, lines + end).encode("ascii"))


def write_slide(
    path: Path, bands: Iterable[NDArray[np.uint8]], shape: tuple[int, int], mpp: float
) -> NDArray[np.uint8]:
    """Write a tiled pyramidal JPEG TIFF.

    Parameters
    ----------
    path
        The file to write.
    bands
        (rows, width, 3) uint8, RGB, from the top: `TILE` rows each, the last may have fewer.
    shape
        Height and width of level 0, pixels.
    mpp
        µm a pixel of level 0.

    Returns
    -------
    NDArray
        (h, w, 3) uint8, RGB, the coarsest level; its values mean nothing if it is level 0.
    """
    # its levels halve; OpenSlide reads it as generic TIFF; µm per pixel are in resolution tags
    import tifffile

    levels = pyramid_shapes(shape)
    half: list[NDArray[np.uint8]] = []
    options: dict[str, Any] = {
        "photometric": "rgb",  # of the tiles given; inside the JPEG it is YCbCr
        "subsampling": (2, 2),
        "compression": "jpeg",
        "compressionargs": {"level": 88},
        "tile": (TILE, TILE),
        "dtype": np.uint8,
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        "software": "msiscale simulate",
    }

    def first() -> Iterator[NDArray[np.uint8]]:
        for band in bands:
            half.append(_halve(band))
            yield from _tiles(band)

    write = path.with_name(path.name + ".part")
    with tifffile.TiffWriter(write) as tiff:
        tiff.write(first(), shape=(*shape, 3), resolution=(1e4 / mpp,) * 2, **options)
        image = np.concatenate(half) if len(levels) > 1 else np.empty((*shape, 3), np.uint8)
        for level in range(1, len(levels)):
            if level > 1:
                image = _halve(image)
            size = (1e4 / mpp / 2**level,) * 2
            tiles = _all_tiles(image)
            tiff.write(tiles, shape=image.shape, resolution=size, subfiletype=1, **options)
    os.replace(write, path)
    return image


def pyramid_shapes(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Shapes of the levels of a slide; every level is exactly half of the one before."""
    shapes = [shape]
    while max(shapes[-1]) > 2 * _SMALLEST_LEVEL or len(shapes) == 1:
        height, width = shapes[-1]
        if height % 2 or width % 2:
            break
        shapes.append((height // 2, width // 2))
    return shapes


def _halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wide = image.astype(np.uint16)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) >> 2).astype(np.uint8)


def _tiles(band: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    height, width = band.shape[:2]
    padded = np.pad(band, ((0, TILE - height), (0, -width % TILE), (0, 0)), mode="edge")
    for x in range(0, padded.shape[1], TILE):
        yield np.ascontiguousarray(padded[:, x : x + TILE])


def _all_tiles(image: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, image.shape[0], TILE):
        yield from _tiles(image[y : y + TILE])


def write_landmarks(
    path: Path, rng: np.random.Generator, matrix: Floats, points: Floats, noise_px: float
) -> None:
    """Write pairs of landmarks as a person would place them, as CSV.

    Parameters
    ----------
    path
        The file to write.
    rng
        Draws the errors.
    matrix
        (3, 3) float64, MSI index to level-0 pixel.
    points
        (n, 2) float64, (x, y) in MSI indices.
    noise_px
        Standard deviation of the errors of the MSI's x and y, pixels; the slide's have none.
    """
    slide = apply(matrix, points)
    msi = points + noise_px * rng.standard_normal(points.shape)
    lines = ["slide_x,slide_y,msi_x,msi_y"]
    lines += [
        f"{sx:.1f},{sy:.1f},{mx:.3f},{my:.3f}"
        for (sx, sy), (mx, my) in zip(slide, msi, strict=True)
    ]
    write_bytes(str(path), ("\n".join(lines) + "\n").encode())


def write_fractions(url: str, maps: dict[str, NDArray[np.float32]], pixel_um: float) -> None:
    """Write label fractions as a Zarr group with coordinates in µm.

    Parameters
    ----------
    url
        Folder or URL of the group.
    maps
        Label -> (y, x) float32, the share of each MSI pixel; all of one shape.
    pixel_um
        Size of an MSI pixel, µm.
    """
    group = open_group(url, "a")
    shape = next(iter(maps.values())).shape
    for name, size in zip(("y", "x"), shape, strict=True):
        put(group, name, centres_um(size, pixel_um), [name], attrs={"units": "µm"})
    for name, values in maps.items():
        put(group, name, values, ["y", "x"])
    group.attrs["pixel_um"] = pixel_um
