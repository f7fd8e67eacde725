"""Make a manifest of section folders: imzML, slide, annotation, and a table that registers them.

    python docs/glioblastoma_manifest.py FOLDER --columns MSI_X,MSI_Y,SLIDE_X,SLIDE_Y

docs/glioblastoma.md says what is assumed; the options are for when it is otherwise.
"""

from __future__ import annotations

import csv
import io
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

import msiscale as ms
from msiscale.errors import InputError
from msiscale.grid import Floats, apply
from msiscale.registration.transforms import Convention, to_level0, write_matrices
from msiscale.store import write_bytes

COLUMNS = ("specimen", "patient", "msi", "slide", "annotation", "matrix", "mpp", "pixel_um")
FORMS = (
    "four that pair points (MSI x, y, slide x, y), six or nine of a matrix by rows, or the word "
    "matrix where the table has nothing but one"
)


def only(folder: Path, pattern: str, *, needed: bool = True) -> Path | None:
    """The one file of that name below a section's folder, whatever the case of its letters."""
    found = [p for p in sorted(folder.rglob("*")) if fnmatch(p.name.lower(), pattern.lower())]
    if len(found) > 1:
        raise InputError(
            f"{folder}: {len(found)} files {pattern}; keep one, or name it: {found[:3]}"
        )
    if not found and needed:
        raise InputError(f"{folder}: no file {pattern} below it; put it there, or give its pattern")
    return found[0] if found else None


def read_table(path: Path, *, header: bool) -> pd.DataFrame:
    """A table of Excel or CSV."""
    first = 0 if header else None
    try:
        if path.suffix.lower() in (".xlsx", ".xls"):
            return pd.read_excel(path, header=first)
        return pd.read_csv(path, header=first, encoding="utf-8-sig")
    except ImportError:
        raise InputError(f"{path}: pip install openpyxl to read it, or save it as CSV") from None
    except ValueError as error:
        raise InputError(f"{path}: no table that can be read ({error}); save it as CSV") from None


def read_transform(path: Path, columns: list[str]) -> tuple[Floats, float]:
    """(3, 3) of a section's table, as its numbers are, and how far pairs of points are from it."""
    bare = columns == ["matrix"]
    table = read_table(path, header=not bare)
    if bare:
        numbers = table.apply(pd.to_numeric, errors="coerce")
        values = numbers.dropna(how="all").dropna(how="all", axis=1).to_numpy(float)
    else:
        table.columns = table.columns.map(str).str.strip()
        if len(columns) not in (4, 6, 9) or not set(columns) <= set(table.columns):
            there = ", ".join(table.columns[:12])
            raise InputError(f"{path}: its columns are {there}; name in --columns {FORMS}")
        values = table[columns].apply(pd.to_numeric, errors="coerce").dropna().to_numpy(float)
    if not bare and len(columns) == 4:
        return fitted(path, values)
    if not bare:
        values = values[:1].reshape(-1, 3)
    if values.shape not in ((2, 3), (3, 3)):
        raise InputError(f"{path}: {values.shape} numbers are no matrix; name in --columns {FORMS}")
    return np.vstack([values, [0.0, 0.0, 1.0]])[:3], 0.0


