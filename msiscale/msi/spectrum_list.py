"""The spectrum list of an imzML in one streaming pass: coordinates and extents of every array.

It is read with expat rather than with pyimzML's own parser because what pyimzML leaves out is
needed here: the stored length of compressed arrays, terms inside a single array, and integers in
scientific notation. What is written like a spectrum before it is read by a regular expression
instead (`Template`), four times as fast. The tests compare every field with pyimzML on every file.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import IO, Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray
from pyimzml.metadata import Metadata

from msiscale.errors import InputError
from msiscale.msi.scans import VALUED, Scan
from msiscale.msi.spectra import Ints
from msiscale.msi.template import BY_NAME, ENCODED, LENGTH, OFFSET, Template, X, Y, Z

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
_FOREIGN_COMPRESSION = {f"MS:100{n}" for n in (2312, 2313, 2314, 2746, 2747, 2748, 3088, 3089)}
_ARRAYS = {
    "m/z": {"MS:1000514", "m/z array"},
    "intensity": {"MS:1000515", "intensity array"},
}
_READ = 1 << 22  #: bytes of XML at once
_LONGEST = 1 << 24  #: bytes of XML that a spectrum, or what is before the first, may take here
_CODES = 3  #: numbers that say what a spectrum is: its scan, and the formats of its arrays
_TEMPLATES = 16  #: ways of writing a spectrum that are remembered


@dataclass
class ArrayFormat:
    """How an array is stored: the number formats that are named, compression, where it lies."""

    dtypes: list[str]
    zlib: bool
    plain: bool
    offset: Ints
    length: Ints
    encoded: Ints  #: stored bytes as declared, -1 where the file does not say


def _dtypes(terms: Any) -> list[str]:
    """The number formats that terms name, the one that counts last."""
    dtypes = [dtype for name, dtype in PRECISION.items() if name in terms]
    for accession, dtype in _PRECISION_ACCESSION.items():
        if accession in terms and dtype not in dtypes:
            dtypes.insert(0, dtype)
    return dtypes


def xml_error(path: str, error: Exception) -> InputError:
    return InputError(f"{path}: the XML is damaged or cut ({error}); copy or export the file again")


class SpectrumList:
    """Expat handlers that collect coordinates and array extents of every spectrum."""

    def __init__(self, path: str, metadata: Metadata) -> None:
        self.path = path
        self.xyz = array("q")
        self.first_terms: set[str] = set()
        self.scientific = self.nameless = False
        self.other_arrays: set[str] = set()  #: names of what is not read
        groups = metadata.referenceable_param_groups
        self._groups = {
            name: set(group.param_by_accession) | set(group.param_by_name)
            for name, group in groups.items()
        }
        self._group_values = {
            name: [(p[1], str(p[4])) for p in group.cv_params if p[1] in VALUED]
            for name, group in groups.items()
        }
        # of every spectrum: what it is, and how its arrays are stored; and what the numbers mean
        self._codes = array("q")
        self._scans: dict[tuple[Any, ...], int] = {}
        self._numbers: dict[Scan, int] = {}
        self.scans: list[Scan] = []
        self._formats: dict[str, dict[frozenset[str], int]] = {"m/z": {}, "intensity": {}}
        self._extents = {"m/z": array("q"), "intensity": array("q")}
        self._arrays_seen: dict[tuple[str, ...], tuple[str | None, int]] = {}
        self._terms: list[str] = []
        self._values: list[tuple[str, str]] = []
        self._refs: list[str] = []
        self._in_spectrum = self._in_array = False
        self._kinds: list[str | None] = []
        self._position: dict[str, str] = {}
        self._array: dict[str, str] = {}
        self._array_terms: list[str] = []
        self._array_refs: list[str] = []
        self._seen: dict[str, int] = {}  # the arrays of this spectrum, and their formats

    def parse(self, file: IO[bytes]) -> None:
        """Read the whole document. Memory: a few megabytes and 72 bytes a spectrum."""
        parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            self._feed(parser, file)
        except expat.ExpatError as error:
            raise xml_error(self.path, _in_whole(file) or error) from None
        except _MissingAttribute as error:
            raise self._error(f"has an element without its {error}") from None

    def _feed(self, parser: Any, file: IO[bytes]) -> None:
        """All of the document to expat, but for the spectra that a template reads."""
        rest, templates, alike = b"", list[Template](), True
        while data := file.read(_READ):
            data, rest = rest + data, b""
            position = 0
            while alike:
                position = self._match(templates, data, position)
                begin = data.find(b"<spectrum ", position)
                end = data.find(b"</spectrum>", position) + len(b"</spectrum>")
                if begin < 0 or end < begin:
                    break
                count = len(self.xyz)
                self._kinds.clear()
                parser.Parse(data[position:end])
                # Not counted: it was a comment, or expat waits for more. It reads the rest, then.
                alike = len(self.xyz) == count + 3 and len(templates) < _TEMPLATES
                codes = self._codes[-_CODES:]
                template = Template.of(data[begin:end], self._kinds, codes) if alike else None
                if template is not None:
                    templates.append(template)
                position = end
            alike = alike and len(data) - position < _LONGEST
            if alike:
                rest = data[position:]
            else:
                parser.Parse(data[position:])
        parser.Parse(rest, True)

    def _match(self, templates: list[Template], data: bytes, position: int) -> int:
        """Read spectra from `position` on for as long as a template fits; where they end."""
        start = -1
        while start != position:
            start = position
            for template in templates:
                numbers, position = template.match(data, position)
                self.xyz.frombytes(numbers[:, template.xyz].tobytes())
                self._codes.extend(template.codes * len(numbers))
                for kind, columns in template.extents.items():
                    self._extents[kind].frombytes(numbers[:, columns].tobytes())
        return position

    @property
    def codes(self) -> Ints:
        """(n,) int64, which of `scans` every spectrum is."""
        return np.frombuffer(self._codes, np.int64).reshape(-1, _CODES)[:, 0]

    def arrays(self, kind: str, which: NDArray[np.bool_]) -> ArrayFormat:
        """What was collected for one kind of array.

        Parameters
        ----------
        kind
            'm/z' or 'intensity'
        which
            (n,) bool, the spectra that are read

        Returns
        -------
        ArrayFormat
            of these

        Raises
        ------
        InputError
            they are not all stored in one way that is known
        """
        extents = np.frombuffer(self._extents[kind], np.int64).reshape(-1, 3)[which]
        codes = np.frombuffer(self._codes, np.int64).reshape(-1, _CODES)[which]
        codes = codes[:, 1 + list(_ARRAYS).index(kind)]
        filled = codes[extents[:, 1] != 0]  # those of no values have no say
        used = np.unique(filled if len(filled) else codes)
        forms = [terms for terms, i in self._formats[kind].items() if i in used]
        stored = {(*_dtypes(terms), _ZLIB in terms) for terms in forms}
        if len(stored) > 1:
            raise InputError(
                f"{self.path}: the {kind} arrays are stored in {len(stored)} different formats; "
                "export the image with one"
            )
        terms = frozenset[str]().union(*forms)
        if terms & _FOREIGN_COMPRESSION:
            raise InputError(
                f"{self.path}: the {kind} arrays use a compression that is not zlib; "
                "export them with zlib or without compression"
            )
        dtypes = _dtypes(terms)
        if not dtypes:
            raise InputError(
                f"{self.path}: the number format of the {kind} arrays is not named; "
                "add its cvParam (MS:1000521 32-bit float, MS:1000523 64-bit float, ...)"
            )
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
            accession = self._accession(attributes)
            if self._in_array:
                if accession in (OFFSET, LENGTH, ENCODED):
                    self._array[accession] = _attribute(attributes, "value")
                else:
                    self._array_terms.append(accession)
            elif accession in (X, Y, Z):
                self._position[accession] = _attribute(attributes, "value")
            else:
                self._terms.append(accession)
                if accession in VALUED:
                    self._values.append((accession, _attribute(attributes, "value")))
        elif tag.endswith("referenceableParamGroupRef"):
            refs = self._array_refs if self._in_array else self._refs
            refs.append(_attribute(attributes, "ref"))
        elif tag.endswith("binaryDataArray"):
            self._in_array = True
            self._array.clear()
            self._array_terms.clear()
            self._array_refs.clear()

    def _accession(self, attributes: list[str]) -> str:
        """The accession of a term; where it lacks one, by its name, or its name."""
        try:
            accession = _attribute(attributes, "accession")
        except _MissingAttribute:
            accession = ""
        if ":" in accession:
            return accession
        self.nameless = True
        names = [attributes[i + 1] for i in range(0, len(attributes), 2) if attributes[i] == "name"]
        return BY_NAME.get(names[0], names[0]) if names else ""

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
            known = _kind(terms)
            if known is None:
                self._arrays_seen[key] = None, -1
                self.other_arrays |= terms
            else:
                formats = self._formats[known]
                self._arrays_seen[key] = known, formats.setdefault(frozenset(terms), len(formats))
        kind, code = self._arrays_seen[key]
        self._kinds.append(kind)
        if kind is None:
            return
        if kind in self._seen:
            raise self._error(f"has two {kind} arrays")
        self._seen[kind] = code
        extents = self._extents[kind]
        for accession, what in ((OFFSET, "offset"), (LENGTH, "length")):
            if accession not in self._array:
                raise self._error(f"has no external {what} of its {kind} array")
            extents.append(self._integer(self._array[accession], f"{kind} array {what}"))
        encoded = self._array.get(ENCODED, "")
        extents.append(self._integer(encoded, f"{kind} encoded length") if encoded else -1)

    def _end_spectrum(self) -> None:
        for kind in ("m/z", "intensity"):
            if kind not in self._seen:
                raise self._error(f"has no {kind} array")
        formats = [self._seen[kind] for kind in _ARRAYS]
        self._seen.clear()
        for accession, axis in ((X, "x"), (Y, "y")):
            if accession not in self._position:
                raise self._error(f"has no position {axis}")
        self._position.setdefault(Z, "1")
        places = ((X, "position x"), (Y, "position y"), (Z, "position z"))
        self.xyz.extend([self._integer(self._position[axis], what) for axis, what in places])
        self._position.clear()
        self._codes.extend([self._scan(), *formats])
        for found in (self._terms, self._values, self._refs):
            found.clear()

    def _scan(self) -> int:
        """The number of what this spectrum says that it is."""
        key = (*self._terms, "|", *self._values, "|", *self._refs)
        if key not in self._scans:
            terms = set(self._terms).union(*(self._groups.get(ref, ()) for ref in self._refs))
            values: dict[str, list[str]] = {}
            for ref in self._refs:
                self._values += self._group_values.get(ref, [])
            for accession, value in self._values:
                values.setdefault(accession, []).append(value)
            scan = Scan.of(terms, values)
            if not self.scans:
                self.first_terms = set(self._terms)
            number = self._numbers.setdefault(scan, len(self.scans))
            if number == len(self.scans):
                self.scans.append(scan)
            self._scans[key] = number
        return self._scans[key]

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


def _in_whole(file: IO[bytes]) -> expat.ExpatError | None:
    """An error with its line in the file: expat has not counted what templates have read."""
    file.seek(0)
    parser = expat.ParserCreate()
    try:
        while data := file.read(_READ):
            parser.Parse(data)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        return error
    return None


class _MissingAttribute(Exception):
    pass


def _attribute(attributes: list[str], name: str) -> str:
    """Value of an attribute in expat's flat list of names and values."""
    for i in range(0, len(attributes), 2):
        if attributes[i] == name:
            return attributes[i + 1]
    raise _MissingAttribute(name)


def _kind(terms: Any) -> str | None:
    return next((kind for kind, names in _ARRAYS.items() if names & set(terms)), None)
