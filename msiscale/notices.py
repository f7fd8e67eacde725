"""What a user should know of an input although the work goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from msiscale.cohort import Specimen
from msiscale.errors import NOTE

FILES = ("msi", "slide", "annotation", "landmarks", "matrix")  # columns of the manifest
COLUMNS = ("specimen", "file", "field", "seen", "assumed", "severity", "stage")


@dataclass(frozen=True)
class Notice:
    """One thing that was noticed.

    Attributes
    ----------
    specimen : its name; "" for what is of the whole run
    file : the file that it is about, "" for none
    field : the column of the manifest that named the file, or the option; "" for neither
    text : what was seen; after the first semicolon, what was assumed or what to do about it
    stage : the part of a run that noticed it; "" outside of one
    severity : "warning", or "note" where no result can be wrong by it
    """

    specimen: str
    file: str
    field: str
    text: str
    stage: str = ""
    severity: str = "warning"

    @classmethod
    def of(cls, specimen: Specimen | None, text: str, stage: str = "") -> Notice:
        """From a warning, which begins with the path of its file if it is about one."""
        name, file, field = specimen.name if specimen else "", "", ""
        for column in FILES if specimen else ():
            path = getattr(specimen, column)
            if path and text.startswith(f"{path}: "):
                file, field, text = path, column, text.removeprefix(f"{path}: ")
                break
        severity = "note" if text.startswith(NOTE) else "warning"
        return cls(name, file, field, text.removeprefix(NOTE), stage, severity)

    @property
    def warned(self) -> str:
        """The warning that it was made from."""
        return f"{self.file}: " * bool(self.file) + NOTE * (self.severity == "note") + self.text

    def row(self) -> dict[str, str]:
        """Its row of ``notices.csv``, by the names of `COLUMNS`."""
        seen, _, assumed = self.text.partition("; ")
        found = {**vars(self), "seen": seen, "assumed": assumed}
        return {name: found[name] for name in COLUMNS}


def table(notices: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
    """The rows of ``notices.csv``, from what ``run.json`` has; what several stages say once."""
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for notice in notices:
        row = Notice(**notice).row()
        rows.setdefault(tuple(v for k, v in row.items() if k != "stage"), row)
    return [*rows.values()]


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
