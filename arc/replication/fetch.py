"""Files from one holder: a large one piece by piece, several in flight; small ones many at a time. Believed only when
all of it has the manifest's hash.

The manifest is the list of what may be asked for: a path that is not in it, or stands there with another hash, is
refused, so no question can reach any other file of the node. Pieces are bulk, so that what is urgent on the session
never waits for more than a frame of them; who asks decides when the next one comes, which is all the flow control there
is. As many are in flight as hide the way there and back, and never more than that is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import cbor2
import trio

from arc.catalog.facts import Catalog
from arc.errors import ArcError, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from arc.ports import Clock, Disk, Workers
from arc.replication.backlog import BATCH_BYTES_MAX, BATCH_FILES_MAX
from arc.replication.drafts import HashedDraft
from arc.replication.lines import PIECE_BYTES, Line
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA

KIND = "file"
SEVERAL_KIND = "files"
"""Of the questions between nodes."""

PIECE_SECONDS = 15.0
"""How long a piece is waited for; a busy disk and a slow line fit in."""


class Ask(Protocol):
    """Asks another node; `cluster.calls`. Raises Unavailable, OutcomeUnknown, and what the other side raised."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """Its answer."""
        ...


class Pace(Protocol):
    """Keeps a session within its bandwidth."""

    async def __call__(self, peer: str, size_bytes: int, /) -> None:
        """Return when so many bytes may be asked for."""
        ...


class Spoilt(Exception):
    """A holder gave bytes that are not the file: its copy is bad, or it lies. Others may have a good one."""


async def fetch(ask: Ask, pace: Pace, clock: Clock, holder: str, draft: HashedDraft, line: Line) -> None:
    """Bring a draft to its end, and prove it. What came before it failed stays in the draft.

    Raises Spoilt when the holder's bytes are wrong, OSError when the disk here fails, and what ``ask`` raises. A draft
    that was begun with other bytes than his is begun again before he is blamed.
    """
    while True:
        await _Transfer(ask, pace, clock, holder, draft, line).run()
        if draft.is_proven:
            return
        is_his = draft.is_all_from(holder)
        await draft.restart()
        if is_his:
            raise Spoilt(f"{holder} gave bytes of {draft.entry.path} that have not its hash")


class _Transfer:
    """The pieces of one draft that are on their way: asked for in order, in flight together, written in order."""

    def __init__(self, ask: Ask, pace: Pace, clock: Clock, holder: str, draft: HashedDraft, line: Line) -> None:
        self._ask = ask
        self._pace = pace
        self._clock = clock
        self._holder = holder
        self._draft = draft
        self._line = line
        self._asked = draft.size
        self._open = 0
        """Pieces asked for and not written."""
        self._arrived: dict[int, bytes] = {}
        self._moved = trio.Event()
        self._trouble: Exception | None = None

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_on, nursery)
            while self._trouble is None and not self._draft.is_whole:
                if not await self._write():
                    await self._moved.wait()
            nursery.cancel_scope.cancel()
        if isinstance(self._trouble, ArcError):
            await self._write()  # What came before that is good for the next try.
        # In a nursery a lone error would come out in a group.
        if self._trouble is not None:
            raise self._trouble

    async def _ask_on(self, nursery: trio.Nursery) -> None:
        entry = self._draft.entry
        while self._asked < entry.size_bytes:
            while self._open >= self._line.window:
                await self._moved.wait()
            offset, wanted = self._asked, min(self._line.piece_bytes, entry.size_bytes - self._asked)
            self._asked += wanted
            self._open += 1
            await self._pace(self._holder, wanted)
            nursery.start_soon(self._get, offset, wanted)

    async def _get(self, offset: int, wanted: int) -> None:
        entry = self._draft.entry
        question = cbor2.dumps([entry.path, entry.sha256, offset, wanted])
        try:
            piece = await _ask_over(self._line, self._ask, self._clock, self._holder, KIND, question)
            if len(piece) != wanted:
                raise Spoilt(f"{self._holder} gave {len(piece)} bytes of {entry.path} where {wanted} were asked for")
            self._arrived[offset] = piece
        except (ArcError, Spoilt) as error:
            self._trouble = self._trouble or error
        self._move()

    async def _write(self) -> bool:
        """Write what has come without a gap; False when nothing has."""
        pieces: list[bytes] = []
        end = self._draft.size
        while (piece := self._arrived.pop(end, None)) is not None:
            pieces.append(piece)
            end += len(piece)
        if not pieces:
            return False
        try:
            await self._draft.append(pieces, self._holder)
        except OSError as error:
            self._trouble = error
        self._open -= len(pieces)
        self._move()
        return True

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()


async def _ask_over(line: Line, ask: Ask, clock: Clock, holder: str, kind: str, question: bytes) -> bytes:
    """The answer; the line learns how long it took, or how long it was waited for in vain."""
    began = clock.now()
    try:
        answer = await ask(holder, kind, question, timeout_seconds=PIECE_SECONDS)
    except OutcomeUnknown:
        line.took(clock.now() - began)
        raise
    line.took(clock.now() - began)
    return answer


async def fetch_several(
    ask: Ask, pace: Pace, clock: Clock, holder: str, entries: Sequence[FileEntry], line: Line
) -> list[bytes | None]:
    """What a holder gives for small files, one item for each: unproven, None for those that it cannot give now.

    Raises Unavailable for an answer that is none, and what ``ask`` raises.
    """
    await pace(holder, sum(entry.size_bytes for entry in entries))
    question = cbor2.dumps([[entry.path, entry.sha256] for entry in entries])
    answer = await _ask_over(line, ask, clock, holder, SEVERAL_KIND, question)
    try:
        bodies = cbor2.loads(answer)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise Unavailable(f"{holder} gave no files: {error}") from error
    if not isinstance(bodies, list) or len(bodies) != len(entries):
        raise Unavailable(f"{holder} gave no list of {len(entries)} files")
    return [body if isinstance(body, bytes) else None for body in bodies]


class FileServer:
    """Answers what `fetch` and `fetch_several` ask. ``is_here`` tells of files on this disk that can be read, and
    ``offered`` of some that the manifest does not have yet.
    """

    def __init__(
        self,
        disk: Disk,
        workers: Workers,
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        offered: Callable[[str], FileEntry | None] = lambda path: None,
    ) -> None:
        self._disk = disk
        self._workers = workers
        self._catalog = catalog
        self._is_here = is_here
        self._offered = offered
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

    async def answer_several(self, question: bytes) -> bytes:
        """Whole small files. Raises InvalidRequest."""
        try:
            paths = self._known(question)
        except InvalidRequest:
            self.refused_total += 1
            raise
        bodies = await self._workers.run(self._read_several, paths)
        given = [body for body in bodies if body is not None]
        self.pieces_total += len(given)
        self.bytes_total += sum(map(len, given))
        answer: bytes = cbor2.dumps(bodies)
        return answer

    async def _piece(self, question: bytes) -> bytes:
        try:
            path, sha256, offset, size = cbor2.loads(question)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not a question for a file: {error}") from error
        if not (isinstance(path, str) and type(offset) is int and type(size) is int):
            raise InvalidRequest("not a question for a file: wrong types")
        entry = self._catalog().file(path) or self._offered(path)
        if entry is None or entry.sha256 != sha256:
            raise NotFound(f"the manifest knows no file {path!r} with that hash", code="not_in_manifest")
        if not (0 <= offset < entry.size_bytes and 1 <= size <= min(PIECE_BYTES, entry.size_bytes - offset)):
            raise InvalidRequest(f"bytes {offset} to {offset + size} of {path}, which has {entry.size_bytes}")
        if not self._is_here(path):
            raise NotFound(f"{path} is not on this node", code="not_here")
        try:
            piece = await self._workers.run(self._disk.read_at, f"{DATA}/{path}", offset, size)
        except FileNotFoundError as error:
            raise NotFound(f"{path} is not on this node", code="not_here") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read on this node now: {error}") from error
        self.pieces_total += 1
        self.bytes_total += len(piece)
        return piece

    def _known(self, question: bytes) -> list[str | None]:
        """The paths of a question, None for those that the manifest has not or that are not here."""
        try:
            asked = cbor2.loads(question)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not a question for files: {error}") from error
        if not isinstance(asked, list) or len(asked) > BATCH_FILES_MAX:
            raise InvalidRequest(f"not a question for at most {BATCH_FILES_MAX} files")
        catalog, size = self._catalog(), 0
        paths: list[str | None] = []
        for item in asked:
            if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)):
                raise InvalidRequest("not a question for files: wrong types")
            entry = catalog.file(item[0]) or self._offered(item[0])
            is_given = entry is not None and entry.sha256 == item[1] and self._is_here(entry.path)
            paths.append(item[0] if is_given else None)
            size += entry.size_bytes if is_given and entry is not None else 0
        if size > BATCH_BYTES_MAX:
            raise InvalidRequest(f"files of {size} bytes at once, more than {BATCH_BYTES_MAX}")
        return paths

    def _read_several(self, paths: Sequence[str | None]) -> list[bytes | None]:
        bodies: list[bytes | None] = []
        for path in paths:
            try:
                bodies.append(None if path is None else self._disk.read(f"{DATA}/{path}"))
            except OSError:
                bodies.append(None)  # The same to who asks: somebody else is asked for it.
        return bodies
