"""A row of docs/bad-inputs.md: an input that is wrong, and what is said and done about it.

The page's tables are made from the rows (``PYTHONPATH=tests python -m bad_inputs.page``), the tests
run them, and `test_page` sees that the two are the same.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msiscale.errors import InputError

READS = "reads it right"
REFUSES = "refuses the file"
ASIDE = "sets the specimen aside"


@dataclass(frozen=True)
class Row:
    """One thing that can be wrong.

    Attributes
    ----------
    id : of the test, unique in its module
    wrong : in words
    does : what is done: `READS`, `REFUSES`, `ASIDE` or words
    says : the line that is said, with what depends on the case in <>; "" for none
    run : makes the input in a folder, reads it, and asserts what was read. Notes that it returns
        count as said, as warnings do
    """

    id: str
    wrong: str
    does: str
    says: str
    run: Callable[[Path], list[str] | None]

    def check(self, folder: Path) -> None:
        """Run it; what is said must be the line of the page, and nothing else."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                lines = list(self.run(folder) or [])
                refused = False
            except InputError as error:
                lines, refused = [str(error)], True
        # what an earlier test left open is collected here, and is none of this row's
        said = [
            w
            for w in caught
            if not issubclass(w.category, ResourceWarning)
            and "was never awaited" not in str(w.message)
        ]
        lines += [] if refused else [str(w.message) for w in said]
        assert refused == self.does.startswith("refuses"), f"{self.does}: {lines}"
        if not self.says:
            assert lines == []
            return
        pattern = ".+?".join(map(re.escape, re.split(r"<[^<>]+>", self.says)))
        assert len(lines) == 1 and "\n" not in lines[0], lines
        assert re.fullmatch(pattern, lines[0]), lines[0]
        where = [folder.name, "option", "annotation", "--", "'", "://"]
        assert any(w in lines[0] for w in where) or self.does == READS, "names no file"
