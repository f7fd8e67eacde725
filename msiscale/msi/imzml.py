"""imzML: metadata from the XML, spectra in large block reads of the .ibd.

The .ibd is checked against the XML when the file is opened (identity, extents, number formats), so
that a read can only fail when the file changes under it. Nothing is guessed in silence: what was
odd and could be read is said in `ImzmlSource.notes`, what could not is an `InputError`.
"""

from __future__ import annotations

import uuid as uuid_module
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from msiscale.errors import InputError
from msiscale.msi.asked import Asked
from msiscale.msi.header import ImzmlHeader, read_header
from msiscale.msi.source import MsiSource, bounding_box
from msiscale.msi.spectra import Ints, Numbers, regular, smooth
from msiscale.msi.spectrum_list import ArrayFormat
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

    def take(self, which: Ints) -> Stored:
        """Those of some spectra.

        Parameters
        ----------
        which
            (m,) int64, indices of the spectra

        Returns
        -------
        Stored
            the arrays of these, in that order
        """
        columns = (self.offset, self.length, self.stored)
        return Stored(self.dtype, self.zlib, *(column[which] for column in columns))


@dataclass(kw_only=True)
class ImzmlSource(MsiSource):
    """An imzML image, continuous when all spectra point at the same m/z array, whatever it says."""

    ibd: str
    mz_arrays: Stored = field(repr=False)
    intensity_arrays: Stored = field(repr=False)

    def stored_values(self, indices: Ints) -> Numbers:
        """Read intensities on the shared axis.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        ndarray
            (m, k), of the file's type
        """
        (values,) = self.arrays(indices, self.intensity_arrays)
        return _join(values, self.intensity_arrays).reshape(len(indices), self.lengths[0])

    def stored_spectra(self, indices: Ints) -> tuple[Numbers, Numbers]:
        """Read spectra, each with its own m/z.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra

        Returns
        -------
        tuple of ndarray
            m/z and intensities of the file's types, one spectrum after another
        """
        mz, values = self.arrays(indices, self.mz_arrays, self.intensity_arrays)
        return _join(mz, self.mz_arrays), _join(values, self.intensity_arrays)

    def arrays(self, indices: Ints, *kinds: Stored) -> list[list[Numbers]]:
        """Arrays of every kind for every index, in order, from few large reads.

        Parameters
        ----------
        indices
            (m,) int64, of the spectra
        *kinds
            the kinds of array to read

        Returns
        -------
        list of list of ndarray
            for every kind m flat arrays, of the type that the file stores

        Raises
        ------
        InputError
            the .ibd became shorter since the image was opened
        """
        # all ranges by offset: interleaved m/z and intensities then come in one sweep of the file
        n = len(indices)
        out: list[list[Numbers]] = [[np.empty(0, kind.dtype)] * n for kind in kinds]
        offset = np.concatenate([kind.offset[indices] for kind in kinds])
        stored = np.concatenate([kind.stored[indices] for kind in kinds])
        order = np.argsort(offset, kind="stable")
        order = order[stored[order] > 0]
        begin = offset[order]
        end = begin + stored[order]
        reach = np.maximum.accumulate(end) if len(end) else end
        first = 0
        with open_file(self.ibd) as file:
            while first < len(order):
                last = first + 1
                while (
                    last < len(order)
                    and begin[last] - reach[last - 1] <= _GAP
                    and max(reach[last - 1], end[last]) - begin[first] <= _RUN
                ):
                    last += 1
                base, size = int(begin[first]), int(end[first:last].max() - begin[first])
                file.seek(base)
                data = file.read(size)
                if len(data) < size:
                    raise InputError(
                        f"{self.path}: its .ibd became shorter while it was read; copy it again"
                    )
                for j in order[first:last].tolist():
                    kind, i = divmod(j, n)
                    at = int(offset[j]) - base
                    out[kind][i] = self._decoded(data, at, kinds[kind], int(indices[i]))
                first = last
        return out

    def _decoded(self, data: bytes, begin: int, kind: Stored, index: int) -> Numbers:
        count = int(kind.length[index])
        if not kind.zlib:
            return np.frombuffer(data, kind.dtype, count, begin)
        wanted = count * np.dtype(kind.dtype).itemsize
        packed = data[begin : begin + int(kind.stored[index])]
        try:
            plain = zlib.decompressobj().decompress(packed, wanted + 1)
        except zlib.error as error:
            raise InputError(
                f"{self.path}: spectrum {index} is not the zlib stream it is called ({error}); "
                "export the image again"
            ) from None
        if len(plain) != wanted:
            raise InputError(
                f"{self.path}: spectrum {index} decompresses to another length than the {count} "
                "values declared; export the image again"
            )
        return np.frombuffer(plain, kind.dtype)


