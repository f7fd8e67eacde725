"""Fits of arrays on disk take as much memory for four times the rows."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

CHILD = """
    import json, sys
    from pathlib import Path
    import dask, dask.array as da, numpy as np
    from scipy import sparse
    from msiscale.csr import CsrRows
    from msiscale.models import PCA, LogisticRegression, Ridge, moments

    kind, rows, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]

    def block(block_info=None):
        at = block_info[None]["array-location"][0][0]
        n = block_info[None]["chunk-shape"][0]
        return np.random.default_rng(at).normal(size=(n, 400)).astype(np.float32)

    x = da.map_blocks(block, chunks=((2048,) * (rows // 2048), (400,)), dtype=np.float32)
    if kind == "sparse":
        held = CsrRows.create(folder, (rows, 50_000), edges=2048)
        for i in range(held.n_blocks):
            rng = np.random.default_rng(i)
            held.write(i, sparse.random_array((2048, 50_000), density=2e-4, rng=rng))
    dask.config.set(scheduler="synchronous")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    if kind == "sparse":
        PCA(3, max_passes=4).fit(held)
    elif kind == "moments":
        moments(x, x[:, :100])
    elif kind == "pca":
        PCA(20).fit(x)
    elif kind == "ridge":
        Ridge([0.1, 1.0]).fit(x, x[:, :10])
    else:
        LogisticRegression(0.1, tol=1e-3).fit(x, (x[:, 0] > 0).astype(int))
    status = Path("/proc/self/status").read_text()
    print(json.dumps(int(status.split("VmHWM:")[1].split()[0]) / 1024))
"""


@pytest.mark.slow(reason="tables of gigabytes")
@pytest.mark.parametrize("kind", ["moments", "pca", "ridge", "logistic", "sparse"])
def test_memory_does_not_grow_with_the_rows(kind, tmp_path):
    peaks = []
    blocks = 128 if kind == "sparse" else 16  # from 128 on there are as many sums as ever
    for rows in (blocks * 2048, 4 * blocks * 2048):
        command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CHILD)]
        command += [kind, str(rows), str(tmp_path / f"{rows}.zarr")]
        found = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(json.loads(found.stdout))
    assert peaks[1] < 1.1 * peaks[0]
