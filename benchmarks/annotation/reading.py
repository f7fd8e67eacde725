"""Reading the LMSD: the table, and an SDF of the same records with all fields."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msiscale.biomarkers import read_lipids

LIBRARIES = ("msiscale.biomarkers",)


def read_table(path: str) -> dict[str, NDArray[Any]]:
    """What the measured process does."""
    table = read_lipids(path)
    return {"rows": np.array(len(table)), "structures": np.array(table["n_structures"].sum())}


def write_sdf(table: str, path: str) -> int:
    """An SDF with a molecule of 50 atoms and LMSD's fields for every record; its size in bytes."""
    atom = "    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0\n"
    bond = "  1  2  1  0  0  0  0\n"
    block = "\n  LIPDMAPS\n\n 50 49  0  0  0  0  0  0  0  0999 V2000\n" + 50 * atom + 49 * bond
    with open(table, newline="") as source, open(path, "w") as target:
        for row in csv.DictReader(source, delimiter="\t"):
            target.write(f"{row['id']}{block}M  END\n")
            items = {
                "LM_ID": row["id"],
                "NAME": row["name"],
                "SYSTEMATIC_NAME": row["name"],
                "CATEGORY": "Glycerophospholipids [GP]",
                "MAIN_CLASS": "Glycerophosphocholines [GP01]",
                "SUB_CLASS": "Diacylglycerophosphocholines [GP0101]",
                "EXACT_MASS": "759.577803",
                "FORMULA": row["formula"],
                "INCHI_KEY": "WTJKGGKOPKCXLL-PFDVCBLKSA-N",
                "INCHI": "InChI=1S/" + row["formula"] + "/c1-6-8-10" * 20,
                "SMILES": "C" * 80,
                "SYNONYMS": row["name"] + "; " + row["name"],
            }
            target.write("".join(f"> <{k}>\n{v}\n\n" for k, v in items.items()) + "$$$$\n")
    return Path(path).stat().st_size
