"""HDF5 images: damaged, of other shapes, absurdly large, or pointing elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row

from msiscale.msi import open_source, write_hdf5

MZ = np.linspace(100, 200, 5)
XY = np.array([(x, y) for y in range(2) for x in range(3)])
VALUES = np.random.default_rng(0).random((6, 5)).astype(np.float32)
Change = Callable[[h5py.File, Path], Any]


def row(id: str, wrong: str, says: str, change: Change | None, does: str = REFUSES) -> Row:
    """An image in the layout of msiscale's own, changed."""

    def run(folder: Path) -> list[str]:
        path, expected = folder / "image.h5", VALUES.copy()
        write_hdf5(str(path), MZ, XY, VALUES, pixel_um=50.0)
        if change is None:
            path.write_bytes(path.read_bytes()[:700])
        else:
            with h5py.File(path, "a") as file:
                change(file, folder)
                if does == READS:
                    expected = np.asarray(file["intensity"][...])[:, np.argsort(file["mz"])]
        source = open_source(str(path))
        found = source.read_dense(np.arange(len(source.positions)))
        assert source.positions.tolist() == XY[:, ::-1].tolist() and np.all(source.mz == MZ)
        bad = ~(expected >= 0) | ~np.isfinite(expected)
        np.testing.assert_array_equal(found, np.where(bad, 0, expected))
        return source.notes

    return Row(id, wrong, does, says, run)


def again(folder: Path, more: float) -> list[str]:
    """The third column stored again as the last, with so much more intensity."""
    path = folder / "image.h5"
    write_hdf5(str(path), MZ, XY, VALUES, pixel_um=50.0)
    with h5py.File(path, "a") as file:
        del file["mz"], file["intensity"]
        file["mz"] = np.append(MZ, MZ[2])
        file["intensity"] = np.c_[VALUES, VALUES[:, 2] + np.float32(more)]
    source = open_source(str(path))
    expected = VALUES.copy()
    expected[:, 2] += expected[:, 2] + np.float32(more) if more else 0
    assert source.mz is not None and source.mz.tolist() == MZ.tolist()
    np.testing.assert_allclose(source.read_dense(np.arange(len(XY))), expected, rtol=1e-6)
    return [note for note in source.notes if "stored" in note]


def put(name: str, value: Any) -> Change:
    def change(file: h5py.File, folder: Path) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return change


def huge(name: str, shape: tuple[int, ...]) -> Change:
    """A data set that says it is huge; nothing of it is stored."""

    def change(file: h5py.File, folder: Path) -> None:
        del file[name]
        file.create_dataset(name, shape, "f8", chunks=tuple(min(1024, n) for n in shape))

    return change


def huge_cube(file: h5py.File, folder: Path) -> None:
    for name in list(file):
        del file[name]
    file.create_dataset("peaks", (10**9, 10**9, 5), "f4", chunks=(64, 64, 5))
    file["mz"] = MZ


def huge_chunk(file: h5py.File, folder: Path) -> None:
    del file["intensity"]
    chunk = {"chunks": (6, 10**8), "maxshape": (None, None), "compression": "gzip"}
    file.create_dataset("intensity", (6, 5), "f4", **chunk)


