"""Object stores through obstore: one client a bucket and process, retries, errors in a line.

Web servers, which `msiscale.store.web` reads, have the same methods.

Credentials come from where each cloud keeps them (environment, instance, web identity; a profile of
``~/.aws`` through boto3, where that is installed) and stay inside the client.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore import exceptions
from obstore.store import from_url

from msiscale.errors import InputError, NoAnswer, RunStopped, StoreError, redacted
from msiscale.store.urls import WEB, scheme
from msiscale.store.web import Web

BUFFER = 1 << 20  # bytes a request fetches at least, when a file is read in small pieces
# obstore tries again on 5xx, 429 and broken connections; a task is tried again beyond that
RETRY: Any = {
    "max_retries": 10,
    "backoff": {
        "base": 3,
        "init_backoff": timedelta(milliseconds=500),
        "max_backoff": timedelta(seconds=15),
    },
    "retry_timeout": timedelta(seconds=120),
}
# no answer at all for this long is a failed request; a large shard on a slow line still passes
CLIENT: dict[str, Any] = {"timeout": "120s", "connect_timeout": "10s"}
# how an emulator of Google's store is named to obstore: by an account that asks for no token
NO_ACCOUNT = {"client_email": "", "private_key": "", "private_key_id": "", "disable_oauth": True}
EMULATED = "devstoreaccount1"  # the one account of Azure's emulators

NO_CREATE_ONLY = (
    "this store has no create-only writes (If-None-Match: *), by which two runs on one output are "
    "kept apart; write to a store that has them, or to a folder, and copy the results"
)


def bucket(url: str) -> tuple[Any, str]:
    """The store of a URL's bucket, and the key of the URL in it."""
    parts = urlsplit(url)
    return client(f"{parts.scheme}://{parts.netloc}"), parts.path.strip("/")


def client(url: str) -> Any:
    """The store whose keys are relative to `url`."""
    return _client(scheme(url), url, os.getpid())


# a client holds its connections and credentials; one a process, as a forked one lacks its threads
@lru_cache(maxsize=64)
def _client(kind: str, url: str, process: int) -> Any:
    if kind in WEB:
        return Web(url)
    options = dict(CLIENT)
    words: dict[str, Any] = {}
    if kind in {"s3", "s3a"}:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if endpoint:
            words["endpoint"] = endpoint
            options["allow_http"] = endpoint.startswith("http://")
        if _wants_profile():
            words["credential_provider"] = _profile_credentials()
    if kind == "gs" and (emulator := os.environ.get("STORAGE_EMULATOR_HOST")):
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        options["allow_http"] = endpoint.startswith("http://")
        words["service_account_key"] = json.dumps({**NO_ACCOUNT, "gcs_base_url": endpoint})
    if os.environ.get("AZURE_STORAGE_USE_EMULATOR", "").lower() == "true":
        options["allow_http"] = True
        if kind in {"az", "azure", "abfs", "abfss"}:  # without it obstore panics in errors' texts
            words["account_name"] = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", EMULATED)
    with readable(url):
        make: Any = from_url  # its overloads cannot be told from a URL
        return make(url, client_options=options, retry_config=RETRY, **words)


def _wants_profile() -> bool:
    """Whether S3 credentials are those of a profile, which obstore itself does not read."""
    given = {"AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SKIP_SIGNATURE"}
    if given & set(os.environ) or any(k.startswith("AWS_CONTAINER_CRED") for k in os.environ):
        return False
    shared = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    return "AWS_PROFILE" in os.environ or Path(shared).expanduser().is_file()


def _profile_credentials() -> Any:
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise InputError(
            "S3 credentials of a profile need boto3: pip install 'msiscale[aws]', or set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    return Boto3CredentialProvider()


@contextmanager
def readable(url: str) -> Iterator[None]:
    """Errors of the store as `OSError`s of one line that name the URL."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(2, "no such file", redacted(url)) from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError(f"{redacted(url)}: access denied ({_line(error)})") from None
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
        raise FileExistsError(17, "exists already", redacted(url)) from None
    except exceptions.BaseError as error:
        kind = NoAnswer if "error sending request" in str(error) else StoreError
        raise kind(f"{redacted(url)}: the store failed ({_line(error)})") from None


def _line(error: Exception) -> str:
    """The head of what the store says, which runs to pages with the whole reply in it."""
    text = " ".join(redacted(str(error)).partition("Debug source:")[0].split())
    return text if len(text) <= 200 else f"{text[:200]}…"


class RemoteFile(io.RawIOBase):
    """A file of an object store that is read where it is asked for; wrap it in a buffer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store, self._key = bucket(url)
        with readable(url):
            self.size = int(self._store.head(self._key)["size"])
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = min(len(buffer), self.size - self._at)
        if n <= 0:
            return 0
        with readable(self.url):
            data = self._store.get_range(self._key, start=self._at, length=n)
        buffer[: len(data)] = memoryview(data)
        self._at += len(data)
        return len(data)


def head(url: str) -> dict[str, Any]:
    """``size``, ``e_tag`` and ``last_modified`` of an object. FileNotFoundError without one."""
    store, key = bucket(url)
    with readable(url):
        return dict(store.head(key))


def get(url: str) -> bytes:
    """The whole of an object."""
    store, key = bucket(url)
    with readable(url):
        found = store.get(key)
        return found if isinstance(found, bytes) else bytes(found.bytes())


def put(url: str, data: bytes, *, create: bool = False) -> None:
    """Write an object whole; with `create` FileExistsError where there is one."""
    store, key = bucket(url)
    try:
        with readable(url):
            try:  # in one request, as the condition holds for one
                store.put(key, data, mode="create" if create else "overwrite", use_multipart=False)
            except exceptions.BaseError as error:
                if create and "501 Not Implemented" in str(error):
                    raise StoreError(f"{redacted(url)}: {NO_CREATE_ONLY}") from None
                raise
    except PermissionError as error:
        raise RunStopped(f"{error}; give credentials that may write there") from None


def delete(url: str) -> bool:
    """Delete an object and all below it; whether there was any."""
    store, key = bucket(url)
    with readable(url):
        keys = [item["path"] for batch in store.list(f"{key}/") for item in batch]
        try:
            store.head(key)
            keys.append(key)
        except FileNotFoundError:
            pass
        try:
            store.delete(keys)
        except FileNotFoundError:  # Google and Azure say so of what another deleted meanwhile
            for one in keys:
                with suppress(FileNotFoundError):
                    store.delete(one)
    return bool(keys)


def names(url: str) -> list[str]:
    """Names of the objects and folders just below a URL."""
    if scheme(url) in WEB:
        raise InputError(f"{url}: a web server does not list its files; name each of them")
    store, key = bucket(url)
    with readable(url):
        found = store.list_with_delimiter(f"{key}/" if key else None)
    below = [*(item["path"] for item in found["objects"]), *found["common_prefixes"]]
    return sorted(str(path).rstrip("/").rpartition("/")[2] for path in below)
