from __future__ import annotations

import gzip
import re
from pathlib import Path

import pandas as pd
import pytest

from msiscale.biomarkers.lipids import builtin_lipids, read_lipids
from msiscale.biomarkers.masses import formula_mass
from msiscale.errors import InputError, MsiscaleWarning

# one species a class, formulas as LIPID MAPS lists them
KNOWN = {
    "PC 34:1": "C42H82NO8P",
    "PC O-34:1": "C42H84NO7P",
    "LPC 16:0": "C24H50NO7P",
    "PE 36:2": "C41H78NO8P",
    "PS 36:1": "C42H80NO10P",
    "PI 38:4": "C47H83O13P",
    "PG 34:1": "C40H77O10P",
    "PA 34:1": "C37H71O8P",
    "CL 72:8": "C81H142O17P2",
    "SM 34:1;O2": "C39H79N2O6P",
    "Cer 34:1;O2": "C34H67NO3",
    "CerP 34:1;O2": "C34H68NO6P",
    "HexCer 34:1;O2": "C40H77NO8",
    "Hex2Cer 34:1;O2": "C46H87NO13",
    "SHexCer 42:2;O2": "C48H91NO11S",
    "GM3 34:1;O2": "C57H104N2O21",
    "TG 52:2": "C55H102O6",
    "DG 34:1": "C37H70O5",
    "MG 18:1": "C21H40O4",
    "CE 18:1": "C45H78O2",
    "FA 20:4": "C20H32O2",
    "CAR 16:0": "C23H45NO4",
    "Cholesterol": "C27H46O",
}


def test_class_rules_give_the_known_formulas() -> None:
    table = builtin_lipids().set_index("name")
    assert table.index.is_unique
    assert table.loc[list(KNOWN), "formula"].to_dict() == KNOWN
    assert table["plausibility"].between(0, 1).all()


def test_a_caller_cannot_spoil_the_builtin_table() -> None:
    mine = builtin_lipids()
    mine["mass"] = 0.0
    assert (builtin_lipids()["mass"] > 0).all()


def _totals(name: str) -> tuple[int, int]:
    chains = re.findall(r"(\d+):(\d+)", name)
    return sum(int(c) for c, _ in chains), sum(int(d) for _, d in chains)


def test_class_rules_agree_with_every_plain_structure_of_lmsd(shared_data: Path) -> None:
    lmsd = pd.read_csv(shared_data / "lipids" / "lmsd_2017-12-12.tsv", sep="\t")
    rules = builtin_lipids().set_index("name")["formula"]
    checked: dict[str, int] = {}
    for name, formula in zip(lmsd["name"], lmsd["formula"], strict=True):
        plain = re.fullmatch(r"(PC|PE|PS|PG|PI|PA|TG|DG|SM|Cer)\(([^()\[\]]|\([\d,EZ]+\))+\)", name)
        if not plain or re.search(r"[OP]-|[mth]\d+:|:\d+\(\d+(,\d+)*\)|\(.*[A-Za-z]{3}", name):
            continue
        kind = plain.group(1)
        carbons, double_bonds = _totals(name)
        lyso = kind.startswith("P") and len(re.findall(r"\b0:0", name)) == 1
        suffix = ";O2" if kind in ("SM", "Cer") else ""
        species = f"{'L' * lyso}{kind} {carbons}:{double_bonds}{suffix}"
        if species in rules.index:
            assert rules[species] == formula, (name, species)
            checked[kind] = checked.get(kind, 0) + 1
    assert set(checked) == {"PC", "PE", "PS", "PG", "PI", "PA", "TG", "DG", "SM", "Cer"}
    assert sum(checked.values()) > 6000


def test_lmsd_tsv_and_csv_are_read_whole(shared_data: Path) -> None:
    table = read_lipids(str(shared_data / "lipids" / "lmsd_2017-12-12.tsv"))
    assert table["n_structures"].sum() == 42_021
    assert table["formula"].nunique() == 7_354
    assert not table.duplicated(["name", "formula"]).any()
    named = table.set_index("name")["formula"]
    for name in ("PC 34:1", "SM 34:1;O2", "TG 52:2", "PI 38:4", "CE 18:1", "FA 20:4"):
        assert named[name] == KNOWN[name]

    tissue = read_lipids(str(shared_data / "lipids" / "lmsd_2017_tissue.csv"))
    listed = pd.read_csv(shared_data / "lipids" / "lmsd_2017_tissue.csv")
    assert tissue["n_structures"].sum() == len(listed)
    for formula, mass in zip(listed["formula"], listed["exact_mass"], strict=True):
        assert formula_mass(formula) == pytest.approx(mass, abs=1e-5)


SDF = """LMGP01010005
  LIPID_MAPS_STRUCTURE_DATABASE_DATABASE_DATE

  1  0  0  0  0  0  0  0  0  0999 V2000
    1.0 2.0 0.0 C   0  0
M  END
> <LM_ID>
LMGP01010005

>  <NAME>
PC(16:0/18:1(9Z))

> <FORMULA>
C42H82NO8P

> <EXACT_MASS>
759.577806

$$$$
LMFA99
M  END
> <LM_ID>
LMFA99999999

> <COMMON_NAME>
-

> <NAME>
an <odd> acid

> <FORMULA>
C5H9DO2

$$$$
M  END
> <LM_ID>
LMFA00000000

$$$$
"""


@pytest.mark.parametrize("name", ["lmsd.sdf", "lmsd.sdf.gz"])
def test_sdf_is_streamed_record_by_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = SDF.replace("\n", "\r\n").encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.warns(MsiscaleWarning, match="1 records without a readable formula"):
        table = read_lipids(str(path))
    assert table["name"].tolist() == ["PC 34:1", "an <odd> acid"]
    assert table["id"].tolist() == ["LMGP01010005", "LMFA99999999"]
    assert table["mass"].tolist() == pytest.approx([759.577806, 103.07436], abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "LM_ID,ABBREVIATION,NAME,FORMULA\nLMX1,,my lipid,C10H20O2\n",
        "\ufeffregno\tCommon Name\tMolecular Formula\nLMX1\tmy lipid\tC10H20O2\n",
        'Formula;Name\nC10H20O2;"my lipid"\n',
        "Formula,Name,Note\nC10H20O2,my lipid\n",
    ],
)
def test_column_names_are_tolerant(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lipids.txt"
    path.write_text(text, encoding="utf-8")
    row = read_lipids(str(path)).iloc[0]
    assert (row["name"], row["formula"]) == ("my lipid", "C10H20O2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n", "no column FORMULA"),
        (b"", "no column FORMULA"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "no column FORMULA"),
        (b"name,formula\nx,\ny,??\n", "no lipid with a formula"),
        (b"name,formula\nx," + b"C" * 200_000 + b"\n", "cannot be read"),
    ],
)
def test_what_is_not_a_lipid_table_is_refused_in_a_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_lipids(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_cut_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such lipid table"):
        read_lipids(str(tmp_path / "none.csv"))
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(b"name,formula\n" + b"x,C10H20O2\n" * 100)[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_lipids(str(cut))
