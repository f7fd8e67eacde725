"""``python -m benchmarks.bad_imzml.peers READER IMZML RESULT.npz``: what a reader makes of a file.

Run by the interpreter of the reader's own environment. Writes one row a pixel: x, y, number of
values, summed intensity, summed m/z times intensity; nothing when the reader refuses, which is an
exception or an exit status. Memory and time are those of `benchmarks.bad_imzml`.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOM = 8 << 30  # bytes of address space
Pixel = tuple[int, int, Any, Any]  #: x, y, m/z, intensities


def pyimzml(path: str) -> Iterator[Pixel]:
    """pyimzML's ``getspectrum``."""
    from pyimzml.ImzMLParser import ImzMLParser

    with ImzMLParser(path) as parser:
        for i, place in enumerate(parser.coordinates):
            yield place[0], place[1], *parser.getspectrum(i)


def imzy(path: str) -> Iterator[Pixel]:
    """imzy's ``get_spectrum``."""
    from imzy import get_reader

    reader = get_reader(path)
    x, y = reader.x_coordinates, reader.y_coordinates
    for i in range(reader.n_pixels):
        yield int(x[i]), int(y[i]), *reader.get_spectrum(i)


def thyra(path: str) -> Iterator[Pixel]:
    """thyra's ``convert_msi`` to SpatialData, read back; its m/z are its own axis."""
    import spatialdata
    from scipy.sparse import csr_matrix
    from thyra import convert_msi

    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/out.zarr"
        if not convert_msi(path, out, dataset_id="one", pixel_size_um=50.0, include_optical=False):
            raise RuntimeError("converted nothing")
        data = spatialdata.read_zarr(out)
        if len(data.tables) != 1:
            raise RuntimeError(f"{len(data.tables)} tables")
        (table,) = data.tables.values()
        mz = table.var["mz"].to_numpy()
        values = csr_matrix(table.X)
        for i in range(table.n_obs):
            row = values[i]
            place = table.obs.iloc[i]
            yield int(place["x"]), int(place["y"]), mz[row.indices], row.data


READERS = {"pyimzml": pyimzml, "imzy": imzy, "thyra": thyra}


def main() -> None:
    """Read one file with one reader."""
    name, path, result = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    rows = []
    for x, y, mz, intensity in READERS[name](path):
        mz, intensity = np.asarray(mz, np.float64), np.asarray(intensity, np.float64)
        n = min(len(mz), len(intensity))
        rows.append([x, y, n, intensity.sum(), (mz[:n] * intensity[:n]).sum()])
    np.savez(Path(result), rows=np.array(rows, np.float64).reshape(-1, 5))


if __name__ == "__main__":
    main()
