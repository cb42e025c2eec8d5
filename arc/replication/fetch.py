"""One file from one holder: asked for piece by piece, believed only when all of it has the manifest's hash.

The manifest is the list of what may be asked for: a path that is not in it, or stands there with another hash, is
refused, so no question can reach any other file of the node. A piece is small, so that nothing that shares the session
waits long behind it; who asks decides when the next one comes, which is all the flow control there is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import cbor2

from arc.catalog.facts import Catalog
from arc.errors import InvalidRequest, NotFound, Unavailable
from arc.ports import Disk, Workers
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA

KIND = "file"
"""Of the question between nodes."""

PIECE_BYTES = 192 << 10
"""Fits a frame of the session with room for its head; some 2 ms of a gigabit line."""

PIECE_SECONDS = 10.0
"""How long a piece is waited for; a busy disk and a slow line fit in."""


class Ask(Protocol):
    """Asks another node; `cluster.calls`. Raises Unavailable, OutcomeUnknown, and what the other side raised."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """Its answer."""
        ...


class Spoilt(Exception):
    """A holder gave bytes that are not the file: its copy is bad, or it lies. Others may have a good one."""


async def fetch(ask: Ask, holder: str, entry: FileEntry, workers: Workers) -> bytes:
    """The whole file, proven. Raises Spoilt, and what ``ask`` raises."""
    pieces: list[bytes] = []
    have = 0
    while have < entry.size_bytes:
        wanted = min(PIECE_BYTES, entry.size_bytes - have)
        question = cbor2.dumps([entry.path, entry.sha256, have, wanted])
        piece = await ask(holder, KIND, question, timeout_seconds=PIECE_SECONDS)
        if len(piece) != wanted:
            raise Spoilt(f"{holder} gave {len(piece)} bytes of {entry.path} where {wanted} were asked for")
        pieces.append(piece)
        have += wanted
    body = b"".join(pieces)
    found = await workers.run(_sha256, body)
    if found != entry.sha256:
        raise Spoilt(f"{holder} gave bytes of {entry.path} with hash {found[:12]}…, not {entry.sha256[:12]}…")
    return body


class FileServer:
    """Answers what `fetch` asks."""

    def __init__(self, disk: Disk, workers: Workers, catalog: Callable[[], Catalog]) -> None:
        self._disk = disk
        self._workers = workers
        self._catalog = catalog
        self.pieces_total = self.bytes_total = self.refused_total = 0

    def __repr__(self) -> str:
        return f"<FileServer pieces={self.pieces_total} bytes={self.bytes_total}>"

    async def answer(self, question: bytes) -> bytes:
        """A piece. Raises InvalidRequest (no such question), NotFound (not in the manifest, or not here)."""
        try:
            return await self._piece(question)
        except (InvalidRequest, NotFound):
            self.refused_total += 1
            raise

    async def _piece(self, question: bytes) -> bytes:
        try:
            path, sha256, offset, size = cbor2.loads(question)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not a question for a file: {error}") from error
        if not (isinstance(path, str) and type(offset) is int and type(size) is int):
            raise InvalidRequest("not a question for a file: wrong types")
        entry = self._catalog().file(path)
        if entry is None or entry.sha256 != sha256:
            raise NotFound(f"the manifest knows no file {path!r} with that hash", code="not_in_manifest")
        if not (0 <= offset < entry.size_bytes and 1 <= size <= min(PIECE_BYTES, entry.size_bytes - offset)):
            raise InvalidRequest(f"bytes {offset} to {offset + size} of {path}, which has {entry.size_bytes}")
        try:
            piece = await self._workers.run(self._read, path, offset, size)
        except FileNotFoundError as error:
            raise NotFound(f"{path} is not on this node", code="not_here") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read on this node now: {error}") from error
        self.pieces_total += 1
        self.bytes_total += len(piece)
        return piece

    def _read(self, path: str, offset: int, size: int) -> bytes:
        with self._disk.map(f"{DATA}/{path}") as whole, whole[offset : offset + size] as piece:
            return bytes(piece)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
