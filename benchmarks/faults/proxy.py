"""An HTTP proxy before an object store that can be told to fail as stores fail.

Requests pass unchanged, so their signatures (which cover the Host header) still hold: the server
behind takes any Host. A request and its reply are held in memory, which suits test objects.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from urllib.parse import urlsplit

HOST = "127.0.0.1"
KINDS = ("403", "500", "503", "delay", "cut", "ack-lost", "unconditional")
REPLIES = {
    "403": ("403 Forbidden", "AccessDenied", "Access Denied."),
    "500": ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    "503": ("503 Slow Down", "SlowDown", "Please reduce your request rate."),
}


@dataclass
class Fault:
    """What happens to which requests.

    Parameters
    ----------
    kind
        ``403``, ``500``, ``503``: answered so, not passed on. ``delay``: passed on after `delay_s`.
        ``cut``: the connection ends in the middle of the body of a request, which is not passed
        on, or of a reply. ``ack-lost``: the request is carried out, its reply never comes.
        ``unconditional``: create-only writes overwrite, as at servers that do not know of them
        (a server that checks signatures refuses them instead, as the header is signed).
    every
        Of the requests that match, one in so many: the first, and then each `every`-th.
    seconds
        How long from now; None until `clear`.
    methods
        Those it happens to; empty for all.
    path
        What the address of a request has in it; empty for any.
    """

    kind: str
    every: int = 1
    seconds: float | None = None
    delay_s: float = 1.0
    methods: tuple[str, ...] = ()
    path: str = ""
    since: float = field(default_factory=time.monotonic)
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not one of {', '.join(KINDS)}")

    def strikes(self, method: str, path: str = "") -> bool:
        """Whether it happens to this request; counts it."""
        if self.seconds is not None and time.monotonic() > self.since + self.seconds:
            return False
        if (self.methods and method not in self.methods) or self.path not in path:
            return False
        self.seen += 1
        return (self.seen - 1) % self.every == 0


@dataclass(frozen=True)
class Message:
    """A request or a reply: its first line and headers as they came, and its body."""

    head: bytes
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def closes(self) -> bool:
        return _header(self.head, b"connection").lower() == b"close"


class FaultProxy:
    """The proxy, in a thread of its own: a context manager.

    `url` is where it answers; `inject` and `clear` switch it; `requests` and `struck` count.
    """

    def __init__(self, upstream: str) -> None:
        found = urlsplit(upstream)
        self.upstream = (found.hostname or "", found.port or 80)
        self.port = 0
        self.fault: Fault | None = None
        self.requests = 0
        self.struck = 0
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def inject(self, fault: Fault) -> None:
        """From now on."""
        self.fault = fault

    def clear(self) -> None:
        """Pass everything."""
        self.fault = None

    def listen(self, host: str) -> str:
        """Answer at one more address, at the same port; the URL there."""
        self._call(self._listen(host))
        return f"http://{host}:{self.port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._call(self._listen(HOST))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _call(self, work: object) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[arg-type]
        future.result(30)

    async def _listen(self, host: str) -> None:
        server = await asyncio.start_server(self._serve, host, self.port, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (request := await _request(reader, writer)) is not None:
                reply = await self._answer(request)
                if reply is None:
                    writer.transport.abort()
                    break
                writer.write(reply.head + reply.body)
                await writer.drain()
                if len(reply.body) < _promised(reply, request.method):
                    writer.transport.abort()
                    break
                if request.closes or reply.closes:
                    break
        writer.close()

    async def _answer(self, request: Message) -> Message | None:
        """The reply, whole, cut short, or none at all."""
        self.requests += 1
        fault = self.fault
        kind = (
            fault.kind if fault is not None and fault.strikes(request.method, request.path) else ""
        )
        self.struck += bool(kind)
        if kind in REPLIES:
            return _refusal(kind, request.method)
        if kind == "delay" and fault is not None:
            await asyncio.sleep(fault.delay_s)
        if kind == "unconditional":
            request = Message(_without(request.head, b"if-none-match"), request.body)
        # a connection a request: one that is kept may be closed by the server between two
        source, behind = await asyncio.open_connection(*self.upstream, limit=1 << 20)
        try:
            if kind == "cut" and request.body:
                # the server behind sees the upload break off, as the client does
                behind.write(request.head + request.body[: len(request.body) // 2])
                await behind.drain()
                return None
            behind.write(request.head + request.body)
            await behind.drain()
            reply = await _reply(source, request.method)
        finally:
            behind.close()
        if kind == "ack-lost":
            return None
        if kind == "cut":
            return Message(reply.head, reply.body[: len(reply.body) // 2]) if reply.body else None
        return reply


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _without(head: bytes, name: bytes) -> bytes:
    lines = head.split(b"\r\n")
    return b"\r\n".join(n for n in lines if not n.lower().startswith(name + b":"))


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    if _header(head, b"expect").lower() == b"100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = _without(head, b"expect")
    return Message(head, await _body(reader, head))


async def _reply(source: asyncio.StreamReader, method: str) -> Message:
    head = await source.readuntil(b"\r\n\r\n")
    status = head.split(b" ", 2)[1]
    if method == "HEAD" or status in (b"204", b"304"):
        return Message(head, b"")
    return Message(head, await _body(source, head))


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """As it is on the wire: a chunked body keeps its framing."""
    if _header(head, b"transfer-encoding").lower() == b"chunked":
        pieces = []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            pieces += [line, await reader.readexactly(size + 2)]
            if size == 0:
                return b"".join(pieces)
    return await reader.readexactly(int(_header(head, b"content-length") or 0))


def _promised(reply: Message, method: str) -> int:
    """Bytes of body that the head announces; a chunked one was passed whole or cut to nothing."""
    if method == "HEAD":
        return 0
    if _header(reply.head, b"transfer-encoding").lower() == b"chunked":
        return 0 if reply.body.endswith(b"0\r\n\r\n") else len(reply.body) + 1
    return int(_header(reply.head, b"content-length") or 0)


def _refusal(kind: str, method: str) -> Message:
    status, code, text = REPLIES[kind]
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
        f"<Message>{text}</Message></Error>"
    ).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Message(head.encode(), b"" if method == "HEAD" else body)
