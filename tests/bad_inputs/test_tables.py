"""Lipid tables, weights and the config file."""

from __future__ import annotations

import gzip
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bad_inputs.rows import READS, REFUSES, Row
from safetensors.torch import save_file

from msiscale.biomarkers import lipids
from msiscale.biomarkers.lipids import read_lipids
from msiscale.config import load_config
from msiscale.features.weights import load_into, read_state

TABLE = "LM_ID,NAME,FORMULA\nX1,my lipid,C10H20O2\n"


def table(
    id: str,
    wrong: str,
    says: str,
    data: str | bytes | None,
    does: str = REFUSES,
    name: str = "l.csv",
) -> Row:
    """A lipid table, of which one lipid is read."""

    def run(folder: Path) -> None:
        if data is not None:
            (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        found = read_lipids(str(folder / name))
        assert found[["name", "formula"]].to_numpy().tolist() == [["my lipid", "C10H20O2"]]
        assert found["mass"][0] == pytest.approx(172.14633, abs=1e-5)

    return Row(id, wrong, does, says, run)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a weights file was run')",)


def weights(id: str, wrong: str, says: str, write: Callable[[Path], None], name: str) -> Row:
    """A file of weights for a network of one layer."""

    def run(folder: Path) -> None:
        write(folder / name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on the form of a pickle
            state = read_state(str(folder / name))
        load_into(torch.nn.Linear(3, 2), state, str(folder / name), ())

    return Row(id, wrong, REFUSES, says, run)


def cut(path: Path) -> None:
    whole = path.with_name("whole")
    save_file({"weight": torch.ones(2, 3), "bias": torch.ones(2)}, whole)
    path.write_bytes(whole.read_bytes()[:60])


def cut_pth(path: Path) -> None:
    torch.save({"weight": torch.ones(2, 3)}, path)
    path.write_bytes(path.read_bytes()[:300])


def huge(path: Path) -> None:
    head = b'{"weight":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,8]}}'
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))


