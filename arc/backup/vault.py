"""Where backups lie: a folder on some disk, or a prefix of the object store. Files lie under their own hash.

Whatever is put is hashed on its way, over the very bytes that are written, and refused when it is not what its name
says; so a vault never takes in a rotten copy. Everything here blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from arc.errors import Corrupt, NotFound
from arc.ports import Buffer, Disk
from arc.storage.objects import Objects
from arc.storage.paths import quote_part

PIECE_BYTES = 1 << 20
PAGE_OBJECTS = 1000
DRAFTS = "drafts"
"""Folder of what is being put into a folder; what is found there at a start of an operation is left over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes to put. ``name`` is what people know them by: the path of a file."""

    key: str
    data: Buffer
    sha256: str
    name: str


class Vault(Protocol):
    """Raises OSError (a folder) or Unavailable (a store) from everything."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def put(self, blobs: Sequence[Blob]) -> None:
        """Store them durably, each whole or not at all. Raises Corrupt for one that is not what its hash says."""
        ...

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """Bytes from an offset on; fewer where it ends. Raises NotFound."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Everything below a folder with its length, by key in order. One look at a large vault, not one per file."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Remove; what is gone already is not an error."""
        ...

    def clear(self) -> None:
        """Remove what an operation left half done."""
        ...


class FolderVault:
    """Below ``root`` of a disk; the disk may be another one than the node's, and mounted by several: ``owner`` is who
    puts something here, and two of them do not disturb each other.
    """

    def __init__(self, disk: Disk, root: str, owner: str) -> None:
        self._disk = disk
        self._root = f"{root}/" if root else ""
        self._drafts = f"{DRAFTS}/{quote_part(owner)}"
        self._numbers = count()

    def __repr__(self) -> str:
        return f"<FolderVault {self.name}>"

    @property
    def name(self) -> str:
        """The folder as the operating system knows it."""
        return self._disk.native_path(self._root.rstrip("/"))

    def put(self, blobs: Sequence[Blob]) -> None:
        """One sync of each folder for all of them."""
        self._disk.make_dirs(f"{self._root}{self._drafts}")
        moves: list[tuple[str, str]] = []
        try:
            for blob in blobs:
                draft = f"{self._root}{self._drafts}/{next(self._numbers)}"  # Several workers put at once.
                moves.append((draft, f"{self._root}{blob.key}"))
                self._write(draft, blob)
            self._disk.install(moves)
        except BaseException:
            for draft, _ in moves:
                with suppress(OSError):
                    self._disk.remove(draft)
            raise

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """See `Vault`."""
        try:
            return self._disk.read_at(f"{self._root}{key}", offset, size)
        except FileNotFoundError as error:
            raise NotFound(f"{key} is not in {self.name}") from error

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Vault`. What goes while it is looked at is not there."""
        found: dict[str, int] = {}
        for path in self._disk.walk(f"{self._root}{folder}"):
            with suppress(FileNotFoundError):
                found[path[len(self._root) :]] = self._disk.size(path)
        return found

    def remove(self, keys: Sequence[str]) -> None:
        """See `Vault`."""
        for key in keys:
            self._disk.remove(f"{self._root}{key}")

    def clear(self) -> None:
        """See `Vault`."""
        self.remove([*self.sizes(self._drafts)])

    def _write(self, draft: str, blob: Blob) -> None:
        self._disk.remove(draft)
        file = self._disk.open_draft(draft)
        try:
            digest = hashlib.sha256()
            view = memoryview(blob.data).cast("B")
            for at in range(0, len(view), PIECE_BYTES):
                piece = bytes(view[at : at + PIECE_BYTES])  # Hashed and written are the same bytes, once read.
                digest.update(piece)
                file.append([piece])
        finally:
            file.close()
        if digest.hexdigest() != blob.sha256:
            raise Corrupt(f"its bytes have another hash than {blob.sha256[:16]}…", path=blob.name, offset=0)


class StoreVault:
    """Below a prefix of the store that all nodes share."""

    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects = objects
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<StoreVault {self.name}>"

    @property
    def name(self) -> str:
        """The prefix."""
        return f"{self._objects.name}{self._prefix}/"

    def put(self, blobs: Sequence[Blob]) -> None:
        """See `Vault`. The store proves the bytes that it is sent; they are proven here before."""
        for blob in blobs:
            if hashlib.sha256(blob.data).hexdigest() != blob.sha256:
                raise Corrupt(f"its bytes have another hash than {blob.sha256[:16]}…", path=blob.name, offset=0)
            self._objects.put(f"{self._prefix}/{blob.key}", blob.data, blob.sha256)

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """See `Vault`. A range that begins behind the end is no request that a store answers."""
        length = self._objects.size(f"{self._prefix}/{key}")
        if length is None:
            raise NotFound(f"{key} is not in {self.name}")
        size = min(size, length - offset)
        return self._objects.read_at(f"{self._prefix}/{key}", offset, size) if size > 0 else b""

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Vault`."""
        found: dict[str, int] = {}
        after = ""
        while page := self._objects.page(f"{self._prefix}/{folder}", after, PAGE_OBJECTS):
            found |= {each.key[len(self._prefix) + 1 :]: each.size_bytes for each in page}
            after = page[-1].key
        return found

    def remove(self, keys: Sequence[str]) -> None:
        """See `Vault`."""
        for at in range(0, len(keys), PAGE_OBJECTS):
            self._objects.remove([f"{self._prefix}/{key}" for key in keys[at : at + PAGE_OBJECTS]])

    def clear(self) -> None:
        """A store has no halves."""


def pieces(vault: Vault, key: str) -> Iterator[bytes]:
    """An object from its beginning to its end. Raises NotFound, OSError, Unavailable."""
    at = 0
    while piece := vault.read_at(key, at, PIECE_BYTES):
        yield piece
        at += len(piece)
        if len(piece) < PIECE_BYTES:
            return


def read(vault: Vault, key: str) -> bytes:
    """All of it."""
    return b"".join(pieces(vault, key))
