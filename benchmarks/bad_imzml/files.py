"""imzML that is odd or damaged, with what is in it where that can be known.

Every file is made from one image of known spectra by pyimzML's own writer and then spoilt. `truth`
is what a right reading gives; None where there is no right reading and only a refusal is right.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyimzml.compression import ZlibCompression
from pyimzml.ImzMLWriter import ImzMLWriter

Maker = Callable[[Path], "Bad"]
#: (x, y) within the bounding box -> m/z ascending, and intensities
Truth = dict[tuple[int, int], tuple[Any, Any]]
XY = [(x, y) for y in (1, 2, 3) for x in (1, 2, 3, 4)]


@dataclass
class Bad:
    """An imzML on disk, being spoilt."""

    path: Path
    truth: Truth | None
    stored: list[tuple[int, int, Any, Any]]  #: x, y, m/z, intensities as written at first

    @property
    def ibd(self) -> Path:
        return self.path.with_suffix(".ibd")

    def edit(self, old: str, new: str | Callable[[re.Match[str]], str], count: int = 0) -> Bad:
        """Replace a pattern in the XML; it must be there."""
        text, n = re.subn(old, new, self.path.read_text("latin-1"), count=count, flags=re.S)
        assert n, old
        self.path.write_text(text, "latin-1")
        return self

    def refused(self) -> Bad:
        """There is no right reading."""
        self.truth = None
        return self


def spectra(n: int = len(XY), *, of: int | None = None) -> list[tuple[Any, Any]]:
    """`n` spectra of whole intensities, of ragged lengths or all on one axis of `of` values."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(n):
        size = int(rng.integers(3, 9))
        axis = np.sort(rng.uniform(100, 1000, size)) if of is None else np.linspace(100, 200, of)
        found.append((axis, rng.integers(1, 1000, len(axis)).astype(np.float32)))
    return found


def image(
    folder: Path,
    data: list[tuple[Any, Any]] | None = None,
    xy: list[tuple[int, ...]] | None = None,
    *,
    name: str = "image",
    **options: Any,
) -> Bad:
    """A sound image of 4 x 3 pixels, or of what is given."""
    places: list[tuple[int, ...]] = [*XY] if xy is None else xy
    values = spectra(len(places)) if data is None else data
    words = {"mode": "processed", "polarity": "positive", **options}
    with ImzMLWriter(str(folder / name), **words) as writer:
        for place, (mz, intensity) in zip(places, values, strict=True):
            writer.addSpectrum(np.asarray(mz), np.asarray(intensity), place)
    x0, y0 = (min(p[i] for p in places) for i in (0, 1))
    truth: Truth = {}
    for place, (mz, intensity) in zip(places, values, strict=True):
        truth[place[0] - x0, place[1] - y0] = (np.array(mz, float), np.array(intensity, float))
    stored = [
        (p[0], p[1], np.array(mz, float), np.array(i, float))
        for p, (mz, i) in zip(places, values, strict=True)
    ]
    bad = Bad(folder / f"{name}.imzML", truth, stored)
    return bad.edit("pyimzml exporter", "our exporter")


def made(
    text: str,
    *edits: Sequence[Any],
    refused: bool = False,
    then: Callable[[Bad], object] = lambda bad: None,
    **words: Any,
) -> Maker:
    """Makes an `image` of `words`, with edits, and `then` something; refused: no right reading."""

    def make(folder: Path) -> Bad:
        bad = image(folder, **words)
        for edit in edits:
            bad.edit(*edit)
        then(bad)
        return bad.refused() if refused else bad

    make.__doc__ = text
    return make


def cut(text: str, left: Callable[[int], int]) -> Maker:
    """Makes an image whose .ibd has so many of its bytes left."""

    def truncate(bad: Bad) -> None:
        os.truncate(bad.ibd, left(bad.ibd.stat().st_size))

    return made(text, then=truncate, refused=True)


OFFSET, LENGTH = r'(external offset" value=")(\d+)', r'(array length" value=")\d+'
PLAIN = 'MS:1000576" name="no compression'
ZLIB = {"mz_compression": ZlibCompression(), "intensity_compression": ZlibCompression()}
MANY = 200_000  # values of an array
LAST = 12 * len(spectra()[-1][0])  # bytes of the last spectrum

cut_at_a_boundary = cut(".ibd cut between two spectra", lambda n: n - LAST)
cut_inside_an_array = cut(".ibd cut inside an array, at a whole value", lambda n: n - 8)
cut_at_an_odd_byte = cut(".ibd cut inside a value", lambda n: n - 5)
ibd_empty = cut(".ibd of no bytes", lambda n: 0)