def elsewhere(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.h5", "w") as other:
        other["x"] = VALUES
    del file["intensity"]
    file["intensity"] = h5py.ExternalLink("other.h5", "x")


def external(file: h5py.File, folder: Path) -> None:
    (folder / "raw").write_bytes(VALUES.tobytes())
    del file["intensity"]
    file.create_dataset("intensity", (6, 5), "f4", external=[(str(folder / "raw"), 0, 120)])


def unsorted(file: h5py.File, folder: Path) -> None:
    file["mz"][...] = MZ[::-1]


def not_finite(file: h5py.File, folder: Path) -> None:
    file["intensity"][0, 0] = np.nan


def negative(file: h5py.File, folder: Path) -> None:
    file["intensity"][2, 1] = -3


def integers(file: h5py.File, folder: Path) -> None:
    del file["intensity"]
    file["intensity"] = (VALUES * 100).astype(np.uint16)


ROWS = [
    row("cut", "file cut", "<file>: damaged HDF5 (<why>); copy the file again", None),
    row(
        "no_layout",
        "keys of no known layout",
        "<file>: HDF5 of no known layout (keys: <names>); write it with msiscale.msi.write_hdf5",
        put("mz", None),
    ),
    row(
        "axis_empty",
        "m/z axis empty",
        "<file>: the m/z axis mz is empty; mend it",
        put("mz", np.empty(0)),
    ),
    row(
        "axis_not_finite",
        "m/z axis with NaN",
        "<file>: the m/z axis has values that are not finite; mend it",
        put("mz", np.full(5, np.nan)),
    ),
    row(
        "axis_of_words",
        "m/z axis of text",
        "<file>: mz holds <type>, not numbers; mend it",
        put("mz", np.array([b"a"] * 5)),
    ),
    row(
        "axis_unsorted",
        "m/z axis that descends",
        "note: the m/z axis does not ascend; sorted",
        unsorted,
        READS,
    ),
    Row(
        "axis_twice_alike",
        "an m/z twice, with the same intensities",
        READS,
        "m/z <m/z> is stored more than once, with the same intensities; the copies are left out",
        lambda folder: again(folder, 0),
    ),
    Row(
        "axis_twice_different",
        "an m/z twice, with different intensities",
        READS,
        "m/z <m/z> is stored more than once, with different intensities, which are summed",
        lambda folder: again(folder, 1),
    ),
    row(
        "shapes",
        "intensities that do not fit the axis",
        "<file>: /intensity is <shape> with <n> pixels and <k> m/z; they do not fit",
        put("intensity", VALUES[:, :4]),
    ),
    row(
        "dimensions",
        "intensities of one dimension",
        "<file>: intensity has 1 dimensions instead of 2; mend it",
        put("intensity", VALUES[0]),
    ),
    row(
        "same_pixel",
        "two spectra on a pixel",
        "<file>: spectra <i> and <j> lie on the same pixel (x <x>, y <y>) and differ; keep one of "
        "them, or give --duplicates first or mean",
        put("coordinates", XY * 0),
    ),
    row(
        "coordinates_fractions",
        "coordinates that are not whole",
        "<file>: coordinates are not whole pixel indices; give them as such",
        put("coordinates", XY + 0.25),
    ),
    row(
        "coordinates_absurd",
        "coordinates of 1e300",
        "<file>: coordinates reach beyond 1e+09; give pixel indices",
        put("coordinates", XY * 1e300),
    ),
    row(
        "two_planes",
        "a third dimension",
        "<file>: holds several z planes; split it into one file per plane",
        put("coordinates", np.c_[XY, XY[:, :1]]),
    ),
    row(
        "not_finite",
        "NaN intensities",
        "<file>: <n> intensities that are not finite read as 0",
        not_finite,
        READS,
    ),
    row(
        "negative",
        "negative intensities",
        "<file>: <n> negative intensities read as 0",
        negative,
        READS,
    ),
    row("integers", "intensities of whole numbers", "", integers, READS),
    row(
        "huge_list",
        "1e12 coordinates declared",
        "<file>: coordinates is said to have <n> values; export the image again",
        huge("coordinates", (10**12, 2)),
    ),
    row(
        "huge_cube",
        "1e9 x 1e9 pixels declared",
        "<file>: /peaks is said to have <width> x <height> pixels; export the image again",
        huge_cube,
    ),
    row(
        "huge_chunk",
        "chunks that unpack to 2.4 GB",
        "<file>: intensity has chunks of <shape>; repack it with h5repack",
        huge_chunk,
    ),
    row(
        "link_elsewhere",
        "a link into another file",
        "<file>: intensity points into other files; repack it with h5repack",
        elsewhere,
    ),
    row(
        "stored_elsewhere",
        "values stored in another file",
        "<file>: intensity points into other files; repack it with h5repack",
        external,
    ),
    row(
        "pixel_um_of_words",
        "attribute pixel_um that is text",
        "<file>: its attribute pixel_um is no number; give µm",
        lambda file, folder: file.attrs.__setitem__("pixel_um", "fifty"),
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)
