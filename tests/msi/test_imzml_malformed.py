"""Damaged and odd imzML: read right with a note, or refused in one line; never wrong in silence."""

from __future__ import annotations

import os
import re
import time
import warnings

import numpy as np
import pytest

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi import header, open_source


def refused(file, *words: str) -> None:
    """Opening raises one line that names the file and says `words`."""
    with pytest.raises(InputError) as caught:
        source = open_source(str(file.path))
        source.read(np.arange(len(source.positions)))
    message = str(caught.value)
    assert "\n" not in message and file.path.stem in message
    for word in words:
        assert re.search(word, message), message


def sound(file, note: str | None = None) -> None:
    """Every spectrum is read as written; `note` is among the notes."""
    source = open_source(str(file.path))
    read = source.read(np.arange(len(source.positions)))
    for (mz, intensity), (own_mz, own) in zip(file.spectra, read, strict=True):
        np.testing.assert_array_equal(own_mz, mz)
        np.testing.assert_array_equal(own, intensity)
    if note is not None:
        assert any(re.search(note, text) for text in source.notes), source.notes


def cut(file, size: int) -> None:
    os.truncate(file.ibd, size)


@pytest.mark.parametrize("lost", [1, 3, 8, 16, 500])
def test_ibd_cut_anywhere(write, lost: int) -> None:
    file = write()
    cut(file, file.ibd.stat().st_size - lost)
    refused(file, r"cut short", r"spectrum \d+", "copy the .ibd again")


def test_ibd_cut_on_a_spectrum_boundary(write) -> None:
    file = write()
    last_mz, last = file.spectra[-1]
    cut(file, file.ibd.stat().st_size - 8 * len(last_mz) - 4 * len(last))
    refused(file, "cut short", "spectrum 19")


def test_ibd_missing_empty_or_a_pointer(write) -> None:
    file = write()
    file.ibd.write_bytes(b"")
    refused(file, "holds no data")
    file.ibd.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    refused(file, "git lfs pull")
    file.ibd.unlink()
    refused(file, r"image\.ibd is not beside it")


@pytest.mark.parametrize("suffix", [".IBD", ".Ibd"])
def test_ibd_in_any_letter_case(write, suffix: str) -> None:
    file = write()
    os.rename(file.ibd, file.path.with_suffix(suffix))
    sound(file)


def test_ibd_of_another_acquisition(write) -> None:
    file, other = write(), write("other")
    file.ibd.write_bytes(other.ibd.read_bytes())
    refused(file, "UUID", "pair the two files")


def test_uuid_in_windows_byte_order_or_missing(write) -> None:
    file = write()
    data = bytearray(file.ibd.read_bytes())
    data[:8] = data[3::-1] + data[5:3:-1] + data[7:5:-1]
    file.ibd.write_bytes(bytes(data))
    sound(file)
    text = file.path.read_text("latin-1")
    file.path.write_text(re.sub(r"<cvParam[^>]*IMS:1000080[^>]*/>", "", text), "latin-1")
    sound(file, "no UUID")


