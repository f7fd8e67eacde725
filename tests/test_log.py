"""Lines for the user: on standard error by default, elsewhere or nowhere when asked."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAY = "from msiscale.log import progress, say\nsay('done of s3://me:secret@lab/x')\nprogress('1/2')"
LINES = "msiscale: done of s3://***@lab/x\n1/2\n"
QUIET = "import logging; logging.getLogger('msiscale').setLevel(logging.WARNING)\n"


@pytest.mark.parametrize(
    ("program", "lines"),
    [
        pytest.param(SAY, LINES, id="as it is"),
        pytest.param(QUIET + SAY, "", id="silenced before"),
        pytest.param(f"import msiscale.log\n{QUIET}{SAY}", "", id="silenced after"),
        pytest.param(
            f"import logging; logging.getLogger('msiscale.progress').disabled = True\n{SAY}",
            LINES.removesuffix("1/2\n"),
            id="no progress",
        ),
        pytest.param(
            f"import logging; logging.basicConfig(format='%(levelname)s %(message)s')\n{SAY}",
            "INFO done of s3://***@lab/x\nINFO 1/2\n",
            id="the root logger",
        ),
        pytest.param(
            "import logging; logging.getLogger('msiscale').addHandler(logging.NullHandler())\n"
            + SAY,
            "",
            id="a handler of its own",
        ),
        pytest.param(
            "import logging; logging.basicConfig()\nfrom msiscale.log import on_the_command_line\n"
            + SAY.replace("say(", "with on_the_command_line(): say(").replace("\nprogress", "#"),
            "msiscale: done of s3://***@lab/x\n",
            id="the command line",
        ),
    ],
)
def test_where_the_lines_go(program: str, lines: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", lines)
