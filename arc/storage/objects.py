"""What a shared object store must be able to do, and what a file is called there.

A key is ``<cluster>/<path>`` with the first half of the file's hash before its suffix: two clusters can share a bucket
and a prefix, two writers never meet (the path has node and epoch), and bytes that differ never have the same key. So
whatever stands under a key is what was put there, and putting it again is harmless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from arc.ports import Buffer

SUFFIX = ".parquet"
HASH_CHARS = 32
"""Of the SHA-256 in hex: 128 bits, more than chance or haste can repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One line of a listing. ``modified_us``: when it was put, by the store's clock (µs since 1970 UTC)."""

    key: str
    size_bytes: int
    modified_us: int


class Objects(Protocol):
    """One prefix of one bucket. Every method blocks, for a bounded time, and raises Unavailable when the store cannot
    be asked now or refuses: whoever asks tries again later.
    """

    @property
    def name(self) -> str:
        """For people and logs: ``s3://bucket/prefix``. Never the name of a node, which has no slash."""
        ...

    def check(self) -> None:
        """Raise InvalidRequest when the store can never work as it is set up: no such bucket, wrong credentials, or one
        that does not know conditional puts. Raises Unavailable when that cannot be told now.
        """
        ...

    def put(self, key: str, data: Buffer, sha256: str) -> None:
        """Store an object that is not there yet, whole and durably. One that is there already, of this size and hash,
        is our own from an attempt whose answer was lost, and as good. Nothing is ever replaced.
        """
        ...

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """Bytes of an object. Raises NotFound."""
        ...

    def size(self, key: str) -> int | None:
        """Length in bytes; None when it is not there."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects. One that is already gone is not an error."""
        ...

    def page(self, folder: str, after: str, limit: int) -> list[StoredObject]:
        """At most so many objects below a folder, by key, those behind ``after``."""
        ...


def key_of(cluster: str, path: str, sha256: str) -> str:
    """The key of a file."""
    assert cluster and path.endswith(SUFFIX) and len(sha256) >= HASH_CHARS, (cluster, path, sha256)
    return f"{cluster}/{path.removesuffix(SUFFIX)}.{sha256[:HASH_CHARS]}{SUFFIX}"


def file_of(cluster: str, key: str) -> tuple[str, str] | None:
    """Path and the first half of the hash of the file that has this key; None when it is not a name of ours."""
    stem, dot, half = key.removesuffix(SUFFIX).removeprefix(f"{cluster}/").rpartition(".")
    if not (key.startswith(f"{cluster}/") and key.endswith(SUFFIX) and dot and len(half) == HASH_CHARS):
        return None
    return f"{stem}{SUFFIX}", half
