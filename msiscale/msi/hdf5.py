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

from collections.abc import Callable, Iterator

import h5py
import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.grid import PixelSize, blocks
from msiscale.msi.asked import Asked
from msiscale.msi.hdf5_source import (
    IF_UM,
    MOST_WHOLE,
    Csr,
    Dense,
    Hdf5File,
    Hdf5Source,
    RaggedSpots,
    Spots,
    grid_indices,
    open_matrix,
    opened,
    whole_indices,
)
from msiscale.msi.spectra import regular, smooth

#: Values of a cube that are looked at in one go for pixels with signal.
_SCAN = 8_000_000


def open_hdf5(path: str, asked: Asked) -> Hdf5Source:
    """Open an HDF5 image; see `msiscale.msi.layouts.open_source`."""
    with opened(path) as h5:
        for keys, opener in LAYOUTS:
            if all(name in h5 for name in keys):
                source = opener(h5)
                break
        else:
            there = ", ".join(map(str, list(h5.file)[:8]))  # bytes where they are no UTF-8
            raise InputError(
                f"{path}: HDF5 of no known layout (keys: {there}); "
                "write it with msiscale.msi.write_hdf5"
            )
    if source.mz is not None:
        source.share_axis(source.mz, "mend it")
        if opener is not _open_general and regular(source.mz):  # the general one says what it is
            source.profile = all(smooth(intensity) for _, intensity in source.sample())
            if source.profile:
                source.notes.append("evenly spaced and smooth spectra; read as profile")
    if asked.pixel_um is not None:
        source.notes = [note.removesuffix(IF_UM) for note in source.notes]
    source.resize(asked.pixel_um)
    return source


