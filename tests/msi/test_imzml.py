"""imzML: sound files read exactly as pyimzML reads them, whatever their dtype and layout."""

from __future__ import annotations

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from pyimzml.compression import ZlibCompression
from pyimzml.ImzMLParser import ImzMLParser

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi import companions, open_source
from msiscale.msi.source import batches

SOUND = [
    "example_continuous/Example_Continuous.imzML",
    "example_processed/Example_Processed.imzML",
    "galaxy_112_auto_combined/112_auto_combined.imzml",
    "galaxy_combat_40pixel/Combat_40pixel.imzML",
    "galaxy_spatial_dgmm_input/spatial_DGMM_input.imzML",
    "imzy_simple/simple_imzml.imzML",
    "matrixtests_n2/MatrixTests_N2.imzML",
    "metaspace_untreated_tiny/Untreated_3_434_tiny.imzML",
    "test_m2aia/test.imzML",
    "thyra_two_precision_terms/two_precision_terms.imzML",
    "thyra_two_scansettings/two_scansettings.imzML",
]


def pyimzml(path: Path) -> ImzMLParser:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ImzMLParser(str(path))


def assert_same_as_pyimzml(path: Path) -> None:
    source, parser = open_source(str(path)), pyimzml(path)
    n = len(parser.coordinates)
    xyz = np.array(parser.coordinates)
    y0, x0 = source.origin
    np.testing.assert_array_equal(source.positions + np.array([y0, x0]), xyz[:, 1::-1])
    assert source.shape == tuple(np.ptp(xyz[:, 1::-1], axis=0) + 1)
    np.testing.assert_array_equal(source.lengths, parser.intensityLengths)
    with parser:
        spectra = source.read(np.arange(n))
        for i in range(n):
            mz, intensity = parser.getspectrum(i)
            np.testing.assert_array_equal(spectra[i][0], mz.astype(np.float64))
            np.testing.assert_array_equal(spectra[i][1], intensity.astype(np.float32))


def test_every_real_file_is_listed(shared_data: Path) -> None:
    found = {p.relative_to(shared_data / "imzml") for p in shared_data.glob("imzml/*/*.[iI]mz*")}
    assert found == {Path(name) for name in SOUND}


@pytest.mark.parametrize("name", SOUND)
def test_spectra_equal_those_of_pyimzml(shared_data: Path, name: str) -> None:
    assert_same_as_pyimzml(shared_data / "imzml" / name)


def test_header_fields_of_real_files(shared_data: Path) -> None:
    folder = shared_data / "imzml"
    example = open_source(str(folder / SOUND[0]))
    assert example.pixel_um == (100.0, 100.0)
    assert (example.polarity, example.profile) == ("-", True)
    assert example.mz is not None and len(example.mz) == 8399
    assert open_source(str(folder / SOUND[1])).mz is None
    combined = open_source(str(folder / SOUND[2]))
    assert combined.shape == (3, 15)
    assert any("coordinates run to 15" in note for note in combined.notes)
    assert combined.pixel_um is None  # "1" without a unit
    scattered = open_source(str(folder / SOUND[3]))
    assert scattered.shape == (54, 73) and scattered.origin == (3, 2)
    assert open_source(str(folder / SOUND[5])).polarity == "+"
    # an LTQ FT Ultra, a QSTAR, and one that does not say
    assert [open_source(str(folder / SOUND[i])).analyser for i in (0, 6, 5)] == [
        "ft-icr",
        "tof",
        None,
    ]
    # Says centroid by accession and profile by name; the spectra are profiles.
    m2aia = open_source(str(folder / SOUND[8]))
    assert m2aia.profile and any("read as profile" in note for note in m2aia.notes)
    settings = open_source(str(folder / SOUND[10]))
    assert settings.pixel_um == (10.0, 10.0)
    assert any("disagree" in note for note in settings.notes)


def test_m2aia_axis_and_ion_images_as_its_own_reader_gets_them(shared_data: Path) -> None:
    folder = shared_data / "imzml" / "test_m2aia"
    source = open_source(str(folder / "test.imzML"))
    assert source.mz is not None
    np.testing.assert_array_equal(source.mz, np.load(folder / "XS.npy").ravel())
    dense = source.read_dense(np.arange(20))
    apex = source.mz[np.argmin(np.abs(source.mz - 5000))]
    for centre, name in ((apex, "YS_mz5000_da5"), (source.mz[0], "YS_LB_5")):
        image = np.empty(source.shape, np.float32)
        inside = np.abs(source.mz - centre) <= 5
        image[tuple(source.positions.T)] = dense[:, inside].max(axis=1)
        theirs = np.load(folder / f"{name}.npy").reshape(source.shape)
        np.testing.assert_array_equal(image, theirs)


