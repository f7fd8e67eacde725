"""A manifest and a file of options with comments that say how to go on."""

from __future__ import annotations

import csv
import io
import os
import typing
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from msiscale.config import OPTIONS, Option
from msiscale.starting.pairing import Pairs

COLUMNS = ("specimen", "patient", "msi", "slide", "annotation", "landmarks", "matrix")
BY_HAND = ("mpp", "pixel_um")
# no commas and no letters beyond ASCII: a table program shows each line as one cell
HEAD = (
    "The specimens of a cohort: one line for each. Lines that begin with # are comments.",
    "Paths are relative to this file. An empty cell means the default.",
    "patient: specimens of one patient are held out together. Empty: each is its own patient.",
    "landmarks: a CSV with the columns slide_x; slide_y; msi_x; msi_y. Empty: by the images.",
    "mpp: micrometres per slide pixel; as 0.25. pixel_um: micrometres per MSI pixel; as 50.",
    "More columns: polarity (+ or -); ms_level (1); trust_ibd (yes). See docs/manifest.md.",
)

# values to show of options that have no default
EXAMPLES: dict[str, Any] = {
    "reference_mz": (760.585,),
    "recalibrate": "builtin:lipids",
    "axis": "axis.csv",
    "weights": "weights.safetensors",
    "tokens": "class",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "mpp": 0.5,
    "window": 1280,
    "cancer_classes": ("Tumor",),
    "exclude_classes": ("Artefact",),
    "lipids": "LMSD.sdf",
    "polarity": "+",
    "adducts": ("[M+H]+", "[M+Na]+"),
    "matrix_ions": "matrix.csv",
    "analyser": "orbitrap",
    "resolving_power": 140000.0,
    "region_probability": 0.5,
}


def manifest(
    pairs: Pairs, place: Path, patients: Mapping[str, str], said: Mapping[str, str]
) -> bytes:
    """The manifest of some specimens.

    Parameters
    ----------
    pairs
        The specimens and their files.
    place
        The folder in which it will be.
    patients
        Specimen -> patient, of those known.
    said
        Column -> what is written there for every specimen.

    Returns
    -------
    bytes
        A CSV that table programs open, and the files that it leaves out as comments.
    """
    used = {role for row in pairs.rows for role in row.files}
    columns = [c for c in COLUMNS if c != "matrix" or c in used] + [*BY_HAND]
    columns += [c for c in said if c not in columns]
    text = io.StringIO()
    text.writelines(f"# {line}\n" for line in HEAD)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    for row in pairs.rows:
        files = {str(role): relative(file.path, place) for role, file in row.files.items()}
        known = {**said, **files, "specimen": row.name, "patient": patients.get(row.name, "")}
        rows.writerow([known.get(column, "") for column in columns])
    text.writelines(f"# not paired: {relative(f.path, place)}\n" for f in pairs.left)
    found = text.getvalue()
    return found.encode() if found.isascii() else found.encode("utf-8-sig")


def relative(path: Path, place: Path) -> str:
    """A path as a manifest in `place` has it: below it by its name there, elsewhere as a whole."""
    whole, home = Path(os.path.abspath(path)), Path(os.path.abspath(place))
    if not whole.is_relative_to(home):
        return str(whole)
    inner = str(whole.relative_to(home))
    # a table program would take these for a formula
    return f"./{inner}" if inner.startswith(("=", "+", "-", "@", "#")) else inner


def options(chosen: Mapping[str, Any]) -> str:
    """Every option as TOML with what it is; those not `chosen` are comments with their default."""
    lines = [
        "# Options of msiscale check and msiscale run: give them this file by --config FILE.",
        "# To choose a value, take the # before its name away. The command line wins over this.",
        "",
    ]
    for section, some in groupby(OPTIONS.values(), lambda each: each.section):
        lines += [f"# ---- {section} ----", ""]
        for each in some:
            lines += [f"# {each.sentence}", *_choices(each)]
            if each.name in chosen:
                lines.append(f"{each.name} = {toml(chosen[each.name])}")
            else:
                default = each.default if each.default is not None else EXAMPLES[each.name]
                lines.append(f"# {each.name} = {toml(default)}")
            lines.append("")
    return "\n".join(lines)


def _choices(option: Option) -> list[str]:
    words = [word for word in typing.get_args(option.kind) if isinstance(word, str)]
    return [f"# One of {', '.join(words)}."] if words else []


def toml(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return f"{value!r}"
