"""Zarr groups, of format 2 and 3, as trees of arrays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import zarr

from msiscale import store
from msiscale.errors import InputError
from msiscale.msi.tree import Tree
from msiscale.store.web import Refused

_MARKS = ("zarr.json", ".zgroup", ".zarray")


class ZarrTree(Tree):
    """An open Zarr group."""

    def is_array(self, found: Any) -> bool:
        """Whether what was found is an array."""
        return isinstance(found, zarr.Array)

    def check(self, name: str, array: Any) -> None:
        """Refuse what would run code: a chunk that is a pickle."""
        facts = {k: v for k, v in array.metadata.to_dict().items() if k != "attributes"}
        if "pickle" in json.dumps(facts, default=str).lower():
            raise InputError(f"{self.path}: {name} holds pickles, which are never read; write it")


def is_zarr(path: str, _: Callable[[], bytes]) -> bool:
    """Whether a path is a Zarr store: by its name, or by what is in the folder."""
    if ".zarr" in path and (path.rstrip("/").endswith(".zarr") or ".zarr/" in path):
        return True
    return not store.is_url(path) and any(
        (store.local_path(path) / mark).is_file() for mark in _MARKS
    )


@contextmanager
def opened_zarr(path: str, inner: str = "") -> Iterator[ZarrTree]:
    """The Zarr group at a path or URL, or one in it; a damaged one is refused in a line."""
    try:
        group: Any = _group(path)
        if inner:
            group = group.get(inner)
            if not isinstance(group, zarr.Group):
                raise InputError(f"{path}: has no group {inner}; export the image again")
        yield ZarrTree(path, group, partial(opened_zarr, path, inner), "Zarr")
    except InputError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: damaged Zarr ({reason}); copy the folder again") from None


def _group(path: str) -> zarr.Group:
    for version in (3, 2):
        try:  # others leave chunks of the fill value out
            return store.open_group(path, whole=False, zarr_format=version)
        except Refused:
            raise
        except InputError as error:
            if "no Zarr store" not in str(error):
                raise InputError(f"{str(error).partition(';')[0]}; copy the folder again") from None
    raise InputError(f"{path}: no Zarr group there; check the path")
