"""Where a fit keeps what it has made, so that one that was killed goes on where it was.

Each item is a group of its own that says, last of all, of which fit it is (``stamp``): one without,
of another fit, or that does not read back whole, is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

import zarr

from msiscale.errors import InputError
from msiscale.models.fold_model import MAP, FoldModel, Scored, StoredFold, StoredMaps
from msiscale.models.folds import Fold
from msiscale.models.moments import Moments
from msiscale.saving import Saved
from msiscale.store import join, open_group, put, remove

T = TypeVar("T", bound=Saved)
DAMAGE = (InputError, OSError, KeyError, ValueError, RuntimeError)  # of what is read back


class _Shelf(MutableMapping[str, T]):
    """Items by name, each stored as it is set and read as it is asked for.

    Attributes
    ----------
    url, stamp : where, and of which fit
    loads : items read
    """

    def __init__(self, url: str, stamp: str) -> None:
        self.url, self.stamp, self.loads = url, stamp, 0

    def _read(self, url: str, group: zarr.Group) -> T:
        raise NotImplementedError

    def _write(self, group: zarr.Group, item: T) -> None:
        item.save(group)

    def place(self, name: str) -> str:
        """The URL of an item."""
        return join(self.url, name)

    def __getitem__(self, name: str) -> T:
        group = open_group(self.place(name))
        if group.attrs.get("stamp") != self.stamp:
            raise KeyError(name)
        self.loads += 1
        return self._read(self.place(name), group)

    def __setitem__(self, name: str, item: T) -> None:
        group = open_group(self.place(name), "a")
        group.attrs.put({})
        self._write(group, item)
        group.attrs["stamp"] = self.stamp

    def __delitem__(self, name: str) -> None:
        remove(self.place(name))

    def __contains__(self, name: object) -> bool:
        try:
            return self[str(name)] is not None
        except DAMAGE:
            return False

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("what is in a store is known by name")

    def __len__(self) -> int:
        raise NotImplementedError("what is in a store is known by name")


class StoredMoments(_Shelf[Moments]):
    """Sums by name."""

    def _read(self, url: str, group: zarr.Group) -> Moments:
        return Moments.load(group)


class StoredModels(_Shelf[FoldModel]):
    """Fitted folds by name, with their maps and scores."""

    def _read(self, url: str, group: zarr.Group) -> FoldModel:
        scored = Scored.load(group, group["scored"])  # type: ignore[arg-type]
        return replace(FoldModel.load(group), maps=StoredMaps(join(url, "maps")), scored=scored)

    def _write(self, group: zarr.Group, item: FoldModel) -> None:
        item.save(group)
        for name, mapped in (item.maps or {}).items():
            of = group.require_group("maps").require_group(name)
            for what, dims in MAP.items():
                put(of, what, getattr(mapped, what), dims)
        item.scored.save(group.require_group("scored"))

    def __contains__(self, name: object) -> bool:
        try:
            return [*(self[str(name)].maps or {}).values()] != []
        except DAMAGE:
            return False


@dataclass(frozen=True)
class FoldStore:
    """The sums and the folds that a fit has made.

    Attributes
    ----------
    url : str
    stamp : str, of all that the fit depends on
    """

    url: str
    stamp: str

    @property
    def sums(self) -> StoredMoments:
        """Sums that were made on the way."""
        return StoredMoments(join(self.url, "sums"), self.stamp)

    @property
    def models(self) -> StoredModels:
        """Fitted folds, by their place in the list of folds."""
        return StoredModels(join(self.url, "models"), self.stamp)


class StoredFolds(Sequence[FoldModel]):
    """The fitted folds of a store, each read when it is asked for: never all in memory."""

    def __init__(self, store: FoldStore, folds: Sequence[Fold]) -> None:
        self.store, self.folds = store, folds

    def __len__(self) -> int:
        return len(self.folds)

    @overload
    def __getitem__(self, i: int) -> FoldModel: ...
    @overload
    def __getitem__(self, i: slice) -> list[FoldModel]: ...
    def __getitem__(self, i: int | slice) -> FoldModel | list[FoldModel]:
        which = range(len(self))[i]
        if isinstance(which, range):
            return [self[k] for k in which]
        return self.store.models[f"{which:04d}"]

    @property
    def urls(self) -> list[str]:
        """Where each is."""
        return [self.store.models.place(f"{i:04d}") for i in range(len(self))]

    @property
    def mapped(self) -> list[StoredFold]:
        """Each fold with maps that are read when they are asked for."""
        return [StoredFold(fold, url) for fold, url in zip(self.folds, self.urls, strict=True)]

    def scored(self) -> Iterator[Scored]:
        """What each scored, without its arrays."""
        for url in self.urls:
            group = open_group(url)
            yield Scored.load(group, group["scored"])  # type: ignore[arg-type]