def fitted(path: Path, pairs: Floats) -> tuple[Floats, float]:
    """The affine map of pairs (n, 4) by least squares, and its largest error."""
    if len(pairs) < 3:
        raise InputError(f"{path}: {len(pairs)} pairs of points; an affine map needs three or more")
    ones = np.column_stack([pairs[:, :2], np.ones(len(pairs))])
    answer, _, rank, _ = np.linalg.lstsq(ones, pairs[:, 2:], rcond=None)
    if rank < 3:
        raise InputError(f"{path}: the points lie on a line; give others")
    matrix = np.vstack([answer.T, [0.0, 0.0, 1.0]])
    return matrix, float(np.linalg.norm(apply(matrix, pairs[:, :2]) - pairs[:, 2:], axis=1).max())


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--columns", default="", help=f"Of the table: {FORMS}.")
@click.option("--out", default="manifest.csv", show_default=True, help="In FOLDER.")
@click.option("--sections", default="*", show_default=True, help="Folders to take.")
@click.option("--patient", default=r"P\d+", show_default=True, help="REGEX: of a folder's name.")
@click.option("--msi", default="*.imzML", show_default=True)
@click.option("--slides", default="*.svs", show_default=True)
@click.option("--annotations", default="*.xml", show_default=True)
@click.option("--tables", default="*.xlsx", show_default=True)
@click.option("--msi-first", type=float, default=1, show_default=True, help="See Convention.")
@click.option("--msi-um", type=float, help="MSI coordinates are µm: the size of a pixel.")
@click.option("--slide-downsample", type=float, default=1, show_default=True)
@click.option("--slide-mpp", type=float, help="Slide coordinates are µm: of a level-0 pixel.")
@click.option("--slide-centres", is_flag=True, help="The first slide pixel's centre is 0.")
@click.option("--inverse", is_flag=True, help="The transforms take the slide to the MSI.")
@click.option("--rows-first", is_flag=True, help="Points are (y, x).")
@click.option("--mpp", help="µm a level-0 pixel, where the slides lack it.")
@click.option("--pixel-um", help="µm an MSI pixel, where the imzML lack it.")
def main(folder: Path, **words: Any) -> None:
    """Write FOLDER/manifest.csv and FOLDER/matrices/<section>.json."""
    convention = Convention(
        msi_first=words["msi_first"],
        msi_um=words["msi_um"],
        slide_downsample=words["slide_downsample"],
        slide_mpp=words["slide_mpp"],
        slide_centres=words["slide_centres"],
        inverse=words["inverse"],
        rows_first=words["rows_first"],
    )
    columns = [name.strip() for name in words["columns"].split(",")]
    matrices, lines = {}, []
    for section in sorted(p for p in folder.iterdir() if p.is_dir() and p.name != "matrices"):
        if not fnmatch(section.name, words["sections"]):
            continue
        patient = re.search(words["patient"], section.name)
        if patient is None:
            raise InputError(f"{section}: --patient {words['patient']!r} finds nothing in its name")
        msi, slide = only(section, words["msi"]), only(section, words["slides"])
        annotation = only(section, words["annotations"], needed=False)
        table = only(section, words["tables"])
        assert msi is not None and slide is not None and table is not None
        transform, error = read_transform(table, columns)
        y, x = ms.open_msi(str(msi)).attrs["origin"]
        matrices[section.name] = to_level0(transform, (int(y), int(x)), convention)
        size = np.sqrt(abs(np.linalg.det(transform[:2, :2])))  # of an MSI pixel on the slide
        # of a map to the MSI, errors are in the MSI's own unit
        pixels = error / (words["msi_um"] or 1.0) / (1.0 if words["inverse"] else size)
        click.echo(f"{section.name}: off by {pixels:.2f} MSI pixels at most")
        lines.append(
            {
                "specimen": section.name,
                "patient": patient[0],
                "msi": msi.relative_to(folder),
                "slide": slide.relative_to(folder),
                "annotation": annotation.relative_to(folder) if annotation else "",
                "matrix": f"matrices/{section.name}.json",
                "mpp": words["mpp"] or "",
                "pixel_um": words["pixel_um"] or "",
            }
        )
    if not lines:
        raise InputError(
            f"{folder}: no folder {words['sections']} in it; unpack a section into each"
        )
    write_matrices(str(folder / "matrices"), matrices)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_bytes(str(folder / words["out"]), text.getvalue().encode())
    patients = len({line["patient"] for line in lines})
    click.echo(f"{folder / words['out']}: {len(lines)} sections of {patients} patients")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"{error}") from None
