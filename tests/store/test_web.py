"""Inputs on a web server: read by ranges, without listings."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from msiscale.cohort import read_manifest
from msiscale.errors import InputError
from msiscale.msi import open_msi
from msiscale.simulate import simulate
from msiscale.slide.convert import convert
from msiscale.slide.reader import open_reader
from msiscale.store import listing, open_file, open_group, read_bytes, web


class Ranges(SimpleHTTPRequestHandler):
    """Files with byte ranges, as web servers serve them; no listings."""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        first, last = (int(asked[1]), int(asked[2] or len(data) - 1)) if asked else (0, len(data))
        part = data[first : last + 1]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are on loopback."""
    monkeypatch.setenv(web.ALLOWED, "1")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web")
    simulate(folder, specimens=1, seed=2, pixels=(10, 11), mpp=4.0)
    convert(str(next(folder.rglob("*.tif*"))), str(folder / "slide.ome.zarr"))
    return folder


@pytest.fixture(scope="module")
def url(cohort: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=str(cohort)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_cohort_is_read_from_the_web(url: str, cohort: Path) -> None:
    (there,) = read_manifest(f"{url}/manifest.csv")
    (here,) = read_manifest(str(cohort / "manifest.csv"))
    assert there.msi.startswith(url) and there.annotation and there.annotation.startswith(url)
    assert open_msi(there.msi).equals(open_msi(here.msi))
    for name in (there.slide, f"{url}/slide.ome.zarr"):
        remote, local = open_reader(name, mpp=4.0), open_reader(here.slide)
        assert remote.shape == local.shape
        np.testing.assert_array_equal(remote.read(0, 5, 9, 60, 50), local.read(0, 5, 9, 60, 50))


def test_a_slide_that_only_openslide_reads_is_copied_once(
    url: str, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSISCALE_CACHE", str(tmp_path))
    (here,) = read_manifest(str(cohort / "manifest.csv"))
    shutil.copy(here.slide, cohort / "slide.scn")  # what it is called decides, what is in it not
    try:
        local = open_reader(here.slide, mpp=4.0).read(0, 5, 9, 60, 50)
        for _ in range(2):
            remote = open_reader(f"{url}/slide.scn", mpp=4.0)
            np.testing.assert_array_equal(remote.read(0, 5, 9, 60, 50), local)
        (copy,) = tmp_path.iterdir()
        assert copy.read_bytes() == (cohort / "slide.scn").read_bytes()
        with pytest.raises(InputError, match="local path only"):
            open_reader(f"{url}/slide.mrxs")
        with pytest.raises(FileNotFoundError, match=r"none\.scn"):
            open_reader(f"{url}/none.scn")
    finally:
        (cohort / "slide.scn").unlink()


def test_a_part_of_a_file(url: str, cohort: Path) -> None:
    path = next(cohort.rglob("*.ibd"))
    data = path.read_bytes()
    with open_file(f"{url}/{path.relative_to(cohort).as_posix()}") as file:
        file.seek(-100, 2)
        assert file.read() == data[-100:]
        file.seek(16)
        assert file.read(1000) == data[16:1016]


def test_what_is_not_there_is_said(url: str) -> None:
    with pytest.raises(FileNotFoundError):
        open_file(f"{url}/none.ibd")
    with pytest.raises(InputError, match="does not list"):
        listing(url)


class Counting(Ranges):
    """Counts the requests, and redirects what begins with /to/."""

    hits: ClassVar[list[str]] = []
    to = ""

    def do_GET(self) -> None:
        self.hits.append(self.path)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.to + self.path.removeprefix("/to"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    do_HEAD = do_GET


@contextmanager
def server(host: str, folder: Path, to: str = "") -> Iterator[tuple[str, list[str]]]:
    """Its URL, and the paths that it was asked for."""
    handler = type("Handler", (Counting,), {"hits": [], "to": to})
    made = ThreadingHTTPServer((host, 0), partial(handler, directory=str(folder)))
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{made.server_port}", handler.hits
    finally:
        made.shutdown()
        made.server_close()


@pytest.fixture
def untrusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for users, but that 127.0.0.2 is a server elsewhere."""
    monkeypatch.delenv(web.ALLOWED)
    check = web.check_address

    def but_one(host: str, address: str) -> None:
        if address != "127.0.0.2":
            check(host, address)

    monkeypatch.setattr(web, "check_address", but_one)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_of_this_machine_are_refused(untrusted: None, scheme: str, host: str) -> None:
    for read in (read_bytes, open_file, open_group, open_reader):
        with pytest.raises(InputError, match="is of this machine alone"):
            read(f"{scheme}://{host}:9/slide.ome.zarr")


def test_a_redirect_to_this_machine_is_refused(untrusted: None, cohort: Path) -> None:
    with server("127.0.0.1", cohort) as (inside, asked):
        with server("127.0.0.2", cohort, to=inside) as (outside, _):
            assert read_bytes(f"{outside}/manifest.csv").startswith(b"specimen")
            with pytest.raises(InputError, match=r"127\.0\.0\.1: its address"):
                read_bytes(f"{outside}/to/manifest.csv")
            (cohort / "m.csv").write_text(f"specimen,msi,slide\na,{outside}/to/a.imzML,s.tiff\n")
            found = read_manifest(str(cohort / "m.csv"))
            assert "is of this machine alone" in found.problems["a"]
        assert asked == []
        with (
            server("127.0.0.2", cohort) as (last, _),
            server("127.0.0.2", cohort, to=last) as (first, _),
        ):
            assert read_bytes(f"{first}/to/manifest.csv").startswith(b"specimen")


def test_a_name_that_changes_its_address_is_refused(
    untrusted: None, cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was another when it was looked up; nothing is said to the one that answers."""
    monkeypatch.setattr(web, "_check_name", lambda host, port: None)
    with server("127.0.0.1", cohort) as (inside, asked):
        with pytest.raises(InputError, match="is of this machine alone"):
            read_bytes(f"{inside}/manifest.csv")
        assert asked == []
