"""Changes that make damaged files of whole ones: bytes flipped or cut, numbers made absurd."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

LARGEST = 1 << 16  # bytes that an input may grow to

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
EXTREMES: tuple[bytes, ...] = (
    # the limits of bytes, words and floating point, and what is no number
    *b"0 -1 1 2 255 65536 2147483648 4294967295 9223372036854775807".split(),
    *b"-9223372036854775808 18446744073709551616 1e9 1e308 -1e308 1e400 1e-320".split(),
    *(b"NaN", b"inf", b"-Infinity", b"", b"0.5", b"1.5e3", b"-0.0", b"1" * 400, b"9" * 5000),
    *(b"0x10", b"1_0", "٣".encode(), "²".encode(), b"true", b"null", b'"', b"1 000", b"1,5"),
)
_BYTES: tuple[bytes, ...] = (
    *(b"\0", b"\xff", b"\x7f", b"\x80", b"\x00\x00\x00\x80", b"\xff\xff\xff\xff", b"\xff" * 8),
)
_WORDS: tuple[bytes, ...] = (
    *(b"[" * 3000, b"<a>" * 3000, b'{"a":' * 2000, b"\r\n", b"\n", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(*b"../../ file:/// ftp://x/ &e;".split(), b"<!-- ", *b"--> <![CDATA[ ]]> ,".split()),
)

Change = Callable[[bytes, random.Random, Sequence[bytes]], bytes]


def _span(data: bytes, draw: random.Random, most: int = 200) -> tuple[int, int]:
    begin = draw.randrange(len(data) + 1)
    return begin, min(len(data), begin + draw.randrange(1, most))


def flip(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """One to eight bits turned."""
    out = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8)) if out else 0):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def overwrite(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """Some bytes of the largest and smallest numbers."""
    word = draw.choice(_BYTES)
    at = draw.randrange(len(data) + 1)
    return data[:at] + word + data[at + len(word) :]


def insert(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A word that parsers stumble over."""
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice(_WORDS) + data[at:]


def cut(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """Everything behind some place lost."""
    return data[: draw.randrange(len(data) + 1)]


def drop(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A piece lost."""
    begin, end = _span(data, draw)
    return data[:begin] + data[end:]


def repeat(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A piece written several times."""
    begin, end = _span(data, draw, 600)
    return data[:begin] + data[begin:end] * draw.choice((2, 2, 3, 30)) + data[end:]


def splice(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A piece of another file in place of one of this."""
    other = draw.choice(others)
    (begin, end), (a, b) = _span(data, draw), _span(other, draw)
    return data[:begin] + other[a:b] + data[end:]


def number(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """A number in text made an extreme one, or another number of the file."""
    found = [m.span() for m in _NUMBER.finditer(data)]
    if not found:
        return overwrite(data, draw, others)
    (a, b), (c, d) = draw.choice(found), draw.choice(found)
    return data[:a] + (draw.choice(EXTREMES) if draw.random() < 0.7 else data[c:d]) + data[b:]


def line(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """Two lines of text exchanged, or one taken out."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2:
        return drop(data, draw, others)
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    if i == j:
        del lines[i]
    else:
        lines[i], lines[j] = lines[j], lines[i]
    return b"".join(lines)


CHANGES: tuple[Change, ...] = (
    *(flip, overwrite, insert, cut, drop, repeat, splice, number, number, number, line),
)


def mutated(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """`data` with one to four changes; `others` are files to take pieces from."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        data = draw.choice(CHANGES)(data, draw, others)
    return data[:LARGEST]
