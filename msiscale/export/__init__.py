"""Results in the formats of other tools: OME-Zarr, SpatialData, AnnData, Parquet, imzML, GeoJSON.

What the run holds stays the truth; an export can be deleted and made again. See docs/formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from msiscale.errors import InputError
from msiscale.export.source import open_run

__all__ = ["FORMATS", "Exported", "export"]

FORMATS = ("ome-zarr", "spatialdata", "anndata", "parquet", "imzml", "geojson")
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
    return Exported(list(_writer(format)(opened, out, **options)), opened.left_out)


def _writer(format: str) -> Callable[..., Iterator[str]]:
    """Each is imported when it is used."""
    if format == "ome-zarr":
        from msiscale.export.ome_zarr import export_ome_zarr

        return export_ome_zarr
    if format == "spatialdata":
        from msiscale.export.spatialdata import export_spatialdata

        return export_spatialdata
    if format == "anndata":
        from msiscale.export.anndata import export_anndata

        return export_anndata
    if format == "parquet":
        from msiscale.export.tables import export_tables

        return export_tables
    if format == "imzml":
        from msiscale.export.imzml import export_imzml

        return export_imzml
    from msiscale.export.geojson import export_geojson

    return export_geojson
