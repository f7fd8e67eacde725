"""imzML: what can be read right is read right, the rest is refused in a line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_inputs.rows import READS, REFUSES, Row

from benchmarks.bad_imzml.files import FILES, Bad, Maker, image, spectra
from msiscale.errors import InputError
from msiscale.msi import open_source

CUT = (
    "<file>.ibd: cut short or not of this imzML: the <m/z or intensity> array of spectrum <i> ends "
    "at byte <n> of <size> (<k> of <n> spectra affected); copy the .ibd again"
)
MOVED = "note: coordinates start at x <x>, y <y>; moved to the bounding box"
ENTITIES = (
    "<file>: the XML declares a document type or entities, which imzML never needs; remove the "
    "declaration"
)
XML = "<file>: the XML is damaged or cut (<where>); copy or export the file again"

SAYS = {
    "cut_at_a_boundary": CUT,
    "cut_inside_an_array": CUT,
    "cut_at_an_odd_byte": CUT,
    "ibd_empty": "<file>.ibd: holds no data (<n> bytes); copy the file again",
    "ibd_missing": "<file>: its binary file <name>.ibd is not beside it; put it there",
    "ibd_of_another_acquisition": "<file>: UUID <one> but <name>.ibd has <other>; pair the two "
    "files of one export, or, if you know that they are, give the manifest column "
    "trust_ibd, for example yes",
    "git_lfs_pointer": "<file>.ibd: is a Git LFS pointer, not data; run `git lfs pull`",
    "offset_beyond_the_end": CUT,
    "offset_absurd": CUT,
    "offset_negative": "<file>: spectrum <i>: its <m/z or intensity> offset is negative; export "
    "the image again",
    "offsets_in_scientific_notation": "note: integers in scientific notation (written "
    "by R) were read "
    "as integers",
    "offset_in_words": "<file>: spectrum <i> has m/z array offset '<text>', which is not a number; "
    "export the image again",
    "zlib_only_in_name": "m/z arrays are called compressed and are not, by their encoded length",
    "zlib_bomb": "<file>: spectrum <i> decompresses to another length than the <n> values "
    "declared; export the image again",
    "length_absurd": "<file>: spectrum <i>: its <m/z or intensity> array length is absurd (above "
    "16777216); export the image again",
    "foreign_compression": "<file>: the m/z arrays use a compression that is not zlib; export them "
    "with zlib or without compression",
    "zero_based": MOVED,
    "coordinates_offset": MOVED,
    "coordinates_negative": MOVED,
    "pixel_twice_alike": "note: <n> spectra are written twice; each was read once",
    "pixel_twice_different": "<file>: spectra <i> and <j> lie on the same pixel (x <x>, y <y>) and "
    "differ; keep one of them, or give --duplicates first or mean",
    "position_missing": "<file>: spectrum <i> has no position x; export the image again",
    "position_fraction": "<file>: spectrum <i> has position x '<text>', which is not whole; export "
    "the image again",
    "coordinates_absurd": "<file>: <n> spectra in <width> x <height> pixels; the coordinates are "
    "not pixel indices, export them as such",
    "two_planes": "<file>: holds <n> z planes (z <from> to <to>); split it into one imzML per "
    "plane",
    "declared_pixels_too_few": "<n> pixels declared in x but coordinates run to <m>; the "
    "coordinates are used",
    "declared_spectra_too_few": "<n> spectra declared, <m> found; those found are used",
    "mz_unsorted": "<file>: <n> spectra sorted by m/z",
    "mz_unsorted_shared": "note: the m/z axis does not ascend; sorted",
    "mz_twice_alike": "m/z <m/z> is stored more than once, with the same intensities; the copies "
    "are left out",
    "mz_twice_different": "m/z <m/z> is stored more than once, with different intensities, which "
    "are summed",
    "mz_not_finite": "<file>: an m/z is not finite; export the image again",
    "intensities_nan": "<file>: <n> intensities that are not finite read as 0",
    "intensities_negative": "<file>: <n> negative intensities read as 0",
    "lengths_differ": "<file>: spectrum <i> has <n> m/z but <m> intensities; export the image "
    "again",
    "called_continuous": "called continuous, but its offsets are processed; read as such",
    "called_processed": "called processed, but its offsets are continuous; read as such",
    "equal_lengths": "neither profile nor centroid is named; taken as centroids from the m/z "
    "spacing",
    "precision_named_twice": "m/z arrays name 2 number formats; <f8> is used",
    "precision_by_the_wrong_name": 'header: Accession <one> ("64-bit float") found with mismatched '
    'name "32-bit float". <what pyimzML says> - using accession <other> ("32-bit float") instead.',
    "precision_missing": "<file>: the number format of the m/z arrays is not named; add its "
    "cvParam (MS:1000521 32-bit float, MS:1000523 64-bit float, ...)",
    "pixel_size_in_nanometres": "pixel size <n> (UO:0000018) converted to µm",
    "xml_cut": XML,
    "xml_of_an_unknown_encoding": XML,
    "xml_with_entities": ENTITIES,
    "xml_billion_laughs": ENTITIES,
    "header_only": "<file>: has no spectra; export the image again",
    "not_imzml": "<file>: is not imzML; give the .imzML of the image",
    "imzml_gz": "<file>: is compressed with gzip; unpack it, and its .ibd beside it",
    "imzml_gz_in_disguise": "<file>: is compressed with gzip; unpack it, and its .ibd beside it",
    "polarity_alternates": "<file>: holds 6 positive MS1 spectra, 6 negative MS1 spectra; choose "
    "one with the manifest column polarity, for example + (or --polarity)",
    "levels_alternate": "<file>: holds 6 positive MS1 spectra, 6 positive MS2 spectra of m/z "
    "500.20; choose one with the manifest column ms_level, for example 1",
    "transitions": "<file>: holds 6 positive MS2 spectra of m/z 500.20, 6 positive MS2 spectra of "
    "m/z 600.30; an image is of one transition: export each as an imzML of its own",
    "ion_mobility_array": "note: ion mobility is not kept: the intensities of all "
    "mobilities are summed",
    "term_without_accession": "note: some terms have no accession; they were read by "
    "their names, where "
    "these are known",
    "position_by_name": "note: some terms have no accession; they were read by their "
    "names, where these "
    "are known",
    "pixel_twice_empty": "note: 1 spectra without signal lie on pixels that have another; left out",
    "pixel_twice_zero": "note: 1 spectra without signal lie on pixels that have another; left out",
    "called_64_bit": "intensity arrays are called <f8, but their encoded length is that of <f4; "
    "read as <f4",
    "called_64_bit_without_lengths": "intensity arrays are called <f8, but <f4 is what fits "
    "between the arrays; read as <f4",
    "called_32_bit_without_lengths": "m/z arrays are called <f4, but <f8 is what fits between the "
    "arrays; read as <f8",
    "called_32_bit": "m/z arrays are called <f4, but their encoded length is that of <f8; read as "
    "<f8",
    "encoded_length_of_nothing": "<file>: spectrum <i>: its intensity array of <n> values is "
    "stored in <n> bytes, which is not <f8 nor any other format; export the image again",
    "encoded_length_wrong": "encoded lengths of the intensity arrays do not fit <f4; ignored",
    "zlib_unsaid": "note: m/z arrays are compressed with zlib, though not called so",
    "coordinates_in_um": "coordinates in steps of 50, from x 50, y 50, taken as pixels",
}
#: What is written otherwise but means the same, and is read without a word.
SILENT = {
    *("ibd_upper_case", "imzml_upper_case", "zlib_arrays", "pixels_missing", "z_of_zero"),
    *("declared_pixels_absurd", "spectra_empty", "intensities_of_whole_numbers"),
    *("latin1_and_crlf", "no_namespace", "formats_cosmetic", "formats_of_an_empty_spectrum"),
}
REFUSED = {id for id, line in SAYS.items() if line.startswith("<file>") and "; " in line} | {
    id for id, line in SAYS.items() if line in (CUT, ENTITIES, XML)
}


def run(make: Maker) -> Callable[[Path], list[str]]:
    """Read all spectra of a file and compare them with what was written."""

    def read(folder: Path) -> list[str]:
        bad = make(folder)
        source = open_source(str(bad.path))
        spectra = source.read(np.arange(len(source.positions)))
        assert bad.truth is not None, "there is no right reading of it"
        found = {(int(x), int(y)): spectra[i] for i, (y, x) in enumerate(source.positions)}
        assert found.keys() == bad.truth.keys()
        for place, (mz, intensity) in bad.truth.items():
            np.testing.assert_array_equal(found[place][0], mz)
            np.testing.assert_array_equal(found[place][1], intensity)
        assert source.pixel_um is None or source.pixel_um == (50.0, 50.0)
        return source.notes

    return read


def mz_twice_alike(folder: Path) -> Bad:
    """A shared m/z axis with one m/z twice, with the same intensities"""
    return again(folder, 0)


def mz_twice_different(folder: Path) -> Bad:
    """A shared m/z axis with one m/z twice, with different intensities"""
    return again(folder, 5)


def again(folder: Path, more: int) -> Bad:
    """The fourth of seven m/z stored again behind it, with so much more intensity."""
    some = spectra(of=7)
    twice = [(np.insert(mz, 4, mz[3]), np.insert(v, 4, v[3] + more)) for mz, v in some]
    bad = image(folder, twice, mode="continuous")
    if more:
        some = [(mz, np.where(np.arange(7) == 3, 2 * v + more, v)) for mz, v in some]
    bad.truth = image(folder, some, name="right").truth
    return bad


AGAIN: dict[str, Maker] = {f.__name__: f for f in (mz_twice_alike, mz_twice_different)}
ROWS = [
    Row(
        id,
        (make.__doc__ or "").strip(),
        REFUSES if id in REFUSED else READS,
        SAYS.get(id, ""),
        run(make),
    )
    for id, make in {**FILES, **AGAIN}.items()
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    assert (row.id in SAYS) != (row.id in SILENT)
    row.check(tmp_path)


def test_a_spectrum_that_unpacks_to_a_thousand_times_its_bytes_is_not_unpacked(
    tmp_path: Path,
) -> None:
    bad = FILES["zlib_bomb"](tmp_path)
    bad.edit('array length" value="40"', 'array length" value="16000000"')
    with pytest.raises(InputError, match="longer than its compressed bytes can hold"):
        open_source(str(bad.path))
