"""A layout of one's own takes a row of the table."""

from __future__ import annotations

import pickle
from functools import partial
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import pytest

from msiscale.errors import InputError
from msiscale.grid import PixelSize
from msiscale.msi import companions, image_of, layouts, layouts_table, open_msi, open_source, trees
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
        "note: the m/z axis does not ascend; sorted",
        "pixel size (20.0, 10.0) µm replaced by 30 µm as asked",
    ]
    np.testing.assert_array_equal(source.read_dense(np.arange(6)), image.reshape(6, 4)[:, ::-1])
    opened = open_msi(str(folder))
    np.testing.assert_array_equal(opened.intensity, image[..., ::-1])
    assert opened.attrs["pixel_um"] == [20.0, 10.0]
    assert companions(str(folder)) == (str(folder / "0.npy"),)
    assert companions("a.h5") == ()


def rows(path: str, indices: Ints) -> Numbers:
    return np.load(path)["rows"][indices]


def read_npz(path: str, asked: Asked) -> MsiSource | None:
    """The layout of docs/inputs.md."""
    if not path.endswith(".npz"):
        return None
    data = np.load(path)
    return image_of(path, data["mz"], data["xy"], partial(rows, path), asked=asked)


def test_a_package_of_ones_own_adds_a_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).random((6, 3)).astype(np.float32)
    xy, path = np.argwhere(np.ones((3, 2))), tmp_path / "a.npz"
    np.savez(path, mz=[300.0, 100.0, 200.0], xy=xy, rows=image)
    entry = EntryPoint("npz", f"{__name__}:read_npz", layouts.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: read_npz)
    monkeypatch.setattr(layouts, "entry_points", lambda group: EntryPoints([entry]))
    layouts.own_layouts.cache_clear()
    source = pickle.loads(pickle.dumps(open_source(str(path), pixel_um=25)))
    assert source.pixel_um == (25, 25) and source.shape == (2, 3)
    np.testing.assert_array_equal(source.positions, xy[:, ::-1])
    np.testing.assert_array_equal(source.read_dense(np.arange(6)), image[:, [1, 2, 0]])

    def broken(self: EntryPoint) -> None:
        raise ImportError("no such thing")

    monkeypatch.setattr(EntryPoint, "load", broken)
    layouts.own_layouts.cache_clear()
    with pytest.raises(InputError, match=r"layout npz cannot be loaded .*uninstall its package"):
        open_source(str(path))
    monkeypatch.undo()
    layouts.own_layouts.cache_clear()


def test_the_table_in_the_docs_is_that_of_now() -> None:
    page = (Path(__file__).parents[2] / "docs" / "inputs.md").read_text()
    assert layouts_table.with_table(page) == page
    for kind in (*trees.KINDS, *layouts.LAYOUTS):
        assert not kind.name or f"| {kind.name} |" in page
