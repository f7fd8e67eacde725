"""Dask's own TLS configuration, checked before anything starts with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def check_encrypted(client: Client, wanted: bool) -> None:
    """Refuse a cluster that lost the security settings, where TLS is `wanted`, on the way."""
    scheduler: Any = client.scheduler
    address = scheduler.address
    if wanted and not address.startswith("tls://"):
        raise InputError(f"{address}: Dask is configured for TLS, but this scheduler is not")
