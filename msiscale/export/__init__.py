"""Results in the formats of other tools: OME-Zarr, SpatialData, AnnData, Parquet, imzML, GeoJSON.

What the run holds stays the truth; an export can be deleted and made again. See docs/formats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from msiscale.errors import InputError
from msiscale.export.source import open_run

__all__ = ["FORMATS", "Exported", "export"]

# each written by a module of this package, which is imported when it is used
_WRITERS = {
    "ome-zarr": "ome_zarr",
    "spatialdata": "spatialdata",
    "anndata": "anndata",
    "parquet": "tables",
    "imzml": "imzml",
    "geojson": "geojson",
}
FORMATS = tuple(_WRITERS)
WITH_MZ = ("ome-zarr", "spatialdata", "parquet")


@dataclass(frozen=True)
class Exported:
    """What was written, and the specimens that are not in it with the reason."""

    written: list[str]
    left_out: dict[str, str] = field(default_factory=dict)


def export(
    run: str,
    out: str,
    format: str,
    *,
    specimens: Sequence[str] | None = None,
    mz: Sequence[float] | None = None,
    slides: bool = True,
) -> Exported:
    """Write the results of a run in a format that other tools open.

    Parameters
    ----------
    run
        The ``out`` of `msiscale.run`; or of `msiscale.predict` (for ome-zarr, parquet, imzml and
        geojson).
    out
        A folder; for spatialdata the store itself, ``SOMETHING.zarr``. What an earlier export wrote
        there is replaced.
    format
        One of `FORMATS`.
    specimens
        Names; default all that are finished.
    mz
        Of the ion images (ome-zarr, spatialdata: default the strongest of ``biomarkers.csv``) or
        columns (parquet: default none).
    slides
        Whether ome-zarr has the H&E too, at full size.

    Returns
    -------
    Exported
        What was written, and what is not in it.

    Raises
    ------
    InputError
        No results at `run`; an unknown format, specimen or m/z; a library that is not installed
        (the line says how to get it).
    """
    if format not in FORMATS:
        raise InputError(f"--format {format}: unknown; give {', '.join(FORMATS)}")
    if mz and format not in WITH_MZ:
        raise InputError(f"--mz does not go with --format {format}; it has them all or none")
    opened = open_run(run, specimens)
    options: dict[str, Any] = {"mz": list(mz) if mz else None} if format in WITH_MZ else {}
    if format == "ome-zarr":
        options["slides"] = slides
    module = import_module(f"msiscale.export.{_WRITERS[format]}")
    write = getattr(module, f"export_{_WRITERS[format]}")
    return Exported(list(write(opened, out, **options)), opened.left_out)
