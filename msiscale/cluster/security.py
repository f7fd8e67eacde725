"""TLS of a cluster: Dask's own configuration, checked first, else certificates of the run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from distributed.security import Security

from msiscale.errors import InputError

FIELDS = {
    "ca-file": "tls_ca_file",
    "scheduler.cert": "tls_scheduler_cert",
    "scheduler.key": "tls_scheduler_key",
    "worker.cert": "tls_worker_cert",
    "worker.key": "tls_worker_key",
    "client.cert": "tls_client_cert",
    "client.key": "tls_client_key",
}
CERTIFICATES = ("cert.pem", "key.pem")
HOME = "~/.msiscale"  # which the hosts of a cluster share, as a rule


def tls() -> Security | None:
    """What Dask's configuration says of TLS; None where it names no authority and asks for none."""
    # an authority that is named means that encryption is wanted: plain connections are refused
    found: Any = Security()
    if not (found.require_encryption or found.tls_ca_file):
        return None
    for field, attribute in FIELDS.items():
        value = getattr(found, attribute)
        name = f"distributed.comm.tls.{field}"
        if not value:
            raise InputError(f"{name}: not set, but Dask is configured for TLS; see docs/clusters")
        if "\n" not in value and not Path(value).is_file():
            raise InputError(f"{name} = {value}: no such file")
    return Security(require_encryption=True)


@contextmanager
def of_run(folder: str | None = None) -> Iterator[Security]:
    """Certificates of this run alone: in memory, or as files in a new folder below `folder`.

    Parameters
    ----------
    folder
        Which this user alone may read, and all hosts see. The certificates go with the run.

    Yields
    ------
    Security
        Of one key for client, scheduler and workers; who lacks it is refused.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    made: Any = Security.temporary()
    if folder is None:
        yield made
        return
    home = Path(os.path.expandvars(folder)).expanduser()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(prefix="tls-", dir=home))  # for its owner only
    except OSError as error:
        raise InputError(
            f"{home}: the certificates of the run cannot be written there ({error}); name a folder "
            "that all hosts see by shared_temp_directory in [options]"
        ) from None
    try:
        cert, key = (str(own / name) for name in CERTIFICATES)
        for path, text in ((cert, made.tls_client_cert), (key, made.tls_client_key)):
            Path(path).touch(mode=0o600)
            Path(path).write_text(text)
        yield in_files(cert, key)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def in_files(cert: str, key: str) -> Security:
    """The certificates of a run, where they are files."""
    roles = ("client", "scheduler", "worker")
    names = {
        f"tls_{r}_{part}": path for r in roles for part, path in (("cert", cert), ("key", key))
    }
    return Security(require_encryption=True, tls_ca_file=cert, **names)


def in_memory(security: Any) -> bool:
    """Whether certificates are texts, not files: those of a run that nobody has written yet."""
    return security is not None and "\n" in str(security.tls_ca_file)


def plain_is_wanted() -> bool:
    """Whether Dask is configured, in so many words, to do without encryption."""
    return dask.config.get("distributed.comm.require-encryption") is False


def check_encrypted(client: Client, wanted: bool) -> None:
    """Refuse a cluster that lost the security settings, where TLS is `wanted`, on the way."""
    scheduler: Any = client.scheduler
    address = scheduler.address
    if wanted and not address.startswith("tls://"):
        raise InputError(f"{address}: Dask is configured for TLS, but this scheduler is not")
