"""Brings files here, from whoever has them: a large one through its draft, small ones several at a time.

Every holder is asked in turn, until one has given bytes that are proven; they are installed in one step. What came of
it is told as a `Round`; nothing is tried twice here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import trio

from arc.errors import ArcError, NotFound
from arc.ports import Clock, Disk, Workers
from arc.replication.backlog import SMALL_BYTES
from arc.replication.bandwidth import Bandwidth
from arc.replication.drafts import DRAFTS, HashedDraft, install_small, open_hashed
from arc.replication.fetch import Ask, Spoilt, fetch, fetch_several
from arc.replication.lines import PIECE_BYTES, Line
from arc.replication.suspicion import Suspicions
from arc.storage.files import FileEntry
from arc.telemetry import Log

DRAFTS_MAX = 8
"""Kept open between two tries; beyond it the oldest is closed, and hashed again when its turn comes."""


@dataclass(slots=True, kw_only=True)
class Round:
    """What came of asking everybody for one file. ``asked``: who gave, or did not."""

    entry: FileEntry
    asked: set[str] = field(default_factory=set)
    spoilt: int = 0
    failed: int = 0
    is_done: bool = False

    @property
    def is_poison(self) -> bool:
        """Whether all who have the file have it wrong, as far as can be told now."""
        return not self.is_done and self.spoilt > 0 and self.failed == 0


class Transfers:
    """``holders`` are whom to ask for a file, in order, and ``piece_bytes`` how much of a large one at once; ``came``
    is told of each that was installed, and ``is_wanted`` asked before. No two of them have the same ``drafts``.
    """

    def __init__(
        self,
        *,
        ask: Ask,
        holders: Callable[[FileEntry], Sequence[str]],
        is_wanted: Callable[[FileEntry], bool],
        came: Callable[[str], None],
        disk: Disk,
        workers: Workers,
        clock: Clock,
        bandwidth: Bandwidth,
        log: Log,
        piece_bytes: Callable[[str], int] = lambda holder: PIECE_BYTES,
        drafts: str = DRAFTS,
    ) -> None:
        self._ask = ask
        self._piece_bytes = piece_bytes
        self._holders = holders
        self.is_wanted = is_wanted
        self._drafts = drafts
        self._came = came
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._bandwidth = bandwidth
        self._log = log
        self._suspicions = Suspicions()
        self._lines: dict[str, Line] = {}
        """By holder."""
        self._kept: dict[str, HashedDraft] = {}
        """Drafts that wait open for the next try, by path of the file."""
        self.files_total = self.bytes_total = self.resumed_bytes_total = self.spoilt_total = 0
        self.last_error = ""

    def __repr__(self) -> str:
        return f"<Transfers files={self.files_total} bytes={self.bytes_total} drafts={len(self._kept)}>"

    async def bring(self, entries: Sequence[FileEntry]) -> list[Round]:
        """Ask for one file, or for small ones that the same holders are asked for."""
        rounds = [Round(entry=entry) for entry in entries]
        if entries[0].size_bytes <= SMALL_BYTES:
            await self._bring_small(rounds)
        else:
            assert len(entries) == 1
            await self._bring_large(rounds[0])
        return rounds

    async def forget(self, is_wanted: Callable[[str], bool]) -> None:
        """Remove the drafts of files that nobody wants any more, and close the oldest beyond the bound."""
        for path in [path for path in self._kept if not is_wanted(path)]:
            await self._discard(self._kept.pop(path))
        while len(self._kept) > DRAFTS_MAX:
            await self._kept.pop(next(iter(self._kept))).close()

    async def close(self) -> None:
        """Leave all drafts for the next start."""
        while self._kept:
            await self._kept.popitem()[1].close()

    # ------------------------------------------------------------------------------------------------------ large ones

    async def _bring_large(self, found: Round) -> None:
        draft: HashedDraft | None = None
        try:
            for holder in self._unsuspected(found):
                draft = draft or await self._draft_of(found.entry)
                try:
                    await fetch(self._ask, self._wait_bandwidth, self._clock, holder, draft, self._line(holder))
                except (ArcError, Spoilt) as error:
                    self._note(found, holder, error)
                    continue
                ready, draft = draft, None
                await self._install(found, ready)
                return
        except OSError as error:
            # What this disk holds is not to be trusted, and on a full one others need the room.
            found.failed += 1
            self._tell_not_installed(found.entry, error)
            if draft is not None:
                ready, draft = draft, None
                await self._discard(ready)
        finally:
            if draft is not None:
                self._kept[found.entry.path] = draft

    async def _draft_of(self, entry: FileEntry) -> HashedDraft:
        kept = self._kept.pop(entry.path, None)
        if kept is not None and kept.entry.sha256 == entry.sha256:
            return kept
        if kept is not None:
            await self._discard(kept)
        draft = await open_hashed(self._disk, self._workers, entry, self._drafts)
        self.resumed_bytes_total += draft.size
        return draft

    async def _install(self, found: Round, draft: HashedDraft) -> None:
        found.is_done = True
        if not self.is_wanted(draft.entry):
            await self._discard(draft)
            return
        try:
            with trio.CancelScope(shield=True):
                await draft.install()
        except OSError as error:
            found.is_done = False
            found.failed += 1
            self._tell_not_installed(draft.entry, error)
            await self._discard(draft)
            return
        self._note_came(draft.entry)

    async def _discard(self, draft: HashedDraft) -> None:
        try:
            await draft.discard()
        except OSError as error:
            self._log.warning("draft_not_removed", path=draft.entry.path, reason=str(error))

    # ------------------------------------------------------------------------------------------------------ small ones

    async def _bring_small(self, rounds: Sequence[Round]) -> None:
        for holder in self._holders(rounds[0].entry):
            asked: Sequence[Round] = [
                each for each in rounds if not each.is_done and self._is_unsuspected(each, holder)
            ]
            line = self._line(holder)
            while asked:
                some, asked = _some(asked, line)
                entries = [each.entry for each in some]
                try:
                    bodies = await fetch_several(self._ask, self._wait_bandwidth, self._clock, holder, entries, line)
                except ArcError as error:
                    for each in (*some, *asked):
                        self._note(each, holder, error)
                    break
                await self._take_small(some, bodies, holder)

    def _line(self, holder: str) -> Line:
        line = self._lines.get(holder)
        if line is None:
            line = self._lines[holder] = Line(self._piece_bytes(holder))
        return line

    async def _take_small(self, asked: Sequence[Round], bodies: Sequence[bytes | None], holder: str) -> None:
        """Install what is proven of an answer, and note what was not given."""
        hashes = await self._workers.run(_hashes, bodies)
        good: list[tuple[Round, bytes]] = []
        for each, body, sha256 in zip(asked, bodies, hashes, strict=True):
            entry = each.entry
            if body is None:
                self._note(each, holder, NotFound(f"{entry.path} is not there", code="not_here"))
            elif sha256 != entry.sha256:
                self._note(each, holder, Spoilt(f"{holder} gave bytes of {entry.path} that have not its hash"))
            elif self.is_wanted(entry):
                good.append((each, body))
            else:
                each.is_done = True
        if not good:
            return
        try:
            bodies_of = [(each.entry, body) for each, body in good]
            with trio.CancelScope(shield=True):
                await self._workers.run(install_small, self._disk, bodies_of, self._drafts)
        except OSError as error:
            self._tell_not_installed(good[0][0].entry, error)
            for each, _ in good:
                each.failed += 1
            return
        for each, _ in good:
            each.is_done = True
            self._note_came(each.entry)

    # -------------------------------------------------------------------------------------------------- who gave what

    def _unsuspected(self, found: Round) -> list[str]:
        return [holder for holder in self._holders(found.entry) if self._is_unsuspected(found, holder)]

    def _is_unsuspected(self, found: Round, holder: str) -> bool:
        """Whether he is to be asked; one who is not counts as if he had given wrong bytes again."""
        if not self._suspicions.holds(found.entry.path, holder, self._clock.now()):
            return True
        found.asked.add(holder)
        found.spoilt += 1
        return False

    def _note(self, found: Round, holder: str, error: ArcError | Spoilt) -> None:
        """Why a holder did not give a file."""
        path = found.entry.path
        found.asked.add(holder)
        if isinstance(error, Spoilt):
            found.spoilt += 1
            self.spoilt_total += 1
            self.last_error = str(error)
            self._suspicions.note(path, holder, self._clock.now())
            self._log.error("file_spoilt", path=path, holder=holder, reason=str(error), next_step="others are asked")
            return
        found.failed += not (isinstance(error, NotFound) and error.code == "not_here")
        self.last_error = f"{path} from {holder}: {error.message}"
        self._log.debug("pull_failed", path=path, holder=holder, reason=error.message)

    async def _wait_bandwidth(self, peer: str, size_bytes: int) -> None:
        wait = self._bandwidth.reserve(peer, size_bytes, self._clock.now())
        if wait > 0:
            await trio.sleep(wait)

    def _note_came(self, entry: FileEntry) -> None:
        self._came(entry.path)
        self.files_total += 1
        self.bytes_total += entry.size_bytes

    def _tell_not_installed(self, entry: FileEntry, error: OSError) -> None:
        self.last_error = f"{entry.path} could not be installed: {error}"
        self._log.error("pull_not_installed", path=entry.path, reason=str(error), effect="it is tried again")


def _some(asked: Sequence[Round], line: Line) -> tuple[Sequence[Round], Sequence[Round]]:
    """Those of the files that may be on their way at once, one at least, and the rest."""
    room = line.window * line.piece_bytes
    sizes = accumulate(each.entry.size_bytes for each in asked)
    count = max(1, sum(size <= room for size in sizes))
    return asked[:count], asked[count:]


def _hashes(bodies: Sequence[bytes | None]) -> list[str]:
    return ["" if body is None else hashlib.sha256(body).hexdigest() for body in bodies]
