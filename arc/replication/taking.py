"""Takes files that another node offers (`replication.offers`) before the manifest has them.

Only from the holder of the compactor or the writer lease, and only under its epoch: what a node offers that was
replaced will never be part of the manifest. A file that was taken lies in its place among the data, and is pinned, so
that nobody takes it for a leftover. It is let go when the manifest has it (then it is one like any other), when the
epoch is over, or when nobody has asked for it for a while; what the manifest does not have then is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cbor2
import trio

from arc.catalog.cells import parse_path
from arc.catalog.facts import Catalog
from arc.errors import InvalidRequest, Unavailable
from arc.ports import Clock, Disk, Workers
from arc.replication.bandwidth import Bandwidth
from arc.replication.drafts import OFFERED_DRAFTS
from arc.replication.fetch import Ask
from arc.replication.offers import ANSWER_SECONDS, unpack
from arc.replication.transfers import Transfers
from arc.storage.files import FileEntry
from arc.storage.keeper import FileKeeper
from arc.telemetry import Log

KEPT_SECONDS = 600.0
"""What nobody has asked for so long is let go."""

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 1.0
"""Pause after a file that was not given."""

TAKEN_FILES_MAX = 10_000
"""Beyond it offers are refused until others are settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakerStatistics:
    """``waiting_files`` are on their way; ``kept_files`` are here and not in the manifest yet."""

    taken_files_total: int
    taken_bytes_total: int
    dropped_files_total: int
    waiting_files: int
    kept_files: int
    last_error: str


@dataclass(slots=True)
class _Taken:
    entry: FileEntry
    peer: str
    heard: float
    again: float = 0.0


class Taker:
    """Of one node. ``ask`` reaches other nodes, never a store: only who offers a file has it."""

    def __init__(
        self,
        *,
        ask: Ask,
        catalog: Callable[[], Catalog],
        files: FileKeeper,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        bandwidth: Bandwidth,
        log: Log,
    ) -> None:
        self._catalog, self._files, self._clock = catalog, files, clock
        self._log = log.bind(component="taker")
        self._taken: dict[str, _Taken] = {}
        self._dropped = 0
        self._woken = trio.Event()
        self._came = trio.Event()
        self._transfers = Transfers(
            ask=ask,
            holders=lambda entry: [self._taken[entry.path].peer] if entry.path in self._taken else [],
            is_wanted=lambda entry: entry.path in self._taken,
            came=files.came,
            disk=disk,
            workers=workers,
            clock=clock,
            bandwidth=bandwidth,
            log=self._log,
            drafts=OFFERED_DRAFTS,
        )

    def __repr__(self) -> str:
        return f"<Taker {len(self._taken)} {self._transfers!r}>"

    async def answer(self, peer: str, question: bytes) -> bytes:
        """Which of the files that a peer offers are here; returns when all are, or after `ANSWER_SECONDS`.

        Raises InvalidRequest (no offer), Unavailable (not the holder of a lease here and now, or too many).
        """
        entries = unpack(question)
        if wrong := [entry.path for entry in entries if parse_path(entry.path) is None]:
            raise InvalidRequest(f"{wrong[0]!r} is no path of a data file")
        for entry in entries:
            self._note(peer, entry)
        self._woken.set()
        with trio.move_on_after(ANSWER_SECONDS):
            while not all(self._files.is_here(entry.path) for entry in entries):
                await self._came.wait()
        here: bytes = cbor2.dumps([entry.path for entry in entries if self._files.is_here(entry.path)])
        return here

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; what was taken by then is a leftover for the next start."""
        task_status.started()
        try:
            while True:
                self._woken = trio.Event()
                self._let_go()
                await self._transfers.forget(self._taken.__contains__)
                entry = self._next()
                if entry is not None:
                    await self._bring(entry)
                    continue
                with trio.move_on_after(AGAIN_SECONDS if self._waiting() else LOOK_SECONDS):
                    await self._woken.wait()
        finally:
            with trio.CancelScope(shield=True):
                await self._transfers.close()

    def _note(self, peer: str, entry: FileEntry) -> None:
        if not self._is_current(peer, entry):
            raise Unavailable(f"{peer} holds no lease of epoch {entry.epoch}, as far as is known here")
        known = self._taken.get(entry.path)
        if known is not None and known.entry.sha256 == entry.sha256:
            known.peer, known.heard = peer, self._clock.now()
        elif self._catalog().file(entry.path) is None:
            if len(self._taken) >= TAKEN_FILES_MAX:
                raise Unavailable(f"{TAKEN_FILES_MAX} files of others wait here for the manifest already")
            if known is None:
                self._files.pin([entry.path])
            self._taken[entry.path] = _Taken(entry, peer, self._clock.now())

    def _is_current(self, peer: str, entry: FileEntry) -> bool:
        return any(lease.holder == peer and lease.epoch == entry.epoch for lease in self._catalog().leases.values())

    def _let_go(self) -> None:
        catalog, limit = self._catalog(), self._clock.now() - KEPT_SECONDS
        for path, taken in list(self._taken.items()):
            is_agreed = catalog.file(path) is not None
            if not is_agreed and taken.heard > limit and self._is_current(taken.peer, taken.entry):
                continue
            del self._taken[path]
            self._files.unpin([path])
            if not is_agreed and self._files.is_here(path):
                self._files.left([path])
                self._dropped += 1
                self._log.info("taken_file_dropped", path=path, reason="it never became part of the manifest")

    def _waiting(self) -> list[_Taken]:
        return [taken for path, taken in self._taken.items() if not self._files.is_here(path)]

    def _next(self) -> FileEntry | None:
        now = self._clock.now()
        return next((taken.entry for taken in self._waiting() if taken.again <= now), None)

    async def _bring(self, entry: FileEntry) -> None:
        found = (await self._transfers.bring([entry]))[0]
        taken = self._taken.get(entry.path)
        if taken is not None and not found.is_done:
            taken.again = self._clock.now() + AGAIN_SECONDS
        self._came.set()
        self._came = trio.Event()

    def statistics(self) -> TakerStatistics:
        """Numbers for status and metrics."""
        waiting = len(self._waiting())
        return TakerStatistics(
            taken_files_total=self._transfers.files_total,
            taken_bytes_total=self._transfers.bytes_total,
            dropped_files_total=self._dropped,
            waiting_files=waiting,
            kept_files=len(self._taken) - waiting,
            last_error=self._transfers.last_error,
        )
