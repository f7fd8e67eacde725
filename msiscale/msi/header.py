"""The XML half of an imzML: its header through pyimzML, its spectrum list in one streaming pass.

The spectrum list is read with expat rather than with pyimzML's own parser because what pyimzML
leaves out is needed here: the stored length of compressed arrays, terms inside a single array, and
integers in scientific notation. The tests compare every field with pyimzML on every file.
"""

from __future__ import annotations

import warnings
from array import array
from dataclasses import dataclass, field
from typing import IO, Any
from xml.parsers import expat

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from pyimzml.metadata import XMLNS_PREFIX, Metadata

from msiscale.errors import InputError
from msiscale.msi.spectra import Ints
from msiscale.store import open_file

#: Terms of number formats, in the order in which pyimzML lets a later one win.
PRECISION = {
    "32-bit float": "<f4",
    "64-bit float": "<f8",
    "32-bit integer": "<i4",
    "64-bit integer": "<i8",
    "8-bit integer": "<i1",
    "16-bit integer": "<i2",
}
_PRECISION_ACCESSION = {
    "MS:1000521": "<f4",
    "MS:1000523": "<f8",
    "MS:1000519": "<i4",
    "MS:1000522": "<i8",
    "IMS:1000141": "<i4",
    "IMS:1000142": "<i8",
    "IMS:1100000": "<i1",
    "IMS:1100001": "<i2",
}
_ZLIB = "MS:1000574"
_NO_COMPRESSION = "MS:1000576"
#: Compressions that exist in the vocabulary and that no imzML reader here decodes.
_FOREIGN_COMPRESSION = {
    "MS:1002312",
    "MS:1002313",
    "MS:1002314",
    "MS:1002746",
    "MS:1002747",
    "MS:1002748",
    "MS:1003088",
    "MS:1003089",
}
_MZ_ARRAY, _INTENSITY_ARRAY = "MS:1000514", "MS:1000515"
_OFFSET, _LENGTH, _ENCODED = "IMS:1000102", "IMS:1000103", "IMS:1000104"
_X, _Y, _Z = "IMS:1000050", "IMS:1000051", "IMS:1000052"
_UNIT_UM = {"UO:0000017": 1.0, "UO:0000018": 1e-3, "UO:0000016": 1e3, "UO:0000015": 1e4}


@dataclass
class ArrayFormat:
    """How an array is stored: the number formats that are named, compression, where it lies."""

    dtypes: list[str]
    zlib: bool
    plain: bool
    offset: Ints
    length: Ints
    encoded: Ints  #: stored bytes as declared, -1 where the file does not say


@dataclass
class ImzmlHeader:
    """Everything that the .imzML says; nothing here was checked against the .ibd.

    ``xyz`` is (n, 3) int64 as written, z is 1 where it is missing. ``terms`` are the accessions
    of the file content, of all parameter groups and of the first spectrum.
    """

    xyz: Ints
    mz: ArrayFormat
    intensity: ArrayFormat
    uuid: str | None
    terms: set[str]
    pixel_um: tuple[float, float] | None
    declared: tuple[int | None, int | None]  #: (y, x) count of pixels
    declared_spectra: int | None
    notes: list[str] = field(default_factory=list)


def read_header(path: str) -> ImzmlHeader:
    """Read the .imzML at `path` (local or URL). Raises InputError, one line."""
    with open_file(path) as file:
        metadata, notes, count = _metadata(path, file)
        file.seek(0)
        spectra = _SpectrumList(path, metadata)
        spectra.parse(file)
    if not spectra.xyz:
        raise InputError(f"{path}: has no spectra; export the image again")
    if spectra.scientific:
        notes.append("integers in scientific notation (written by R) were read as integers")
    if spectra.other_arrays:
        notes.append("arrays other than m/z and intensity (ion mobility, ...) are not read")
    pixel_um = _pixel_um(metadata, notes)
    content = metadata.file_description
    uuid = content.param_by_accession.get("IMS:1000080")
    terms = set(content.param_by_accession) | spectra.first_terms
    for group in metadata.referenceable_param_groups.values():
        terms |= set(group.param_by_accession)
    return ImzmlHeader(
        xyz=np.frombuffer(spectra.xyz, np.int64).reshape(-1, 3),
        mz=spectra.arrays("m/z"),
        intensity=spectra.arrays("intensity"),
        uuid=str(uuid) if uuid else None,
        terms=terms,
        pixel_um=pixel_um,
        declared=(
            _scan_setting(metadata, "IMS:1000043"),
            _scan_setting(metadata, "IMS:1000042"),
        ),
        declared_spectra=count,
        notes=notes,
    )


