"""Fixtures that every test file shares, and how files are shared out among processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from commands import environment

from msiscale.log import on_the_command_line

TESTS = Path(__file__).parent
# of these files all tests go to one process, as they share a finished run (tests/pipeline)
FINISHED = (
    "corrections",
    "failures",
    "fit",
    "ions",
    "nothing_to_do",
    "predict",
    "protocols",
    "published",
    "regions",
    "same_answer",
    "verify",
)
TOGETHER = {f"tests/pipeline/test_{name}.py" for name in FINISHED}
# what takes longest begins first, so that the processes end at about the same time
FIRST = (
    "tests/cloud/",
    "tests/pipeline/",
    "tests/docs/",
    "tests/features/",
    "tests/report/",
    "tests/cluster/",
)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, with the files of a shared run as one."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "finished" if file in TOGETHER else file

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> tuple[bool, int]:
        file = item.nodeid.partition("::")[0]
        folder = next((i for i, f in enumerate(FIRST) if file.startswith(f)), len(FIRST))
        return file not in TOGETHER, folder

    items.sort(key=turn)
    for item in items:
        slow = item.get_closest_marker("slow")
        if slow is not None and not slow.kwargs.get("reason"):
            raise pytest.UsageError(f"{item.nodeid}: slow(reason=…) says why")


@pytest.fixture(scope="session", autouse=True)
def lines_on_stderr() -> Iterator[None]:
    """Lines for the user go to standard error, although pytest listens to the root logger."""
    with on_the_command_line(debug=True):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files beside the checkout; without it the test is skipped."""
    folder = TESTS.parents[1] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real files (shared/data beside the checkout) are not here")
    return folder


CLUSTER = """
import sys
import dask
from msiscale.cluster import Where
from msiscale.cluster.environment import dask_settings, worker_environ
from msiscale.cluster.local import local_cluster
from msiscale.cluster.settings import settings_of

if __name__ == "__main__":
    # plain, as any process of the tests is to find it by its address alone
    with (
        worker_environ(),
        dask.config.set(dask_settings(120)),
        local_cluster(settings_of(Where(workers=1)), None) as cluster,
    ):
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


@pytest.fixture(scope="session")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of one worker, for all tests that are not about clusters."""
    script = tmp_path_factory.mktemp("cluster") / "cluster.py"
    script.write_text(CLUSTER)
    command = [sys.executable, str(script)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    env = environment() | {"MSISCALE_LOCAL_URLS": "1"}  # servers of the tests are on loopback
    with subprocess.Popen(command, **pipes, text=True, env=env) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()  # which ends it


@pytest.fixture(scope="module")
def shared_cluster(scheduler: str) -> Iterator[None]:
    """What runs in this process, and says not where, runs on `scheduler`."""
    with dask.config.set({"scheduler-address": scheduler}):
        yield
