"""Sums of all other patients, for folds that each leave one out: few readings, small memory.

The penalty of a fold is chosen by leaving out groups of its training patients in turn, and these
are dealt to the groups in order (`folds.inner_groups`): of n patients, patient j is in group j mod
5 of fold k where it comes before k, and (j - 1) mod 5 where it comes after. So whatever lies
outside of a block of consecutive patients has the same groups in every fold of the block, and
within it a binary tree, whose halves hand each other their sums, gives every fold its groups.
Nothing is ever subtracted: the sums of a fold have not touched those that it leaves out.

Up to three blocks are each worked off by a task that reads every patient once. With more, tasks
first sum up each block by group, five tasks (one a group) add these up to what lies outside of each
block, before it and after it, and a task a block then reads its own patients: 3 readings a patient
in all, of a sum as large as a patient's, whatever their number. Where several specimens are held
out together they are added up, and each is read once more to be scored.

Memory of a task: a sum for each fold of a block (at most `ROOM`, or 5 of them) and 23 more.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import (
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass
from operator import add

from msiscale.models.folds import MAX_INNER, Fold
from msiscale.models.moments import Moments, merge_groups

MOST = 20  # patients of a block
ROOM = 768 << 20  # bytes of their sums
WHOLE = 3  # blocks up to which each task reads every patient

Groups = dict[int, Moments]  # sums by inner group
Parts = tuple[Moments, ...]  # what a fold holds out, summed up; none of that of all


@dataclass(frozen=True)
class Plan:
    """Which folds leave one patient out, and how they are cut into blocks.

    Attributes
    ----------
    places : indices of the folds, in the order of the patients that they leave out; a fold of all
        patients comes last
    held : what the fold at each place holds out; () for that of all
    blocks : consecutive places that a task works off
    """

    places: tuple[int, ...]
    held: tuple[tuple[str, ...], ...]
    blocks: tuple[range, ...]

    @classmethod
    def of(
        cls, folds: Sequence[Fold], patients: Mapping[str, str], bytes_of: Callable[[str], int]
    ) -> Plan | None:
        """Plan the folds, where they are those of leaving each of three or more patients out.

        Parameters
        ----------
        folds : sequence of Fold
            Among them at most one of all patients.
        patients : mapping of specimen to patient
            In the order of the cohort.
        bytes_of : callable
            What the sums of a specimen take in memory.

        Returns
        -------
        Plan or None
        """
        everyone = {s for fold in folds for s in fold.test}
        order = tuple(s for s in patients if s in everyone)
        whole = [i for i, fold in enumerate(folds) if not fold.test]
        place: dict[str, int] = {}
        for i, fold in enumerate(folds):
            out = {patients[s] for s in fold.test}
            members = tuple(s for s in order if patients[s] in out)
            if fold.test != members or fold.train != tuple(s for s in order if s not in members):
                return None
            if len(out) > 1 or out & place.keys():
                return None
            place |= dict.fromkeys(out, i)
        if len(place) < 3 or len(whole) > 1:
            return None
        places = [place[p] for p in dict.fromkeys(patients[s] for s in order)]
        room = ROOM // max(bytes_of(order[0]), 1)
        most = min(MOST, max(MAX_INNER, room))
        # as many blocks as keep it at 3 readings a patient: each costs 20 more
        count = max((len(places) + most - MAX_INNER) // most, min(WHOLE, len(places)))
        ends = [len(places) * i // count for i in range(count + 1)]
        ends[-1] += len(whole)
        held = [folds[i].test for i in [*places, *whole]]
        blocks = (range(a, b) for a, b in itertools.pairwise(ends))
        return cls((*places, *whole), tuple(held), tuple(blocks))

    @property
    def direct(self) -> bool:
        """Whether every task reads all patients, and nothing is to be summed up before."""
        return len(self.blocks) <= WHOLE


def before(place: int) -> int:
    """The group of a patient in the folds that leave out a later one."""
    return place % MAX_INNER


def after(place: int) -> int:
    """The group of a patient in the folds that leave out an earlier one."""
    return (place - 1) % MAX_INNER


@dataclass(frozen=True, eq=False)
class Others:
    """The sums of all others, for every fold of a `Plan`.

    Attributes
    ----------
    sums : mapping of specimen to Moments
    plan : Plan
    made : where the sums of blocks, and of what lies outside of them, are put and found
    """

    sums: Mapping[str, Moments]
    plan: Plan
    made: MutableMapping[str, Moments]

    def own(self, place: int) -> Iterator[Moments]:
        """The sums that the fold at a place holds out, one after another; none of that of all."""
        return (self.sums[s] for s in self.plan.held[place])

    def sum_block(self, block: int) -> None:
        """Sum up the patients of a block by group: the first step."""
        if all(f"own/{block}-{g}" in self.made for g in self._groups(block)):
            return
        mine = ((before(j), part) for j in self.plan.blocks[block] for part in self.own(j))
        for group, total in _grouped(mine).items():
            self.made[f"own/{block}-{group}"] = total

    def sum_outside(self, group: int) -> None:
        """Add up what lies outside of each block and is of one group there: the second step."""
        last = len(self.plan.blocks) - 1
        outside = [f"outside/{b}-{group}" for b in range(last + 1)]
        if all(name in self.made for name in outside):
            return
        total: Moments | None = None
        for b in range(last, 0, -1):
            # a patient that comes after is one group further down: see `after`
            total = _plus(self._own(b, (group + 1) % MAX_INNER), total)
            if total is not None:
                self.made[f"after/{b - 1}-{group}"] = total
        total = None
        for b in range(last + 1):
            name = f"after/{b}-{group}"
            later = self.made[name] if b < last else None
            if (found := _plus(total, later)) is not None:
                self.made[outside[b]] = found
            if b < last:
                total = _plus(total, self._own(b, group))
                del self.made[name]

    def of_block(
        self, block: int, wanted: Container[int]
    ) -> Iterator[tuple[int, Iterable[Moments], Groups]]:
        """The last step: for each fold of a block its place, what it holds out, and its groups.

        Parameters
        ----------
        block : int
            Of the plan.
        wanted : container of int
            Places of the folds to give.

        Yields
        ------
        place, iterable of Moments (one a specimen), dict of group to Moments
        """
        mine = self.plan.blocks[block]
        if self.plan.direct:
            outside = _grouped(
                (before(j) if j < mine.start else after(j), part)
                for j in range(len(self.plan.held))
                if j not in mine
                for part in self.own(j)
            )
        else:
            outside = {g: self.made[f"outside/{block}-{g}"] for g in range(MAX_INNER)}
        parts = [self._together(j) for j in mine]
        for place, groups in _without_each(parts, mine.start, outside, wanted):
            several = len(self.plan.held[place]) > 1
            yield place, self.own(place) if several else parts[place - mine.start], groups

    def _together(self, place: int) -> Parts:
        """The sum of what the fold at a place holds out, however many specimens; () for none."""
        found = _plus(*self.own(place))
        return () if found is None else (found,)

    def _groups(self, block: int) -> set[int]:
        return {before(j) for j in self.plan.blocks[block] if self.plan.held[j]}

    def _own(self, block: int, group: int) -> Moments | None:
        return self.made[f"own/{block}-{group}"] if group in self._groups(block) else None


def gathered(
    sums: Mapping[str, Moments],
    groups: Sequence[Sequence[str]],
    seen: Callable[[Moments], Moments] = lambda part: part,
) -> list[Moments | None]:
    """Sums of each group of parts, which may overlap; a part is read once.

    Parameters
    ----------
    sums : mapping of part to Moments
        Asked for one at a time.
    groups : sequence of sequences of str
        Names of parts.
    seen : callable
        What is made of a part before it is added.

    Returns
    -------
    list of Moments; None for a group of no parts
    """
    members = [frozenset(group) for group in groups]
    found: list[Moments | None] = [None] * len(groups)
    for name in dict.fromkeys(name for group in groups for name in group):
        part = seen(sums[name])
        found = [
            _plus(total, part) if name in mine else total
            for total, mine in zip(found, members, strict=True)
        ]
    return found


def _plus(*parts: Moments | None) -> Moments | None:
    some = (part for part in parts if part is not None)
    first = next(some, None)
    return None if first is None else functools.reduce(add, some, first)


def _grouped(parts: Iterable[tuple[int, Moments]]) -> Groups:
    found: Groups = {}
    for group, part in parts:
        found[group] = found[group] + part if group in found else part
    return found


def _without_each(
    parts: Sequence[Parts], first: int, outside: Groups, wanted: Container[int]
) -> Iterator[tuple[int, Groups]]:
    """For each wanted place from `first` on the groups of `outside` and of the other `parts`."""
    if not any(j in wanted for j in range(first, first + len(parts))):
        return
    if len(parts) == 1:
        yield first, outside
        return
    half = len(parts) // 2
    left, right = parts[:half], parts[half:]
    later = ((after(first + half + j), part) for j, of in enumerate(right) for part in of)
    yield from _without_each(left, first, merge_groups(outside, _grouped(later)), wanted)
    earlier = ((before(first + j), part) for j, of in enumerate(left) for part in of)
    more = merge_groups(outside, _grouped(earlier))
    yield from _without_each(right, first + half, more, wanted)
