"""HDF5 mass-spectrometry images, in the layouts seen in the wild, told apart by their keys.

============================  ==================================================================
the published study           ``interpolated_intensities`` (mz, x, y), ``common_mz``
msiPL, massNet                ``Data`` (pixel, mz) or transposed, ``mzArray``, ``xLocation``,
                              ``yLocation``
MassVision                    ``peaks`` (y, x, mz), ``mz``
OpenMSI, BASTet               ``entry_0/data_0/data_0`` (x, y, mz), ``entry_0/data_0/mz``
IMS.hdf5 (Palmer)             ``spectral_data/<i>/{centroid_mzs, centroid_intensities,
                              coordinates}``
SCiLS export                  ``Spots/<i>/InitialMeasurement/Intensities``, a mass axis,
                              ``Registrations/0/Coordinates`` or ``Coordinates``
AnnData (h5ad)                ``X`` dense or CSR, ``var/mz``, ``obsm/spatial``
msiscale (everything else)    ``mz`` (k,), ``coordinates`` (n, 2) x and y pixel indices, and
                              ``intensity`` (n, k), or CSR as ``data``, ``indices``, ``indptr``;
                              attributes ``pixel_um``, ``polarity`` ('+' or '-'), ``profile``
============================  ==================================================================

A cube has no list of its pixels: one without any signal is taken as not measured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi.hdf5_source import MOST_WHOLE, Hdf5Source, dataset, open_file, whole
from msiscale.msi.source import bounding_box, snap_to_grid
from msiscale.msi.spectra import (
    Floats,
    Ints,
    regular,
    smooth,
)

#: Values of a cube that are looked at in one go for pixels with signal.
_SCAN = 8_000_000
FARTHEST = 1e9  #: of a pixel index


def open_hdf5(path: str, *, pixel_um: float | None = None) -> Hdf5Source:
    """Open an HDF5 image; see `msiscale.msi.source.open_source`."""
    with open_file(path) as file:
        for key, opener in _LAYOUTS:
            if all(name in file for name in key):
                source = opener(path, file)
                break
        else:
            keys = ", ".join(map(str, list(file)[:8]))  # bytes where they are no UTF-8
            raise InputError(
                f"{path}: HDF5 of no known layout (keys: {keys}); "
                "write it with msiscale.msi.write_hdf5"
            )
    if source.mz is not None:
        if not np.isfinite(source.mz).all():
            raise InputError(f"{path}: the m/z axis has values that are not finite; mend it")
        if np.any(np.diff(source.mz) < 0):
            source.mz_order = np.argsort(source.mz, kind="stable")
            source.mz = source.mz[source.mz_order]
            source.notes.append("the m/z axis does not ascend; sorted")
    if not source.profile and source.layout not in ("msiscale", "ims"):
        source.profile = _looks_profile(source)
        if source.profile:
            source.notes.append("evenly spaced and smooth spectra; read as profile")
    if pixel_um is not None:
        known = source.pixel_um
        if known is not None and not np.allclose(known, pixel_um, rtol=0.01):
            source.notes.append(f"pixel size {known} µm replaced by {pixel_um} µm as asked")
        source.pixel_um = (float(pixel_um), float(pixel_um))
    return source


def _axis(path: str, file: h5py.File, name: str) -> Floats:
    mz = np.asarray(whole(path, file, name), np.float64).ravel()
    if len(mz) == 0:
        raise InputError(f"{path}: the m/z axis {name} is empty; mend it")
    return mz


def _source(
    path: str,
    layout: str,
    storage: str,
    names: tuple[str, ...],
    yx: Ints,
    address: Ints,
    mz: Floats | None,
    *,
    lengths: Ints | None = None,
    notes: list[str] | None = None,
) -> Hdf5Source:
    if len(yx) == 0:
        raise InputError(f"{path}: holds no spectra with any signal; export the image again")
    _, first, count = np.unique(yx, axis=0, return_index=True, return_counts=True)
    if (count > 1).any():
        y, x = yx[first[np.argmax(count > 1)]]
        raise InputError(f"{path}: two spectra lie on the pixel x {x}, y {y}; keep one of them")
    positions, shape, origin = bounding_box(path, yx)
    if lengths is None:
        lengths = np.full(len(yx), 0 if mz is None else len(mz), np.int64)
    return Hdf5Source(
        path=path,
        layout=layout,
        shape=shape,
        pixel_um=None,
        positions=positions,
        origin=origin,
        mz=mz,
        lengths=lengths,
        profile=False,
        polarity=None,
        mode="processed" if mz is None else "continuous",
        notes=notes or [],
        storage=storage,
        names=names,
        address=address,
    )


def _indices(path: str, values: Any, what: str) -> Ints:
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all() or np.any(values != np.rint(values)):
        raise InputError(f"{path}: {what} are not whole pixel indices; give them as such")
    if len(values) and np.abs(values).max() > FARTHEST:
        raise InputError(f"{path}: {what} reach beyond {FARTHEST:g}; give pixel indices")
    return values.astype(np.int64)


def _rows_of(path: str, data: h5py.Dataset, n: int, k: int, notes: list[str]) -> str:
    """Whether a matrix is (pixel, mz) or (mz, pixel)."""
    if data.shape == (n, k):
        if n == k:
            notes.append("as many pixels as m/z: rows are taken as pixels")
        return "rows"
    if data.shape == (k, n):
        return "columns"
    raise InputError(
        f"{path}: {data.name} is {data.shape} with {n} pixels and {k} m/z; they do not fit"
    )


def _open_general(path: str, file: h5py.File) -> Hdf5Source:
    mz = _axis(path, file, "mz")
    xy = _indices(path, whole(path, file, "coordinates", 2), "coordinates")
    if xy.shape[1] not in (2, 3):
        raise InputError(f"{path}: coordinates is {xy.shape}; give (n, 2), x and y")
    if xy.shape[1] == 3 and len(np.unique(xy[:, 2])) > 1:
        raise InputError(f"{path}: holds several z planes; split it into one file per plane")
    n = len(xy)
    notes: list[str] = []
    if "intensity" in file:
        data = dataset(path, file, "intensity", 2)
        storage = _rows_of(path, data, n, len(mz), notes)
        names: tuple[str, ...] = ("intensity",)
        address = np.arange(n)[:, None]
    else:
        storage, names = "csr", ("data", "indices")
        address = _csr_rows(path, file, "indptr", "data", n)
    source = _source(path, "msiscale", storage, names, xy[:, 1::-1], address, mz, notes=notes)
    try:
        size = np.atleast_1d(np.asarray(file.attrs.get("pixel_um", np.nan), np.float64)).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{path}: its attribute pixel_um is no number; give µm") from None
    if np.isfinite(size).all() and (size > 0).all() and len(size) in (1, 2):
        source.pixel_um = (float(size[0]), float(size[-1]))
    polarity = str(file.attrs.get("polarity", ""))
    source.polarity = polarity if polarity in ("+", "-") else None
    source.profile = bool(file.attrs.get("profile", False))
    return source


def _csr_rows(path: str, file: h5py.File, indptr: str, data: str, n: int) -> Ints:
    """(n, 2) begin and end of every row of a CSR matrix, checked."""
    ends = np.asarray(whole(path, file, indptr, 1), np.int64)
    size = dataset(path, file, data, 1).shape[0]
    if len(ends) != n + 1 or ends[0] != 0 or ends[-1] != size or np.any(np.diff(ends) < 0):
        raise InputError(
            f"{path}: {indptr} does not cut {data} into {n} rows; write the matrix again"
        )
    return np.stack([ends[:-1], ends[1:]], axis=1)


def _open_study(path: str, file: h5py.File) -> Hdf5Source:
    return _open_cube(path, file, "study", "interpolated_intensities", "common_mz", mz_first=True)


def _open_massvision(path: str, file: h5py.File) -> Hdf5Source:
    return _open_cube(path, file, "massvision", "peaks", "mz", rows_first=True)


def _open_openmsi(path: str, file: h5py.File) -> Hdf5Source:
    return _open_cube(path, file, "openmsi", "entry_0/data_0/data_0", "entry_0/data_0/mz")


def _open_cube(
    path: str,
    file: h5py.File,
    layout: str,
    name: str,
    mz_name: str,
    *,
    mz_first: bool = False,
    rows_first: bool = False,
) -> Hdf5Source:
    """A full cube; `mz_first` (mz, x, y), `rows_first` (y, x, mz), else (x, y, mz)."""
    mz = _axis(path, file, mz_name)
    data = dataset(path, file, name, 3)
    if data.shape[0 if mz_first else 2] != len(mz):
        raise InputError(f"{path}: {name} is {data.shape} but {mz_name} has {len(mz)} values")
    measured = _with_signal(data, mz_first)
    address = np.argwhere(measured)
    yx = address if rows_first else address[:, ::-1]
    notes = []
    if not measured.all():
        notes.append(f"{int((~measured).sum())} pixels without any signal taken as not measured")
    storage = "cube_mz_first" if mz_first else "cube_mz_last"
    return _source(path, layout, storage, (name,), yx, address, mz, notes=notes)


def _with_signal(data: h5py.Dataset, mz_first: bool) -> NDArray[np.bool_]:
    """Pixels of a cube with any value that is neither zero nor NaN; chunks never written count
    as zero and are not read, pixels already known to have signal are not read again."""
    shape = data.shape[1:] if mz_first else data.shape[:2]
    if np.prod(shape, dtype=float) > MOST_WHOLE:
        raise InputError(
            f"{data.file.filename}: {data.name} is said to have {shape[0]} x {shape[1]} pixels; "
            "export the image again"
        )
    found = np.zeros(shape, bool)
    depth_axis = 0 if mz_first else 2
    for piece in _pieces(data):
        pixel = tuple(part for i, part in enumerate(piece) if i != depth_axis)
        if found[pixel].all():
            continue
        values = data[piece]
        found[pixel] |= ((values != 0) & (values == values)).any(axis=depth_axis)
    return found


def _pieces(data: h5py.Dataset) -> Iterator[tuple[slice, ...]]:
    """Slices that cover what is written of a data set, whole chunks, each of a bearable size."""
    if data.chunks is not None:
        for i in range(data.id.get_num_chunks()):
            offset = data.id.get_chunk_info(i).chunk_offset
            yield tuple(
                slice(o, min(o + c, s))
                for o, c, s in zip(offset, data.chunks, data.shape, strict=True)
            )
        return
    step = max(1, _SCAN // max(1, int(np.prod(data.shape[1:]))))
    across = max(1, min(data.shape[1], _SCAN // max(1, data.shape[2])))
    for begin in range(0, data.shape[0], step):
        for side in range(0, data.shape[1], across):
            yield (
                slice(begin, min(begin + step, data.shape[0])),
                slice(side, min(side + across, data.shape[1])),
                slice(None),
            )


def _open_msipl(path: str, file: h5py.File) -> Hdf5Source:
    mz = _axis(path, file, "mzArray")
    x = _indices(path, whole(path, file, "xLocation"), "xLocation").ravel()
    y = _indices(path, whole(path, file, "yLocation"), "yLocation").ravel()
    if len(x) != len(y):
        raise InputError(f"{path}: {len(x)} xLocation but {len(y)} yLocation; mend the file")
    notes: list[str] = []
    storage = _rows_of(path, dataset(path, file, "Data", 2), len(x), len(mz), notes)
    address = np.arange(len(x))[:, None]
    yx = np.stack([y, x], axis=1)
    return _source(path, "msipl", storage, ("Data",), yx, address, mz, notes=notes)


def _numbered(path: str, file: h5py.File, name: str) -> list[int]:
    """The members of a group that are called by numbers, ascending."""
    group = file[name]
    if not isinstance(group, h5py.Group):
        raise InputError(f"{path}: {name} is not a group of spectra; export the image again")
    return sorted(int(key) for key in group if key.isascii() and key.isdecimal() and len(key) < 18)


def _open_ims(path: str, file: h5py.File) -> Hdf5Source:
    keys = _numbered(path, file, "spectral_data")
    names = ("spectral_data/{}/centroid_mzs", "spectral_data/{}/centroid_intensities")
    xyz, lengths = [], []
    for key in keys:
        place = whole(path, file, f"spectral_data/{key}/coordinates")
        if place.size < 2:
            raise InputError(f"{path}: spectrum {key} has no x and y; export the image again")
        xyz.append(np.asarray(place, np.float64).ravel()[:2])
        sizes = [dataset(path, file, name.format(key), 1).shape[0] for name in names]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{path}: spectrum {key} has {sizes[0]} m/z but {sizes[1]} intensities; mend it"
            )
        lengths.append(sizes[0])
    notes: list[str] = []
    yx = _grid(path, np.array(xyz).reshape(-1, 2), notes)
    address = np.array(keys, np.int64)[:, None]
    return _source(
        path, "ims", "spots", names, yx, address, None, lengths=np.array(lengths), notes=notes
    )


def _open_scils(path: str, file: h5py.File) -> Hdf5Source:
    name = "Registrations/0/Coordinates"
    places = whole(path, file, name if name in file else "Coordinates", 2)
    if places.shape[0] != 3 or not np.isfinite(places).all():
        raise InputError(f"{path}: its coordinates are {places.shape}, not (3, n); export it again")
    keys = _numbered(path, file, "Spots")
    if not keys or keys[-1] >= places.shape[1]:
        raise InputError(f"{path}: has spots without coordinates; export it again")
    axis = "SamplePositions/GlobalMassAxis/SamplePositions"
    if axis not in file:
        axis = f"Spots/{keys[0]}/InitialMeasurement/SamplePositions/SamplePositions"
    mz = _axis(path, file, axis)
    notes: list[str] = []
    yx = _grid(path, places[:2, keys].T, notes)
    yx[:, 0] = yx[:, 0].max() - yx[:, 0]  # y points up in SCiLS
    address = np.array(keys, np.int64)[:, None]
    names = ("Spots/{}/InitialMeasurement/Intensities",)
    return _source(path, "scils", "spots", names, yx, address, mz, notes=notes)


def _grid(path: str, xy: NDArray, notes: list[str]) -> Ints:
    """(y, x) pixel indices from coordinates that may be in another unit."""
    whole_numbers = bool(len(xy)) and np.isfinite(xy).all() and np.all(xy == np.rint(xy))
    if whole_numbers and np.abs(xy).max() < FARTHEST:
        values = xy.astype(np.int64)
        steps = [int(np.gcd.reduce(np.diff(np.unique(values[:, i])))) for i in (0, 1)]
        if max(steps) <= 1:
            return values[:, ::-1].copy()
    index = np.empty(xy.shape, np.int64)
    steps_found = []
    for i in (0, 1):
        index[:, i], step = snap_to_grid(path, xy[:, i])
        steps_found.append(f"{step:g}")
    notes.append(
        f"coordinates in steps of {' and '.join(dict.fromkeys(steps_found))} taken as pixels; "
        "if that is µm give it as pixel_um"
    )
    return index[:, ::-1].copy()


def _open_anndata(path: str, file: h5py.File) -> Hdf5Source:
    mz = _axis(path, file, "var/mz")
    xy = np.asarray(whole(path, file, "obsm/spatial", 2), np.float64)[:, :2]
    notes: list[str] = []
    yx = _grid(path, xy, notes)
    n = len(xy)
    if isinstance(file["X"], h5py.Dataset):
        storage = _rows_of(path, dataset(path, file, "X", 2), n, len(mz), notes)
        names: tuple[str, ...] = ("X",)
        address = np.arange(n)[:, None]
    elif file["X"].attrs.get("encoding-type", file["X"].attrs.get("h5sparse_format")) in (
        "csr_matrix",
        "csr",
    ):
        storage, names = "csr", ("X/data", "X/indices")
        address = _csr_rows(path, file, "X/indptr", "X/data", n)
    else:
        raise InputError(f"{path}: X is not dense or CSR; save it with adata.X = adata.X.tocsr()")
    return _source(path, "anndata", storage, names, yx, address, mz, notes=notes)


#: Keys that tell a layout, most telling first.
_LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[str, h5py.File], Hdf5Source]], ...] = (
    (("mz", "coordinates", "intensity"), _open_general),
    (("mz", "coordinates", "data", "indices", "indptr"), _open_general),
    (("interpolated_intensities", "common_mz"), _open_study),
    (("Data", "mzArray", "xLocation", "yLocation"), _open_msipl),
    (("peaks", "mz"), _open_massvision),
    (("entry_0/data_0/data_0", "entry_0/data_0/mz"), _open_openmsi),
    (("spectral_data",), _open_ims),
    (("X", "obsm/spatial", "var/mz"), _open_anndata),
    (("Spots",), _open_scils),
)


def _looks_profile(source: Hdf5Source) -> bool:
    if source.mz is None or not regular(source.mz):
        return False
    n = len(source.positions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MsiscaleWarning)
        dense = source.read_dense(np.unique([0, n // 2, n - 1]))
    return all(smooth(row) for row in dense)