@pytest.mark.parametrize("mode", ["processed", "continuous"])
@pytest.mark.parametrize("mz_dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("zlib", [False, True])
def test_every_number_format(write, mode, mz_dtype, dtype, zlib) -> None:
    rng = np.random.default_rng(1)
    axis = np.sort(rng.uniform(100, 1000, 40)).astype(mz_dtype)
    xy = [(x, y) for y in (1, 2) for x in (1, 2, 3)]
    n = [40] * 6 if mode == "continuous" else rng.integers(5, 40, 6)
    spectra = [(axis[:k], rng.integers(0, 2000, k).astype(dtype)) for k in n]
    compression = {"mz_compression": ZlibCompression(), "intensity_compression": ZlibCompression()}
    file = write(
        spectra=spectra,
        xy=xy,
        mode=mode,
        mz_dtype=mz_dtype,
        intensity_dtype=dtype,
        **(compression if zlib else {}),
    )
    source = open_source(str(file.path))
    assert (source.mz is not None) == (mode == "continuous")
    read = source.read(np.arange(6))
    for (mz, intensity), (own_mz, own) in zip(file.spectra, read, strict=True):
        np.testing.assert_array_equal(own_mz, mz)
        np.testing.assert_array_equal(own, intensity)
        assert own.dtype == np.float32
    if not zlib:
        assert_same_as_pyimzml(file.path)


def test_any_order_any_subset_and_repeats(write) -> None:
    file = write()
    source = open_source(str(file.path))
    wanted = np.array([7, 0, 19, 7, 3])
    read = source.read(wanted)
    for i, (mz, intensity) in zip(wanted, read, strict=True):
        np.testing.assert_array_equal(mz, file.spectra[i][0])
        np.testing.assert_array_equal(intensity, file.spectra[i][1])
    nothing = source.read(np.array([], int))
    assert len(nothing) == 0 and len(nothing.mz) == 0


def test_far_apart_ranges_are_read_apart(write, monkeypatch) -> None:
    import msiscale.msi.imzml as module

    monkeypatch.setattr(module, "_GAP", 0)
    monkeypatch.setattr(module, "_RUN", 64)
    file = write()
    read = open_source(str(file.path)).read(np.arange(0, 20, 3))
    for i, (mz, _) in zip(range(0, 20, 3), read, strict=True):
        np.testing.assert_array_equal(mz, file.spectra[i][0])


def test_a_source_is_small_and_picklable(write) -> None:
    file = write()
    source = open_source(str(file.path))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read(np.array([4])).mz, file.spectra[4][0])
    assert len(pickle.dumps(source)) < 20_000


def test_remote_files(write) -> None:
    import fsspec

    file = write()
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/run/a.imzML", file.path.read_bytes())
    memory.pipe_file("/run/a.ibd", file.ibd.read_bytes())
    source = open_source("memory://run/a.imzML")
    np.testing.assert_array_equal(source.read(np.array([5])).mz, file.spectra[5][0])


def test_batches_cover_every_index_within_the_limit(write) -> None:
    source = open_source(str(write().path))
    indices = np.arange(20)
    parts = list(batches(source, indices, 50))
    np.testing.assert_array_equal(np.concatenate(parts), indices)
    assert all(source.lengths[p].sum() <= 50 or len(p) == 1 for p in parts)


def test_pixel_size_given_by_the_user_wins(shared_data: Path) -> None:
    path = shared_data / "imzml" / SOUND[0]
    source = open_source(str(path), pixel_um=50)
    assert source.pixel_um == (50.0, 50.0)
    assert any("replaced" in note for note in source.notes)
    with pytest.raises(InputError, match="above 0"):
        open_source(str(path), pixel_um=-1)


def test_companion_is_the_ibd(write) -> None:
    file = write()
    assert companions(str(file.path)) == (str(file.ibd),)
    os.rename(file.ibd, file.path.with_suffix(".IBD"))
    assert companions(str(file.path)) == (str(file.path.with_suffix(".IBD")),)


def test_empty_spectra_and_odd_intensities(write) -> None:
    spectra = [
        ([100.0, 200.0, 300.0], [1.0, np.nan, -2.0]),
        ([150.0], [5.0]),
        ([100.0, 101.0], [np.inf, 3.0]),
    ]
    file = write(xy=[(1, 1), (2, 1), (3, 1)], spectra=spectra)
    text = file.path.read_text("latin-1")
    at = text.index('index="2"')  # the second spectrum becomes empty
    file.path.write_text(
        text[:at] + text[at:].replace('array length" value="1"', 'array length" value="0"'),
        "latin-1",
    )
    source = open_source(str(file.path))
    np.testing.assert_array_equal(source.lengths, [3, 0, 2])
    with pytest.warns(MsiscaleWarning, match="2 intensities that are not finite.*1 negative"):
        read = source.read(np.arange(3))
    assert (read.repairs.not_finite, read.repairs.negative) == (2, 1)
    np.testing.assert_array_equal(read.intensity, [1, 0, 0, 0, 3])
    np.testing.assert_array_equal(read.start, [0, 3, 3, 5])
