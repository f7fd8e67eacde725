"""An S3 server and a Dask cluster of real processes, started once for all tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from benchmarks.faults.matrix import Undisturbed, undisturbed
from benchmarks.faults.proxy import FaultProxy
from benchmarks.faults.stand import Stand, stand
from deploy.services import S3, Cluster, missing_ceph, s3_server

PIXELS = (12, 14)  # of a specimen: two to four tasks each, and a run takes seconds
NUMBERS = count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Ceph's radosgw on loopback, its objects in memory."""
    if why := missing_ceph():
        pytest.skip(why)
    with s3_server(tmp_path_factory.mktemp("s3") / "ceph") as server:
        yield server


@pytest.fixture(scope="session")
def place(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A phantom cohort in a bucket (and in a folder), a proxy, a scheduler and two workers."""
    with stand(tmp_path_factory.mktemp("place") / "stand", s3, pixels=PIXELS) as found:
        yield found


@pytest.fixture
def cluster(place: Stand) -> Iterator[Cluster]:
    """The scheduler and two workers; mended afterwards."""
    yield place.cluster
    place.cluster.mend(place.workers)


@pytest.fixture
def proxy(place: Stand) -> Iterator[FaultProxy]:
    """Before the S3 server, passing everything until it is told otherwise."""
    assert place.proxy is not None
    yield place.proxy
    place.proxy.clear()


@pytest.fixture(scope="session")
def bucket(s3: S3) -> str:
    """A bucket that the tests share; each takes names of its own."""
    s3.make_bucket("tests")
    return "tests"


@pytest.fixture
def fresh(bucket: str) -> str:
    """A name in the bucket that no other test has."""
    return f"test-{next(NUMBERS)}"


@pytest.fixture(scope="session")
def reference(place: Stand) -> Undisturbed:
    """The cohort run from the bucket into the bucket, nothing happening to it."""
    return undisturbed(place)