ibd_missing = made(".ibd missing", then=lambda bad: bad.ibd.unlink(), refused=True)


def ibd_of_another_acquisition(folder: Path) -> Bad:
    """.ibd of another acquisition (UUID)"""
    bad, other = image(folder), image(folder, spectra()[::-1], name="other")
    bad.ibd.write_bytes(other.ibd.read_bytes())
    return bad.refused()


ibd_upper_case = made(
    "Extension of the .ibd in capitals",
    then=lambda bad: os.rename(bad.ibd, bad.path.with_suffix(".IBD")),
)


def imzml_upper_case(folder: Path) -> Bad:
    """Both extensions in capitals"""
    bad = image(folder)
    os.rename(bad.ibd, bad.path.with_suffix(".IBD"))
    os.rename(bad.path, bad.path.with_suffix(".IMZML"))
    bad.path = bad.path.with_suffix(".IMZML")
    return bad


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
git_lfs_pointer = made(
    ".ibd is a Git LFS pointer", then=lambda bad: bad.ibd.write_bytes(POINTER), refused=True
)
offset_beyond_the_end = made(
    "An offset beyond the end of the .ibd", (OFFSET, r"\g<1>9\2", 1), refused=True
)
offset_absurd = made("An offset near 2^62", (OFFSET, rf"\g<1>{2**61}", 1), refused=True)
offset_negative = made("A negative offset", (OFFSET, r"\g<1>-99999999999", 1), refused=True)
offsets_in_scientific_notation = made(
    "Offsets in scientific notation (written by R)", (OFFSET, lambda m: f"{m[1]}{int(m[2]):.6e}")
)
offset_in_words = made("An offset that is no number", (OFFSET, r"\g<1>NA", 1), refused=True)
zlib_arrays = made("Arrays compressed with zlib", **ZLIB)
zlib_only_in_name = made(
    "m/z called zlib that are not compressed",
    (PLAIN, 'MS:1000574" name="zlib compression', 1),
)
zlib_bomb = made(
    "A zlib array that unpacks to more than is declared",
    (f'array length" value="{MANY}"', 'array length" value="40"'), refused=True,
    data=[(np.linspace(1, 2, MANY), np.zeros(MANY, np.float32))], xy=[(1, 1)], **ZLIB,
)  # fmt: skip
length_absurd = made("An array of 5e12 values", (LENGTH, r"\g<1>5000000000000", 1), refused=True)
foreign_compression = made(
    "Arrays compressed with MS-Numpress",
    (PLAIN, 'MS:1002312" name="MS-Numpress linear prediction compression'), refused=True,
)  # fmt: skip
zero_based = made("Coordinates that start at 0", xy=[(x - 1, y - 1) for x, y in XY])
coordinates_offset = made(
    "Coordinates that start at x 501, y 301", xy=[(x + 500, y + 300) for x, y in XY]
)
coordinates_negative = made("Negative coordinates", xy=[(x - 9, y - 9) for x, y in XY])
pixels_missing = made("Pixels missing, in any order", xy=[(4, 2), (1, 1), (2, 3)])
pixel_twice_alike = made(
    "A pixel written twice, alike", data=[*spectra(2), spectra(1)[0]], xy=[(1, 1), (2, 1), (1, 1)]
)
pixel_twice_different = made(
    "A pixel written twice, with other values", xy=[(1, 1), (2, 1), (1, 1)], refused=True
)
position_missing = made(
    "A spectrum without a position", (r"<cvParam[^>]*IMS:1000050[^>]*/>", "", 1), refused=True
)
position_fraction = made(
    "A position that is not whole",
    (r'position x" value="2"', 'position x" value="1.5"', 1), refused=True,
)  # fmt: skip
coordinates_absurd = made(
    "Two spectra in 1e9 x 1e9 pixels", xy=[(1, 1), (10**9, 10**9)], refused=True
)
z_of_zero = made("z of 0 in an image of one plane", xy=[(x, y, 0) for x, y in XY])
two_planes = made(
    "A third dimension (two planes)", xy=[(1, 1, 1), (2, 1, 1), (1, 1, 2)], refused=True
)
declared_pixels_too_few = made(
    "Fewer pixels declared than there are",
    ('count of pixels x" value="4"', 'count of pixels x" value="2"'),
)
declared_pixels_absurd = made(
    "1e9 x 1e9 pixels declared",
    ('count of pixels x" value="4"', 'count of pixels x" value="1000000000"'),
    ('count of pixels y" value="3"', 'count of pixels y" value="1000000000"'),
)
declared_spectra_too_few = made(
    "Fewer spectra declared than there are",
    ('spectrumList count="12"', 'spectrumList count="7"'),
)


