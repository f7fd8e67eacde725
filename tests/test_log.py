"""Lines for the user: on standard error by default, elsewhere or nowhere when asked."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msiscale.errors import MsiscaleWarning
from msiscale.log import hearing, on_the_command_line, quiet

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


NOISE = """
import logging, sys, threading, warnings
from msiscale.errors import MsiscaleWarning

class Fails:
    def __del__(self):
        raise ValueError("in a destructor")

def noise():
    logging.getLogger("tifffile").warning("OME series cannot handle discontiguous storage")
    own = logging.getLogger("distributed.worker")
    own.addHandler(logging.StreamHandler())
    own.error("a worker is lost")
    warnings.warn("pandas means to change", FutureWarning)
    warnings.warn("sklearn did not converge")
    thread = threading.Thread(target=int, args=("x",))
    thread.start()
    thread.join()
    Fails()
    for text in ("a.tif: odd", "a.tif: odd", "s3://me:secret@lab/b.tif: odder"):
        warnings.warn(text, MsiscaleWarning)
"""
OURS = "msiscale: a.tif: odd\nmsiscale: s3://***@lab/b.tif: odder\n"


@pytest.mark.parametrize("debug", [False, True])
def test_the_terminal_is_ours(tmp_path: Path, debug: bool) -> None:
    """That of the process of a command, and of those that it starts; with --debug it is not."""
    (tmp_path / "noisy.py").write_text(NOISE)
    child = "import msiscale.log, noisy; noisy.noise()"
    program = (
        "import subprocess, sys, noisy\nfrom msiscale.log import on_the_command_line, say\n"
        f"with on_the_command_line(debug={debug}):\n"
        "    noisy.noise()\n    say('between')\n"
        f"    subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and done.stdout == ""
    if not debug:
        assert done.stderr == f"{OURS}msiscale: between\n{OURS}"
        return
    for words in (
        "OME series",
        "is lost",
        "FutureWarning: pandas",
        "invalid literal",
        "ValueError: in a destructor",
    ):
        assert done.stderr.count(words) == 2, words
    assert "noisy.py:" in done.stderr and "MsiscaleWarning: a.tif: odd" in done.stderr


def test_the_terminal_is_given_back() -> None:
    """What was set before is set again, and our own lines come although logging is off inside."""
    before = (logging.root.manager.disable, threading.excepthook, warnings.showwarning)
    environment = dict(os.environ)
    with on_the_command_line():
        assert quiet() is bool(os.environ.get("MSISCALE_QUIET"))
        assert not logging.getLogger("msiscale").isEnabledFor(logging.INFO)
        assert os.environ["TORCH_CPP_LOG_LEVEL"] == "ERROR"
    after = (logging.root.manager.disable, threading.excepthook, warnings.showwarning)
    assert after == before and dict(os.environ) == environment


def test_each_thread_hears_its_own_warnings() -> None:
    """And what is not ours, or of a thread that does not listen, is shown as it was before."""
    together = threading.Barrier(3)

    def listen(name: str) -> list[str]:
        heard: list[str] = []
        with hearing(heard.append):
            together.wait()
            warnings.warn(f"{name}\n1", MsiscaleWarning, stacklevel=1)
            with hearing([].append):
                warnings.warn(f"{name} inner", MsiscaleWarning, stacklevel=1)
            warnings.warn(f"{name} of a library", FutureWarning, stacklevel=1)
            together.wait()
        return heard

    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        shown = warnings.showwarning
        with ThreadPoolExecutor(2) as pool:
            names = [pool.submit(listen, name) for name in ("one", "two")]
            together.wait()
            warnings.warn("of nobody who listens", MsiscaleWarning, stacklevel=1)
            together.wait()
            assert [name.result() for name in names] == [["one 1"], ["two 1"]]
        assert warnings.showwarning is shown
    texts = sorted(str(w.message) for w in others)
    assert texts == ["of nobody who listens", "one of a library", "two of a library"]