def is_hdf5(path: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is HDF5, by its first bytes."""
    return head().startswith(b"\x89HDF\r\n\x1a\n")


def _open_general(h5: Hdf5File) -> Hdf5Source:
    mz, path = h5.axis("mz"), h5.path
    xy = whole_indices(path, h5.whole("coordinates", 2), "coordinates")
    if xy.shape[1] not in (2, 3):
        raise InputError(f"{path}: coordinates is {xy.shape}; give (n, 2), x and y")
    if xy.shape[1] == 3 and len(np.unique(xy[:, 2])) > 1:
        raise InputError(f"{path}: holds several z planes; split it into one file per plane")
    yx = xy[:, 1::-1]
    if "intensity" in h5:
        source = open_matrix(h5, "intensity", yx, mz, [])
    else:
        address = h5.csr_rows("indptr", "data", len(yx))
        source = Csr.of(h5, ("data", "indices"), yx, address, mz, [])
    attrs = h5.file.attrs
    try:
        size = np.atleast_1d(np.asarray(attrs.get("pixel_um", np.nan), np.float64)).ravel()
    except (TypeError, ValueError):
        raise InputError(f"{path}: its attribute pixel_um is no number; give µm") from None
    if np.isfinite(size).all() and (size > 0).all() and len(size) in (1, 2):
        source.pixel_um = PixelSize.of(size)
    polarity = str(attrs.get("polarity", ""))
    source.polarity = polarity if polarity in ("+", "-") else None
    source.profile = bool(attrs.get("profile", False))
    return source


def _open_study(h5: Hdf5File) -> Hdf5Source:
    return _cube(h5, "interpolated_intensities", "common_mz", mz_first=True)


def _open_massvision(h5: Hdf5File) -> Hdf5Source:
    return _cube(h5, "peaks", "mz", y_first=True)


def _open_openmsi(h5: Hdf5File) -> Hdf5Source:
    return _cube(h5, "entry_0/data_0/data_0", "entry_0/data_0/mz")


def _cube(
    h5: Hdf5File, name: str, mz_name: str, *, mz_first: bool = False, y_first: bool = False
) -> Hdf5Source:
    """A full cube, its pixels (x, y) or (y, x), before or behind them m/z."""
    mz, data = h5.axis(mz_name), h5.dataset(name, 3)
    depth_axis = 0 if mz_first else 2
    if data.shape[depth_axis] != len(mz):
        raise InputError(f"{h5.path}: {name} is {data.shape} but {mz_name} has {len(mz)} values")
    measured = _with_signal(data, depth_axis)
    address = np.argwhere(measured)
    yx = address if y_first else address[:, ::-1]
    notes = []
    if not measured.all():
        notes.append(f"{int((~measured).sum())} pixels without any signal taken as not measured")
    return Dense.of(h5, (name,), yx, address, mz, notes, mz_first=mz_first)


def _with_signal(data: h5py.Dataset, depth_axis: int) -> NDArray[np.bool_]:
    """Pixels of a cube with any value that is neither zero nor NaN."""
    shape = data.shape[1:] if depth_axis == 0 else data.shape[:2]
    if np.prod(shape, dtype=float) > MOST_WHOLE:
        raise InputError(
            f"{data.file.filename}: {data.name} is said to have {shape[0]} x {shape[1]} pixels; "
            "export the image again"
        )
    found = np.zeros(shape, bool)
    for piece in _pieces(data):
        pixel = tuple(part for i, part in enumerate(piece) if i != depth_axis)
        if found[pixel].all():  # what is known to have signal is not read again
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
    for part in blocks(data.shape[:2], (step, across)):
        yield *part.slices, slice(None)


def _open_msipl(h5: Hdf5File) -> Hdf5Source:
    mz = h5.axis("mzArray")
    x, y = (whole_indices(h5.path, h5.whole(n), n).ravel() for n in ("xLocation", "yLocation"))
    if len(x) != len(y):
        raise InputError(f"{h5.path}: {len(x)} xLocation but {len(y)} yLocation; mend the file")
    return open_matrix(h5, "Data", np.stack([y, x], axis=1), mz, [])


def _open_ims(h5: Hdf5File) -> Hdf5Source:
    keys = h5.numbered("spectral_data")
    names = ("spectral_data/{}/centroid_mzs", "spectral_data/{}/centroid_intensities")
    xy, lengths = [], []
    for key in keys:
        place = h5.whole(f"spectral_data/{key}/coordinates")
        if place.size < 2:
            raise InputError(f"{h5.path}: spectrum {key} has no x and y; export the image again")
        xy.append(np.asarray(place, np.float64).ravel()[:2])
        sizes = [h5.dataset(name.format(key), 1).shape[0] for name in names]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{h5.path}: spectrum {key} has {sizes[0]} m/z but {sizes[1]} intensities; mend it"
            )
        lengths.append(sizes[0])
    notes: list[str] = []
    yx = grid_indices(h5.path, np.array(xy).reshape(-1, 2), notes)
    address = np.array(keys, np.int64)[:, None]
    return RaggedSpots.of(h5, names, yx, address, None, notes, np.array(lengths))


def _open_scils(h5: Hdf5File) -> Hdf5Source:
    name, path = "Registrations/0/Coordinates", h5.path
    places = h5.whole(name if name in h5 else "Coordinates", 2)
    if places.shape[0] != 3 or not np.isfinite(places).all():
        raise InputError(f"{path}: its coordinates are {places.shape}, not (3, n); export it again")
    keys = h5.numbered("Spots")
    if not keys or keys[-1] >= places.shape[1]:
        raise InputError(f"{path}: has spots without coordinates; export it again")
    axis = "SamplePositions/GlobalMassAxis/SamplePositions"
    if axis not in h5:
        axis = f"Spots/{keys[0]}/InitialMeasurement/SamplePositions/SamplePositions"
    mz = h5.axis(axis)
    notes: list[str] = []
    yx = grid_indices(path, places[:2, keys].T, notes)
    yx[:, 0] = yx[:, 0].max() - yx[:, 0]  # y points up in SCiLS
    address = np.array(keys, np.int64)[:, None]
    return Spots.of(h5, ("Spots/{}/InitialMeasurement/Intensities",), yx, address, mz, notes)


def _open_anndata(h5: Hdf5File) -> Hdf5Source:
    mz = h5.axis("var/mz")
    notes: list[str] = []
    xy = np.asarray(h5.whole("obsm/spatial", 2), np.float64)[:, :2]
    yx, x = grid_indices(h5.path, xy, notes), h5.file["X"]
    if isinstance(x, h5py.Dataset):
        return open_matrix(h5, "X", yx, mz, notes)
    if x.attrs.get("encoding-type", x.attrs.get("h5sparse_format")) not in ("csr_matrix", "csr"):
        raise InputError(
            f"{h5.path}: X is not dense or CSR; save it with adata.X = adata.X.tocsr()"
        )
    address = h5.csr_rows("X/indptr", "X/data", len(yx))
    return Csr.of(h5, ("X/data", "X/indices"), yx, address, mz, notes)


#: Keys that tell a layout, most telling first, and what opens it.
LAYOUTS: tuple[tuple[tuple[str, ...], Callable[[Hdf5File], Hdf5Source]], ...] = (
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