def mz_unsorted(folder: Path) -> Bad:
    """m/z that descend"""
    bad = image(folder, [(mz[::-1], values[::-1]) for mz, values in spectra()])
    bad.truth = image(folder, name="sorted").truth
    return bad


def mz_unsorted_shared(folder: Path) -> Bad:
    """A shared m/z axis that descends"""
    some = spectra(of=7)
    bad = image(folder, [(mz[::-1], values[::-1]) for mz, values in some], mode="continuous")
    bad.truth = image(folder, some, name="sorted").truth
    return bad


def _odd(text: str, array: int, value: float, refused: bool = False) -> Maker:
    """Makes an image with an odd m/z (`array` 0), or an intensity (1) that is to be read as 0."""

    def make(folder: Path) -> Bad:
        some = spectra()
        some[4][array][1] = value
        bad = image(folder, some)
        assert bad.truth is not None
        bad.truth[0, 1][array][1] = 0
        return bad.refused() if refused else bad

    make.__doc__ = text
    return make


mz_not_finite = _odd("An m/z that is NaN", 0, np.nan, refused=True)
intensities_nan = _odd("NaN intensities", 1, np.nan)
intensities_negative = _odd("Negative intensities", 1, -50)


def spectra_empty(folder: Path) -> Bad:
    """Empty spectra"""
    bad = image(folder)  # pyimzML's writer cannot write one
    text, part = bad.path.read_text("latin-1"), r'external array length" value="(\d+)'
    begin = [m.start() for m in re.finditer("<spectrum ", text)][5]
    end = text.index("</spectrum>", begin)
    empty = re.sub(part, 'external array length" value="0', text[begin:end])
    empty = re.sub(r'encoded length" value="\d+', 'encoded length" value="0', empty)
    bad.path.write_text(text[:begin] + empty + text[end:], "latin-1")
    assert bad.truth is not None
    bad.truth[1, 1] = (np.empty(0), np.empty(0))
    return bad


intensities_of_whole_numbers = made(
    "Intensities as 32-bit integers",
    data=[(mz, values.astype(np.int32)) for mz, values in spectra()], intensity_dtype=np.int32,
)  # fmt: skip
lengths_differ = made("More m/z than intensities", (LENGTH, r"\g<1>2", 1), refused=True)
called_continuous = made(
    "Called continuous, but processed",
    ('IMS:1000031" name="processed', 'IMS:1000030" name="continuous'),
)
called_processed = made(
    "Called processed, but continuous",
    ('IMS:1000030" name="continuous', 'IMS:1000031" name="processed'),
    data=spectra(of=7), mode="continuous",
)  # fmt: skip


def equal_lengths(folder: Path) -> Bad:
    """Spectra of equal length on other m/z, no type of spectrum named"""
    rng = np.random.default_rng(3)
    some = [
        (np.sort(rng.uniform(100, 900, 6)), rng.integers(1, 99, 6).astype(np.float32)) for _ in XY
    ]
    return image(folder, some).edit(r'<cvParam[^>]*"MS:1000127"[^>]*/>', "")


DOUBLE = '<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>'
SINGLE = DOUBLE.replace("1000523", "1000521").replace("64-bit", "32-bit")
precision_named_twice = made(
    "Two terms of precision for one array", (re.escape(DOUBLE), DOUBLE + SINGLE)
)
precision_by_the_wrong_name = made(
    "A 32-bit float under the accession of 64 bits",
    ('"MS:1000521" name="32-bit', '"MS:1000523" name="32-bit'),
)
precision_missing = made(
    "No term of precision", (r'<cvParam[^>]*"MS:1000523"[^>]*/>', ""), refused=True
)


def pixel_size_in_nanometres(folder: Path) -> Bad:
    """Pixel size in nanometres"""
    terms = "".join(
        f'<cvParam cvRef="IMS" accession="IMS:{n}" name="pixel size {a}" value="50000" '
        'unitCvRef="UO" unitAccession="UO:0000018" unitName="nanometer"/>'
        for n, a in (("1000046", "(x)"), ("1000047", "y"))
    )
    return image(folder).edit("</scanSettings>", terms + "</scanSettings>", 1)


def latin1_and_crlf(folder: Path) -> Bad:
    """Latin-1 and CRLF"""
    bad = image(folder).edit("our exporter", "exporté à Zürich")
    bad.path.write_bytes(bad.path.read_bytes().replace(b"\n", b"\r\n"))
    return bad


