"""The follower's side of the stream: the log of the holder, record for record, into the log here.

It opens a session, cuts what its log has beyond the holder's, and then takes records only where its log ends, whole
requests only, from this holder in this epoch only; so a hole, a doubled record and half a request are impossible by
construction. What does not fit ends the session, and the next one begins where the log ends. Nothing is skipped: a
record that cannot be taken now (its schema is not known here yet, the disk is full, its bytes are broken) holds up all
that follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from arc.errors import Overloaded
from arc.ports import Rng, Workers
from arc.replication.copies import Kept
from arc.replication.log import ReplicaLog
from arc.replication.messages import Ack, Base, Hello, Invite, Message, Records, Resume, encode
from arc.replication.ports import Post, Rows
from arc.storage.wal import record
from arc.telemetry import Log

ANSWER_SECONDS = 1.0
"""A holder that does not answer by then may not know yet that it is one."""

SILENCE_SECONDS = 5.0
"""Ten heartbeats: whoever says nothing for so long has lost this session. Who is in the middle of a long message says
something with every piece of it: over a slow line it may need far longer, and to begin again would send all of it anew.
"""

PROGRESS_SECONDS = 0.5
"""How often a follower that is busy with something long says so, and what it has: four times in the lag timeout."""

KEPT_SECONDS = 0.25
"""Pause between two looks at whether the log here may be given up."""

AGAIN_SECONDS = 0.2
"""Pause between sessions, and before a message is offered again that found no place."""

INBOX_BYTES_MAX = 256 << 20
"""What may wait here; the holder's window is far smaller, so whoever passes it does not keep to the rules."""

GROUP_BYTES = 8 << 20
"""Messages are gathered for one sync up to here."""

