"""What is fitted as arrays and attributes of a Zarr group: written and read in one way.

A class says what it consists of (`Saved.layout`); which classes there are is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from msiscale.store import open_group, put

Read = Callable[[str], NDArray[Any]]
ReadFrom = Callable[[zarr.Group, str], NDArray[Any]]


def as_stored(group: zarr.Group, name: str) -> NDArray[Any]:
    """An array of a group; what a decoder raises is for the caller to judge."""
    return np.asarray(group[name][...])  # type: ignore[index]


class Layout(NamedTuple):
    """What a group holds of an object.

    Attributes
    ----------
    kind : what the group says that it is; "" for attributes that stand beside those of another
    noun : what is missed where the group is of another kind
    arrays : names of arrays, and their dimensions
    facts : names of attributes
    """

    kind: str = ""
    noun: str = ""
    arrays: Mapping[str, tuple[str, ...]] = {}
    facts: tuple[str, ...] = ()


class Saved:
    """A dataclass that `save` writes into a Zarr group, and `load` makes again."""

    layout: ClassVar[Layout]

    def stored(self) -> tuple[dict[str, ArrayLike], dict[str, Any]]:
        """Values of the arrays and of the attributes: the fields (or properties) of their names."""
        arrays = {name: getattr(self, name) for name in self.layout.arrays}
        return arrays, {name: getattr(self, name) for name in self.layout.facts}

    @classmethod
    def restored(cls, read: Read, attrs: Mapping[str, Any]) -> Self:
        """The object again, by what `read` gives of its arrays (an empty one was not written)."""
        arrays = {name: read(name) for name in cls.layout.arrays}
        return cls(**arrays, **{name: attrs[name] for name in cls.layout.facts})

    def save(self, where: str | zarr.Group) -> None:
        """Write into the group at a URL, or an open one.

        The attributes are written last: a group without them is not taken for one of its kind.
        """
        group = open_group(where, "a") if isinstance(where, str) else where
        arrays, attrs = self.stored()
        if self.layout.kind:
            if len(group.attrs):
                group.attrs.put({})
            attrs = {"kind": self.layout.kind, **attrs}
        for name, values in arrays.items():
            if np.size(values):
                put(group, name, values, self.layout.arrays[name])
        group.attrs.update(attrs)

    @classmethod
    def load(cls, where: str | zarr.Group, read: ReadFrom = as_stored) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        where : str or zarr.Group
            URL or open group.
        read : callable
            `as_stored`, or `msiscale.store.read`, whose errors are for the user.

        Returns
        -------
        An object equal to the last bit to the one that was saved.

        Raises
        ------
        ValueError
            The group is not of this kind.
        """
        group = open_group(where) if isinstance(where, str) else where
        attrs: dict[str, Any] = dict(group.attrs)
        if cls.layout.kind and attrs.get("kind") != cls.layout.kind:
            raise ValueError(f"{group.path or '/'}: no {cls.layout.noun} there")
        return cls.restored(partial(read, group), attrs)
