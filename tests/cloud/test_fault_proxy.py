"""The proxy fails as stores fail, and otherwise changes nothing."""

from __future__ import annotations

from datetime import timedelta

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from benchmarks.faults.proxy import Fault, FaultProxy
from deploy.services import REGION, S3

DATA = bytes(range(256)) * 3000


def through(proxy: FaultProxy, s3: S3, bucket: str, *, retries: int) -> S3Store:
    """The bucket by way of the proxy; retries come at once."""
    wait = timedelta(milliseconds=5)
    return S3Store(
        bucket,
        endpoint=proxy.url,
        access_key_id=s3.key,
        secret_access_key=s3.secret,
        region=REGION,
        client_options={"allow_http": True},
        retry_config={
            "max_retries": retries,
            "backoff": {"init_backoff": wait, "max_backoff": wait, "base": 2},
        },
    )


def test_signed_requests_pass(proxy: FaultProxy, s3: S3, bucket: str, fresh: str) -> None:
    store = through(proxy, s3, bucket, retries=0)
    for size in (0, 1, len(DATA)):
        obstore.put(store, f"{fresh}/a b+c", DATA[:size])
        assert bytes(obstore.get(store, f"{fresh}/a b+c").bytes()) == DATA[:size]
    assert obstore.head(store, f"{fresh}/a b+c")["size"] == len(DATA)
    assert [m["path"] for b in obstore.list(store, fresh) for m in b] == [f"{fresh}/a b+c"]
    obstore.delete(store, f"{fresh}/a b+c")
    assert not [m for b in obstore.list(store, fresh) for m in b]


@pytest.mark.parametrize("kind", ["500", "503", "cut", "ack-lost"])
def test_a_fault_is_an_error_and_a_retry_mends_it(
    proxy: FaultProxy, s3: S3, bucket: str, fresh: str, kind: str
) -> None:
    obstore.put(s3.store(bucket), f"{fresh}/object", DATA)
    proxy.inject(Fault(kind))
    with pytest.raises((BaseError, OSError)):
        obstore.get(through(proxy, s3, bucket, retries=0), f"{fresh}/object").bytes()
    with pytest.raises((BaseError, OSError)):
        obstore.put(through(proxy, s3, bucket, retries=0), f"{fresh}/other", DATA)
    proxy.inject(Fault(kind, every=2, methods=("PUT",)))
    before = proxy.struck
    obstore.put(through(proxy, s3, bucket, retries=3), f"{fresh}/third", DATA)
    assert proxy.struck > before
    assert bytes(obstore.get(s3.store(bucket), f"{fresh}/third").bytes()) == DATA


def test_what_a_cut_and_a_lost_reply_leave(
    proxy: FaultProxy, s3: S3, bucket: str, fresh: str
) -> None:
    store, direct = through(proxy, s3, bucket, retries=0), s3.store(bucket)
    proxy.inject(Fault("cut"))
    with pytest.raises(BaseError):
        obstore.put(store, f"{fresh}/half", DATA)
    proxy.inject(Fault("ack-lost"))
    with pytest.raises(BaseError):
        obstore.put(store, f"{fresh}/whole", DATA, mode="create")
    assert [m["path"] for b in obstore.list(direct, fresh) for m in b] == [f"{fresh}/whole"]
    proxy.clear()
    with pytest.raises(AlreadyExistsError):  # one who asks again finds his own
        obstore.put(store, f"{fresh}/whole", DATA, mode="create")


def test_a_window_ends_by_itself(proxy: FaultProxy, s3: S3, bucket: str, fresh: str) -> None:
    proxy.inject(Fault("503", seconds=0.3))
    obstore.put(through(proxy, s3, bucket, retries=200), f"{fresh}/object", b"late")
    assert bytes(obstore.get(s3.store(bucket), f"{fresh}/object").bytes()) == b"late"
    assert proxy.struck > 1


def test_a_delay_passes_the_request(proxy: FaultProxy, s3: S3, bucket: str, fresh: str) -> None:
    before = proxy.struck
    proxy.inject(Fault("delay", delay_s=0.05))
    obstore.put(through(proxy, s3, bucket, retries=0), f"{fresh}/object", DATA)
    assert proxy.struck == before + 1
    assert bytes(obstore.get(s3.store(bucket), f"{fresh}/object").bytes()) == DATA


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValueError, match="ack-lost"):
        Fault("meteor")
