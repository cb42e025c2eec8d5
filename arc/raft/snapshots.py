"""Snapshots on disk: a stream of chunks in parts of bounded size, valid once their head is there (P-32).

``snapshot-<index>.<n>.part`` holds chunks, each with its length and CRC32C. ``snapshot-<index>.cbor`` is the head:
index, term, the parts and the SHA-256 of all chunks. It is written last and whole, so a snapshot without a head never
was one. The newest `KEPT` stay.

The newest one should never be damaged. If it is, the one before it serves as well, provided the log still begins at or
before its end, which is why the log is compacted only below the older one; the caller learns of it in ``damaged``, for
nothing may fail silently.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cbor2
import google_crc32c

from arc.errors import Corrupt
from arc.ports import Buffer, Disk

FORMAT = "arc-snapshot-1"
KEPT = 2

PART_BYTES = 8 << 20
"""A part is closed when it holds this much: what is ever in memory at once, and about 10 ms of a disk."""

_CHUNK = struct.Struct("<II")  # length, crc32c
_CRC = struct.Struct("<I")
_HEAD_NAME = re.compile(r"snapshot-([0-9]{20})\.cbor")
_PART_NAME = re.compile(r"snapshot-([0-9]{20})\.[0-9]{5}\.part")


@dataclass(frozen=True, slots=True)
class Part:
    """One part file and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state after entry ``index`` of ``term``. ``size_bytes`` is what it takes on disk."""

    index: int
    term: int
    parts: tuple[Part, ...]
    sha256: str

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.size_bytes for part in self.parts)


class SnapshotStore:
    """The snapshots in one folder. Every method blocks and may raise OSError; one caller at a time."""

    def __init__(self, disk: Disk, folder: str, *, part_bytes: int = PART_BYTES) -> None:
        self._disk = disk
        self._folder = folder
        self._part_bytes = part_bytes
        self.damaged: tuple[Corrupt, ...] = ()

    def save(self, index: int, term: int, chunks: Iterable[bytes]) -> Snapshot:
        """Write a snapshot; on return it survives and older ones than the last `KEPT` are gone."""
        self._disk.make_dirs(self._folder)
        digest = hashlib.sha256()
        parts: list[Part] = []
        part = bytearray()
        for chunk in chunks:
            digest.update(chunk)
            part += _CHUNK.pack(len(chunk), google_crc32c.value(chunk))
            part += chunk
            if len(part) >= self._part_bytes:
                parts.append(self._write_part(index, len(parts), part))
                part = bytearray()
        if part:
            parts.append(self._write_part(index, len(parts), part))
        snapshot = Snapshot(index=index, term=term, parts=tuple(parts), sha256=digest.hexdigest())
        self._disk.write_durable(self._head_path(index), _encode_head(snapshot))
        self.tidy()
        return snapshot

    def indexes(self) -> list[int]:
        """Indexes of the snapshots that have a head, oldest first."""
        heads = map(_HEAD_NAME.fullmatch, self._disk.list_dir(self._folder))
        return sorted(int(head[1]) for head in heads if head is not None)

    def load(self) -> Snapshot | None:
        """The newest snapshot whose every byte is proven, None when there is none at all.

        Damaged newer ones are listed in ``damaged`` and put aside. Raises Corrupt when all that exist are damaged.
        """
        damaged: list[Corrupt] = []
        for index in reversed(self.indexes()):
            try:
                snapshot = self._verified(index)
            except Corrupt as corrupt:
                damaged.append(corrupt)
                continue
            self.damaged = tuple(damaged)
            for broken in self.indexes():
                if broken > index:
                    # Put aside, or it would count as one of the kept ones that the log may be compacted below.
                    self._disk.rename(self._head_path(broken), f"{self._head_path(broken)}.damaged")
            return snapshot
        if damaged:
            raise damaged[0]
        return None

    def chunks(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The chunks that `save` was given. Raises Corrupt."""
        digest = hashlib.sha256()
        for part in snapshot.parts:
            for chunk in self._part_chunks(part):
                digest.update(chunk)
                yield chunk
        if digest.hexdigest() != snapshot.sha256:
            raise Corrupt("the chunks do not match the digest", path=self._head_path(snapshot.index), offset=0)

    def tidy(self) -> None:
        """Remove what is superseded or was never finished. Heads go first: parts without a head are nobody's."""
        kept = self.indexes()[-KEPT:]
        names = self._disk.list_dir(self._folder)
        for pattern in (_HEAD_NAME, _PART_NAME):
            for name in names:
                match = pattern.fullmatch(name)
                if match is not None and int(match[1]) not in kept:
                    self._disk.remove(f"{self._folder}/{name}")

    def _write_part(self, index: int, nth: int, data: Buffer) -> Part:
        name = f"snapshot-{index:020d}.{nth:05d}.part"
        self._disk.write_durable(f"{self._folder}/{name}", data)
        return Part(name, len(data))

    def _verified(self, index: int) -> Snapshot:
        path = self._head_path(index)
        snapshot = _decode_head(self._disk.read(path), path)
        if snapshot.index != index:
            raise Corrupt(f"the head is of snapshot {snapshot.index}", path=path, offset=0)
        for _ in self.chunks(snapshot):
            pass
        return snapshot

    def _part_chunks(self, part: Part) -> Iterator[bytes]:
        path = f"{self._folder}/{part.name}"
        if not self._disk.exists(path):
            raise Corrupt("a part of the snapshot is missing", path=path, offset=0)
        data = self._disk.map(path)
        if len(data) != part.size_bytes:
            raise Corrupt(f"{len(data)} bytes where {part.size_bytes} were written", path=path, offset=len(data))
        place = 0
        while place < len(data):
            chunk = b""
            start = place + _CHUNK.size
            if start <= len(data):
                length, crc = _CHUNK.unpack_from(data, place)
                chunk = bytes(data[start : start + length])
            if start > len(data) or len(chunk) != length or google_crc32c.value(chunk) != crc:
                raise Corrupt("a chunk does not match its checksum", path=path, offset=place)
            yield chunk
            place = start + length

    def _head_path(self, index: int) -> str:
        return f"{self._folder}/snapshot-{index:020d}.cbor"


def _encode_head(snapshot: Snapshot) -> bytes:
    parts = [[part.name, part.size_bytes] for part in snapshot.parts]
    body = cbor2.dumps([FORMAT, snapshot.index, snapshot.term, parts, snapshot.sha256])
    return body + _CRC.pack(google_crc32c.value(body))


def _decode_head(data: bytes, path: str) -> Snapshot:
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if crc != _CRC.pack(google_crc32c.value(body)):
        raise Corrupt("the head does not match its checksum", path=path, offset=0)
    format_, *rest = cbor2.loads(body)
    if format_ != FORMAT:
        raise Corrupt(f"format {format_!r} is not known to this version", path=path, offset=0)
    index, term, parts, sha256 = rest
    return Snapshot(index=index, term=term, parts=tuple(Part(name, size) for name, size in parts), sha256=sha256)
