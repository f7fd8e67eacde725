"""URLs: which are read, and that nothing secret in them is kept or said."""

from __future__ import annotations

import pytest

from msiscale.errors import InputError, redacted
from msiscale.store import read_bytes


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/x", "scheme 'ftp'"),
        ("s3://key:hush@bucket/x", "credentials"),
        ("https://host/x?X-Amz-Signature=hush", "query"),
    ],
)
def test_what_is_refused_is_said_without_the_secret(url: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as said:
        read_bytes(url)
    assert "hush" not in str(said.value)


def test_redaction_leaves_the_rest() -> None:
    text = '{"a": "https://u:p@h/x?sig=s", "b": "s3://bucket/x y"}'
    assert redacted(text) == '{"a": "https://***@h/x?***", "b": "s3://bucket/x y"}'
    container = "abfss://container@account.dfs.core.windows.net/x"  # no password
    assert redacted(container) == container


def test_endpoint_that_is_not_there_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from msiscale.store import remote

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setattr(remote, "RETRY", {"max_retries": 0})
    remote._client.cache_clear()
    with pytest.raises(OSError, match=r"s3://bucket/x: the store failed") as said:
        read_bytes("s3://bucket/x")
    remote._client.cache_clear()
    assert "hush" not in str(said.value) and len(str(said.value)) < 400
