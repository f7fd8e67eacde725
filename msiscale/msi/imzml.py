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

from msiscale.errors import NOTE, InputError
from msiscale.msi.asked import Asked, Polarity
from msiscale.msi.binary import Binary, Stored
from msiscale.msi.duplicates import Merged, Settled, settle
from msiscale.msi.header import ImzmlHeader, read_header
from msiscale.msi.places import near
from msiscale.msi.source import MsiSource, bounding_box
from msiscale.msi.spectra import Ints, Numbers, regular, smooth
from msiscale.store import is_file, listing, open_file, size_and_state

#: Byte ranges closer than this are read together; a read stops growing at the second figure.
_GAP, _RUN = 1 << 16, 1 << 25


@dataclass(kw_only=True)
class ImzmlSource(MsiSource):
    """An imzML image, continuous when all spectra point at the same m/z array, whatever it says."""

    ibd: str
    mz_arrays: Stored = field(repr=False)
    intensity_arrays: Stored = field(repr=False)

    def take(self, which: Ints) -> None:
        """Keep only some spectra.

        Parameters
        ----------
        which
            (m,) int64, those that are kept
        """
        self.mz_arrays = self.mz_arrays.take(which)
        self.intensity_arrays = self.intensity_arrays.take(which)
        self.lengths = self.intensity_arrays.length

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


def open_imzml(path: str, asked: Asked) -> MsiSource:
    """Open an imzML file; see `msiscale.msi.layouts.open_source`."""
    header = read_header(path, asked)
    ibd, size = _ibd_and_size(path)
    notes = [*header.notes, *(header.pixel.notes if asked.pixel_um is None else [])]
    _check_uuid(path, ibd, header, asked, notes)
    binary = Binary(path, ibd, size, header, notes)
    mz_arrays, intensity_arrays = binary.stored("m/z"), binary.stored("intensity")
    source = ImzmlSource(
        path=path,
        ibd=ibd,
        shape=(0, 0),
        pixel_um=header.pixel.size,
        pixel_from=header.pixel.source,
        positions=np.zeros((0, 2), np.int32),
        origin=(0, 0),
        lengths=intensity_arrays.length,
        polarity=_polarity(header, notes),
        ms_level=header.scan.level or None,
        analyser=header.analyser,
        notes=notes,
        mz_arrays=mz_arrays,
        intensity_arrays=intensity_arrays,
    )
    settled = _place(source, header, asked)
    _share_axis(source, header.terms)
    _judge_profile(source, header.terms)
    source.resize(asked.pixel_um, "µm of the file")
    return source if settled is None else Merged.of(source, settled)


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


def _check_uuid(path: str, ibd: str, header: ImzmlHeader, asked: Asked, notes: list[str]) -> None:
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
    if actual in (stated.bytes, stated.bytes_le):
        return
    differ = f"UUID {stated} but {ibd.rpartition('/')[2]} has {uuid_module.UUID(bytes=actual)}"
    if not asked.trust_ibd:
        raise InputError(
            f"{path}: {differ}; pair the two files of one export, or, if you know that they are, "
            "give the manifest column trust_ibd, for example yes"
        )
    notes.append(f"{differ}: the two may be of different images; read all the same (trust_ibd)")


def _place(source: ImzmlSource, header: ImzmlHeader, asked: Asked) -> Settled | None:
    """Positions, shape and origin; how pixels with several spectra are read, if some have them."""
    xyz, notes = header.xyz, source.notes
    planes = np.unique(xyz[:, 2])
    if len(planes) > 1:
        raise InputError(
            f"{source.path}: holds {len(planes)} z planes (z {planes[0]} to {planes[-1]}); "
            "split it into one imzML per plane"
        )
    steps, yx = header.places.steps, xyz[:, 1::-1]
    low = np.array(header.places.low)
    pixels = (yx - low) // steps
    kept = near(pixels, notes)
    if not kept.all():
        source.take(np.flatnonzero(kept))
        pixels = pixels[kept]
    settled = settle(source, yx[kept], header.mobility[kept], asked)
    if settled.one_each:
        keep = np.sort(settled.rows)
        source.take(keep)
        pixels = pixels[keep]
    source.positions, source.shape, (y, x) = bounding_box(source.path, pixels)
    if header.part:  # the grid is that of all spectra: landmarks serve all kinds
        source.positions += np.array([y, x], np.int32)
        source.shape, (y, x) = header.places.shape, (0, 0)
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
        notes.append(f"{NOTE}coordinates start at x {x}, y {y}; moved to the bounding box")
    return None if settled.one_each else settled


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


def _polarity(header: ImzmlHeader, notes: list[str]) -> Polarity | None:
    named = header.scan.polarity
    if named == "+-":
        notes.append("both polarities are named; polarity unknown")
    return "+" if named == "+" else "-" if named == "-" else None


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