def _metadata(path: str, file: IO[bytes]) -> tuple[Metadata, list[str], int | None]:
    """pyimzML's reading of everything before the spectrum list; document types are refused."""
    root, count = None, None
    try:
        for _, element in ElementTree.iterparse(file, events=("start",), forbid_dtd=True):
            root = element if root is None else root
            if element.tag.rpartition("}")[2] == "spectrumList":
                count = element.get("count")
                break
    except DefusedXmlException:
        raise InputError(
            f"{path}: the XML declares a document type or entities, which imzML never needs; "
            "remove the declaration"
        ) from None
    except ElementTree.ParseError as error:
        raise _xml_error(path, error) from None
    if root is None or root.tag.rpartition("}")[2] not in ("mzML", "indexedmzML"):
        raise InputError(f"{path}: is not imzML; give the .imzML of the image")
    for element in root.iter():  # some writers leave the namespace out; pyimzML needs it
        element.tag = XMLNS_PREFIX + element.tag.rpartition("}")[2]
    root = root.find(f"{XMLNS_PREFIX}mzML") if root.tag.endswith("indexedmzML") else root
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            metadata = Metadata(root)
        except (AttributeError, TypeError, KeyError, ValueError):
            raise InputError(
                f"{path}: the imzML header is incomplete (fileDescription, "
                "referenceableParamGroupList); export the image again"
            ) from None
    for text in sorted({str(warning.message) for warning in caught}):
        # Other spellings of a scan setting's name, or none at all, mean nothing.
        if "IMS:" not in text and 'name ""' not in text:
            notes.append(f"header: {text}")
    return metadata, notes, int(count) if count and count.isdigit() else None


def _xml_error(path: str, error: Exception) -> InputError:
    return InputError(f"{path}: the XML is damaged or cut ({error}); copy or export the file again")


def _scan_setting(metadata: Metadata, accession: str) -> int | None:
    for settings in metadata.scan_settings.values():
        try:
            return int(float(settings.param_by_accession[accession]))
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _pixel_um(metadata: Metadata, notes: list[str]) -> tuple[float, float] | None:
    """(y, x) pixel size in µm from the first scan settings that state one."""
    found = []
    for settings in metadata.scan_settings.values():
        size: dict[str, float] = {}
        for name, accession, _, _, raw, _, unit in settings.cv_params:
            if accession not in ("IMS:1000046", "IMS:1000047"):
                continue
            try:
                value = float(raw)
            except (TypeError, ValueError):
                notes.append(f"{name} is {raw!r}, which is not a number; ignored")
                continue
            if unit is None and value == 1:
                # R packages write 1 without a unit when they know no size.
                notes.append("pixel size 1 without a unit is taken as unknown; give pixel_um")
                continue
            if unit is None:
                notes.append(f"pixel size {value:g} has no unit; taken as µm")
            elif unit not in _UNIT_UM:
                notes.append(f"pixel size has the unit {unit}; ignored, give pixel_um")
                continue
            elif _UNIT_UM[unit] != 1:
                notes.append(f"pixel size {value:g} ({unit}) converted to µm")
            value *= _UNIT_UM.get(unit, 1.0)
            if np.isfinite(value) and value > 0:
                size[accession] = value
            else:
                notes.append(f"pixel size {value:g} is not a size; ignored")
        if size:
            x = size.get("IMS:1000046", size.get("IMS:1000047", 0.0))
            found.append((size.get("IMS:1000047", x), x))
    notes[:] = list(dict.fromkeys(notes))
    if len(set(found)) > 1:
        notes.append(f"scan settings disagree on the pixel size; the first, {found[0]}, is used")
    return found[0] if found else None


