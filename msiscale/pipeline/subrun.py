"""A run of its own inside another's output, which begins with a copy of what is done there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from msiscale.config import RunConfig
from msiscale.errors import InputError
from msiscale.pipeline.driver import run
from msiscale.pipeline.stages import stage_named
from msiscale.store import exists, is_url, join, local_path, read_bytes, remove, write_bytes


def sub_run(
    manifest: str,
    out: str,
    place: str,
    config: RunConfig,
    what: str,
    keep: Mapping[str, str],
    where: dict[str, Any],
    without: Sequence[str] = (),
) -> None:
    """Run the stages up to the fit at `place`, keep some of its files, and remove it.

    Parameters
    ----------
    manifest, config, where
        As of `msiscale.run`.
    out
        The run whose finished work is copied, where it is a folder.
    place
        Where the run is made; one that was stopped there goes on.
    what
        For messages.
    keep
        Where each of its files is written, in this order: the last one says that all are there.
    without
        Names of arrays and of folders of the ledger that are not copied.

    Raises
    ------
    InputError
        A specimen failed.
    """
    if not is_url(out) and not exists(place):
        for part in ("cohort.zarr", "state.zarr", "ledger"):  # records after what they vouch for
            shutil.copytree(
                local_path(join(out, part)),
                local_path(join(place, part)),
                ignore=shutil.ignore_patterns(*without),
            )
    result = run(manifest, place, config=config, stages=stage_named("fit").chain, **where)
    if result.failed:
        specimen, why = next(iter(result.failed.items()))
        raise InputError(f"{what}: {specimen}: {why}")
    for file, target in keep.items():
        write_bytes(target, read_bytes(join(place, file)))
    remove(place)
