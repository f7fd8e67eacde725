"""Where files are: plain paths and URLs of a few schemes, and names below them."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from msiscale.errors import InputError

# what obstore speaks; `memory` is fsspec's, for trials
OBJECT_STORES = {"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"}
WEB = {"https", "http"}
SCHEMES = OBJECT_STORES | WEB | {"memory"}
_SCENE = "#scene="


def is_url(path: str) -> bool:
    """Whether `path` has a scheme (``s3://``); plain paths and ``file://`` are local."""
    return "://" in path and not path.startswith("file://")


def local_path(url: str) -> Path:
    """The local path of a plain path or a ``file://`` URL."""
    return Path(url.removeprefix("file://"))


def split_scene(path: str) -> tuple[str, int | None]:
    """A slide's file, and which of its images ``#scene=N`` at its end asks for, from 1."""
    file, mark, number = path.rpartition(_SCENE)
    if not mark:
        return path, None
    if not (number.isascii() and number.isdigit() and 0 < len(number) < 7 and int(number)):
        raise InputError(f"{path}: {mark} is followed by the number of an image, from 1: #scene=2")
    return file, int(number)


def absolute(path: str) -> str:
    """`path` as any process finds it, whatever its folder is; a URL as it is."""
    return path if is_url(path) else str(local_path(path).absolute())


def scheme(url: str) -> str:
    """The scheme of a URL; InputError for another, or a URL that holds a password or signature."""
    found = url.partition("://")[0].lower()
    if found not in SCHEMES:
        raise InputError(f"{url}: scheme {found!r} is not read; use s3, gs, abfs, https or a path")
    parts = urlsplit(url)
    if found not in {"abfs", "abfss"} and "@" in parts.netloc:
        raise InputError(f"{url}: holds credentials; give them by the environment, not in the URL")
    if parts.query:
        raise InputError(
            f"{url}: has a query ('?…'), which may hold a signature; give the plain address and "
            "credentials by the environment"
        )
    return found


def join(url: str, *parts: str) -> str:
    """`parts` below `url`; a part that would climb out of it is refused."""
    for part in parts:
        if not part or part.startswith("/") or ".." in part.split("/"):
            raise ValueError(f"{part!r} is not a name below {url!r}")
    if is_url(url):
        return "/".join([url.rstrip("/"), *parts])
    return str(local_path(url).joinpath(*parts))
