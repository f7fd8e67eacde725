"""A bucket of Google Cloud Storage on loopback: the calls of its XML API that obstore makes.

https://cloud.google.com/storage/docs/xml-api: objects with generations and create-only PUT
(``x-goog-if-generation-match: 0``), byte ranges, listings by pages, multipart uploads. No packaged
emulator has all of these (docs/clusters.md).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 25  # names a listing gives at once; 1,000 at Google's
DATE = "2026-01-01T00:00:00.000Z"


@dataclass
class Bucket:
    """Objects and their generations; what happens when a condition is asked for."""

    name: str
    conditions: str = "kept"  # or "ignored", or "refused", as by servers that do not have them
    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: count(1_700_000_000_000_000))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, key: str, data: bytes, generation: str | None) -> int | None:
        """The new generation; None where the object has another than it should."""
        with self.lock:
            found = self.objects.get(key, (b"", 0))[1]
            if generation is not None and self.conditions == "kept" and int(generation) != found:
                return None
            self.objects[key] = data, next(self.numbers)
            return self.objects[key][1]


class Calls(BaseHTTPRequestHandler):
    """Path style: ``/bucket/key``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # which holds a body back until its header is acknowledged
    bucket: Bucket

    def log_message(self, *_: object) -> None:
        pass

    def parse(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        name, _, key = parts.path.lstrip("/").partition("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        called = " ".join(
            [self.command, *sorted({"uploads", "uploadId", "list-type"} & set(query))]
        )
        self.bucket.calls[called] = self.bucket.calls.get(called, 0) + 1
        return (unquote(key) if name == self.bucket.name else ""), query

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, data: bytes = b"", **headers: Any) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode())

    def written(self, key: str, data: bytes, xml: bytes = b"") -> None:
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and self.bucket.conditions == "refused":
            self.refuse(501, "NotImplemented")
        elif (generation := self.bucket.write(key, data, wanted)) is None:
            self.refuse(412, "PreconditionFailed")
        else:
            self.answer(200, xml, ETag=_tag(data), x_goog_generation=generation)

    def do_PUT(self) -> None:
        key, query = self.parse()
        data = self.body()
        if "uploadId" not in query:
            self.written(key, data)
        elif (parts := self.bucket.uploads.get(query["uploadId"])) is None:
            self.refuse(404, "NoSuchUpload")
        else:
            parts[int(query["partNumber"])] = data
            self.answer(200, ETag=_tag(data))

    def do_POST(self) -> None:
        key, query = self.parse()
        body = self.body().decode()
        if "uploads" in query:
            upload = f"upload-{next(self.bucket.numbers)}"
            self.bucket.uploads[upload] = {}
            words = f"<Bucket>{self.bucket.name}</Bucket><Key>{escape(key)}</Key>"
            words += f"<UploadId>{upload}</UploadId>"
            self.answer(200, _xml("InitiateMultipartUploadResult", words))
        elif (parts := self.bucket.uploads.pop(query.get("uploadId", ""), None)) is None:
            self.refuse(404, "NoSuchUpload")
        else:
            named = [int(n) for n in re.findall(r"<PartNumber>(\d+)</PartNumber>", body)]
            data = b"".join(parts[n] for n in named)
            words = f"<Key>{escape(key)}</Key><ETag>{_tag(data)}</ETag>"
            self.written(key, data, _xml("CompleteMultipartUploadResult", words))

    def do_DELETE(self) -> None:
        key, query = self.parse()
        if "uploadId" in query:
            self.bucket.uploads.pop(query["uploadId"], None)
            self.answer(204)
        elif self.bucket.objects.pop(key, None) is None:
            self.refuse(404, "NoSuchKey")
        else:
            self.answer(204)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        key, query = self.parse()
        if not key:
            self.listed(query)
            return
        if key not in self.bucket.objects:
            self.refuse(404, "NoSuchKey")
            return
        data, generation = self.bucket.objects[key]
        facts = {
            "ETag": _tag(data),
            "x_goog_generation": generation,
            "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        }
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self.answer(200, data, **facts)
            return
        first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        last = min(int(asked[2]) if asked[1] and asked[2] else len(data) - 1, len(data) - 1)
        if first > last:
            self.refuse(416, "InvalidRange")
            return
        facts["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        self.answer(206, data[first : last + 1], **facts)

    def listed(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        entries: dict[str, str] = {}
        with self.bucket.lock:
            held = sorted(self.bucket.objects.items())
        for key, (data, generation) in held:
            if not key.startswith(prefix):
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                name = key[: cut + len(delimiter)]
                entries[name] = f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
            else:
                entries[key] = (
                    f"<Contents><Key>{escape(key)}</Key><Generation>{generation}</Generation>"
                    f"<LastModified>{DATE}</LastModified><ETag>{_tag(data)}</ETag>"
                    f"<Size>{len(data)}</Size></Contents>"
                )
        names = [n for n in sorted(entries) if n > after]
        words = f"<Name>{self.bucket.name}</Name><Prefix>{escape(prefix)}</Prefix>"
        words += "".join(entries[n] for n in names[:PAGE])
        more = len(names) > PAGE
        words += f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        if more:
            words += f"<NextContinuationToken>{escape(names[PAGE - 1])}</NextContinuationToken>"
        self.answer(200, _xml("ListBucketResult", words), Content_Type="application/xml")


def _tag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _xml(name: str, words: str) -> bytes:
    return f"<?xml version='1.0' encoding='UTF-8'?><{name}>{words}</{name}>".encode()


@contextmanager
def google(name: str, *, conditions: str = "kept") -> Iterator[tuple[Bucket, dict[str, str]]]:
    """The bucket, and the environment of those who use it."""
    bucket = Bucket(name, conditions)
    handler = type("Handler", (Calls,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield bucket, {"STORAGE_EMULATOR_HOST": f"127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()