no_namespace = made("XML without its namespace", (' xmlns="http://psi.hupo.org/ms/mzml"', ""))
xml_cut = made(
    "XML cut at 70 %",
    then=lambda bad: os.truncate(bad.path, int(0.7 * bad.path.stat().st_size)), refused=True,
)  # fmt: skip
xml_of_an_unknown_encoding = made(
    "XML of an encoding that does not exist", ("ISO-8859-1", "ISO-8859-99", 1), refused=True
)


def xml_with_entities(folder: Path) -> Bad:
    """XML with an external entity"""
    bad = image(folder).edit("<mzML ", '<!DOCTYPE mzML [<!ENTITY e SYSTEM "other.txt">]><mzML ', 1)
    (folder / "other.txt").write_text("a secret")
    return bad.edit("our exporter", "&e;", 1).refused()


def xml_billion_laughs(folder: Path) -> Bad:
    """XML with a billion laughs"""
    laughs = '<!ENTITY a "ha ha ha ha ha ">' + "".join(
        f'<!ENTITY {n} "{f"&{p};" * 10}">' for p, n in zip("abcdefghi", "bcdefghij", strict=True)
    )
    bad = image(folder).edit("<mzML ", f"<!DOCTYPE mzML [{laughs}]><mzML ", 1)
    return bad.edit("our exporter", "&j;", 1).refused()


header_only = made("A header without spectra", (r"<spectrum .*</spectrum>", ""), refused=True)
not_imzml = made(
    "HTML by the name of an imzML",
    then=lambda bad: bad.path.write_text("<html><body>404</body></html>"), refused=True,
)  # fmt: skip


def _packed(text: str, name: str) -> Maker:
    """Makes an image whose .imzML is compressed with gzip."""

    def pack(bad: Bad) -> None:
        data = gzip.compress(bad.path.read_bytes())
        bad.path.unlink()
        bad.path = bad.path.with_name(name)
        bad.path.write_bytes(data)

    return made(text, then=pack, refused=True)


imzml_gz = _packed("An .imzML.gz", "image.imzML.gz")
imzml_gz_in_disguise = _packed("An .imzML that is gzip", "image.imzML")


def _spectra_as(bad: Bad, change: Callable[[int, str], str]) -> Bad:
    """Change the XML of every spectrum, by its number."""
    counter = itertools.count()
    return bad.edit("<spectrum .*?</spectrum>", lambda m: change(next(counter), m[0]))


def _term(accession: str, name: str, value: object = "") -> str:
    cv = accession.partition(":")[0]
    return f'<cvParam cvRef="{cv}" accession="{accession}" name="{name}" value="{value}"/>'


POSITIVE, NEGATIVE = _term("MS:1000130", "positive scan"), _term("MS:1000129", "negative scan")


def polarity_alternates(folder: Path) -> Bad:
    """Positive and negative spectra in turn"""
    bad = image(folder).edit(re.escape(POSITIVE), "")
    turns = (POSITIVE, NEGATIVE)
    _spectra_as(bad, lambda i, text: text.replace("<scanList", turns[i % 2] + "<scanList"))
    return bad.refused()


def _of(level: int, mz: float) -> str:
    """Terms of a spectrum of MS2 of an ion, or of MS1."""
    if level == 1:
        return _term("MS:1000511", "ms level", 1)
    ion = _term("MS:1000744", "selected ion m/z", mz)
    return (
        _term("MS:1000511", "ms level", level)
        + f"<precursorList><precursor><selectedIonList><selectedIon>{ion}</selectedIon>"
        "</selectedIonList></precursor></precursorList>"
    )


def _levels(text: str, *kinds: tuple[int, float]) -> Maker:
    def make(folder: Path) -> Bad:
        bad = image(folder).edit(r'<cvParam[^>]*"MS:1000511"[^>]*/>', "")
        bad.edit(r'<cvParam[^>]*"MS:1000579"[^>]*/>', "")
        _spectra_as(
            bad, lambda i, xml: xml.replace("<scanList", _of(*kinds[i % len(kinds)]) + "<scanList")
        )
        return bad.refused()

    make.__doc__ = text
    return make


levels_alternate = _levels("MS1 and MS2 in turn", (1, 0), (2, 500.2))
transitions = _levels("Two transitions in turn", (2, 500.2), (2, 600.3))
MOBILITY = (
    '<binaryDataArray encodedLength="0">'
    + _term("MS:1002816", "mean ion mobility array")
    + "<binary/></binaryDataArray></binaryDataArrayList>"
)
ion_mobility_array = made("An array of ion mobility", ("</binaryDataArrayList>", MOBILITY))
term_without_accession = made(
    "A term without accession", ("</scan>", '<cvParam cvRef="MS" name="nothing"/></scan>')
)
position_by_name = made(
    "Positions without accession",
    ('accession="IMS:100005[01]" (cvRef="IMS" name="position)', r"\1"),
)


