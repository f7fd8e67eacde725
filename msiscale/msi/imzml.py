"""imzML: metadata from the XML, spectra in large block reads of the .ibd.

The .ibd is checked against the XML when the file is opened (identity, extents, number formats), so
that a read can only fail when the file changes under it. Nothing is guessed in silence: what was
odd and could be read is said in `ImzmlSource.notes`, what could not is an `InputError`.
"""

from __future__ import annotations

import uuid as uuid_module
import warnings
import zlib
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi.header import ArrayFormat, ImzmlHeader, read_header
from msiscale.msi.source import as_indices, bounding_box
from msiscale.msi.spectra import (
    Floats,
    Intensities,
    Ints,
    Repairs,
    Spectra,
    clean,
    regular,
    smooth,
    sort_mz,
    starts,
)
from msiscale.store import is_file, listing, open_file, size_and_state

#: Byte ranges closer than this are read together; a read stops growing at the second figure.
_GAP, _RUN = 1 << 16, 1 << 25
#: Values of one spectrum; instruments write up to some 10 million.
MOST_VALUES = 1 << 24


@dataclass(frozen=True)
class Stored:
    """One kind of array in the .ibd: spectrum i is ``length[i]`` numbers at ``offset[i]``."""

    dtype: str
    zlib: bool
    offset: Ints
    length: Ints
    stored: Ints  #: bytes in the .ibd


@dataclass
class ImzmlSource:
    """An imzML image; see `msiscale.msi.source.MsiSource` for the attributes they share.

    ``mode`` is 'continuous' when all spectra point at the same m/z array, else 'processed',
    whatever the header calls it.
    """

    path: str
    ibd: str
    shape: tuple[int, int]
    pixel_um: tuple[float, float] | None
    positions: NDArray[np.int32]
    origin: tuple[int, int]
    mz: Floats | None
    lengths: Ints
    profile: bool
    polarity: str | None
    mode: str
    notes: list[str]
    mz_arrays: Stored = field(repr=False)
    intensity_arrays: Stored = field(repr=False)
    mz_order: Ints | None = field(default=None, repr=False)  #: sorts a shared axis that is not

    def read(self, indices: NDArray[np.integer]) -> Spectra:
        """The spectra `indices`, in that order; m/z ascending.

        Raises InputError for arrays that cannot be decoded; warns of values read as 0.
        """
        indices = as_indices(indices)
        start = starts(self.lengths[indices])
        if self.mz is not None:
            dense, repairs = self._dense(indices)
            return Spectra(np.tile(self.mz, len(indices)), dense.ravel(), start, repairs)
        with open_file(self.ibd) as file:
            both = _read_arrays(self.path, file, indices, (self.mz_arrays, self.intensity_arrays))
        intensity, repairs = clean(_join(both[1], self.intensity_arrays.dtype))
        mz = _join(both[0], self.mz_arrays.dtype).astype(np.float64, copy=False)
        try:
            mz, intensity, unsorted = sort_mz(mz, intensity, start)
        except ValueError as error:
            raise InputError(f"{self.path}: {error}; export the image again") from None
        repairs += Repairs(unsorted=unsorted)
        _warn(self.path, repairs)
        return Spectra(mz, intensity, start, repairs)

    def read_dense(self, indices: NDArray[np.integer]) -> Intensities:
        """(m, k) float32 intensities on the shared axis, in the order of `indices`."""
        return self._dense(as_indices(indices))[0]

    def _dense(self, indices: Ints) -> tuple[Intensities, Repairs]:
        if self.mz is None:
            raise TypeError(f"{self.path}: its spectra share no m/z axis")
        with open_file(self.ibd) as file:
            (arrays,) = _read_arrays(self.path, file, indices, (self.intensity_arrays,))
        values, repairs = clean(_join(arrays, self.intensity_arrays.dtype))
        dense = values.reshape(len(indices), len(self.mz))
        if self.mz_order is not None:
            dense = dense[:, self.mz_order]
        _warn(self.path, repairs)
        return dense, repairs