class _SpectrumList:
    """Expat handlers that collect coordinates and array extents of every spectrum."""

    def __init__(self, path: str, metadata: Metadata) -> None:
        self.path = path
        self.xyz = array("q")
        self.first_terms: set[str] = set()
        self.scientific = False
        self.other_arrays = False
        self._groups = {
            name: set(group.param_by_accession) | set(group.param_by_name)
            for name, group in metadata.referenceable_param_groups.items()
        }
        self._extents = {"m/z": array("q"), "intensity": array("q")}
        # The distinct sets of terms that describe arrays of each kind.
        self._formats: dict[str, set[frozenset[str]]] = {"m/z": set(), "intensity": set()}
        self._arrays_seen: dict[tuple[str, ...], str | None] = {}
        self._in_spectrum = self._in_array = False
        self._position: dict[str, str] = {}
        self._array: dict[str, str] = {}
        self._array_terms: list[str] = []
        self._array_refs: list[str] = []
        self._seen: set[str] = set()

    def parse(self, file: IO[bytes]) -> None:
        parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.ParseFile(file)
        except expat.ExpatError as error:
            raise _xml_error(self.path, error) from None
        except _MissingAttribute as error:
            raise self._error(f"has an element without its {error}") from None

    def arrays(self, kind: str) -> ArrayFormat:
        """What was collected for one kind of array."""
        formats = self._formats[kind]
        if len(formats) > 1:
            raise InputError(
                f"{self.path}: the {kind} arrays are stored in {len(formats)} different formats; "
                "export the image with one"
            )
        terms = next(iter(formats))
        if terms & _FOREIGN_COMPRESSION:
            raise InputError(
                f"{self.path}: the {kind} arrays use a compression that is not zlib; "
                "export them with zlib or without compression"
            )
        dtypes = [dtype for name, dtype in PRECISION.items() if name in terms]
        for accession, dtype in _PRECISION_ACCESSION.items():
            if accession in terms and dtype not in dtypes:
                dtypes.insert(0, dtype)
        if not dtypes:
            raise InputError(
                f"{self.path}: the number format of the {kind} arrays is not named; "
                "add its cvParam (MS:1000521 32-bit float, MS:1000523 64-bit float, ...)"
            )
        extents = np.frombuffer(self._extents[kind], np.int64).reshape(-1, 3)
        return ArrayFormat(
            dtypes=dtypes,
            zlib=_ZLIB in terms,
            plain=_NO_COMPRESSION in terms,
            offset=extents[:, 0].copy(),
            length=extents[:, 1].copy(),
            encoded=extents[:, 2].copy(),
        )

    def _start(self, tag: str, attributes: list[str]) -> None:
        if not self._in_spectrum:
            self._in_spectrum = tag == "spectrum" or tag.endswith(":spectrum")
            return
        if tag.endswith("cvParam"):
            accession = _attribute(attributes, "accession")
            if self._in_array:
                if accession in (_OFFSET, _LENGTH, _ENCODED):
                    self._array[accession] = _attribute(attributes, "value")
                else:
                    self._array_terms.append(accession)
            elif accession in (_X, _Y, _Z):
                self._position[accession] = _attribute(attributes, "value")
            elif not self.xyz:
                self.first_terms.add(accession)
        elif tag.endswith("referenceableParamGroupRef"):
            if self._in_array:
                self._array_refs.append(_attribute(attributes, "ref"))
        elif tag.endswith("binaryDataArray"):
            self._in_array = True
            self._array.clear()
            self._array_terms.clear()
            self._array_refs.clear()

    def _end(self, tag: str) -> None:
        if not self._in_spectrum:
            return
        if tag.endswith("binaryDataArray"):
            self._in_array = False
            self._end_array()
        elif tag == "spectrum" or tag.endswith(":spectrum"):
            self._in_spectrum = False
            self._end_spectrum()

    def _end_array(self) -> None:
        key = (*self._array_terms, "|", *self._array_refs)
        if key not in self._arrays_seen:
            terms = set(self._array_terms).union(
                *(self._groups.get(ref, ()) for ref in self._array_refs)
            )
            self._arrays_seen[key] = _kind(terms)
            if (known := _kind(terms)) is not None:
                self._formats[known].add(frozenset(terms))
        kind = self._arrays_seen[key]
        if kind is None:
            self.other_arrays = True
            return
        if kind in self._seen:
            raise self._error(f"has two {kind} arrays")
        self._seen.add(kind)
        extents = self._extents[kind]
        for accession, what in ((_OFFSET, "offset"), (_LENGTH, "length")):
            if accession not in self._array:
                raise self._error(f"has no external {what} of its {kind} array")
            extents.append(self._integer(self._array[accession], f"{kind} array {what}"))
        encoded = self._array.get(_ENCODED, "")
        extents.append(self._integer(encoded, f"{kind} encoded length") if encoded else -1)

    def _end_spectrum(self) -> None:
        for kind in ("m/z", "intensity"):
            if kind not in self._seen:
                raise self._error(f"has no {kind} array")
        self._seen.clear()
        for accession, axis in ((_X, "x"), (_Y, "y")):
            if accession not in self._position:
                raise self._error(f"has no position {axis}")
        self.xyz.extend(
            (
                self._integer(self._position[_X], "position x"),
                self._integer(self._position[_Y], "position y"),
                self._integer(self._position.get(_Z, "1"), "position z"),
            )
        )
        self._position.clear()

    def _integer(self, text: str, what: str) -> int:
        try:
            value = int(text)
        except ValueError:
            try:
                number = float(text)
                value = int(number)
            except (ValueError, OverflowError):
                raise self._error(f"has {what} {text!r}, which is not a number") from None
            if value != number:
                raise self._error(f"has {what} {text!r}, which is not whole") from None
            self.scientific = True
        if not -(2**62) < value < 2**62:
            raise self._error(f"has {what} {text!r}, which is out of range")
        return value

    def _error(self, what: str) -> InputError:
        index = len(self.xyz) // 3
        return InputError(f"{self.path}: spectrum {index} {what}; export the image again")


class _MissingAttribute(Exception):
    pass


def _attribute(attributes: list[str], name: str) -> str:
    """Value of an attribute in expat's flat list of names and values."""
    for i in range(0, len(attributes), 2):
        if attributes[i] == name:
            return attributes[i + 1]
    raise _MissingAttribute(name)


def _kind(terms: Any) -> str | None:
    if _MZ_ARRAY in terms:
        return "m/z"
    return "intensity" if _INTENSITY_ARRAY in terms else None
