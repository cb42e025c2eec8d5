"""A snapshot as bytes: chunks framed into one stream, the stream cut into part files, and the head that names them.

A chunk carries its length and CRC32C; a part may end anywhere in the stream, for whoever receives a snapshot cuts it as
it comes. The head has a checksum of its own. Nothing here decides which snapshot counts.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cbor2
import google_crc32c

from arc.errors import Corrupt
from arc.ports import Buffer, Disk
from arc.raft.codec import decode_configuration, encode_configuration
from arc.raft.types import Configuration, SnapshotMeta

FORMAT = "arc-snapshot-2"
FORMER_FORMAT = "arc-snapshot-1"
"""Knows no configuration, and its digest is of the chunks alone."""

_CHUNK = struct.Struct("<II")  # length, crc32c
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Part:
    """One part file and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot and the files it is in. ``former_digest`` is set for one of the former format."""

    meta: SnapshotMeta
    parts: tuple[Part, ...]
    former_digest: str = ""

    @property
    def index(self) -> int:
        """The last entry it covers."""
        return self.meta.index

    @property
    def term(self) -> int:
        """The term of that entry."""
        return self.meta.term

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return self.meta.size_bytes


class Parts:
    """A stream being cut into part files: ``add`` takes all of the bytes or, with an OSError, none."""

    def __init__(self, disk: Disk, prefix: str, part_bytes: int) -> None:
        self._disk = disk
        self._prefix = prefix
        self._part_bytes = part_bytes
        self._pending = bytearray()
        self._digest = hashlib.sha256()
        self.parts: list[Part] = []
        self.size_bytes = 0

    def add(self, data: Buffer, *, is_last: bool = False) -> None:
        """The next bytes of the stream. Raises OSError."""
        size = len(self._pending)
        self._pending += data
        if len(self._pending) >= self._part_bytes or (is_last and self._pending):
            path = f"{self._prefix}.{len(self.parts):05d}.part"
            try:
                self._disk.write_durable(path, self._pending)
            except OSError:
                self._pending = self._pending[:size]  # A copy: whoever tried to write it may still look at it.
                raise
            self.parts.append(Part(path.rsplit("/", 1)[1], len(self._pending)))
            self._pending = bytearray()
        self._digest.update(data)
        self.size_bytes += len(data)

    def digest(self) -> str:
        """SHA-256 of what was added, in hex."""
        return self._digest.hexdigest()


def frame(chunk: bytes) -> bytes:
    """A chunk as it goes into the stream."""
    return _CHUNK.pack(len(chunk), google_crc32c.value(chunk)) + chunk


def unframe(view: memoryview, part: Part, folder: str, before: int) -> Iterator[tuple[int, bytes]]:
    """(where the next chunk begins, chunk); a chunk that goes on in the next part is left for it."""
    place = 0
    while place + _CHUNK.size <= len(view):
        length, crc = _CHUNK.unpack_from(view, place)
        end = place + _CHUNK.size + length
        if end > len(view):
            return
        chunk = bytes(view[place + _CHUNK.size : end])
        if google_crc32c.value(chunk) != crc:
            path = f"{folder}/{part.name}"
            raise Corrupt("a chunk does not match its checksum", path=path, offset=max(place - before, 0))
        place = end
        yield place, chunk


def encode_head(snapshot: Snapshot) -> bytes:
    """The head file."""
    index, term, configuration, configuration_index, size_bytes, digest = snapshot.meta
    parts = [[part.name, part.size_bytes] for part in snapshot.parts]
    where = encode_configuration(configuration)
    body = cbor2.dumps([FORMAT, index, term, parts, digest, where, configuration_index, size_bytes])
    return body + _CRC.pack(google_crc32c.value(body))


def decode_head(data: bytes, path: str, founders: Configuration) -> Snapshot:
    """Read a head; one of the former format gets the configuration of the founders. Raises Corrupt."""
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if crc != _CRC.pack(google_crc32c.value(body)):
        raise Corrupt("the head does not match its checksum", path=path, offset=0)
    format_, index, term, raw_parts, digest, *rest = cbor2.loads(body)
    parts = tuple(Part(name, size) for name, size in raw_parts)
    if format_ == FORMER_FORMAT:
        size_bytes = sum(part.size_bytes for part in parts)
        meta = SnapshotMeta(index, term, founders, 0, size_bytes, "")
        return Snapshot(meta=meta, parts=parts, former_digest=digest)
    if format_ != FORMAT:
        raise Corrupt(f"format {format_!r} is not known to this version", path=path, offset=0)
    where, configuration_index, size_bytes = rest
    meta = SnapshotMeta(index, term, decode_configuration(where), configuration_index, size_bytes, digest)
    return Snapshot(meta=meta, parts=parts)