def open_imzml(path: str, *, pixel_um: float | None = None) -> ImzmlSource:
    """Open an imzML file; see `msiscale.msi.source.open_source`."""
    header = read_header(path)
    ibd, size = find_ibd(path)
    notes = header.notes
    _check_uuid(path, ibd, header, notes)
    mz_arrays = _stored(path, ibd, size, header.mz, "m/z", notes)
    intensity_arrays = _stored(path, ibd, size, header.intensity, "intensity", notes)
    uneven = np.flatnonzero(mz_arrays.length != intensity_arrays.length)
    if len(uneven):
        raise InputError(
            f"{path}: spectrum {uneven[0]} has {mz_arrays.length[uneven[0]]} m/z but "
            f"{intensity_arrays.length[uneven[0]]} intensities; export the image again"
        )
    source = ImzmlSource(
        path=path,
        ibd=ibd,
        shape=(0, 0),
        pixel_um=header.pixel_um,
        positions=np.zeros((0, 2), np.int32),
        origin=(0, 0),
        mz=None,
        lengths=intensity_arrays.length,
        profile=False,
        polarity=_polarity(header.terms, notes),
        mode="processed",
        notes=notes,
        mz_arrays=mz_arrays,
        intensity_arrays=intensity_arrays,
    )
    _place(source, header)
    _share_axis(source, header.terms)
    _judge_profile(source, header.terms)
    if pixel_um is not None:
        known = source.pixel_um
        if known is not None and not np.allclose(known, pixel_um, rtol=0.01):
            notes.append(f"pixel size {known} µm of the file replaced by {pixel_um} µm as asked")
        source.pixel_um = (float(pixel_um), float(pixel_um))
    return source


def find_ibd(path: str) -> tuple[str, int]:
    """Path and size of the binary file beside the .imzML, in whatever letter case."""
    folder, slash, name = path.replace("\\", "/").rpartition("/")
    stem = name[: name.rfind(".")] if "." in name else name
    wanted = stem + ".ibd"
    for likely in (wanted, stem + ".IBD"):  # without listing the folder, which may be large
        if is_file(folder + slash + likely):
            return folder + slash + likely, size_and_state(folder + slash + likely)[0]
    web = path.startswith(("https://", "http://"))  # which do not list
    for other in [] if web else listing(folder or "."):
        beside = folder + slash + other
        if other.lower() == wanted.lower() and is_file(beside):
            return beside, size_and_state(beside)[0]
    raise InputError(f"{path}: its binary file {wanted} is not beside it; put it there")


def _check_uuid(path: str, ibd: str, header: ImzmlHeader, notes: list[str]) -> None:
    """The first 16 bytes of the .ibd are the identifier that the header states."""
    with open_file(ibd) as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{ibd}: is a Git LFS pointer, not data; run `git lfs pull`")
    if len(head) < 16:
        raise InputError(f"{ibd}: holds no data ({len(head)} bytes); copy the file again")
    if header.uuid is None:
        notes.append("the header states no UUID; whether the .ibd belongs to it is unchecked")
        return
    try:
        stated = uuid_module.UUID(header.uuid.strip().strip("{}"))
    except ValueError:
        notes.append(f"the UUID in the header, {header.uuid!r}, is none; the .ibd is unchecked")
        return
    actual = head[:16]
    if actual not in (stated.bytes, stated.bytes_le):
        raise InputError(
            f"{path}: UUID {stated} but {ibd.rpartition('/')[2]} has "
            f"{uuid_module.UUID(bytes=actual)}; pair the two files of one export"
        )


def _stored(
    path: str, ibd: str, size: int, form: ArrayFormat, kind: str, notes: list[str]
) -> Stored:
    """Number format and extents of one kind of array, checked against the size of the .ibd."""
    offset = _unwrap(form.offset, size, kind, notes)
    length, declared = form.length, form.encoded
    some = (length > 0) & (declared > 0)
    dtype = form.dtypes[-1]
    compressed = form.zlib
    if compressed and form.plain:
        # Both terms: bytes that are not a whole number of values tell.
        compressed = bool(np.any(declared[some] != length[some] * np.dtype(dtype).itemsize))
        notes.append(f"{kind} arrays are called both compressed and not; judged by their length")
    if not compressed and some.any():
        fitting = [
            name
            for name in form.dtypes
            if np.array_equal(length[some] * np.dtype(name).itemsize, declared[some])
        ]
        if fitting:
            dtype = fitting[-1]
        else:
            notes.append(f"encoded lengths of the {kind} arrays do not fit {dtype}; ignored")
    if len(form.dtypes) > 1:
        notes.append(f"{kind} arrays name {len(form.dtypes)} number formats; {dtype} is used")
    itemsize = np.dtype(dtype).itemsize
    _refuse(path, offset < 0, f"{kind} offset is negative")
    _refuse(path, length < 0, f"{kind} array length is negative")
    _refuse(path, length > MOST_VALUES, f"{kind} array length is absurd (above {MOST_VALUES})")
    if compressed:
        stored = np.where(declared > 0, declared, _until_next(offset, size))
        stored[length == 0] = 0
        # zlib cannot shrink further than about 1:1032; a longer array is a bomb or a mistake.
        _refuse(
            path,
            length * itemsize > 1100 * stored + 1024,
            f"{kind} array is longer than its compressed bytes can hold",
        )
    else:
        stored = length * itemsize
    end = offset.clip(max=2**61) + stored.clip(max=2**61)  # what is written may be any number
    beyond = np.flatnonzero((end > size) & (stored > 0))
    if len(beyond):
        first = int(beyond[0])
        raise InputError(
            f"{ibd}: cut short or not of this imzML: the {kind} array of spectrum {first} ends at "
            f"byte {end[first]} of {size} ({len(beyond)} of {len(offset)} "
            "spectra affected); copy the .ibd again"
        )
    return Stored(dtype, compressed, offset, length, stored)


