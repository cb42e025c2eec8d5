"""Snapshots on disk: a stream of chunks in parts of bounded size, valid once their head is there (P-32).

``snapshot-<index>.<n>.part`` holds chunks, each with its length and CRC32C. ``snapshot-<index>.cbor`` is the head:
where the snapshot stands, with which configuration, its parts, and the SHA-256 of the stream that they are together.
It is written last and whole, so a snapshot without a head never was one. The newest `KEPT` stay, and older ones while
they are being sent to somebody.

The stream is also what travels to others, who store it as it comes in parts of their own (``staged-…``); nobody counts
on it before its head is complete. That head is written when the last piece is there, under another name, so that
accepting the snapshot is one rename, which needs no room on a full disk.

The newest one should never be damaged. If it is, the one before it serves as well, provided the log still begins at or
before its end, which is why the log is compacted only below the older one; the caller learns of it in ``damaged``, for
nothing may fail silently.

`SnapshotStore.save` may run beside all else: it touches only files of its own, and what is older than anything kept.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import TypeAlias

import google_crc32c

from arc.errors import Corrupt
from arc.ports import Disk, is_full
from arc.raft.snapshotstream import Part, Parts, Snapshot, decode_head, encode_head, frame, unframe
from arc.raft.types import Configuration, SnapshotMeta

KEPT = 2

Keep: TypeAlias = Set[int]
"""Indexes of older snapshots that have to stay: somebody is being sent them."""

PART_BYTES = 8 << 20
"""A part is closed when it holds this much: what is ever in memory at once, and about 10 ms of a disk."""

_HEAD_NAME = re.compile(r"snapshot-([0-9]{20})\.cbor")
_ANY_NAME = re.compile(r"(?:snapshot|staged)-([0-9]{20})\.(?:cbor|[0-9]{5}\.part)")
_PART_NAME = re.compile(r"(?:snapshot|staged)-([0-9]{20})\.[0-9]{5}\.part")


class SnapshotStore:
    """The snapshots in one folder. Every method blocks and may raise OSError; one caller at a time, but for `save`.

    ``founders`` is the configuration of those that were written before heads told it.
    """

    def __init__(
        self, disk: Disk, folder: str, *, founders: Configuration | None = None, part_bytes: int = PART_BYTES
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._founders = founders if founders is not None else Configuration()
        self._part_bytes = part_bytes
        self._known: dict[int, Snapshot] = {}
        self._staging: tuple[SnapshotMeta, Parts] | None = None
        self.damaged: tuple[Corrupt, ...] = ()

    def __repr__(self) -> str:
        return f"<SnapshotStore {self._folder} {sorted(self._known)} staging={self._staging and self._staging[0]}>"

    # ------------------------------------------------------------------------------------------------ own snapshots

    def save(
        self,
        index: int,
        term: int,
        chunks: Iterable[bytes],
        configuration: Configuration | None = None,
        configuration_index: int = 0,
        *,
        keep: Keep = frozenset(),
    ) -> Snapshot:
        """Write a snapshot; on return it survives and older ones than the last `KEPT` are gone, but for ``keep``."""
        self._disk.make_dirs(self._folder)
        if index in self._known:
            return self._known[index]  # The state after an entry is the same for ever: what is stored stays untouched.
        out = Parts(self._disk, f"{self._folder}/snapshot-{index:020d}", self._part_bytes)
        for chunk in chunks:
            out.add(frame(chunk))
        out.add(b"", is_last=True)
        where = configuration if configuration is not None else self._founders
        meta = SnapshotMeta(index, term, where, configuration_index, out.size_bytes, out.digest())
        snapshot = Snapshot(meta=meta, parts=tuple(out.parts))
        self._disk.write_durable(self._head_path(index), encode_head(snapshot))
        self._known[index] = snapshot
        self.tidy(keep)
        return snapshot

    def discard(self, index: int) -> None:
        """Remove what a `save` that failed has left."""
        if index not in self._known:
            for name in self._disk.list_dir(self._folder):
                if name.startswith(f"snapshot-{index:020d}."):
                    self._disk.remove(f"{self._folder}/{name}")

    def indexes(self) -> list[int]:
        """Indexes of the snapshots that have a head, oldest first."""
        heads = map(_HEAD_NAME.fullmatch, self._disk.list_dir(self._folder))
        return sorted(int(head[1]) for head in heads if head is not None)

    def load(self) -> Snapshot | None:
        """The newest snapshot whose every byte is proven, None when there is none at all.

        Damaged newer ones are listed in ``damaged`` and put aside. Raises Corrupt when all that exist are damaged.
        """
        found, self.damaged = self.survey()
        if found is None and self.damaged:
            raise self.damaged[0]
        self.settle(found)
        return found

    def survey(self) -> tuple[Snapshot | None, tuple[Corrupt, ...]]:
        """The newest snapshot that is whole, and what is wrong with newer ones. Changes nothing."""
        damaged: list[Corrupt] = []
        for index in reversed(self.indexes()):
            try:
                return self._verified(index), tuple(damaged)
            except Corrupt as corrupt:
                damaged.append(corrupt)
        return None, tuple(damaged)

    def settle(self, newest: Snapshot | None) -> None:
        """Put damaged newer ones aside, or they would count as kept ones that the log may be compacted below; remove
        all that has no head. For the start, when nothing is being written.
        """
        heads = self.indexes()
        limit = newest.index if newest is not None else -1
        for name in self._disk.list_dir(self._folder):
            path, match = f"{self._folder}/{name}", _ANY_NAME.fullmatch(name)
            index = int(match[1]) if match is not None else 0
            if name.startswith(".") and name.endswith(".tmp"):
                self._disk.remove(path)  # a `Disk.write_durable` that a power cut ended; up to a part of bytes
            if match is None or (index in heads and index <= limit and name != f"staged-{index:020d}.cbor"):
                continue
            if index in heads:
                self._disk.rename(path, f"{path}.damaged")
            else:
                self._disk.remove(path)
        self._known = {newest.index: newest} if newest is not None else {}

    def chunks(self, snapshot: Snapshot) -> Iterator[bytes]:
        """The chunks that `save` was given. Raises Corrupt."""
        digest = hashlib.sha256()
        rest = b""
        for part in snapshot.parts:
            data = self._part(part)
            if not snapshot.former_digest:
                digest.update(data)
            view = memoryview(rest + data) if rest else data
            end = 0
            for end, chunk in unframe(view, part, self._folder, len(rest)):  # noqa: B007
                if snapshot.former_digest:
                    digest.update(chunk)
                yield chunk
            rest = bytes(view[end:])
        if rest or digest.hexdigest() != (snapshot.former_digest or snapshot.meta.digest):
            raise Corrupt("the chunks do not match the digest", path=self._head_path(snapshot.index), offset=0)

    def tidy(self, keep: Keep = frozenset()) -> None:
        """Remove what is superseded. Heads go first: parts without a head are nobody's."""
        kept = self.indexes()[-KEPT:]
        if not kept:
            return
        names = self._disk.list_dir(self._folder)
        for pattern in (_HEAD_NAME, _PART_NAME):
            for name in names:
                match = pattern.fullmatch(name)
                index = int(match[1]) if match is not None else kept[0]
                # Only below the newest: above may be a snapshot that is being written or received.
                if index < kept[0] and index not in keep:
                    self._known.pop(index, None)
                    self._disk.remove(f"{self._folder}/{name}")

    # --------------------------------------------------------------------------------------------- between the nodes

    def find(self, meta: SnapshotMeta) -> Snapshot | None:
        """The stored snapshot that is this one to the byte."""
        known = self._known.get(meta.index)
        return known if known is not None and known.meta == meta else None

    def read_piece(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> tuple[bytes, int, bool] | None:
        """(bytes of the stream from ``offset`` on, their CRC32C, whether they end it); None when it is gone."""
        snapshot = self.find(meta)
        if snapshot is None or not 0 <= offset <= meta.size_bytes:
            return None
        piece, start = bytearray(), 0
        for part in snapshot.parts:
            if len(piece) < bytes_max and start <= offset + len(piece) < start + part.size_bytes:
                at = offset + len(piece) - start
                try:
                    piece += self._part(part)[at : at + bytes_max - len(piece)]
                except (Corrupt, FileNotFoundError):
                    return None
            start += part.size_bytes
        data = bytes(piece)
        return data, google_crc32c.value(data), offset + len(data) == meta.size_bytes

    def stage_piece(self, meta: SnapshotMeta, offset: int, data: bytes, checksum: int, is_last: bool) -> bool:
        """Store a piece; True when it is right, and with the last one the whole. A full disk is False, too: whoever
        sends tries again.
        """
        if google_crc32c.value(data) != checksum:
            return False
        try:
            if offset == 0:
                self._drop_staging()
                self._disk.make_dirs(self._folder)
                prefix = f"{self._folder}/staged-{meta.index:020d}"
                self._staging = (meta, Parts(self._disk, prefix, self._part_bytes))
            if self._staging is None:
                return False
            staged, parts = self._staging
            if staged != meta or parts.size_bytes != offset:
                return False
            parts.add(data, is_last=is_last)
            if is_last:
                if (parts.size_bytes, parts.digest()) != (meta.size_bytes, meta.digest):
                    return False
                head = encode_head(Snapshot(meta=meta, parts=tuple(parts.parts)))
                self._disk.write_durable(self._staged_path(meta.index), head)
        except OSError as error:
            if not is_full(error):
                raise
            return False
        return True

    def accept(self, meta: SnapshotMeta) -> None:
        """The staged snapshot is now the newest; one durable step, which needs no room."""
        assert self._staging is not None and self._staging[0] == meta, (meta, self)
        self._disk.rename(self._staged_path(meta.index), self._head_path(meta.index))
        self._known[meta.index] = Snapshot(meta=meta, parts=tuple(self._staging[1].parts))
        self._staging = None
        self.tidy()

    def _drop_staging(self) -> None:
        if self._staging is None:
            return
        index = self._staging[0].index
        self._staging = None
        for name in self._disk.list_dir(self._folder):
            if name.startswith(f"staged-{index:020d}.") and index not in self._known:
                self._disk.remove(f"{self._folder}/{name}")

    # --------------------------------------------------------------------------------------------------------- files

    def _verified(self, index: int) -> Snapshot:
        snapshot = self._head(index)
        for _ in self.chunks(snapshot):
            pass
        if snapshot.former_digest:
            digest = hashlib.sha256()
            for part in snapshot.parts:
                digest.update(self._part(part))
            snapshot = replace(snapshot, meta=snapshot.meta._replace(digest=digest.hexdigest()))
        return snapshot

    def _head(self, index: int) -> Snapshot:
        path = self._head_path(index)
        snapshot = decode_head(self._disk.read(path), path, self._founders)
        if snapshot.index != index:
            raise Corrupt(f"the head is of snapshot {snapshot.index}", path=path, offset=0)
        return snapshot

    def _part(self, part: Part) -> memoryview:
        path = f"{self._folder}/{part.name}"
        if not self._disk.exists(path):
            raise Corrupt("a part of the snapshot is missing", path=path, offset=0)
        data = self._disk.map(path)
        if len(data) != part.size_bytes:
            raise Corrupt(f"{len(data)} bytes where {part.size_bytes} were written", path=path, offset=len(data))
        return data

    def _head_path(self, index: int) -> str:
        return f"{self._folder}/snapshot-{index:020d}.cbor"

    def _staged_path(self, index: int) -> str:
        return f"{self._folder}/staged-{index:020d}.cbor"