def config(id: str, wrong: str, says: str, text: str | bytes | None, does: str = REFUSES) -> Row:
    """A config file."""

    def run(folder: Path) -> None:
        if text is not None:
            (folder / "c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        assert load_config(str(folder / "c.toml")).mpp == 1.0

    return Row(id, wrong, does, says, run)


NO_READ = "<file>: the lipid table cannot be read (<why>); download it again"
NO_FORMULA = "<file>: no column FORMULA and not an SDF; give an LMSD file (CSV, TSV or SDF)"
UNREAD = "<file>: --weights cannot be read (<why>); is it complete?"
CODE = (
    "<file>: --weights holds more than tensors, or is not a weights file, and loading it could run "
    "code; save its state_dict() as .safetensors"
)
OTHER = (
    "<file>: the weights are of another network: the file <what> <names>; give --weights of the "
    "encoder's own architecture"
)
TOML = "<file>: not valid TOML: <why>; mend it there"
FINITE = "<file>: option <name> = <value>: give finite numbers"
LIPIDS = [
    table(
        "lipids_missing",
        "no file",
        "<file>: no such lipid table; give an LMSD file (CSV, TSV or SDF)",
        None,
    ),
    table("lipids_other", "a table of something else", NO_FORMULA, "a,b\n1,2\n"),
    table("lipids_binary", "not text", NO_FORMULA, b"\x89PNG\r\n\x1a\n\x00\xff"),
    table(
        "lipids_no_formula",
        "no formula that can be read",
        "<file>: no lipid with a formula in it; give an LMSD file (CSV, TSV or SDF)",
        "name,formula\nx,??\n",
    ),
    table(
        "lipids_some",
        "some formulas that cannot be read",
        "<file>: <n> records without a readable formula are left out",
        TABLE + f"X2,b,Zz3\nX3,c,C{'9' * 400}\nX4,d,C0\n",
        "leaves these records out",
    ),
    table(
        "lipids_gz_cut", "gzip cut", NO_READ, gzip.compress(TABLE.encode())[:30], name="l.csv.gz"
    ),
    table(
        "lipids_gz_flipped",
        "gzip with a wrong byte",
        NO_READ,
        (lambda d: d[:20] + b"\xff\xff\xff" + d[23:])(gzip.compress(TABLE.encode() * 9)),
        name="l.csv.gz",
    ),
    table(
        "lipids_bomb",
        "gzip that unpacks to one line of 64 MiB",
        NO_READ,
        gzip.compress(TABLE.encode() + bytes(1 << 26), 6),
        name="l.csv.gz",
    ),
    table(
        "lipids_latin1",
        "Latin-1 in a name that is not used, CRLF, byte order mark",
        "",
        ("\ufeff" + TABLE).replace("\n", ",é\r\n").encode(),
        READS,
    ),
    table("lipids_semicolons", "columns parted by semicolons", "", TABLE.replace(",", ";"), READS),
]
WEIGHTS = [
    weights(
        "weights_missing",
        "no file",
        "<file>: no such weights file; check --weights",
        lambda p: None,
        "w.pth",
    ),
    weights("weights_cut", ".safetensors cut", UNREAD, cut, "w.safetensors"),
    weights("weights_pth_cut", ".pth cut", UNREAD, cut_pth, "w.pth"),
    weights(
        "weights_pickle",
        "a pickle that runs code",
        CODE,
        lambda p: p.write_bytes(pickle.dumps(Evil())) and None,
        "w.pth",
    ),
    weights(
        "weights_pickle_inside",
        "tensors beside an object that runs code",
        CODE,
        lambda p: torch.save({"weight": torch.ones(2, 3), "y": Evil()}, p),
        "w.pth",
    ),
    weights("weights_huge", "a tensor of 1e18 values declared", UNREAD, huge, "w.safetensors"),
    weights(
        "weights_list",
        "no table of tensors",
        "<file>: --weights is not a table of tensors; save a state_dict() there",
        lambda p: torch.save([1, 2], p),
        "w.pth",
    ),
    weights(
        "weights_lack",
        "tensors missing",
        OTHER,
        lambda p: save_file({"bias": torch.ones(2)}, p),
        "w.safetensors",
    ),
    weights(
        "weights_shape",
        "tensors of another shape",
        OTHER,
        lambda p: save_file({"weight": torch.ones(9, 3), "bias": torch.ones(2)}, p),
        "w.safetensors",
    ),
]
CONFIG = [
    config("config_missing", "no file", "<file>: no such config file", None),
    config("config_broken", "not TOML", TOML, "mpp = "),
    config("config_latin1", "Latin-1", TOML, 'encoder = "é"'.encode("latin-1")),
    config("config_nested", "lists nested 100,000 deep", TOML, "alphas = " + "[" * 100_000),
    config("config_digits", "a number of 5,000 digits", TOML, "mpp = " + "9" * 5000),
    config(
        "config_unknown",
        "an option misspelt",
        "<file>: unknown option '<name>'; did you mean '<name>'?",
        "tolerance = 5",
    ),
    config(
        "config_kind",
        "a value of another kind",
        "<file>: option <name> = <value> should be <kind>",
        'mpp = "1"',
    ),
    config(
        "config_word",
        "a word that is no choice",
        "<file>: option <name> = <value> should be <choices>",
        'normalise = "max"',
    ),
    config(
        "config_large",
        "a whole number of 30 digits",
        "<file>: option <name> = <value> should be <kind>",
        "block = " + "9" * 30,
    ),
    config(
        "config_range",
        "a number out of range",
        "<file>: option mpp = <value>: give a positive number",
        "mpp = -1",
    ),
    config("config_infinite", "an infinite number", FINITE, "snr = inf"),
    config("config_nan", "NaN in a list", FINITE, "alphas = [0.1, nan]"),
    config("config_whole", "a whole number where a fraction is meant", "", "mpp = 1", READS),
]
ROWS = [*LIPIDS, *WEIGHTS, *CONFIG]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    row.check(tmp_path)


def test_a_zip_of_more_records_than_there_are_lipids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is of records and not of bytes; here a small one."""
    from msiscale.errors import InputError

    monkeypatch.setattr(lipids, "_MOST_RECORDS", 1000)
    with zipfile.ZipFile(tmp_path / "l.csv.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("l.csv", TABLE + "X1,my lipid,C10H20O2\n" * 2000)
    with pytest.raises(InputError, match="more than 1000 records"):
        read_lipids(str(tmp_path / "l.csv.zip"))
