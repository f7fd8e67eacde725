"""Heads that follow curves: each fold with Fourier features made of its training specimens alone.

A fold's map comes from the sums that are there; its features need sums of their own, one reading of
the parts a fold. They are fitted one after another, and what was made for one goes when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from msiscale.features.layers import Group
from msiscale.models import Fold, FourierMap, Moments
from msiscale.models.fold_model import MAP, columns_of
from msiscale.models.fold_store import FoldStore
from msiscale.models.fourier_folds import group_of, slide_axes, with_fourier
from msiscale.models.joint import LinearMap
from msiscale.saving import as_stored
from msiscale.store import join, open_group, put, remove

Compute = Callable[[Sequence[Callable[[], Any]]], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class Heads:
    """What the folds of a fit share.

    Attributes
    ----------
    store : where the fitted folds are put
    sums : mapping of part to Moments of features and colours
    groups : of the features
    colours : how many of x, the last, are no features
    features : Fourier features of a fold
    least_scale : of a channel, see `msiscale.models.groups.scales`
    """

    store: FoldStore
    sums: Mapping[str, Moments]
    groups: Sequence[Group]
    colours: int
    features: int
    least_scale: float

    def groups_with(self, made: FourierMap) -> list[Group]:
        """Groups of the features and, last, the Fourier ones."""
        return [*(self.groups or [Group("features", len(made.mean))]), group_of(made)]

    def unfitted(
        self, folds: Sequence[Fold], compute: Compute
    ) -> Iterator[tuple[Fold, FourierMap, FoldStore]]:
        """Go through the folds that are not fitted yet.

        Yields
        ------
        Fold, FourierMap, FoldStore
            A fold, what makes its features, and where it is to be fitted, as the only one. When the
            next is asked for it is taken from there.
        """
        for i, fold in enumerate(folds):
            name = f"{i:04d}"
            if name in self.store.models:
                continue
            own = FoldStore(join(self.store.url, "heads", name), self.store.stamp)
            for _ in compute([partial(self.make, fold.train, own.url)]):
                pass
            yield fold, FourierMap.load(join(own.url, "map")), own
            for _ in compute([partial(self.take, name, own)]):
                pass
            remove(own.url)

    def make(self, train: Sequence[str], url: str) -> dict[str, Any]:
        """Write the map of some training parts, and the principal axes of their features."""
        total: Moments | None = None
        for name in train:
            part = self.sums[name]
            some = part.select(x=range(part.p)[columns_of(part.p, self.colours)[0]], m=[])
            total = some if total is None else total + some
        assert total is not None
        groups = self.groups or [Group("features", total.p)]
        made = FourierMap.of(total, self.features, groups=groups, least_scale=self.least_scale)
        made.save(join(url, "map"))
        axes = slide_axes(total, groups, self.least_scale)
        group = open_group(join(url, "axes"), "a")
        for what, dims in MAP.items():
            put(group, what, getattr(axes, what), dims)
        return {"folds": 0, "loads": len(train)}

    def take(self, name: str, own: FoldStore) -> dict[str, Any]:
        """Put the only fold of a store among the others, with its map."""
        made, group = FourierMap.load(join(own.url, "map")), open_group(join(own.url, "axes"))
        axes = LinearMap(**{what: as_stored(group, what) for what in MAP})
        self.store.models[name] = with_fourier(own.models["0000"], made, axes)
        return {"folds": 0, "loads": 0}
