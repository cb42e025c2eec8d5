"""A file on its way here, as far as it has come: on the disk, never in memory, and hashed while it grows.

A draft has its own folder, so nothing that reads data can come upon it, and a name made of path and hash, so the next
attempt, or the next start, finds it and goes on behind its last byte. What was found on the disk is hashed again;
whether a power cut left something else there shows at the end, and then nobody is blamed: only bytes that all came
from one holder, in this life, tell anything about him.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from arc.ports import Disk, Draft, Workers
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA

DRAFTS = "drafts"
"""Folder of files that are not whole yet."""

OFFERED_DRAFTS = f"{DRAFTS}/offered"
"""Folder of those that others offer: the manifest may have such a file before it is whole, and then it is begun anew
beside it.
"""

STEP_BYTES = 8 << 20
"""Hashed again in one go: some 10 ms of a worker."""

FOUND = ""
"""Whence bytes are that were on the disk already: no holder's name is empty."""


def draft_path(entry: FileEntry, folder: str = DRAFTS) -> str:
    """Where a file grows."""
    name = hashlib.sha256(f"{entry.path}#{entry.sha256}".encode()).hexdigest()
    return f"{folder}/{name}"


class HashedDraft:
    """One file that grows. Made by `open_hashed`; its methods run one at a time and raise OSError."""

    def __init__(self, disk: Disk, workers: Workers, entry: FileEntry, folder: str) -> None:
        self.entry = entry
        self._disk = disk
        self._workers = workers
        self._folder = folder
        self._path = draft_path(entry, folder)
        self._draft: Draft | None = None
        self._hash = hashlib.sha256()
        self._sources: set[str] = set()
        self.size = 0

    def __repr__(self) -> str:
        return f"<HashedDraft {self.entry.path} {self.size} of {self.entry.size_bytes}>"

    @property
    def is_whole(self) -> bool:
        """Whether no byte is missing."""
        return self.size == self.entry.size_bytes

    @property
    def is_proven(self) -> bool:
        """Whether it is the file of the manifest, to the last bit."""
        return self.is_whole and self._hash.hexdigest() == self.entry.sha256

    def is_all_from(self, holder: str) -> bool:
        """Whether every byte came from him, in this life."""
        return self._sources <= {holder}

    async def append(self, pieces: Sequence[bytes], source: str) -> None:
        """More bytes, from somebody."""
        self._sources.add(source)
        await self._workers.run(self._append, pieces)

    async def restart(self) -> None:
        """Begin again with nothing."""
        await self._workers.run(self._restart)

    async def install(self) -> None:
        """Give it its place among the data. Raises OSError; then `discard` it."""
        assert self.is_proven, self
        await self._workers.run(self._install)

    async def close(self) -> None:
        """Leave it for later."""
        await self._workers.run(self._close)

    async def discard(self) -> None:
        """Forget it: a draft that the disk failed on is not to be trusted, and one nobody wants takes room."""
        await self._workers.run(self._discard)

    async def _find(self) -> None:
        """Go on with what an earlier attempt or life has left."""
        await self._workers.run(self._open)
        assert self._draft is not None
        found = self._draft.size
        if found > self.entry.size_bytes:
            await self.restart()
            return
        while self.size < found:
            await self._workers.run(self._hash_again, min(STEP_BYTES, found - self.size))
        if found:
            self._sources.add(FOUND)

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _open(self) -> None:
        self._disk.make_dirs(self._folder)
        self._draft = self._disk.open_draft(self._path)

    def _hash_again(self, size: int) -> None:
        piece = self._disk.read_at(self._path, self.size, size)
        if len(piece) != size:
            raise OSError(f"{self._path} got shorter while it was read")
        self._hash.update(piece)
        self.size += size

    def _append(self, pieces: Sequence[bytes]) -> None:
        assert self._draft is not None
        assert self.size + sum(map(len, pieces)) <= self.entry.size_bytes, self
        # At once: every call that lets go of the interpreter may wait long until it gets it back.
        body = b"".join(pieces)
        self._draft.append([body])
        self._hash.update(body)
        self.size += len(body)

    def _restart(self) -> None:
        self._discard()
        self._open()
        self._hash, self._sources, self.size = hashlib.sha256(), set(), 0

    def _install(self) -> None:
        self._close()
        self._disk.install([(self._path, f"{DATA}/{self.entry.path}")])

    def _discard(self) -> None:
        self._close()
        self._disk.remove(self._path)

    def _close(self) -> None:
        if self._draft is not None:
            self._draft.close()
            self._draft = None


async def open_hashed(disk: Disk, workers: Workers, entry: FileEntry, folder: str = DRAFTS) -> HashedDraft:
    """The draft of a file, with what there is of it. Raises OSError."""
    draft = HashedDraft(disk, workers, entry, folder)
    try:
        await draft._find()
    except BaseException:
        draft._close()
        raise
    return draft


def install_small(disk: Disk, files: Iterable[tuple[FileEntry, bytes]], folder: str = DRAFTS) -> None:
    """Proven bytes of small files, all in one step of the disk. Blocks; raises OSError, when some may be there."""
    moves = []
    disk.make_dirs(folder)
    for entry, body in files:
        path = draft_path(entry, folder)
        draft = disk.open_draft(path)
        if draft.size:  # Left over from an attempt that a crash ended.
            draft.close()
            disk.remove(path)
            draft = disk.open_draft(path)
        try:
            draft.append([body])
        finally:
            draft.close()
        moves.append((path, f"{DATA}/{entry.path}"))
    disk.install(moves)


def remove_drafts(disk: Disk, wanted: Collection[str]) -> int:
    """Remove drafts of files that nobody wants any more, and say how many. Blocks; raises OSError."""
    stale = [path for path in disk.walk(DRAFTS) if path not in wanted]
    for path in stale:
        disk.remove(path)
    return len(stale)
