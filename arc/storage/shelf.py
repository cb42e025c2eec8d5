"""The shared store as one cluster uses it: files of the manifest under their keys, and which of them are known to be
there.

Only what was seen counts: a file that this node has put, or found there with its name, hash and size. What another node
says, or a setting, is no proof; so nodes that are not set up alike only keep more than they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arc.ports import Buffer
from arc.storage.files import FileEntry
from arc.storage.objects import Objects, StoredObject, file_of, key_of


class Shelf:
    """``cluster`` is the identity of the cluster. What blocks runs on a worker; what is known, on the event loop."""

    def __init__(self, objects: Objects, cluster: Callable[[], str]) -> None:
        self._objects = objects
        self._cluster = cluster
        self._proven: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Shelf {self.name} proven={len(self._proven)}>"

    @property
    def name(self) -> str:
        """Of the store: asked for files like a node, and named like none."""
        return self._objects.name

    # ------------------------------------------------------------------------------------------------- what is known

    @property
    def proven(self) -> Sequence[str]:
        """Paths of all files that are known to be there, in the order in which that became known."""
        return tuple(self._proven)

    def has(self, path: str) -> bool:
        """Whether a file is known to be there."""
        return path in self._proven

    def note(self, path: str) -> None:
        """It was put there, or seen."""
        self._proven[path] = None

    def forget(self, path: str) -> None:
        """It left the manifest, or was not found."""
        self._proven.pop(path, None)

    # -------------------------------------------------------------------------------------------- all of it blocks

    def put(self, path: str, data: Buffer, sha256: str) -> None:
        """Store a file durably. Raises Unavailable."""
        self._objects.put(key_of(self._cluster(), path, sha256), data, sha256)

    def read_at(self, path: str, sha256: str, offset: int, size: int) -> bytes:
        """Bytes of a file. Raises NotFound, Unavailable."""
        return self._objects.read_at(key_of(self._cluster(), path, sha256), offset, size)

    def find(self, entries: Sequence[FileEntry]) -> list[bool]:
        """Which of these files are there whole. Raises Unavailable."""
        keys = [key_of(self._cluster(), entry.path, entry.sha256) for entry in entries]
        return [self._objects.size(key) == entry.size_bytes for key, entry in zip(keys, entries, strict=True)]

    def remove(self, files: Sequence[tuple[str, str]]) -> None:
        """Remove files, each by path and hash. Raises Unavailable."""
        self._objects.remove([key_of(self._cluster(), path, sha256) for path, sha256 in files])

    def remove_keys(self, keys: Sequence[str]) -> None:
        """Remove what a listing named. Raises Unavailable."""
        assert all(key.startswith(f"{self._cluster()}/") for key in keys), keys
        self._objects.remove(keys)

    def page(self, after: str, limit: int) -> list[StoredObject]:
        """Some of what this cluster has there, behind a key. Raises Unavailable."""
        return self._objects.page(self._cluster(), after, limit)

    def file_of(self, key: str) -> tuple[str, str] | None:
        """See `objects.file_of`."""
        return file_of(self._cluster(), key)
