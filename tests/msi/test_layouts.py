"""A layout of one's own takes a row of the table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi import companions, layouts, open_msi, open_source
from msiscale.msi.asked import Asked
from msiscale.msi.source import MsiSource
from msiscale.msi.spectra import Ints, Numbers


class Folder(MsiSource):
    """A folder with one .npy a row of pixels."""

    def stored_values(self, indices: Ints) -> Numbers:
        rows = np.stack([np.load(path) for path in sorted(Path(self.path).glob("*.npy"))])
        return rows[tuple(self.positions[indices].T)]


def open_folder(path: str, asked: Asked) -> Folder:
    source = Folder(
        path=path,
        shape=(2, 3),
        pixel_um=PixelSize(20.0, 10.0),
        positions=np.argwhere(np.ones((2, 3))).astype(np.int32),
        origin=(0, 0),
        lengths=np.full(6, 4),
        notes=[],
    )
    source.share_axis(np.array([400.0, 300.0, 200.0, 100.0]), "mend it")
    source.resize(asked.pixel_um)
    return source


def test_a_layout_is_a_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    folder = tmp_path / "a.rows"
    folder.mkdir()
    for y in range(2):
        np.save(folder / f"{y}.npy", image[y])
    with pytest.raises(InputError, match="cannot be read"):
        open_source(str(folder))
    row = layouts.Layout(
        lambda path, head: path.endswith(".rows"),  # a folder has no first bytes
        open_folder,
        lambda path: (path + "/0.npy",) if path.endswith(".rows") else (),
    )
    monkeypatch.setattr(layouts, "LAYOUTS", (row, *layouts.LAYOUTS))
    source = open_source(str(folder), pixel_um=30)
    assert source.pixel_um == PixelSize(30.0, 30.0) and source.mode == "continuous"
    assert source.notes == [
        "the m/z axis does not ascend; sorted",
        "pixel size (20.0, 10.0) µm replaced by 30 µm as asked",
    ]
    np.testing.assert_array_equal(source.read_dense(np.arange(6)), image.reshape(6, 4)[:, ::-1])
    opened = open_msi(str(folder))
    np.testing.assert_array_equal(opened.intensity, image[..., ::-1])
    assert opened.attrs["pixel_um"] == [20.0, 10.0]
    assert companions(str(folder)) == (str(folder / "0.npy"),)
    assert companions("a.h5") == ()
