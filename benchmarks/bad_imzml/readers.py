"""What each reader makes of a file."""

from __future__ import annotations

import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bad_imzml.files import Bad

MOST_S = 120  # of a file; thyra alone takes some ten seconds to start
RIGHT, REFUSED, WRONG = "right", "refused", "**wrong**"
STORED = "as stored"  # NaN, negative values, both spectra of a pixel: nothing lost, nothing said
CRASHED, LATE = "crashed", "no end"


def judged(rows: np.ndarray, bad: Bad, *, own_axis: bool = False) -> str:
    """Whether rows of pixels are those that are right, or at least those that were written.

    `own_axis`: m/z were moved to an axis, by up to 0.1 %.
    """
    if bad.truth is not None:
        right = [(x, y, mz, values) for (x, y), (mz, values) in bad.truth.items()]
        if same(rows, right, own_axis):
            return RIGHT
    return STORED if same(rows, bad.stored, own_axis) else WRONG


def same(rows: np.ndarray, pixels: list[tuple[int, int, Any, Any]], own_axis: bool) -> bool:
    """Whether rows are of these pixels, whatever their order and origin; empty ones aside."""
    wanted = np.array([[x, y, len(m), i.sum(), (m * i).sum()] for x, y, m, i in pixels], float)
    tables = [t[(t[:, 2] > 0) & (t[:, 3] != 0)] for t in (wanted, rows) if len(t)]
    if len(tables) < 2 or len(tables[0]) != len(tables[1]) or not len(tables[0]):
        return False
    for table in tables:
        table[:, :2] -= table[:, :2].min(axis=0)
    wanted, found = (t[np.lexsort((t[:, 3], t[:, 0], t[:, 1]))] for t in tables)
    alike = np.array_equal(found[:, :2], wanted[:, :2])
    alike &= np.allclose(found[:, 3], wanted[:, 3], rtol=1e-5, equal_nan=True)
    rtol = 1e-3 if own_axis else 1e-6
    return bool(alike and np.allclose(found[:, 4], wanted[:, 4], rtol=rtol, equal_nan=True))


def ours(bad: Bad) -> str:
    """What msiscale makes of a file."""
    from msiscale.errors import InputError
    from msiscale.msi import open_source

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = open_source(str(bad.path))
            spectra = source.read(np.arange(len(source.positions)))
    except InputError:
        return REFUSED
    rows = [
        [x, y, len(mz), values.astype(float).sum(), (mz * values).sum()]
        for (y, x), (mz, values) in zip(source.positions.tolist(), spectra, strict=True)
    ]
    return judged(np.array(rows, np.float64), bad)


def theirs(reader: str, pythons: dict[str, str], bad: Bad) -> str:
    """What another reader makes of a file, in a process of bounded time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.npz"
        command = [pythons[reader], "-m", "benchmarks.bad_imzml.peers", reader]
        try:
            done = subprocess.run(
                [*command, str(bad.path), str(result)], capture_output=True, timeout=MOST_S
            )
        except subprocess.TimeoutExpired:
            return LATE
        if done.returncode < 0 or done.returncode == 134:
            return CRASHED
        if done.returncode or not result.exists():
            return REFUSED
        with np.load(result) as found:
            return judged(found["rows"], bad, own_axis=reader == "thyra")