def _again(bad: Bad, change: Callable[[str], str]) -> Bad:
    """Write a changed copy of the first spectrum behind the last."""
    first = re.search("<spectrum .*?</spectrum>", bad.path.read_text("latin-1"), re.S)
    assert first is not None
    bad.edit("</spectrumList>", change(first[0]) + "</spectrumList>")
    return bad.edit('spectrumList count="12"', 'spectrumList count="13"')


def pixel_twice_empty(folder: Path) -> Bad:
    """A pixel with a second, empty spectrum"""
    return _again(
        image(folder),
        lambda text: re.sub(r'((?:array|encoded) length" value=")\d+', r"\g<1>0", text),
    )


def pixel_twice_zero(folder: Path) -> Bad:
    """A pixel with a second spectrum of zeros"""
    bad, n = image(folder), len(spectra()[0][0])
    at = bad.ibd.stat().st_size
    with bad.ibd.open("ab") as file:
        file.write(bytes(4 * n))
    return _again(bad, lambda text: text[::-1].replace(*_place(text, at), 1)[::-1])


def _place(text: str, at: int) -> tuple[str, str]:
    """The last offset of a spectrum, and another, both written backwards."""
    last = re.findall(r'external offset" value="\d+', text)[-1]
    return last[::-1], re.sub(r"\d+$", str(at), last)[::-1]


SECOND = '<referenceableParamGroup id="other">{}{}</referenceableParamGroup>'
GROUPS = "</referenceableParamGroupList>"


def formats_cosmetic(folder: Path) -> Bad:
    """Every third spectrum in a group that lacks only the term of no compression"""
    other = SECOND.format(_term("MS:1000514", "m/z array"), _term("MS:1000523", "64-bit float"))
    bad = image(folder).edit(GROUPS, other + GROUPS)
    _spectra_as(
        bad, lambda i, text: text if i % 3 else text.replace('ref="mzArray"', 'ref="other"')
    )
    return bad


def formats_of_an_empty_spectrum(folder: Path) -> Bad:
    """An empty spectrum of another number format"""
    other = SECOND.format(_term("MS:1000514", "m/z array"), _term("MS:1000521", "32-bit float"))
    bad = spectra_empty(folder).edit(GROUPS, other + GROUPS)
    _spectra_as(
        bad, lambda i, text: text if i != 5 else text.replace('ref="mzArray"', 'ref="other"')
    )
    return bad


ENCODED = r'<cvParam[^>]*"IMS:1000104"[^>]*/>'
TO_DOUBLE = ('"MS:1000521" name="32-bit', '"MS:1000523" name="64-bit')
called_64_bit = made("32-bit intensities called 64-bit", TO_DOUBLE)
called_64_bit_without_lengths = made(
    "32-bit intensities called 64-bit, without encoded lengths", TO_DOUBLE, (ENCODED, "")
)
called_32_bit = made(
    "64-bit m/z called 32-bit", ('"MS:1000523" name="64-bit', '"MS:1000521" name="32-bit')
)
encoded_length_of_nothing = made(
    "32-bit intensities called 64-bit, of an encoded length of no format",
    TO_DOUBLE, (r'(IMS:1000104[^>]*value=")\d+', r"\g<1>7"), refused=True,
)  # fmt: skip


def encoded_length_wrong(folder: Path) -> Bad:
    """Encoded lengths of intensities that are their count of values"""
    return image(folder).edit(
        r'(ref="intensityArray"/>.*?array length" value=")(\d+)(.*?encoded length" value=")\d+',
        lambda m: m[1] + m[2] + m[3] + m[2],
    )


zlib_unsaid = made(
    "m/z compressed with zlib and not called so",
    ('MS:1000574" name="zlib compression', 'MS:1000576" name="no compression', 1),
    mz_compression=ZlibCompression(), data=spectra(of=400),
)  # fmt: skip


def coordinates_in_um(folder: Path) -> Bad:
    """Coordinates in µm, in steps of 50"""
    bad = image(folder, xy=[(50 * x, 50 * y) for x, y in XY])
    bad.truth = image(folder, name="right").truth
    return bad


# every maker above, in its place: what takes a folder and gives a bad file
FILES: dict[str, Maker] = {
    name: make
    for name, make in [*globals().items()]
    if getattr(make, "__annotations__", None) == {"folder": "Path", "return": "Bad"}
}