def _refuse(path: str, wrong: NDArray[np.bool_], what: str) -> None:
    if wrong.any():
        raise InputError(
            f"{path}: spectrum {int(np.argmax(wrong))}: its {what}; export the image again"
        )


def _unwrap(offset: Ints, size: int, kind: str, notes: list[str]) -> Ints:
    """Offsets written as (signed or unsigned) 32-bit integers, put right as pyimzML does."""
    out = np.where((offset < 0) & (offset >= -(2**31)), offset + 2**32, offset)
    if size > 2**32 and out.max() < 2**32:
        out[1:] += 2**32 * np.cumsum(np.diff(out) < -(2**31))
    if not np.array_equal(out, offset):
        notes.append(f"{kind} offsets wrapped at 32 bits were put right")
    return out


def _until_next(offset: Ints, size: int) -> Ints:
    """Bytes from every offset to the next larger one, or to the end of the file."""
    borders = np.append(np.unique(offset), size)
    return (
        borders[np.searchsorted(borders, offset, side="right").clip(max=len(borders) - 1)] - offset
    )


def _place(source: ImzmlSource, header: ImzmlHeader) -> None:
    """Positions, shape and origin; planes, and pixels that differ in one place, are refused."""
    xyz = header.xyz
    planes = np.unique(xyz[:, 2])
    if len(planes) > 1:
        raise InputError(
            f"{source.path}: holds {len(planes)} z planes (z {planes[0]} to {planes[-1]}); "
            "split it into one imzML per plane"
        )
    yx = xyz[:, 1::-1]
    _, first, place = np.unique(yx, axis=0, return_index=True, return_inverse=True)
    if len(first) < len(yx):
        again = np.setdiff1d(np.arange(len(yx)), first)
        for i in again:
            same = first[place.ravel()[i]]
            a, b = (_raw(source, int(j)) for j in (same, i))
            if a != b:
                raise InputError(
                    f"{source.path}: spectra {same} and {i} lie on the same pixel "
                    f"(x {yx[i, 1]}, y {yx[i, 0]}) and differ; keep one of them"
                )
        source.notes.append(f"{len(again)} spectra are written twice; each was read once")
        keep = np.sort(first)
        yx = yx[keep]
        source.mz_arrays = _take(source.mz_arrays, keep)
        source.intensity_arrays = _take(source.intensity_arrays, keep)
        source.lengths = source.intensity_arrays.length
    source.positions, source.shape, source.origin = bounding_box(source.path, yx)
    for axis, declared, size, low in zip(
        "yx", header.declared, source.shape, source.origin, strict=True
    ):
        if declared is not None and low + size - 1 > max(declared, 1):
            source.notes.append(
                f"{declared} pixels declared in {axis} but coordinates run to "
                f"{low + size - 1}; the coordinates are used"
            )
    if source.origin != (1, 1):
        y, x = source.origin
        source.notes.append(f"coordinates start at x {x}, y {y}; moved to the bounding box")
    if header.declared_spectra is not None and header.declared_spectra != len(xyz):
        source.notes.append(
            f"{header.declared_spectra} spectra declared, {len(xyz)} found; those found are used"
        )


def _take(arrays: Stored, keep: Ints) -> Stored:
    return Stored(
        arrays.dtype, arrays.zlib, arrays.offset[keep], arrays.length[keep], arrays.stored[keep]
    )


def _raw(source: ImzmlSource, i: int) -> tuple[bytes, bytes]:
    with open_file(source.ibd) as file:
        mz, intensity = _read_arrays(
            source.path, file, np.array([i]), (source.mz_arrays, source.intensity_arrays)
        )
    return mz[0].tobytes(), intensity[0].tobytes()


