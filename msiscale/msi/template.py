"""Spectra of an imzML that are written alike, read by a regular expression made from one of them.

A writer repeats the same few kilobytes for every spectrum and changes some numbers. Where the text
is the same but for attribute values, the elements are the same, and only the numbers are read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msiscale.msi.scans import LEVEL, MS1, NEGATIVE, POSITIVE, VALUED
from msiscale.msi.spectra import Ints

OFFSET, LENGTH, ENCODED = "IMS:1000102", "IMS:1000103", "IMS:1000104"
X, Y, Z = "IMS:1000050", "IMS:1000051", "IMS:1000052"
#: Names of these terms, by which they are known where their accession is missing.
BY_NAME = {
    "position x": X,
    "position y": Y,
    "position z": Z,
    "external offset": OFFSET,
    "external array length": LENGTH,
    "external encoded length": ENCODED,
    "ms level": LEVEL,
    "MS1 spectrum": MS1,
    "positive scan": POSITIVE,
    "negative scan": NEGATIVE,
}

#: Attributes that say nothing about what a spectrum is; all others are the same or do not match.
_FREE = {b"value", b"id", b"index", b"spotID", b"encodedLength", b"arrayLength"}
_FREE |= {b"defaultArrayLength", b"scanSettingsRef"}
_TAG = re.compile(rb"""<(/?)([\w:.-]+)((?:\s+[\w:.-]+="[^"<]*")*)\s*/?>""")
_ATTRIBUTE = re.compile(rb'([\w:.-]+)="([^"<]*)"')
_TEXT = rb"[ !#-%'-;=-~]*"  # printable ASCII without what ends a value or begins an entity
_WHOLE = rb"(\d{1,18})"
_ONE, _NONE = -2, -1  # columns of what the file does not say: a z of 1, a length of -1


@dataclass(frozen=True)
class Template:
    """How one spectrum is written, and which of its numbers are wanted.

    Attributes
    ----------
    pattern : matches spectra written so, with a group for every number that is wanted
    xyz : the columns of x, y and z among these
    extents : of every kind of array, the columns of offset, length and stored length
    codes : of what such a spectrum is and how its arrays are stored
    """

    pattern: re.Pattern[bytes]
    xyz: tuple[int, ...]
    extents: dict[str, tuple[int, ...]]
    codes: tuple[int, ...]

    @classmethod
    def of(cls, text: bytes, kinds: Sequence[str | None], codes: Sequence[int]) -> Template | None:
        """From a spectrum's element, kinds of its arrays and codes; None if not of plain tags."""
        groups: dict[tuple[int, str], int] = {}  # of an array, or -1; by accession
        pattern, position, arrays, inside, count = [rb"\s*"], 0, -1, False, 0
        for tag in _TAG.finditer(text):
            if text[position : tag.start()].strip():
                return None
            position = tag.end()
            name = tag[2].rpartition(b":")[2]
            if name == b"binaryDataArray":
                inside = not tag[1]
                arrays += inside
            attributes = dict(_ATTRIBUTE.findall(tag[3]))
            accession = attributes.get(b"accession", b"").decode("ascii", "replace")
            if ":" not in accession:
                accession = BY_NAME.get(attributes.get(b"name", b"").decode("ascii", "replace"), "")
            wanted = (OFFSET, LENGTH, ENCODED) if inside else (X, Y, Z)
            number = name == b"cvParam" and accession in wanted
            if number and b"value" in attributes:
                groups[arrays if inside else -1, accession] = count
                count += 1
            fixed = name == b"cvParam" and accession in VALUED
            pattern.append(_pattern(tag[0], None if fixed else _WHOLE if number else _TEXT))
        if text[position:].strip() or arrays + 1 != len(kinds):
            return None
        extents = {}
        for i, kind in enumerate(kinds):
            if kind is not None:
                extents[kind] = tuple(groups.get((i, a), _NONE) for a in (OFFSET, LENGTH, ENCODED))
        xyz = tuple(groups.get((-1, a), _ONE) for a in (X, Y, Z))
        return cls(re.compile(rb"\s*".join(pattern)), xyz, extents, tuple(codes))

    def match(self, data: bytes, position: int) -> tuple[Ints, int]:
        """The numbers (n, columns) of all spectra from `position` on that fit; where they end."""
        found: list[bytes] = []
        n = 0
        while (spectrum := self.pattern.match(data, position)) is not None:
            found += spectrum.groups()
            position = spectrum.end()
            n += 1
        numbers = np.array([*map(int, found)], np.int64).reshape(n, self.pattern.groups)
        unsaid = np.broadcast_to(np.array([1, -1], np.int64), (n, 2))
        return np.hstack([numbers, unsaid]), position


def _pattern(tag: bytes, value: bytes | None) -> bytes:
    """A tag with every value that may differ replaced by what it may be; None: its own."""
    out, position = b"", 0
    for attribute in _ATTRIBUTE.finditer(tag):
        if attribute[1] in _FREE:
            start, end = attribute.span(2)
            own = re.escape(attribute[2]) if value is None else value
            may_be = own if attribute[1] == b"value" else _TEXT
            out += re.escape(tag[position:start]) + may_be
            position = end
    return out + re.escape(tag[position:])
