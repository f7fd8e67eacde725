"""Raw data of instruments: one line says what converts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from msiscale.errors import InputError
from msiscale.msi import open_source


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.d", "Bruker.*SCiLS Lab or flexImaging; or thyra"),
        ("A.D/", "Bruker"),
        ("a.raw", "Waters or Thermo.*HDI.*ImageQuest"),
        ("a.slx", "SCiLS Lab"),
        ("s3://bucket/run.d", "Bruker"),
    ],
)
def test_raw_data_name_their_converter(tmp_path: Path, name: str, words: str) -> None:
    path = name if "://" in name else f"{tmp_path}/{name}"
    if "://" not in name:
        Path(path).mkdir()
    with pytest.raises(InputError, match=words) as caught:
        open_source(path)
    message = str(caught.value)
    assert message.startswith(path) and "\n" not in message


def test_a_rapiflex_folder_has_no_ending(tmp_path: Path) -> None:
    for name in ("run.dat", "run_poslog.txt", "run_info.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="Bruker"):
        open_source(str(tmp_path))


def test_a_zip_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.zarr.zip").write_bytes(b"PK\3\4" + bytes(99))
    with pytest.raises(InputError, match="zip archive; unpack it"):
        open_source(str(tmp_path / "a.zarr.zip"))


def test_any_other_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_source(str(tmp_path))