def _share_axis(source: ImzmlSource, terms: set[str]) -> None:
    """Continuous or processed, judged by where the m/z arrays lie; the shared axis is read."""
    arrays = source.mz_arrays
    label = {"IMS:1000030": "continuous", "IMS:1000031": "processed"}
    labels = [word for accession, word in label.items() if accession in terms]
    shared = len(np.unique(arrays.offset)) == 1 and len(np.unique(arrays.length)) == 1
    shared &= bool(arrays.length[0] > 0)
    if len(arrays.offset) == 1 and labels == ["processed"]:
        shared = False
    source.mode = "continuous" if shared else "processed"
    if labels and source.mode not in labels:
        source.notes.append(f"called {labels[0]}, but its offsets are {source.mode}; read as such")
    if not shared:
        return
    with open_file(source.ibd) as file:
        (found,) = _read_arrays(source.path, file, np.array([0]), (arrays,))
    mz = found[0].astype(np.float64)
    if not np.isfinite(mz).all():
        raise InputError(
            f"{source.path}: the m/z axis has values that are not finite; export it again"
        )
    if np.any(mz[1:] < mz[:-1]):
        source.mz_order = np.argsort(mz, kind="stable")
        mz = mz[source.mz_order]
        source.notes.append("the m/z axis does not ascend; sorted")
    source.mz = mz


def _polarity(terms: set[str], notes: list[str]) -> str | None:
    positive, negative = "MS:1000130" in terms, "MS:1000129" in terms
    if positive and negative:
        notes.append("both polarities are named; polarity unknown")
        return None
    return "+" if positive else "-" if negative else None


def _judge_profile(source: ImzmlSource, terms: set[str]) -> None:
    """Profile or centroid: by the header, unless it says nothing or the spectra say otherwise."""
    profile, centroid = "MS:1000128" in terms, "MS:1000127" in terms
    source.profile = profile
    if profile and not centroid:
        return
    filled = np.flatnonzero(source.lengths > 0)
    sample = np.unique(filled[[0, len(filled) // 2, -1]]) if len(filled) else filled
    with warnings.catch_warnings():  # what is repaired is said when it is read in earnest
        warnings.simplefilter("ignore", MsiscaleWarning)
        spectra = source.read(sample)
    even = [regular(mz) for mz, _ in spectra]
    if profile or not centroid:
        source.profile = bool(even) and all(even)
        word = "profile" if source.profile else "centroids"
        source.notes.append(
            (
                "both profile and centroid are named"
                if profile
                else "neither profile nor centroid is named"
            )
            + f"; taken as {word} from the m/z spacing"
        )
    elif even and all(even) and all(smooth(intensity) for _, intensity in spectra):
        source.profile = True
        source.notes.append("called centroid, but evenly spaced and smooth; read as profile")


def _read_arrays(
    path: str, file: IO[bytes], indices: Ints, kinds: tuple[Stored, ...]
) -> list[list[NDArray]]:
    """Arrays of every kind for every index, in order, from few large reads.

    All byte ranges are sorted by offset, and neighbours read together, as interleaved m/z and
    intensity arrays then come in one sweep of the file.
    """
    n = len(indices)
    out: list[list[NDArray]] = [[np.empty(0, kind.dtype)] * n for kind in kinds]
    offset = np.concatenate([kind.offset[indices] for kind in kinds])
    stored = np.concatenate([kind.stored[indices] for kind in kinds])
    order = np.argsort(offset, kind="stable")
    order = order[stored[order] > 0]
    begin = offset[order]
    end = begin + stored[order]
    reach = np.maximum.accumulate(end) if len(end) else end
    first = 0
    while first < len(order):
        last = first + 1
        while (
            last < len(order)
            and begin[last] - reach[last - 1] <= _GAP
            and max(reach[last - 1], end[last]) - begin[first] <= _RUN
        ):
            last += 1
        base = int(begin[first])
        file.seek(base)
        data = file.read(int(end[first:last].max()) - base)
        if len(data) < int(end[first:last].max()) - base:
            raise InputError(f"{path}: its .ibd became shorter while it was read; copy it again")
        for j in order[first:last].tolist():
            kind, i = divmod(j, n)
            out[kind][i] = _decode(
                path, data, int(offset[j]) - base, int(stored[j]), kinds[kind], int(indices[i])
            )
        first = last
    return out


def _decode(path: str, data: bytes, begin: int, stored: int, kind: Stored, index: int) -> NDArray:
    count = int(kind.length[index])
    if not kind.zlib:
        return np.frombuffer(data, kind.dtype, count, begin)
    wanted = count * np.dtype(kind.dtype).itemsize
    try:
        plain = zlib.decompressobj().decompress(data[begin : begin + stored], wanted + 1)
    except zlib.error as error:
        raise InputError(
            f"{path}: spectrum {index} is not the zlib stream it is called ({error}); "
            "export the image again"
        ) from None
    if len(plain) != wanted:
        raise InputError(
            f"{path}: spectrum {index} decompresses to another length than the {count} values "
            "declared; export the image again"
        )
    return np.frombuffer(plain, kind.dtype)


def _join(arrays: list[NDArray], dtype: str) -> NDArray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


def _warn(path: str, repairs: Repairs) -> None:
    if repairs:
        warnings.warn(f"{path}: {repairs}", MsiscaleWarning, stacklevel=3)
