"""Files of web servers: read by ranges, tried again, and never from this machine's own addresses.

A manifest or a model of somebody else names them, and so might have a worker ask what only it can
reach: services of the machine, the credentials of a cloud instance. Each connection is checked,
also that which a server redirects to.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment
from urllib.request import proxy_bypass_environment as bypassing  # type: ignore[attr-defined]

import urllib3
from urllib3 import connection, connectionpool
from urllib3.exceptions import HTTPError
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from msiscale.errors import InputError, NoAnswer, StoreError, redacted

ALLOWED = "MSISCALE_LOCAL_URLS"  # the environment variable by which a user trusts them
EC2 = IPv6Address("fd00:ec2::254")  # the one service of an instance that has no link-local address
RETRY = urllib3.Retry(
    total=10,
    redirect=5,
    status_forcelist=(429, 500, 502, 503, 504),
    backoff_factor=0.5,
    backoff_max=15,
    backoff_jitter=1,
    raise_on_status=False,
)
TIMEOUT = urllib3.Timeout(connect=10, read=120)
AT_ONCE = 32  # connections to a host that are kept


class Refused(InputError):
    """A URL that leads to an address which it may not reach."""


def check_address(host: str, address: str) -> None:
    """Refuse loopback and link-local addresses, unless they are allowed."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    own = found.is_loopback or found.is_link_local or found.is_unspecified or found == EC2
    if own and os.environ.get(ALLOWED) != "1":
        raise Refused(
            f"{host}: its address {found} is of this machine alone (loopback or link-local), which "
            f"a URL may not reach; set {ALLOWED}=1 where you know who named it"
        )


def _check_name(host: str, port: int) -> None:
    for *_, address in socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM):
        check_address(host, str(address[0]))


class _Plain(connection.HTTPConnection):
    """Looks up the name before it connects, and at the other end before it says anything."""

    def _new_conn(self) -> socket.socket:
        return _checked(self, super()._new_conn)


class _Encrypted(connection.HTTPSConnection):
    """The same for TLS."""

    def _new_conn(self) -> socket.socket:
        return _checked(self, super()._new_conn)


def _checked(to: Any, connect: Any) -> socket.socket:
    with suppress(OSError):  # of the name; connecting says so in its own words
        _check_name(to.host, to.port)
    made: socket.socket = connect()
    try:
        check_address(to.host, str(made.getpeername()[0]))
    except BaseException:
        made.close()
        raise
    return made


class _Plains(connectionpool.HTTPConnectionPool):
    ConnectionCls = _Plain


class _Encrypteds(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Encrypted


class _Proxied(urllib3.ProxyManager):
    """By way of a proxy of the environment's, which does the connecting: names are looked up."""

    def urlopen(  # type: ignore[override]  # as that of the class above
        self, method: str, url: str, redirect: bool = True, **words: Any
    ) -> Any:
        parts = urlsplit(url)
        if parts.hostname:
            with suppress(OSError):  # a name that only the proxy knows
                _check_name(parts.hostname, parts.port or 443)
        return super().urlopen(method, url, redirect, **words)


def _manager(url: str) -> urllib3.PoolManager:
    parts = urlsplit(url)
    proxy = getproxies_environment().get(parts.scheme)
    words: dict[str, Any] = {"maxsize": AT_ONCE, "retries": RETRY, "timeout": TIMEOUT}
    if proxy and not bypassing(parts.netloc):
        return _Proxied(proxy, **words)
    made = urllib3.PoolManager(**words)
    made.pool_classes_by_scheme = {"https": _Encrypteds}
    if parts.scheme == "http":  # what is encrypted stays so when it is redirected
        made.pool_classes_by_scheme["http"] = _Plains
    return made


class Web:
    """Files below a URL, by the methods of obstore's stores that reading takes."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._pools = _manager(url)

    def head(self, key: str) -> dict[str, Any]:
        """``size``, ``e_tag`` and ``last_modified``."""
        reply = self._ask("HEAD", key, {})
        size = reply.headers.get("Content-Length")
        if size is None:
            raise StoreError(f"{self._url(key)}: the server does not say how long the file is")
        tags = {"e_tag": reply.headers.get("ETag")}
        return {"size": int(size), "last_modified": reply.headers.get("Last-Modified"), **tags}

    def get(self, key: str) -> bytes:
        """The whole of a file."""
        return bytes(self._ask("GET", key, {}).data)

    def get_range(self, key: str, *, start: int, length: int) -> bytes:
        """A part of a file."""
        return self.part(key, f"bytes={start}-{start + length - 1}")

    def part(self, key: str, asked: str) -> bytes:
        """The part that a ``Range`` header asks for."""
        reply = self._ask("GET", key, {"Range": asked})
        if reply.status != 206:
            raise StoreError(f"{self._url(key)}: the server does not serve parts of files")
        return bytes(reply.data)

    def _url(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _ask(self, method: str, key: str, headers: dict[str, str]) -> Any:
        url = self._url(key)
        try:
            reply = self._pools.request(
                method, url, headers={"Accept-Encoding": "identity", **headers}
            )
        except HTTPError as error:
            text = " ".join(redacted(str(getattr(error, "reason", None) or error)).split())[:200]
            text = text.partition("): ")[2] or text  # without the connection, an object of ours
            raise NoAnswer(f"{redacted(url)}: the server cannot be read ({text})") from None
        if reply.status in (404, 410):
            raise FileNotFoundError(2, "no such file", redacted(url))
        if reply.status in (401, 403):
            raise PermissionError(f"{redacted(url)}: access denied ({reply.status})")
        if reply.status not in (200, 206):
            raise StoreError(f"{redacted(url)}: the server answered {reply.status}")
        return reply


class WebStore(Store):
    """A Zarr store on a web server, to read only; nothing in it can be listed."""

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, web: Web) -> None:
        super().__init__(read_only=True)
        self.web = web

    def __eq__(self, value: object) -> bool:
        return isinstance(value, WebStore) and value.web.url == self.web.url

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The value of a key, or a part of it; None where there is none."""
        try:
            if byte_range is None:
                found = await asyncio.to_thread(self.web.get, key)
            else:
                found = await asyncio.to_thread(self.web.part, key, _header(byte_range))
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(found)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Several of them, together."""
        return list(await asyncio.gather(*(self.get(k, prototype, r) for k, r in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        try:
            await asyncio.to_thread(self.web.head, key)
        except FileNotFoundError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Refused."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refused."""
        raise NotImplementedError

    async def list(self) -> AsyncIterator[str]:
        """Refused."""
        raise NotImplementedError
        yield

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refused."""
        raise NotImplementedError
        yield

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refused."""
        raise NotImplementedError
        yield


def _header(asked: ByteRequest) -> str:
    if isinstance(asked, RangeByteRequest):
        return f"bytes={asked.start}-{asked.end - 1}"
    if isinstance(asked, OffsetByteRequest):
        return f"bytes={asked.offset}-"
    return f"bytes=-{asked.suffix}"