INLINE_BYTES_MAX = 64 << 10
"""Larger batches are taken apart on a worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverStatistics:
    """The stream to this node. ``is_live``: it has heard how far the log is durable, earlier epochs included, and has
    all of that.
    """

    holder: str
    epoch: int
    next_sequence: int
    high: int
    is_live: bool
    sessions_total: int
    broken_total: int
    cut_records_total: int
    restarts_total: int
    refused_total: int
    received_records_total: int
    received_bytes_total: int
    last_break: str


class _Broken(Exception):
    """This session cannot go on; the next one can."""


class Receiver:
    """Follows ``holder`` in ``epoch``, until cancelled. ``kept`` says what of the log here must stay. With
    ``is_memory`` it survives nothing.
    """

    def __init__(
        self,
        *,
        holder: str,
        epoch: int,
        log: ReplicaLog,
        rows: Rows,
        kept: Kept,
        post: Post,
        wait_index: Callable[[int], Awaitable[object]],
        workers: Workers,
        rng: Rng,
        is_memory: bool,
        tell: Log,
    ) -> None:
        self._holder = holder
        self._epoch = epoch
        self._log = log
        self._rows = rows
        self._kept = kept
        self._post = post
        self._wait_index = wait_index
        self._workers = workers
        self._rng = rng
        self._is_memory = is_memory
        self._tell = tell
        self._session = 0
        self._inbox: deque[Message] = deque()
        self._inbox_bytes = 0
        self._came = trio.Event()
        self._is_lost: str | None = None
        self._progress_at = self._confirmed_at = float("-inf")
        self._is_aligned = False
        self._high = 0
        self._inherited: int | None = None
        self.is_live = False
        self._sessions = self._broken = self._cut_records = self._restarts = self._refused = self._records = (
            self._bytes
        ) = 0
        self._last_break = ""

    def __repr__(self) -> str:
        return f"<Receiver of {self._holder} epoch={self._epoch} next={self._log.next_sequence} high={self._high}>"

    # ---------------------------------------------------------------------------------------------------- what comes in

    def receive(self, peer: str, message: Message) -> None:
        """The holder, or somebody who thinks he is, said something. Never waits."""
        self.progress(peer)
        if peer != self._holder or message.epoch != self._epoch:
            self._refused += 1
            return
        match message:
            case Invite():
                self._lose("the holder asks to begin")
            case Resume() | Base() | Records() if message.session == self._session:
                self._inbox.append(message)
                self._inbox_bytes += _size(message)
                if self._inbox_bytes > INBOX_BYTES_MAX:
                    self._lose("the holder sends more than its window")
                self._came.set()
            case _:
                self._refused += 1

    def progress(self, peer: str) -> None:
        """The holder is there, and sends something long perhaps, or for a session before this one. If nothing was said
        to it for a while, since that is on its way or the disk here is slow, say what is durable; once the disk stands
        still it is right that we are not heard. Never waits.
        """
        if peer != self._holder:
            return
        self._progress_at = now = trio.current_time()
        is_due = now - self._confirmed_at >= PROGRESS_SECONDS
        if self._is_aligned and is_due and self._log.overdue_seconds < SILENCE_SECONDS:
            self._confirm()

    def peer_up(self, name: str) -> None:
        """A node can be reached again."""
        if name == self._holder:
            self._came.set()

    def peer_down(self, name: str) -> None:
        """The connection broke; whatever was on the way is lost."""
        if name == self._holder:
            self._lose("the connection broke")

    def _lose(self, reason: str) -> None:
        self._is_lost = reason
        self._came.set()

    # --------------------------------------------------------------------------------------------------------- sessions

    async def run(self) -> None:
        """Follow until cancelled. Raises DiskFailed."""
        while True:
            try:
                await self._follow()
            except _Broken as broken:
                self._broken += 1
                self._last_break = str(broken)
                self._tell.debug("session_broken", holder=self._holder, reason=str(broken))
            except Overloaded as full:
                self._broken += 1
                self._last_break = full.message
                self._tell.warning("follower_stands_still", holder=self._holder, reason=full.message)
            self._session, self._is_aligned = 0, False
            await trio.sleep(AGAIN_SECONDS)

    async def _follow(self) -> None:
        self._session = 1 + int.from_bytes(self._rng.bytes(6), "big")
        self._sessions += 1
        self._inbox.clear()
        self._inbox_bytes, self._is_lost = 0, None
        hello = Hello(
            epoch=self._epoch,
            session=self._session,
            first=self._log.first_sequence,
            next=self._log.next_sequence,
            spans=self._log.spans(),
            is_memory=self._is_memory,
        )
        if not self._post(self._holder, encode(hello), is_bulk=False):
            raise _Broken("the holder cannot be reached")
        await self._align(await self._next(ANSWER_SECONDS))
        self._is_aligned = True
        self._confirm()
        while True:
            await self._take(await self._next(SILENCE_SECONDS))
            self._confirm()

    async def _next(self, seconds: float) -> Message:
        """The next message of this session. What still comes for the one before, over a slow line, delays it."""
        since = trio.current_time()
        while not self._inbox and self._is_lost is None:
            until = max(since + seconds, self._progress_at + SILENCE_SECONDS)
            if trio.current_time() >= until:
                raise _Broken(f"the holder said nothing for {seconds:g} s")
            self._came = trio.Event()
            with trio.move_on_at(until):
                await self._came.wait()
        if self._is_lost is not None:
            raise _Broken(self._is_lost)
        message = self._inbox.popleft()
        self._inbox_bytes -= _size(message)
        return message

    def _confirm(self) -> None:
        """Say what is durable. When it finds no place the next one says the same."""
        self._confirmed_at = trio.current_time()
        ack = Ack(epoch=self._epoch, session=self._session, durable=self._log.next_sequence - 1)
        self._post(self._holder, encode(ack), is_bulk=False)

    # -------------------------------------------------------------------------------------------------------- beginning

    async def _align(self, answer: Message) -> None:
        match answer:
            case Resume():
                if not self._log.first_sequence <= answer.next <= self._log.next_sequence:
                    raise _Broken(f"the holder goes on at {answer.next}, this log is {self._log!r}")
                await self._cut(answer.next)
            case Base():
                # Below the base everything is in files; to know them comes before forgetting the rows.
                await self._wait_index(answer.catalog_index)
                await self._wait_needless(answer.first)
                await self._restart(answer)
            case _:
                raise _Broken("records before a beginning")
        self._inherited = answer.inherited
        self._see(answer.high)

    async def _cut(self, first: int) -> None:
        """Nobody was told that these records are stored: the holder was in sync, and does not have them."""
        count = self._log.next_sequence - first
        if count == 0:
            return
        if first <= self._rows.visible:
            self._tell.error(
                "seen_rows_cut",
                holder=self._holder,
                epoch=self._epoch,
                first=first,
                visible=self._rows.visible,
                reason="an operator promoted a node that lacked them, or they were written with wal.write_level=local",
            )
        with trio.CancelScope(shield=True):
            await self._log.cut(first)
            self._rows.cut(first)
        self._cut_records += count
        self._tell.info("log_cut", holder=self._holder, epoch=self._epoch, first=first, records=count)

    async def _wait_needless(self, base: int) -> None:
        """Return when no record below ``base`` is needed here for files with too few copies (`copies`)."""
        told = ""
        while not self._is_memory:
            entry = self._kept.needed(self._log.first_sequence, min(base, self._log.next_sequence))
            if entry is None:
                return
            if self._is_lost is not None:
                raise _Broken(self._is_lost)
            if entry.path != told:
                told = entry.path
                self._tell.warning(
                    "follower_stands_still",
                    holder=self._holder,
                    reason=f"its log may have the only other copy of rows of {entry.path}, which is not here yet",
                    next_step="it goes on when the file has come, or is on enough other nodes",
                )
            await trio.sleep(KEPT_SECONDS)

    async def _restart(self, base: Base) -> None:
        with trio.CancelScope(shield=True):
            await self._log.restart(base.first, base.keys)
            self._rows.restart(base.first, base.keys)
        self._restarts += 1
        self._tell.info("log_restarted", holder=self._holder, epoch=self._epoch, first=base.first)

    # ---------------------------------------------------------------------------------------------------------- records

    async def _take(self, message: Message) -> None:
        """This message and all that came since as one group: one sync for many."""
        expected = self._log.next_sequence
        records: list[bytes] = []
        high = catalog_index = 0
        while True:
            if not isinstance(message, Records):
                raise _Broken("a second beginning")
            if message.first != expected + len(records):
                raise _Broken(f"records from {message.first} on where {expected + len(records)} is due")
            records.extend(message.records)
            high, catalog_index = max(high, message.high), max(catalog_index, message.catalog_index)
            if not self._inbox or sum(map(len, records)) >= GROUP_BYTES:
                break
            message = self._inbox.popleft()
            self._inbox_bytes -= _size(message)
        if records:
            # The catalog here may lag behind the records: they wait for their schemas and are not skipped (P-08).
            await self._wait_index(catalog_index)
            await self._store(expected, records)
        self._see(high)

    async def _store(self, first: int, records: list[bytes]) -> None:
        size = sum(map(len, records))
        try:
            if size > INLINE_BYTES_MAX:
                logged = await self._workers.run(_decode, records)
            else:
                logged = _decode(records)
            self._check(first, logged)
        except ValueError as error:
            self._tell.error(
                "record_refused",
                holder=self._holder,
                epoch=self._epoch,
                reason=str(error),
                effect="this node does not follow beyond it",
            )
            raise _Broken(f"a record that cannot be taken: {error}") from error
        with trio.CancelScope(shield=True):
            await self._log.append(records)
            self._rows.add(logged)
        self._records += len(records)
        self._bytes += size

    def _check(self, first: int, logged: list[record.Logged]) -> None:
        epoch = self._log.history.last_epoch
        for sequence, each in enumerate(logged, first):
            position = each.header.position
            if position.sequence != sequence or not epoch <= position.epoch <= self._epoch:
                raise ValueError(f"record {position} in the place of {sequence}, after epoch {epoch}")
            epoch = position.epoch
        if logged[-1].header.parts_left:
            raise ValueError(f"the request of record {logged[-1].header.position} is not whole")

    def _see(self, high: int) -> None:
        self._high = max(self._high, high)
        here = self._log.next_sequence - 1
        self._rows.show(min(self._high, here))
        # A holder that has just begun says a low one: rows above it may have been seen here before a restart.
        is_known = self._inherited is not None and self._high >= self._inherited
        self.is_live = self.is_live or (is_known and here >= self._high)

    def statistics(self) -> ReceiverStatistics:
        """Numbers for status and metrics."""
        return ReceiverStatistics(
            holder=self._holder,
            epoch=self._epoch,
            next_sequence=self._log.next_sequence,
            high=self._high,
            is_live=self.is_live,
            sessions_total=self._sessions,
            broken_total=self._broken,
            cut_records_total=self._cut_records,
            restarts_total=self._restarts,
            refused_total=self._refused,
            received_records_total=self._records,
            received_bytes_total=self._bytes,
            last_break=self._last_break,
        )


def _decode(records: list[bytes]) -> list[record.Logged]:
    return [record.decode(each) for each in records]


def _size(message: Message) -> int:
    return sum(map(len, message.records)) if isinstance(message, Records) else 0
