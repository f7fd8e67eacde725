"""What a run left behind, as digests: two runs are the same when these are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import obstore
import zarr
from zarr.storage import ObjectStore

STORES = ("cohort.zarr", "predictions.zarr", "model.zarr", "state.zarr")
TABLES = ("metrics.csv", "biomarkers.csv", "registration.csv")


@dataclass(frozen=True)
class Difference:
    """Names that the other run has and this one has not, and names whose contents differ."""

    lost: tuple[str, ...]
    different: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.lost or self.different)


def snapshot(store: Any) -> dict[str, str]:
    """Digest of every array, chunk and table of a run, and the status of every ledger record.

    Parameters
    ----------
    store
        The run's output as an obstore store (``LocalStore``, ``S3Store`` with its prefix).

    Returns
    -------
    dict
        ``cohort.zarr/S01/intensity`` has a SHA-256 of shape, dtype and values, so NaN and -0 count
        as their bits; ``…/c/0/0/0`` says that the chunk is there; ``ledger/…`` has the status;
        report, figures and ``run.json`` hold times and count as present only.
    """
    names = sorted(meta["path"] for batch in obstore.list(store) for meta in batch)
    found: dict[str, str] = {}
    for name in names:
        top = name.split("/", 1)[0]
        if name.endswith(".part"):  # of a writer that was killed; nobody reads it
            continue
        if top in STORES:
            if "/c/" in name or name.endswith("/c"):
                found[name] = "there"
            elif name.endswith("zarr.json"):
                found |= _array(store, name.removesuffix("zarr.json").rstrip("/"))
        elif name in TABLES:
            found[name] = hashlib.sha256(_bytes(store, name)).hexdigest()
        elif top == "ledger" and name.endswith(".json"):
            found[name] = _status(_bytes(store, name))
        elif top in ("figures", "report.html", "run.json"):
            found[name] = "there"
    return found


def compare(undisturbed: Mapping[str, str], found: Mapping[str, str]) -> Difference:
    """What the other run lost, and what came out differently; more arrays are a difference.

    Records that only one run has (a lease, a failure since mended) are none: every record of the
    undisturbed run must be there and say the same.
    """
    lost = tuple(sorted(undisturbed.keys() - found.keys()))
    more = {n for n in found.keys() - undisturbed.keys() if n.split("/", 1)[0] in STORES}
    other = {n for n in undisturbed.keys() & found.keys() if undisturbed[n] != found[n]}
    return Difference(lost, tuple(sorted(more | other)))


def _status(record: bytes) -> str:
    try:
        return str(json.loads(record).get("status"))
    except ValueError:
        return "empty or cut"


def _bytes(store: Any, name: str) -> bytes:
    return bytes(obstore.get(store, name).bytes())


def _array(store: Any, path: str) -> dict[str, str]:
    """The digest of an array, none for a group; chunks are read with their checksums."""
    root = ObjectStore(store, read_only=True)
    node = zarr.open(root, path=path, mode="r", zarr_format=3)
    if not isinstance(node, zarr.Array):
        return {}
    values = np.asarray(node[...])
    facts = json.dumps([list(values.shape), str(values.dtype), node.metadata.fill_value is None])
    data = values.tobytes() if values.dtype.kind in "biufc" else "\0".join(map(str, values.flat))
    sha = hashlib.sha256(facts.encode())
    sha.update(data if isinstance(data, bytes) else data.encode())
    return {path: sha.hexdigest()}
