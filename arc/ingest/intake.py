"""The door for rows: settle, log, wait until durable, make visible, answer.

A write becomes an *entry*. One task takes all waiting entries, numbers their records, appends them to the WAL as one
durable group and puts their rows into the buffer, so that the buffer always is what the log is; a second one waits
until the records are durable everywhere they must be, makes them visible and answers, in sequence order. Both belong to
the intake and not to the request: a client that hangs up cancels only its own waiting, and what was logged goes its
way.

An entry's records are always in one group, which the WAL keeps or drops whole; so a request is stored whole or not at
all.

An intake lives as long as its lease. At its end nobody inside is left without an answer: what was not logged did not
happen, what was logged has an unknown outcome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pyarrow as pa
import trio

from arc.catalog.fsm import Catalog
from arc.errors import ArcError, DiskFailed, OutcomeUnknown, Overloaded, Unavailable
from arc.ids import Epoch, Position
from arc.ingest.buffer import Buffer, Key
from arc.ingest.columns import Refused
from arc.ingest.config import IngestConfig
from arc.ingest.durable import AppendRecords, WaitDurable
from arc.ingest.holds import Hold, Holds
from arc.ingest.keys import IdempotencyKeys, Remembered, require_same
from arc.ingest.memory import MemoryBudget
from arc.ingest.requests import WriteRequest, Written
from arc.ingest.settlement import Agreed, Propose, Settlement
from arc.ingest.visibility import Visibility
from arc.ports import Clock, Workers
from arc.storage.wal import record

INLINE_CELLS_MAX = 1 << 17
"""Larger batches are serialised on a worker: above it the event loop would notice (about 0.3 ms a MiB)."""


SETTLED_MAX = 8
"""Drops of what it writes to may come between the settling of a write and its entry this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeStatistics:
    """What came in. ``groups_total`` against ``batches_total`` shows how well commits are shared."""

    is_open: bool
    waiting: int
    batches_total: int
    records_total: int
    refused_rows_total: int
    retries_answered_total: int
    errors_total: int
    groups_total: int
    admitted_sequence: int


@dataclass(slots=True, eq=False)
class _Part:
    key: Key
    batch: pa.RecordBatch
    columns: pa.Buffer
    sequence: int = 0


@dataclass(slots=True, eq=False)
class _Entry:
    """One request on its way. ``done`` is set when its rows are visible, or when ``error`` says why they are not."""

    database: str
    idempotency_key: str
    fingerprint: int
    parts: list[_Part]
    size_bytes: int
    rows: int
    moment_us: int
    position: Position | None = None
    error: ArcError | None = None
    done: trio.Event = field(default_factory=trio.Event)