def _join(arrays: Sequence[Numbers], kind: Stored) -> Numbers:
    return np.concatenate(arrays) if arrays else np.empty(0, kind.dtype)


def open_imzml(path: str, asked: Asked) -> ImzmlSource:
    """Open an imzML file; see `msiscale.msi.layouts.open_source`."""
    header = read_header(path)
    ibd, size = _ibd_and_size(path)
    notes = [*header.notes, *(header.pixel.notes if asked.pixel_um is None else [])]
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
        pixel_um=header.pixel.size,
        pixel_from=header.pixel.source,
        positions=np.zeros((0, 2), np.int32),
        origin=(0, 0),
        lengths=intensity_arrays.length,
        polarity=_polarity(header.terms, notes),
        analyser=header.analyser,
        notes=notes,
        mz_arrays=mz_arrays,
        intensity_arrays=intensity_arrays,
    )
    _place(source, header)
    _share_axis(source, header.terms)
    _judge_profile(source, header.terms)
    source.resize(asked.pixel_um, "µm of the file")
    return source


def is_imzml(path: str, head: Callable[[], bytes]) -> bool:
    """Whether a file is imzML, by its suffix or its first bytes."""
    return _called_imzml(path) or b"mzML" in head()


def _called_imzml(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() == ".imzml"


def beside_imzml(path: str) -> tuple[str, ...]:
    """The .ibd of an imzML; none of a file with another suffix."""
    return (_ibd_and_size(path)[0],) if _called_imzml(path) else ()


def _ibd_and_size(path: str) -> tuple[str, int]:
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
    dtype, compressed = _format(form, kind, notes)

    def refuse(wrong: NDArray[np.bool_], what: str) -> None:
        if wrong.any():
            first = int(np.argmax(wrong))
            raise InputError(f"{path}: spectrum {first}: its {kind} {what}; export the image again")

    refuse(offset < 0, "offset is negative")
    refuse(length < 0, "array length is negative")
    refuse(length > MOST_VALUES, f"array length is absurd (above {MOST_VALUES})")
    stored = length * np.dtype(dtype).itemsize
    if compressed:
        plain, stored = stored, np.where(declared > 0, declared, _until_next(offset, size))
        stored[length == 0] = 0
        # zlib cannot shrink further than about 1:1032; a longer array is a bomb or a mistake.
        refuse(plain > 1100 * stored + 1024, "array is longer than its compressed bytes can hold")
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


def _format(form: ArrayFormat, kind: str, notes: list[str]) -> tuple[str, bool]:
    """Number format of one kind of array, and whether it is compressed."""
    length, declared = form.length, form.encoded
    some = (length > 0) & (declared > 0)
    length, declared = length[some], declared[some]
    dtype, compressed = form.dtypes[-1], form.zlib
    if compressed and form.plain:
        # Both terms: bytes that are not a whole number of values tell.
        compressed = bool(np.any(declared != length * np.dtype(dtype).itemsize))
        notes.append(f"{kind} arrays are called both compressed and not; judged by their length")
    if not compressed and some.any():
        sizes = {name: length * np.dtype(name).itemsize for name in form.dtypes}
        fitting = [name for name, bytes_ in sizes.items() if np.array_equal(bytes_, declared)]
        if fitting:
            dtype = fitting[-1]
        else:
            notes.append(f"encoded lengths of the {kind} arrays do not fit {dtype}; ignored")
    if len(form.dtypes) > 1:
        notes.append(f"{kind} arrays name {len(form.dtypes)} number formats; {dtype} is used")
    return dtype, compressed


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
    following = np.searchsorted(borders, offset, side="right").clip(max=len(borders) - 1)
    return np.asarray(borders[following] - offset)


def _place(source: ImzmlSource, header: ImzmlHeader) -> None:
    """Positions, shape and origin; planes, and pixels that differ in one place, are refused."""
    xyz, notes = header.xyz, source.notes
    planes = np.unique(xyz[:, 2])
    if len(planes) > 1:
        raise InputError(
            f"{source.path}: holds {len(planes)} z planes (z {planes[0]} to {planes[-1]}); "
            "split it into one imzML per plane"
        )
    yx = _once(source, xyz[:, 1::-1])
    steps = header.places.steps
    low = xyz[:, 1::-1].min(axis=0)
    source.positions, source.shape, (y, x) = bounding_box(source.path, (yx - low) // steps)
    source.origin = y, x = int(low[0]) + y * steps[0], int(low[1]) + x * steps[1]
    for axis, declared, reach in zip("yx", header.declared, header.places.reach, strict=True):
        if declared is not None and reach > max(declared, 1):
            notes.append(
                f"{declared} pixels declared in {axis} but coordinates run to "
                f"{reach}; the coordinates are used"
            )
    if steps != (1, 1):
        words = " and ".join(dict.fromkeys(map(str, reversed(steps))))
        notes.append(f"coordinates in steps of {words}, from x {x}, y {y}, taken as pixels")
    elif source.origin != (1, 1):
        notes.append(f"coordinates start at x {x}, y {y}; moved to the bounding box")
    if header.declared_spectra is not None and header.declared_spectra != len(xyz):
        notes.append(
            f"{header.declared_spectra} spectra declared, {len(xyz)} found; those found are used"
        )


def _once(source: ImzmlSource, yx: Ints) -> Ints:
    """Pixels without those that are written twice, which `source` reads once from here on."""
    _, first, place = np.unique(yx, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(yx):
        return yx
    again = np.setdiff1d(np.arange(len(yx)), first)
    for i in again.tolist():
        same = int(first[place.ravel()[i]])
        pair = source.stored_spectra(np.array([same])), source.stored_spectra(np.array([i]))
        if any(a.tobytes() != b.tobytes() for a, b in zip(*pair, strict=True)):
            raise InputError(
                f"{source.path}: spectra {same} and {i} lie on the same pixel "
                f"(x {yx[i, 1]}, y {yx[i, 0]}) and differ; keep one of them"
            )
    source.notes.append(f"{len(again)} spectra are written twice; each was read once")
    keep = np.sort(first)
    source.mz_arrays = source.mz_arrays.take(keep)
    source.intensity_arrays = source.intensity_arrays.take(keep)
    source.lengths = source.intensity_arrays.length
    return yx[keep]


def _share_axis(source: ImzmlSource, terms: set[str]) -> None:
    """Continuous or processed, judged by where the m/z arrays lie; the shared axis is read."""
    arrays = source.mz_arrays
    label = {"IMS:1000030": "continuous", "IMS:1000031": "processed"}
    labels = [word for accession, word in label.items() if accession in terms]
    shared = len(np.unique(arrays.offset)) == 1 and len(np.unique(arrays.length)) == 1
    shared &= bool(arrays.length[0] > 0)
    if len(arrays.offset) == 1 and labels == ["processed"]:
        shared = False
    mode = "continuous" if shared else "processed"
    if labels and mode not in labels:
        source.notes.append(f"called {labels[0]}, but its offsets are {mode}; read as such")
    if shared:
        ((mz,),) = source.arrays(np.array([0]), arrays)
        source.share_axis(mz.astype(np.float64), "export it again")


def _polarity(terms: set[str], notes: list[str]) -> str | None:
    positive, negative = "MS:1000130" in terms, "MS:1000129" in terms
    if positive and negative:
        notes.append("both polarities are named; polarity unknown")
        return None
    return "+" if positive else "-" if negative else None


def _judge_profile(source: ImzmlSource, terms: set[str]) -> None:
    """Profile or centroid: by the header, unless it says nothing or the spectra say otherwise."""
    profile, centroid = "MS:1000128" in terms, "MS:1000127" in terms
    if profile and not centroid:
        source.profile = True
        return
    spectra = source.sample()
    even = len(spectra) > 0 and all(regular(mz) for mz, _ in spectra)
    if profile or not centroid:
        source.profile = even
        named = "both profile and centroid are" if profile else "neither profile nor centroid is"
        word = "profile" if even else "centroids"
        source.notes.append(f"{named} named; taken as {word} from the m/z spacing")
    elif even and all(smooth(intensity) for _, intensity in spectra):
        source.profile = True
        source.notes.append("called centroid, but evenly spaced and smooth; read as profile")
