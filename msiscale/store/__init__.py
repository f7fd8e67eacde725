"""Where results live: URLs, Zarr arrays with checksums, and the record of what was done."""

from msiscale.errors import LostChunk
from msiscale.store.arrays import (
    ONLY_SHARDS,
    array_of,
    create_array,
    divisor,
    has_group,
    make_root,
    open_group,
    put,
    read,
    url_of,
    write_block,
)
from msiscale.store.held_out import HeldOut
from msiscale.store.ledger import Ledger
from msiscale.store.objects import (
    at_once,
    create_bytes,
    digest,
    exists,
    file_sha256,
    is_file,
    listing,
    local_copy,
    open_file,
    read_bytes,
    read_json,
    remove,
    size_and_state,
    write_bytes,
    write_json,
)
from msiscale.store.specimen import StoredSpecimen, nearest_column
from msiscale.store.tables import read_csv, read_csv_parts, write_csv
from msiscale.store.urls import absolute, is_url, join, local_path

__all__ = [
    "ONLY_SHARDS",
    "HeldOut",
    "Ledger",
    "LostChunk",
    "StoredSpecimen",
    "absolute",
    "array_of",
    "at_once",
    "create_array",
    "create_bytes",
    "digest",
    "divisor",
    "exists",
    "file_sha256",
    "has_group",
    "is_file",
    "is_url",
    "join",
    "listing",
    "local_copy",
    "local_path",
    "make_root",
    "nearest_column",
    "open_file",
    "open_group",
    "put",
    "read",
    "read_bytes",
    "read_csv",
    "read_csv_parts",
    "read_json",
    "remove",
    "size_and_state",
    "url_of",
    "write_block",
    "write_bytes",
    "write_csv",
    "write_json",
]
