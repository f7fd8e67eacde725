"""imzML that is odd or damaged, with what is in it where that can be known.

Every file is made from one image of known spectra by pyimzML's own writer and then spoilt. `truth`
is what a right reading gives; None where there is no right reading and only a refusal is right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyimzml.compression import ZlibCompression
from pyimzml.ImzMLWriter import ImzMLWriter

#: (x, y) within the bounding box -> m/z ascending, and intensities
Truth = dict[tuple[int, int], tuple[Any, Any]]
XY = [(x, y) for y in (1, 2, 3) for x in (1, 2, 3, 4)]
UUID_LENGTH = 16


@dataclass
class Bad:
    """An imzML on disk, being spoilt."""

    path: Path
    truth: Truth | None
    stored: list[tuple[int, int, Any, Any]]  #: x, y, m/z, intensities as written at first

    @property
    def ibd(self) -> Path:
        return self.path.with_suffix(".ibd")

    def edit(self, old: str, new: str, count: int = 0) -> Bad:
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


def _cut(bad: Bad, left: int) -> Bad:
    os.truncate(bad.ibd, left)
    return bad.refused()


def _last(bad: Bad) -> int:
    """Bytes of the last spectrum."""
    assert bad.truth is not None
    n = len(list(bad.truth.values())[-1][0])
    return 12 * n


def cut_at_a_boundary(folder: Path) -> Bad:
    """.ibd cut between two spectra"""
    bad = image(folder)
    return _cut(bad, bad.ibd.stat().st_size - _last(bad))


def cut_inside_an_array(folder: Path) -> Bad:
    """.ibd cut inside an array, at a whole value"""
    bad = image(folder)
    return _cut(bad, bad.ibd.stat().st_size - 8)


def cut_at_an_odd_byte(folder: Path) -> Bad:
    """.ibd cut inside a value"""
    bad = image(folder)
    return _cut(bad, bad.ibd.stat().st_size - 5)


def ibd_empty(folder: Path) -> Bad:
    """.ibd of no bytes"""
    return _cut(image(folder), 0)


def ibd_missing(folder: Path) -> Bad:
    """.ibd missing"""
    bad = image(folder)
    bad.ibd.unlink()
    return bad.refused()


def ibd_of_another_acquisition(folder: Path) -> Bad:
    """.ibd of another acquisition (UUID)"""
    bad, other = image(folder), image(folder, spectra()[::-1], name="other")
    bad.ibd.write_bytes(other.ibd.read_bytes())
    return bad.refused()


def ibd_upper_case(folder: Path) -> Bad:
    """Extension of the .ibd in capitals"""
    bad = image(folder)
    os.rename(bad.ibd, bad.path.with_suffix(".IBD"))
    return bad


def imzml_upper_case(folder: Path) -> Bad:
    """Both extensions in capitals"""
    bad = image(folder)
    os.rename(bad.ibd, bad.path.with_suffix(".IBD"))
    os.rename(bad.path, bad.path.with_suffix(".IMZML"))
    bad.path = bad.path.with_suffix(".IMZML")
    return bad


def git_lfs_pointer(folder: Path) -> Bad:
    """.ibd is a Git LFS pointer"""
    bad = image(folder)
    bad.ibd.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return bad.refused()


def offset_beyond_the_end(folder: Path) -> Bad:
    """An offset beyond the end of the .ibd"""
    return image(folder).edit(r'(external offset" value=")(\d+)', r"\g<1>9\2", 1).refused()


def offset_absurd(folder: Path) -> Bad:
    """An offset near 2^62"""
    return image(folder).edit(r'(external offset" value=")(\d+)', rf"\g<1>{2**61}", 1).refused()


def offset_negative(folder: Path) -> Bad:
    """A negative offset"""
    bad = image(folder).edit(r'(external offset" value=")(\d+)', r"\g<1>-99999999999", 1)
    return bad.refused()


def offsets_in_scientific_notation(folder: Path) -> Bad:
    """Offsets in scientific notation (written by R)"""
    bad = image(folder)
    text = bad.path.read_text("latin-1")
    text = re.sub(r'(external offset" value=")(\d+)', lambda m: f"{m[1]}{int(m[2]):.6e}", text)
    bad.path.write_text(text, "latin-1")
    return bad


def offset_in_words(folder: Path) -> Bad:
    """An offset that is no number"""
    return image(folder).edit(r'(external offset" value=")(\d+)', r"\g<1>NA", 1).refused()


def zlib_arrays(folder: Path) -> Bad:
    """Arrays compressed with zlib"""
    zlib = {"mz_compression": ZlibCompression(), "intensity_compression": ZlibCompression()}
    return image(folder, **zlib)


def zlib_only_in_name(folder: Path) -> Bad:
    """Arrays called zlib that are not compressed"""
    new = 'MS:1000574" name="zlib compression'
    return image(folder).edit('MS:1000576" name="no compression', new).refused()


def zlib_bomb(folder: Path) -> Bad:
    """A zlib array that unpacks to more than is declared"""
    zlib = {"mz_compression": ZlibCompression(), "intensity_compression": ZlibCompression()}
    n = 200_000
    bad = image(folder, [(np.linspace(1, 2, n), np.zeros(n, np.float32))], [(1, 1)], **zlib)
    return bad.edit(f'array length" value="{n}"', 'array length" value="40"').refused()


def length_absurd(folder: Path) -> Bad:
    """An array of 5e12 values"""
    return image(folder).edit(r'(array length" value=")(\d+)', r"\g<1>5000000000000", 1).refused()


def foreign_compression(folder: Path) -> Bad:
    """Arrays compressed with MS-Numpress"""
    new = 'MS:1002312" name="MS-Numpress linear prediction compression'
    return image(folder).edit('MS:1000576" name="no compression', new).refused()


def zero_based(folder: Path) -> Bad:
    """Coordinates that start at 0"""
    return image(folder, xy=[(x - 1, y - 1) for x, y in XY])


def coordinates_offset(folder: Path) -> Bad:
    """Coordinates that start at x 501, y 301"""
    return image(folder, xy=[(x + 500, y + 300) for x, y in XY])


def coordinates_negative(folder: Path) -> Bad:
    """Negative coordinates"""
    return image(folder, xy=[(x - 9, y - 9) for x, y in XY])


def pixels_missing(folder: Path) -> Bad:
    """Pixels missing, in any order"""
    return image(folder, xy=[(4, 2), (1, 1), (2, 3)])


def pixel_twice_alike(folder: Path) -> Bad:
    """A pixel written twice, alike"""
    some = spectra(3)
    return image(folder, [some[0], some[1], some[0]], [(1, 1), (2, 1), (1, 1)])


def pixel_twice_different(folder: Path) -> Bad:
    """A pixel written twice, with other values"""
    return image(folder, xy=[(1, 1), (2, 1), (1, 1)]).refused()


def position_missing(folder: Path) -> Bad:
    """A spectrum without a position"""
    return image(folder).edit(r"<cvParam[^>]*IMS:1000050[^>]*/>", "", 1).refused()


def position_fraction(folder: Path) -> Bad:
    """A position that is not whole"""
    return image(folder).edit(r'position x" value="2"', 'position x" value="1.5"', 1).refused()


def coordinates_absurd(folder: Path) -> Bad:
    """Two spectra in 1e9 x 1e9 pixels"""
    return image(folder, xy=[(1, 1), (10**9, 10**9)]).refused()


def z_of_zero(folder: Path) -> Bad:
    """z of 0 in an image of one plane"""
    return image(folder, xy=[(x, y, 0) for x, y in XY])


def two_planes(folder: Path) -> Bad:
    """A third dimension (two planes)"""
    return image(folder, xy=[(1, 1, 1), (2, 1, 1), (1, 1, 2)]).refused()


def declared_pixels_too_few(folder: Path) -> Bad:
    """Fewer pixels declared than there are"""
    return image(folder).edit('count of pixels x" value="4"', 'count of pixels x" value="2"')


def declared_pixels_absurd(folder: Path) -> Bad:
    """1e9 x 1e9 pixels declared"""
    bad = image(folder).edit(
        'count of pixels x" value="4"', 'count of pixels x" value="1000000000"'
    )
    return bad.edit('count of pixels y" value="3"', 'count of pixels y" value="1000000000"')


def declared_spectra_too_few(folder: Path) -> Bad:
    """Fewer spectra declared than there are"""
    return image(folder).edit('spectrumList count="12"', 'spectrumList count="7"')


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


def mz_not_finite(folder: Path) -> Bad:
    """An m/z that is NaN"""
    some = spectra()
    some[4][0][1] = np.nan
    return image(folder, some).refused()


def intensities_nan(folder: Path) -> Bad:
    """NaN intensities"""
    some = spectra()
    some[4][1][1] = np.nan
    bad = image(folder, some)
    assert bad.truth is not None
    bad.truth[0, 1][1][1] = 0
    return bad


def intensities_negative(folder: Path) -> Bad:
    """Negative intensities"""
    some = spectra()
    some[4][1][1] = -50
    bad = image(folder, some)
    assert bad.truth is not None
    bad.truth[0, 1][1][1] = 0
    return bad


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


def intensities_of_whole_numbers(folder: Path) -> Bad:
    """Intensities as 32-bit integers"""
    some = [(mz, values.astype(np.int32)) for mz, values in spectra()]
    return image(folder, some, intensity_dtype=np.int32)


def lengths_differ(folder: Path) -> Bad:
    """More m/z than intensities"""
    return image(folder).edit(r'(array length" value=")\d+', r"\g<1>2", 1).refused()


def called_continuous(folder: Path) -> Bad:
    """Called continuous, but processed"""
    return image(folder).edit('IMS:1000031" name="processed', 'IMS:1000030" name="continuous')


def called_processed(folder: Path) -> Bad:
    """Called processed, but continuous"""
    bad = image(folder, spectra(of=7), mode="continuous")
    return bad.edit('IMS:1000030" name="continuous', 'IMS:1000031" name="processed')


def equal_lengths(folder: Path) -> Bad:
    """Spectra of equal length on other m/z, no type of spectrum named"""
    rng = np.random.default_rng(3)
    some = [
        (np.sort(rng.uniform(100, 900, 6)), rng.integers(1, 99, 6).astype(np.float32)) for _ in XY
    ]
    return image(folder, some).edit(r'<cvParam[^>]*"MS:1000127"[^>]*/>', "")


def precision_named_twice(folder: Path) -> Bad:
    """Two terms of precision for one array"""
    one = '<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>'
    other = one.replace("1000523", "1000521").replace("64-bit", "32-bit")
    return image(folder).edit(re.escape(one), one + other)


def precision_by_the_wrong_name(folder: Path) -> Bad:
    """A 32-bit float under the accession of 64 bits"""
    return image(folder).edit('"MS:1000521" name="32-bit', '"MS:1000523" name="32-bit')


def precision_missing(folder: Path) -> Bad:
    """No term of precision"""
    return image(folder).edit(r'<cvParam[^>]*"MS:1000523"[^>]*/>', "").refused()


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


def no_namespace(folder: Path) -> Bad:
    """XML without its namespace"""
    return image(folder).edit(' xmlns="http://psi.hupo.org/ms/mzml"', "")


def xml_cut(folder: Path) -> Bad:
    """XML cut at 70 %"""
    bad = image(folder)
    os.truncate(bad.path, int(0.7 * bad.path.stat().st_size))
    return bad.refused()


def xml_of_an_unknown_encoding(folder: Path) -> Bad:
    """XML of an encoding that does not exist"""
    return image(folder).edit("ISO-8859-1", "ISO-8859-99", 1).refused()


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


def header_only(folder: Path) -> Bad:
    """A header without spectra"""
    return image(folder).edit(r"<spectrum .*</spectrum>", "").refused()


def not_imzml(folder: Path) -> Bad:
    """HTML by the name of an imzML"""
    bad = image(folder)
    bad.path.write_text("<html><body>404</body></html>")
    return bad.refused()


Maker = Callable[[Path], Bad]
FILES: dict[str, Maker] = {
    function.__name__: function
    for function in (
        *(cut_at_a_boundary, cut_inside_an_array, cut_at_an_odd_byte, ibd_empty, ibd_missing),
        *(ibd_of_another_acquisition, ibd_upper_case, imzml_upper_case, git_lfs_pointer),
        *(offset_beyond_the_end, offset_absurd, offset_negative, offsets_in_scientific_notation),
        *(offset_in_words, zlib_arrays, zlib_only_in_name, zlib_bomb, length_absurd),
        *(foreign_compression, zero_based, coordinates_offset, coordinates_negative),
        *(pixels_missing, pixel_twice_alike, pixel_twice_different, position_missing),
        *(position_fraction, coordinates_absurd, z_of_zero, two_planes, declared_pixels_too_few),
        *(declared_pixels_absurd, declared_spectra_too_few, mz_unsorted, mz_unsorted_shared),
        *(mz_not_finite, intensities_nan, intensities_negative, spectra_empty),
        *(intensities_of_whole_numbers, lengths_differ, called_continuous, called_processed),
        *(equal_lengths, precision_named_twice, precision_by_the_wrong_name, precision_missing),
        *(pixel_size_in_nanometres, latin1_and_crlf, no_namespace, xml_cut),
        *(xml_of_an_unknown_encoding, xml_with_entities, xml_billion_laughs, header_only),
        *(not_imzml,),
    )
}
