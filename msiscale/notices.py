"""What a user should know of an input although the work goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msiscale.cohort import Specimen

FILES = ("msi", "slide", "annotation", "landmarks", "matrix")  # columns of the manifest


@dataclass(frozen=True)
class Notice:
    """One thing that was noticed.

    Attributes
    ----------
    specimen : its name; "" for what is of the whole run
    file : the file that it is about, "" for none
    field : the column of the manifest that named the file, or the option; "" for neither
    text : what is so, and what to do about it, without the file
    stage : the part of a run that noticed it; "" outside of one
    """

    specimen: str
    file: str
    field: str
    text: str
    stage: str = ""

    @classmethod
    def of(cls, specimen: Specimen | None, text: str, stage: str = "") -> Notice:
        """From a warning, which begins with the path of its file if it is about one."""
        if specimen is None:
            return cls("", "", "", text, stage)
        for field in FILES:
            file = getattr(specimen, field)
            if file and text.startswith(f"{file}: "):
                return cls(specimen.name, file, field, text.removeprefix(f"{file}: "), stage)
        return cls(specimen.name, "", "", text, stage)


def lines(notices: Iterable[Notice]) -> Iterator[str]:
    """A line each; what is the same of several specimens is one."""
    groups: dict[tuple[str, str], list[Notice]] = {}
    for notice in dict.fromkeys(notices):
        groups.setdefault((notice.field, notice.text), []).append(notice)
    for (field, text), same in groups.items():
        names = list(dict.fromkeys(n.specimen for n in same if n.specimen))
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        where = [", ".join(names[:3]) + more, same[0].file if len(names) < 2 else field]
        yield ": ".join([*filter(None, where), text])