class Intake:
    """Accepts writes while it is open. ``epoch`` is that of the writer lease this node holds."""

    def __init__(
        self,
        *,
        config: IngestConfig,
        group_bytes: int,
        epoch: Epoch,
        clock: Clock,
        workers: Workers,
        catalog: Callable[[], Catalog],
        propose: Propose,
        log: AppendRecords,
        durability: WaitDurable,
        buffer: Buffer,
        keys: IdempotencyKeys,
        memory: MemoryBudget,
        visibility: Visibility,
    ) -> None:
        self._config = config
        self._group_bytes = group_bytes
        self._epoch = epoch
        self._clock = clock
        self._workers = workers
        self._log = log
        self._durability = durability
        self._buffer = buffer
        self._keys = keys
        self._memory = memory
        self._settlement = Settlement(catalog, propose, clock)
        self._waiting: deque[_Entry] = deque()
        self._appending: list[_Entry] = []
        self._has_unknown = False
        self._logged: deque[_Entry] = deque()
        self._in_flight: dict[tuple[str, str], _Entry] = {}
        self._waiting_came = trio.Event()
        self._logged_came = trio.Event()
        self._closed_because: str | None = "the node is starting"
        self._visibility = visibility
        self._holds = Holds(epoch)
        self._answered_through = visibility.through
        self._writes = self._rows = self._refused = self._retries = self._failed = self._groups = 0

    def __repr__(self) -> str:
        return f"<Intake epoch={self._epoch} admitted={self.admitted_sequence} waiting={len(self._waiting)}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit and admit for ever. Raises DiskFailed, after which the node must stop."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit_loop)
                nursery.start_soon(self._admit_loop)
                self._closed_because = None
                task_status.started()
        finally:
            self._end()

    def close(self, reason: str) -> None:
        """Refuse new writes from now on; those inside go on."""
        self._closed_because = reason

    def open(self) -> None:
        """Take writes again."""
        self._closed_because = None

    @property
    def closed_because(self) -> str | None:
        """Why no writes are taken; None while they are."""
        return self._closed_because

    def reserve(self, size_bytes: int) -> AbstractContextManager[None]:
        """Count a request's bytes while it is read and decoded. Raises Overloaded."""
        return self._memory.reserve(size_bytes)

    @property
    def admitted_sequence(self) -> int:
        """The last record whose rows queries see."""
        return self._visibility.through

    async def wait_admitted(self, sequence: int) -> None:
        """Return once the rows of this record are visible here. The caller sets the time limit."""
        await self._visibility.wait(sequence)

    async def drain(self) -> None:
        """Wait until every write inside is answered."""
        while inside := (*self._logged, *self._appending, *self._waiting):
            await inside[-1].done.wait()

    async def hold(self, database: str, measurement: str | None) -> Hold:
        """Keep rows of a database, or of one measurement of it, out until `Hold.release`; others are not held up.

        Returns once all that were let in before are visible; the caller sets the time limit. Raises Unavailable where
        the log may have a record or not: it would come back behind the drop, as rows of nothing (world seed 940163).
        """
        hold = self._holds.begin(database, measurement)
        try:
            for entry in (*self._logged, *self._appending, *self._waiting):
                if hold.covers(entry.database, [part.key.measurement for part in entry.parts]):
                    await entry.done.wait()
            if self._has_unknown:
                raise Unavailable("the disk failed during a write that may be stored; nothing was dropped")
            # Also what another holder has logged, and this one made its own.
            hold.through = self._log.next_sequence - 1
            await self.wait_admitted(hold.through)
        except BaseException:
            hold.release()
            raise
        return hold

    async def write(self, request: WriteRequest) -> Written:
        """Store a request durably and make it visible.

        Raises AllRefused (nothing stored: no row fits, or one does not and the request is strict), Overloaded and
        Unavailable (nothing stored), OutcomeUnknown (it may be stored; only a retry with the same idempotency key is
        safe), KeyReused (nothing stored: the key is another write's).
        """
        if self._closed_because is not None:
            raise Unavailable(f"this node takes no writes now: {self._closed_because}")
        self._durability.require_able()
        key = request.idempotency_key or ""
        if key and (known := await self._find_retry(request.database, key, request.fingerprint)) is not None:
            self._retries += 1
            refused = self._settlement.refused_again(request, known.rows)
            return Written(position=known.position, rows=known.rows, refused=refused)
        for _ in range(SETTLED_MAX):
            ended = self._holds.ended
            agreed = await self._settlement.settle(request)
            if not agreed.batches:
                self._refused += len(agreed.refused)
                return Written(position=Position(self._epoch, self.admitted_sequence), rows=0, refused=agreed.refused)
            entry = await self._enter(request, agreed, ended)
            if entry is not None:
                self._refused += len(agreed.refused)
                return await self._answer(entry, agreed.refused)
        raise Unavailable(f"{request.database} is being dropped again and again; nothing was stored")

    async def _find_retry(self, database: str, key: str, fingerprint: int) -> Remembered | None:
        known = self._keys.find(database, key)
        if known is None and (first := self._in_flight.get((database, key))) is not None:
            # The first one is still on its way: its fate is this one's answer too.
            require_same(key, first.fingerprint, fingerprint)
            await self._answer(first, ())
            known = self._keys.find(database, key)
        if known is None:
            self._keys.check_room()
        else:
            require_same(key, known.fingerprint, fingerprint)
            await self._until_durable(known)
        return known

    async def _until_durable(self, known: Remembered) -> None:
        """A key is known as soon as its write is logged, by us or by the holder before us; to say that it is stored
        takes more. Raises OutcomeUnknown.
        """
        if known.position.sequence > self._answered_through:
            with trio.move_on_after(self._config.write_timeout_seconds):
                await self._durability.wait_durable(known.position.sequence)
                return
            raise self._too_late()

    async def _enter(self, request: WriteRequest, agreed: Agreed, ended: int) -> _Entry | None:
        """None when it has to be settled anew: a hold that it may have met is over. ``ended`` is how many were over
        when it was settled.
        """
        database, key = request.database, request.idempotency_key or ""
        parts = []
        for measurement, settled in agreed.batches:
            batch = settled.batch
            if batch.num_rows * batch.num_columns > INLINE_CELLS_MAX:
                columns = await self._workers.run(record.encode_columns, batch)
            else:
                columns = record.encode_columns(batch)
            parts.append(_Part(Key(database, measurement), batch, columns))
        size_bytes = sum(part.columns.size for part in parts)
        entry = _Entry(
            database=database,
            idempotency_key=key,
            fingerprint=request.fingerprint,
            parts=parts,
            size_bytes=size_bytes,
            rows=sum(part.batch.num_rows for part in parts),
            moment_us=self._keys.moment_us(self._clock.wall_us()),
        )
        if key and (stored := self._keys.find(database, key)) is not None:
            # Its twin was stored while this one was settled, which may take as long as an election (world seed 70124).
            require_same(key, stored.fingerprint, entry.fingerprint)
            await self._until_durable(stored)
            self._retries += 1
            entry.position, entry.rows = stored.position, stored.rows
            entry.done.set()
            return entry
        if key and (twin := self._in_flight.get((database, key))) is not None:
            # Two retries settled side by side; the one that is inside wins, this one waits for it.
            require_same(key, twin.fingerprint, entry.fingerprint)
            return twin
        if self._closed_because is not None:
            # Closed while this one was settled: whoever closed it may be waiting for the last one inside.
            raise Unavailable(f"this node takes no writes now: {self._closed_because}")
        if (hold := self._holds.find(database, [part.key.measurement for part in parts])) is not None:
            await hold.wait_over(self._config.write_timeout_seconds)
            return None
        if self._holds.ended != ended:
            return None
        self._memory.take(size_bytes)
        if key:
            self._in_flight[database, key] = entry
        self._waiting.append(entry)
        self._waiting_came.set()
        return entry

    async def _answer(self, entry: _Entry, refused: tuple[Refused, ...]) -> Written:
        with trio.move_on_after(self._config.write_timeout_seconds):
            await entry.done.wait()
        if not entry.done.is_set():
            raise self._too_late()
        if entry.error is not None:
            raise entry.error
        assert entry.position is not None
        return Written(position=entry.position, rows=entry.rows, refused=refused)

    def _too_late(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"the write was not durable within {self._config.write_timeout_seconds} s; it may still be stored. "
            "Retry with the same Idempotency-Key to be sure that it is stored once"
        )

    async def _commit_loop(self) -> None:
        while True:
            if not self._waiting:
                self._waiting_came = trio.Event()
                await self._waiting_came.wait()
            self._appending = group = self._take_group()
            try:
                # Shielded: the end of a reign must not come between the log and the buffer.
                with trio.CancelScope(shield=True):
                    await self._log.append(self._number(group))
            except Overloaded as error:
                self._fail(group, error)
                continue
            except DiskFailed as error:
                unknown = OutcomeUnknown(f"the disk failed during this write, it may be stored: {error.message}")
                self._has_unknown = True
                self._fail(group, unknown)
                self._fail_waiting(Unavailable(f"the disk failed and the node stops: {error.message}"))
                self.close("the disk failed")
                raise
            finally:
                self._appending = []
            self._groups += 1
            now = self._clock.now()
            for entry in group:
                self._buffer_rows(entry, now)
            self._logged.extend(group)
            self._logged_came.set()

    def _take_group(self) -> list[_Entry]:
        """All that waits, up to one group's bytes; never a part of an entry."""
        group = [self._waiting.popleft()]
        size = group[0].size_bytes
        while self._waiting and size + self._waiting[0].size_bytes <= self._group_bytes:
            group.append(self._waiting.popleft())
            size += group[-1].size_bytes
        return group

    def _number(self, group: list[_Entry]) -> list[bytes]:
        """Give every record its sequence and its bytes."""
        records = []
        sequence = self._log.next_sequence
        for entry in group:
            for nth, part in enumerate(entry.parts):
                part.sequence = sequence
                entry.position = Position(self._epoch, sequence)
                header = record.RecordHeader(
                    position=entry.position,
                    database=part.key.database,
                    measurement=part.key.measurement,
                    rows=part.batch.num_rows,
                    parts_left=len(entry.parts) - nth - 1,
                    moment_us=entry.moment_us,
                    key=entry.idempotency_key,
                    fingerprint=entry.fingerprint,
                )
                records.append(record.encode(header, part.columns))
                sequence += 1
        return records

    def _buffer_rows(self, entry: _Entry, now: float) -> None:
        """The log has the entry; so have the buffer and the keys from now on, though nobody sees it yet."""
        for part in entry.parts:
            self._buffer.add(part.key, part.sequence, part.batch, now, part.columns.size)
        self._memory.give_back(entry.size_bytes)
        if entry.idempotency_key:
            assert entry.position is not None
            stored = Remembered(entry.position, entry.rows, entry.moment_us, entry.fingerprint)
            self._keys.remember(entry.database, entry.idempotency_key, stored)
            del self._in_flight[entry.database, entry.idempotency_key]

    async def _admit_loop(self) -> None:
        while True:
            # What a start or a follower's life left in the log counts too, though nobody waits for its answer.
            if self._answered_through >= self._log.next_sequence - 1:
                self._logged_came = trio.Event()
                await self._logged_came.wait()
            self._answered_through = await self._durability.wait_durable(self._answered_through + 1)
            self._visibility.show(self._answered_through)
            while self._logged and self._last_sequence(self._logged[0]) <= self._answered_through:
                self._admit(self._logged.popleft())

    @staticmethod
    def _last_sequence(entry: _Entry) -> int:
        return entry.parts[-1].sequence

    def _admit(self, entry: _Entry) -> None:
        self._writes += 1
        self._rows += entry.rows
        entry.done.set()

    def _end(self) -> None:
        """The lease is gone, or the node stops: say so to everybody inside."""
        if self._closed_because is None:
            self.close("this node does not hold the writer lease any more")
        self._holds.end_all()
        for entry in self._logged:
            self._failed += 1
            entry.error = OutcomeUnknown(
                "the node lost the writer lease before this write was durable everywhere; it may still be stored. "
                "Retry with the same Idempotency-Key to be sure that it is stored once"
            )
            entry.done.set()
        self._logged.clear()
        self._fail_waiting(Unavailable("the node lost the writer lease before this write began; nothing was stored"))

    def _fail(self, entries: Sequence[_Entry], error: ArcError) -> None:
        for entry in entries:
            self._failed += 1
            self._memory.give_back(entry.size_bytes)
            if entry.idempotency_key:
                del self._in_flight[entry.database, entry.idempotency_key]
            entry.error = error
            entry.done.set()

    def _fail_waiting(self, error: ArcError) -> None:
        self._fail(tuple(self._waiting), error)
        self._waiting.clear()

    def statistics(self) -> IntakeStatistics:
        """Numbers for status and metrics."""
        return IntakeStatistics(
            is_open=self._closed_because is None,
            waiting=len(self._waiting) + len(self._appending) + len(self._logged),
            batches_total=self._writes,
            records_total=self._rows,
            refused_rows_total=self._refused,
            retries_answered_total=self._retries,
            errors_total=self._failed,
            groups_total=self._groups,
            admitted_sequence=self.admitted_sequence,
        )
