"""Outlines of predicted cancer as GeoJSON, which QuPath opens beside the slide."""

from __future__ import annotations

from collections.abc import Iterator

from msiscale.errors import InputError
from msiscale.export.source import Opened, region_files
from msiscale.store import join, read_bytes, write_bytes


def export_geojson(opened: Opened, out: str) -> Iterator[str]:
    """Put a run's outlines (`msiscale.prediction.regions`) at ``out/<specimen>.geojson``."""
    there = region_files(opened)
    for source in opened.sources:
        if source.name not in there:
            raise InputError(
                f"{opened.url}: no regions/{source.name}.geojson; run the stage regions, or leave "
                f"{source.name} out with --specimen"
            )
        url = join(out, f"{source.name}.geojson")
        write_bytes(url, read_bytes(there[source.name]))
        yield url