def test_offset_beyond_the_end(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    at = [m.start() for m in re.finditer('external offset" value="', text)][8]
    file.path.write_text(
        text[:at] + text[at:].replace('offset" value="', 'offset" value="9', 1), "latin-1"
    )
    refused(file, "cut short", "spectrum 4", "1 of 20")


def test_negative_offset_and_length(write) -> None:
    for name in ("external offset", "external array length"):
        file = write()
        file.edit((f'{name}" value="', f'{name}" value="-9999999999999'), count=1)
        refused(file, "negative")


def test_integers_in_scientific_notation(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    text = re.sub(r'(external offset" value=")(\d+)"', lambda m: f'{m[1]}{int(m[2]):.6e}"', text)
    text = re.sub(r'(position x" value=")(\d+)"', r'\g<1>\g<2>.0"', text)
    file.path.write_text(text, "latin-1")
    sound(file, "scientific notation")
    file.edit(('position x" value="1.0"', 'position x" value="1.5"'), count=1)
    refused(file, "not whole")
    file.edit(('position x" value="1.5"', 'position x" value="left"'), count=1)
    refused(file, "not a number")


@pytest.mark.parametrize(("dx", "dy"), [(-1, -1), (500, 300), (-7, 12)])
def test_zero_based_offset_and_negative_coordinates(write, dx: int, dy: int) -> None:
    xy = [(x + dx, y + dy) for y in range(1, 5) for x in range(1, 6)]
    file = write(xy=xy)
    sound(file, f"coordinates start at x {1 + dx}, y {1 + dy}")
    source = open_source(str(file.path))
    assert source.shape == (4, 5) and source.origin == (1 + dy, 1 + dx)
    assert source.positions.tolist() == [[y, x] for y in range(4) for x in range(5)]


def test_missing_pixels_and_any_order(write) -> None:
    xy = [(4, 2), (1, 1), (2, 3)]
    file = write(xy=xy)
    sound(file)
    source = open_source(str(file.path))
    assert source.shape == (3, 4)
    assert source.positions.tolist() == [[1, 3], [0, 0], [2, 1]]


@pytest.mark.parametrize("z", [0, 1, 7])
def test_one_plane_whatever_its_z(write, z: int) -> None:
    sound(write(xy=[(x, 1, z) for x in (1, 2, 3)]))


def test_two_planes(write) -> None:
    refused(write(xy=[(1, 1, 1), (2, 1, 1), (1, 1, 2)]), "2 z planes", "one imzML per plane")


def test_a_pixel_written_twice(write) -> None:
    same = ([100.0, 200.0], np.array([1, 2], np.float32))
    other = ([100.0, 200.0], np.array([1, 3], np.float32))
    file = write(xy=[(1, 1), (2, 1), (1, 1)], spectra=[same, other, same])
    source = open_source(str(file.path))
    assert len(source.positions) == 2 and any("written twice" in note for note in source.notes)
    np.testing.assert_array_equal(source.read(np.array([1])).intensity, [1, 3])
    refused(
        write("two", xy=[(1, 1), (2, 1), (1, 1)], spectra=[same, same, other]),
        "spectra 0 and 2",
        "x 1, y 1",
    )


def test_coordinates_that_are_no_indices(write) -> None:
    refused(write(xy=[(1, 1), (10**7, 10**7)]), "not pixel indices")


def test_declared_counts_too_small(write) -> None:
    file = write()
    file.edit(
        ('count of pixels x" value="5"', 'count of pixels x" value="2"'),
        ('spectrumList count="20"', 'spectrumList count="7"'),
    )
    sound(file, "coordinates run to 5")
    sound(file, "7 spectra declared, 20 found")


def test_mz_not_ascending(write) -> None:
    mz = np.array([300.0, 100.0, 200.0])
    values = np.array([3, 1, 2], np.float32)
    for mode in ("processed", "continuous"):
        file = write(mode, xy=[(1, 1), (2, 1)], spectra=[(mz, values)] * 2, mode=mode)
        file.spectra = [(np.sort(mz), np.sort(values))] * 2
        if mode == "processed":
            with pytest.warns(MsiscaleWarning, match="2 spectra sorted by m/z"):
                sound(file)
        else:
            sound(file, "does not ascend")


def test_mz_not_finite(write) -> None:
    spectra = [([100.0, np.nan, 200.0], np.ones(3, np.float32))] * 2
    for mode in ("processed", "continuous"):
        file = write(mode, xy=[(1, 1), (2, 1)], spectra=spectra, mode=mode)
        refused(file, "not finite")


def test_continuous_and_processed_judged_by_the_offsets(write) -> None:
    file = write()
    file.edit(
        ('"IMS:1000031" name="processed"', '"IMS:1000030" name="continuous"'),
    )
    sound(file, "called continuous, but its offsets are processed")
    axis = np.linspace(100, 200, 9)
    spectra = [(axis, np.arange(9, dtype=np.float32) + i) for i in range(3)]
    file = write("shared", xy=[(1, 1), (2, 1), (3, 1)], spectra=spectra, mode="continuous")
    file.edit(('"IMS:1000030" name="continuous"', '"IMS:1000031" name="processed"'))
    sound(file, "called processed, but its offsets are continuous")


def test_equal_lengths_do_not_make_a_shared_axis(write) -> None:
    rng = np.random.default_rng(3)
    spectra = [
        (np.sort(rng.uniform(100, 200, 6)), rng.random(6).astype(np.float32)) for _ in range(4)
    ]
    file = write(xy=[(x, 1) for x in range(4)], spectra=spectra)
    assert open_source(str(file.path)).mz is None
    sound(file)


def test_neither_profile_nor_centroid_named(write) -> None:
    term = '<cvParam cvRef="MS" accession="MS:1000127" name="centroid spectrum" value=""/>'
    file = write()
    file.edit((term, ""))
    sound(file, "neither profile nor centroid is named; taken as centroids")
    grid = np.linspace(100, 200, 1000)
    spectra = [(grid, np.random.default_rng(0).random(1000).astype(np.float32))] * 2
    file = write("grid", xy=[(1, 1), (2, 1)], spectra=spectra)
    file.edit((term, ""))
    assert open_source(str(file.path)).profile


def test_formats_named_wrongly(write) -> None:
    file = write()
    # The right name under the accession of the other precision, as METASPACE found in the wild.
    file.edit(('"MS:1000521" name="32-bit float"', '"MS:1000523" name="32-bit float"'))
    sound(file)
    file = write("both")
    one = '<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>'
    file.edit((one, one + one.replace("1000523", "1000521").replace("64-bit", "32-bit")))
    sound(file, "name 2 number formats; <f8 is used")
    file = write("none")
    file.edit((one, ""))
    refused(file, "number format of the m/z arrays is not named")


def test_compression_named_wrongly(write) -> None:
    plain = '"MS:1000576" name="no compression"'
    file = write()
    file.edit((plain, '"MS:1000574" name="zlib compression"'))
    sound(file, "called compressed and are not")
    text = re.sub(r"<cvParam[^>]*IMS:1000104[^>]*/>", "", file.path.read_text("latin-1"))
    file.path.write_text(text, "latin-1")
    refused(file, "zlib")
    file = write("numpress")
    file.edit((plain, '"MS:1002312" name="MS-Numpress linear prediction compression"'))
    refused(file, "compression that is not zlib")


def test_a_zlib_bomb_is_not_unpacked(write) -> None:
    from pyimzml.compression import ZlibCompression

    spectra = [(np.linspace(1, 2, 50_000), np.zeros(50_000, np.float32))]
    file = write(
        xy=[(1, 1)],
        spectra=spectra,
        mz_compression=ZlibCompression(),
        intensity_compression=ZlibCompression(),
    )
    sound(file)
    file.edit(('array length" value="50000"', 'array length" value="40"'))
    refused(file, "another length")
    file.edit(('array length" value="40"', 'array length" value="5000000000000"'))
    refused(file, "absurd|compressed bytes")


def test_lengths_that_differ(write) -> None:
    file = write(xy=[(1, 1)], spectra=[([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])])
    file.edit(('array length" value="3"', 'array length" value="2"'), count=1)
    refused(file, "2 m/z but 3 intensities")


@pytest.mark.parametrize(
    ("value", "unit", "expected", "note"),
    [
        ("50000", "UO:0000018", 50.0, "converted"),
        ("0.05", "UO:0000016", 50.0, "converted"),
        ("50", "UO:0000017", 50.0, None),
        ("50", None, 50.0, "no unit"),
        ("50", "UO:0000010", None, "ignored"),
        ("0", "UO:0000017", None, "not a size"),
        ("wide", "UO:0000017", None, "not a number"),
        ("1", None, None, "unknown"),
    ],
)
def test_pixel_size_and_its_unit(write, value, unit, expected, note) -> None:
    file = write()
    unit_text = "" if unit is None else f' unitCvRef="UO" unitAccession="{unit}" unitName="u"'
    terms = "".join(
        f'<cvParam cvRef="IMS" accession="IMS:{n}" name="pixel size {a}" '
        f'value="{value}"{unit_text}/>'
        for n, a in (("1000046", "(x)"), ("1000047", "y"))
    )
    file.edit(("</scanSettings>", terms + "</scanSettings>"))
    source = open_source(str(file.path))
    if expected is None:
        assert source.pixel_um is None
    else:
        np.testing.assert_allclose(source.pixel_um, expected)
    if note is not None:
        said = [*source.notes, source.pixel_from]
        assert any(note in text for text in said), said
    given = open_source(str(file.path), pixel_um=50.0)  # what the file says of it is no matter then
    assert given.pixel_um == (50.0, 50.0) and given.notes == []


def test_polarity_missing_or_mixed(write) -> None:
    assert open_source(str(write().path)).polarity == "-"
    assert open_source(str(write("none", polarity=None).path)).polarity is None
    file = write("mixed")
    negative = '<cvParam cvRef="MS" accession="MS:1000129" name="negative scan" value=""/>'
    positive = negative.replace("1000129", "1000130").replace("negative", "positive")
    file.edit((negative, negative + positive))
    sound(file, "both polarities")


def test_crlf_latin1_and_no_namespace(write) -> None:
    file = write()
    text = file.path.read_text("latin-1").replace('id="Experiment', 'id="Präparat')
    text = text.replace("pyimzml exporter", "exporté à Zürich")
    file.path.write_bytes(text.replace("\n", "\r\n").encode("latin-1"))
    sound(file)
    file.edit((' xmlns="http://psi.hupo.org/ms/mzml"', ""))
    sound(file)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_xml_cut(write, share: float) -> None:
    file = write()
    data = file.path.read_bytes()
    file.path.write_bytes(data[: int(share * len(data))])
    refused(file, "damaged or cut|not imzML")


def test_header_without_spectra(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    file.path.write_text(re.sub(r"<spectrum .*</spectrum>", "", text, flags=re.S), "latin-1")
    refused(file, "no spectra")


def test_entities_are_refused_before_they_are_expanded(write) -> None:
    file = write()
    entities = '<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {n} "{f"&{p};" * 10}">' for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    file.edit(("<mzML ", f"<!DOCTYPE mzML [{entities}]><mzML "), ("pyimzml exporter", "&i;"))
    began = time.process_time()
    refused(file, "document type or entities")
    assert time.process_time() - began < 5
    file = write("external")
    file.edit(("<mzML ", '<!DOCTYPE mzML SYSTEM "file:///etc/passwd"><mzML '))
    refused(file, "document type or entities")


def test_not_imzml_at_all(tmp_path) -> None:
    for name, data, words in (
        ("a.imzML", b"<html></html>", "is not imzML"),
        ("b.imzML", b"", "damaged or cut"),
        ("c.bin", b"\x00\x01", "neither imzML nor HDF5"),
        ("d.imzML", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InputError, match=words):
            open_source(str(path))
    with pytest.raises(InputError, match="cannot be read"):
        open_source(str(tmp_path / "missing.imzML"))
    with pytest.raises(InputError, match="cannot be read"):
        open_source(str(tmp_path))


def test_spectrum_without_position_or_array(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    drop = re.sub(r"<cvParam[^>]*IMS:1000050[^>]*/>", "", text, count=1)
    file.path.write_text(drop, "latin-1")
    refused(file, "spectrum 0 has no position x")
    at = text.index("<binaryDataArray ")
    end = text.index("</binaryDataArray>") + len("</binaryDataArray>")
    file.path.write_text(text[:at] + text[end:], "latin-1")
    refused(file, "no m/z array")
    file.path.write_text(text.replace(' value="1"/>', "/>", 1), "latin-1")
    refused(file, "image")


def test_third_arrays_are_left_out_and_said(write) -> None:
    file = write()
    text = file.path.read_text("latin-1")
    third = (
        '<binaryDataArray encodedLength="0"><cvParam cvRef="MS" accession="MS:1002816" '
        'name="mean ion mobility array"/><binary/></binaryDataArray>'
    )
    file.path.write_text(
        text.replace("</binaryDataArrayList>", third + "</binaryDataArrayList>"), "latin-1"
    )
    sound(file, "ion mobility")


def test_a_file_that_is_collected_meanwhile_is_no_note(
    write, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loud(header.Metadata):
        def __init__(self, root) -> None:
            warnings.warn("unclosed file", ResourceWarning, stacklevel=2)
            warnings.warn("an odd term", UserWarning, stacklevel=2)
            super().__init__(root)

    file = write()
    monkeypatch.setattr(header, "Metadata", Loud)
    notes = open_source(str(file.path)).notes
    assert "header: an odd term" in notes and not any("unclosed" in note for note in notes)
