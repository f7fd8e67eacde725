"""What this machine has, and what is missing for what the user asks: ``msiscale doctor``.

`PROBES` is the one list. A probe takes what was `Asked` and yields its `Finding`s; a new one is a
function and its place in the list.
"""

from __future__ import annotations

from collections.abc import Iterator

from msiscale.doctor import machine, places, software, workers
from msiscale.doctor.probe import Asked, Finding, Probe

__all__ = ["PROBES", "Asked", "Finding", "findings"]

PROBES: tuple[Probe, ...] = (
    machine.python,
    software.libraries,
    software.extras,
    software.torch,
    machine.gpu,
    machine.cpus,
    machine.memory,
    software.openslide,
    software.encoder,
    software.licence,
    workers.cluster,
    places.manifest,
    places.store,
    places.disk,
    places.scratch,
    machine.open_files,
    machine.encoding,
)


def findings(asked: Asked) -> Iterator[Finding]:
    """The answers of every probe, in their order; one that fails itself is a note."""
    for probe in PROBES:
        try:
            yield from probe(asked)
        except Exception as error:  # the other probes are still worth their answers
            yield Finding.of(probe.__name__, error, "note")
