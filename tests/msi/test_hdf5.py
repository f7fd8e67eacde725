"""HDF5: every layout gives the image that was put in; damaged files are refused in a line."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_array

from msiscale.errors import InputError, MsiscaleWarning
from msiscale.msi import open_msi, open_source, write_hdf5
from msiscale.msi.asked import Asked

NY, NX, K = 4, 3, 6
RNG = np.random.default_rng(0)
MZ = np.sort(RNG.uniform(100, 1000, K))
IMAGE = RNG.integers(1, 100, (NY, NX, K)).astype(np.float32)
IMAGE[1, 2] = 0  # a pixel without signal
YX = np.argwhere(np.ones((NY, NX), bool))
ROWS = IMAGE.reshape(-1, K)


def study(file: h5py.File) -> None:
    data = file.create_dataset(
        "interpolated_intensities", (K, NX + 1, NY + 1), "f4", chunks=(K, 1, 1)
    )
    for y, x in YX:
        if IMAGE[y, x].any():
            data[:, x + 1, y + 1] = IMAGE[y, x]
    file["common_mz"] = MZ


def study_in_one_piece(file: h5py.File) -> None:
    data = np.zeros((K, NX + 1, NY + 1), "f4")
    data[:, 1:, 1:] = IMAGE.transpose(2, 1, 0)
    file["interpolated_intensities"] = data
    file["common_mz"] = MZ


def msipl(file: h5py.File, transposed: bool = False) -> None:
    file["Data"] = ROWS.T if transposed else ROWS
    file["mzArray"] = MZ[None, :]
    file["xLocation"] = (YX[:, 1] + 1.0)[:, None]
    file["yLocation"] = YX[:, 0] + 1.0


def msipl_transposed(file: h5py.File) -> None:
    msipl(file, transposed=True)


def massvision(file: h5py.File) -> None:
    file["peaks"], file["mz"] = IMAGE, MZ


def openmsi(file: h5py.File) -> None:
    file.create_dataset(
        "entry_0/data_0/data_0", data=IMAGE.transpose(1, 0, 2), chunks=(2, 2, 4), compression="gzip"
    )
    file["entry_0/data_0/mz"] = MZ


def ims(file: h5py.File) -> None:
    for i, (y, x) in enumerate(YX):
        file[f"spectral_data/{i}/centroid_mzs"] = MZ
        file[f"spectral_data/{i}/centroid_intensities"] = IMAGE[y, x]
        file[f"spectral_data/{i}/coordinates"] = (float(x + 1), float(y + 1), 0.0)


def scils(file: h5py.File) -> None:
    places = np.stack([YX[:, 1] * 50.0 + 3, (NY - 1 - YX[:, 0]) * 50.0 - 7, np.zeros(len(YX))])
    file["Registrations/0/Coordinates"] = places
    file["SamplePositions/GlobalMassAxis/SamplePositions"] = MZ
    for i, row in enumerate(ROWS):
        file[f"Spots/{i}/InitialMeasurement/Intensities"] = row


def anndata_csr(file: h5py.File) -> None:
    matrix = csr_array(ROWS)
    file["X/data"], file["X/indices"], file["X/indptr"] = matrix.data, matrix.indices, matrix.indptr
    file["X"].attrs["encoding-type"] = "csr_matrix"
    file["var/mz"], file["obsm/spatial"] = MZ, YX[:, ::-1] * 20.0


def anndata_dense(file: h5py.File) -> None:
    file["X"] = ROWS
    file["var/mz"], file["obsm/spatial"] = MZ, YX[:, ::-1].astype(float)


def general(file: h5py.File) -> None:
    file["mz"], file["coordinates"], file["intensity"] = MZ, YX[:, ::-1] + 5, ROWS


CUBES = [study, study_in_one_piece, massvision, openmsi]
LISTS = [msipl, msipl_transposed, ims, scils, anndata_csr, anndata_dense, general]


def make(folder: Path, fill: Callable[[h5py.File], None]) -> Path:
    path = folder / f"{fill.__name__}.h5"
    with h5py.File(path, "w") as file:
        fill(file)
    return path


@pytest.mark.parametrize("fill", CUBES + LISTS)
def test_every_layout_gives_the_image_back(tmp_path: Path, fill) -> None:
    source = open_source(str(make(tmp_path, fill)))
    source = pickle.loads(pickle.dumps(source))
    assert source.shape == (NY, NX)
    measured = IMAGE.any(axis=2) if fill in CUBES else np.ones((NY, NX), bool)
    found = np.full((NY, NX, K), np.nan, np.float32)
    wanted = np.random.default_rng(1).permutation(len(source.positions))
    for i, (mz, intensity) in zip(wanted, source.read(wanted), strict=True):
        np.testing.assert_array_equal(mz, MZ)
        found[tuple(source.positions[i])] = intensity
    np.testing.assert_array_equal(np.isfinite(found).all(axis=2), measured)
    np.testing.assert_array_equal(found[measured], IMAGE[measured])
    if fill is not ims:
        np.testing.assert_array_equal(source.mz, MZ)
        np.testing.assert_array_equal(
            source.read_dense(wanted[:2])[0], found[tuple(source.positions[wanted[0]])]
        )
    if fill in CUBES:
        assert any("not measured" in note for note in source.notes)
    if fill in (scils, anndata_csr):
        assert any("give it in the manifest column pixel_um" in note for note in source.notes)
    assert len(source.read(np.array([], int))) == 0


def test_the_frame_of_the_study_is_cut_away(tmp_path: Path) -> None:
    assert open_source(str(make(tmp_path, study))).origin == (1, 1)


def test_a_large_cube_is_scanned_in_pieces(tmp_path: Path, monkeypatch) -> None:
    import msiscale.msi.kinds.cube as module

    monkeypatch.setattr(module, "SCAN", 25)
    source = open_source(str(make(tmp_path, study_in_one_piece)))
    assert len(source.positions) == NY * NX - 1


def test_an_axis_that_does_not_ascend_is_sorted(tmp_path: Path) -> None:
    path = make(tmp_path, general)
    with h5py.File(path, "a") as file:
        file["mz"][:] = MZ[::-1]
        file["intensity"][:] = ROWS[:, ::-1]
    source = open_source(str(path))
    np.testing.assert_array_equal(source.mz, MZ)
    np.testing.assert_array_equal(source.read_dense(np.arange(12)), ROWS)
    assert any("sorted" in note for note in source.notes)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_general_layout_round_trips(tmp_path: Path, sparse: bool) -> None:
    path = tmp_path / "image.h5"
    values = csr_array(ROWS) if sparse else ROWS
    write_hdf5(path, MZ, YX[:, ::-1], values, pixel_um=25.0, polarity="-")
    source = open_source(str(path))
    assert (source.pixel_um, source.polarity, source.profile) == ((25.0, 25.0), "-", False)
    np.testing.assert_array_equal(source.read_dense(np.arange(12)), ROWS)
    assert list(tmp_path.iterdir()) == [path]
    for bad in (
        {"mz": MZ[::-1]},
        {"coordinates": YX[:-1]},
        {"coordinates": YX * 0},
        {"coordinates": YX + 0.5},
        {"intensity": ROWS.T},
        {"polarity": "both"},
    ):
        arguments = {"mz": MZ, "coordinates": YX, "intensity": ROWS, **bad}
        with pytest.raises(ValueError):
            write_hdf5(tmp_path / "bad.h5", **arguments)
    assert not (tmp_path / "bad.h5").exists()


def test_the_bladder_image_fits_the_general_layout(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "msi_other"
    with np.load(folder / "bladder_79ions.npz") as data:
        arrays = {name: data[name] for name in data.files}
    mz = np.loadtxt(folder / "features.csv", delimiter=",", skiprows=1, usecols=0)
    n = len(arrays["indptr"]) - 1
    matrix = csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(n, 79))
    xy = (
        next(v for v in arrays.values() if v.shape == (n, 2))
        if any(v.shape == (n, 2) for v in arrays.values())
        else np.stack([arrays["x"], arrays["y"]], axis=1)
    )
    order = np.argsort(mz)
    dense = matrix.toarray()[:, order]
    path = tmp_path / "bladder.h5"
    write_hdf5(path, mz[order], xy, csr_array(dense), pixel_um=10.0)
    image = open_msi(str(path))
    assert dict(image.sizes) == {"y": 134, "x": 260, "mz": 79}
    np.testing.assert_array_equal(image.mz, mz[order])
    x, y = (np.asarray(xy, int) - np.asarray(xy, int).min(axis=0)).T
    np.testing.assert_array_equal(image.intensity.values[y, x], dense)
    np.testing.assert_allclose(image.x[:2], [5.0, 15.0])


def change(name: str, value) -> Callable[[h5py.File], None]:
    def damage(file: h5py.File) -> None:
        if name in file:
            del file[name]
        if value is not None:
            file[name] = value

    return damage


@pytest.mark.parametrize(
    ("fill", "damage", "words"),
    [
        (general, change("mz", None), "no known layout.*coordinates.*write_hdf5"),
        (general, change("mz", MZ[:-1]), "do not fit"),
        (general, change("mz", np.full(K, np.nan)), "not finite"),
        (general, change("mz", np.empty(0)), "empty"),
        (general, change("mz", np.array([b"a"] * K)), "not numbers"),
        (general, change("coordinates", YX * 0), "spectra 0 and 1 lie on the same pixel"),
        (general, change("coordinates", YX + 0.25), "not whole"),
        (general, change("coordinates", YX[:, :1]), "give \\(n, 2\\)"),
        (general, change("coordinates", np.c_[YX, YX[:, :1]]), "z planes"),
        (general, change("intensity", ROWS[0]), "1 dimensions instead of 2"),
        (msipl, change("xLocation", np.arange(3.0)), "3 xLocation but 12"),
        (study, change("common_mz", MZ[:-1]), "common_mz has 5"),
        (massvision, change("peaks", IMAGE * 0), "no spectra with any signal"),
        (scils, change("Registrations/0/Coordinates", np.zeros((3, 2))), "without coordinates"),
        (scils, change("Spots/3/InitialMeasurement/Intensities", MZ[:2]), "spot 3 has 2"),
        (ims, change("spectral_data/4/centroid_mzs", MZ[:2]), "2 m/z but 6"),
        (anndata_csr, change("X/indptr", np.arange(13)), "does not cut"),
        (anndata_csr, change("X/indices", np.full(66, 99)), "not there"),
        (anndata_csr, change("obsm/spatial", RNG.random((12, 2))), "no regular grid"),
        (
            general,
            change("intensity", h5py.ExternalLink("/etc/passwd", "x")),
            "no data set|damaged",
        ),
    ],
)
def test_damaged_files(tmp_path: Path, fill, damage, words: str) -> None:
    path = make(tmp_path, fill)
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(InputError) as caught:
        source = open_source(str(path))
        source.read(np.arange(len(source.positions)))
    message = str(caught.value)
    assert re.search(words, message), message
    assert path.name in message and "\n" not in message


def test_another_sparse_matrix_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = make(tmp_path, anndata_csr)
    with h5py.File(path, "a") as file:
        file["X"].attrs["encoding-type"] = "coo_matrix"
    with pytest.raises(InputError, match=r"tocsr\(\)"):
        open_source(str(path))


def test_a_cut_file(tmp_path: Path) -> None:
    path = make(tmp_path, general)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InputError, match="damaged HDF5"):
        open_source(str(path))


def test_nan_and_negative_are_read_as_zero_and_said(tmp_path: Path) -> None:
    path = make(tmp_path, general)
    with h5py.File(path, "a") as file:
        file["intensity"][0, 0] = np.nan
        file["intensity"][1, 1] = -5
    with pytest.warns(MsiscaleWarning, match="1 intensities that are not finite.*1 negative"):
        values = open_source(str(path)).read_dense(np.arange(2))
    assert values[0, 0] == 0 and values[1, 1] == 0


@pytest.mark.parametrize("how", ["first", "mean"])
def test_several_spectra_of_a_pixel_as_asked(tmp_path: Path, how: str) -> None:
    path = str(tmp_path / "a.h5")
    xy = [[0, 0], [1, 0], [0, 0], [1, 0], [2, 0]]
    values = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [0, 7]], np.float32)
    write_hdf5(path, [100.0, 200.0], [[i, 0] for i in range(5)], values, pixel_um=10.0)
    with h5py.File(path, "r+") as file:
        file["coordinates"][...] = xy
    with pytest.raises(InputError, match="spectra 1 and 3 lie on the same pixel"):
        open_source(path)
    source = open_source(path, asked=Asked(duplicates=how, polarity="-"))
    assert source.polarity == "-" and len(source.positions) == 3
    right = [[1, 2], [3, 4] if how == "first" else [4, 5], [0, 7]]
    np.testing.assert_array_equal(source.read_dense(np.arange(3)), right)
    assert source.notes[0] == "note: 1 spectra are written twice; each was read once"


def test_sizes_that_no_image_has(tmp_path: Path) -> None:
    path = str(tmp_path / "a.h5")
    write_hdf5(path, [100.0, 200.0], [[0, 0], [9, 0]], np.ones((2, 2)), pixel_um=5e5)
    source = open_source(path)
    assert source.pixel_um is None and "outside 0.1 µm to 1 mm" in source.unknown_size
    with pytest.raises(InputError, match=r"10 x 1 pixels of 500000 µm are 5 x 0\.5 m"):
        open_source(path, pixel_um=5e5)
    assert open_source(path, pixel_um=(20, 2000)).pixel_um == (20, 2000)  # the user is believed
