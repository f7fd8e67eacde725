"""A network namespace behind a link that can be cut: another machine, as far as TCP can tell."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Namespace:
    """Its name, this side's address and its own, and the interface to cut the link by."""

    name: str
    here: str
    there: str
    link: str

    @property
    def prefix(self) -> list[str]:
        """Words before a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """No packet passes; neither side is told."""
        _ip("link", "set", self.link, "down")

    def restore(self) -> None:
        _ip("link", "set", self.link, "up")


def missing_namespaces() -> str | None:
    """Why there can be no namespace here, or None."""
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (package iproute2)"
    probe = f"msi{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces need root: {made.stderr.strip()}"
    _ip("netns", "delete", probe)
    return None


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace joined to this one by a veth pair with a subnet of its own; gone at the end."""
    number = os.getpid()
    name, link, far = f"msi{number}", f"msih{number}", f"msin{number}"
    # a /30 out of 10.213/16: this process's number picks it, so that two benchmarks do not meet
    subnet = f"10.213.{number % 251}"
    here, there = f"{subnet}.1", f"{subnet}.2"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", f"{here}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", name, "addr", "add", f"{there}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Namespace(name, here, there, link)
    finally:
        _ip("netns", "delete", name)
        subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
