"""The result of one query while it is being read: its schema, its batches, its bytes.

A visit to a worker costs more than a small query, so a small result is there whole after the first visit, and is
encoded without another one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import pyarrow as pa

from arc.ports import Clock
from arc.query.results import Encoder, Encoding, Summary
from arc.query.steps import Steps
from arc.query.times import rfc3339_us

SMALL_CELLS = 4_096
SMALL_BYTES = 64 * 1024
"""A result below both is encoded on the event loop, in well under a millisecond."""


class Rows(Protocol):
    """Where batches come from: `engine.Run`, or a table that is there already."""

    considered: int
    """Rows of the files and batches that pruning left over; known once `open` has returned."""
    closed: bool
    """Nothing is held (any more)."""

    def open(self) -> pa.Schema:
        """Plan the query."""
        ...

    def next(self) -> pa.RecordBatch | None:
        """The next batch with rows, None at the end."""
        ...

    def interrupt(self) -> None:
        """Stop `open` or `next` from another thread."""
        ...

    def close(self) -> None:
        """Free everything. A second call does nothing."""
        ...


class TableRows:
    """Rows that need no engine: answers about the catalog, counts from the manifest."""

    def __init__(self, table: pa.Table) -> None:
        self.considered = 0
        self.closed = True
        self._schema = table.schema
        self._batches = [batch for batch in table.to_batches() if batch.num_rows]

    def open(self) -> pa.Schema:
        """The table's schema."""
        return self._schema

    def next(self) -> pa.RecordBatch | None:
        """Its batches in order."""
        return self._batches.pop(0) if self._batches else None

    def interrupt(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


class Beginning:
    """The first visit to the worker: plans the query and gets its first batch, and the end too if that is near."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.schema = pa.schema([])
        self.batches: deque[pa.RecordBatch] = deque()
        self.ended = False

    def fetch(self) -> None:
        """Raises what the query raises."""
        self.schema = self._rows.open()
        while not self.ended and (not self.batches or _is_small(self.batches)):
            batch = self._rows.next()
            if batch is None:
                self.ended = True
                self._rows.close()
            else:
                self.batches.append(batch)


class Answer:
    """One result, read once, either as `batches` or as `encoded` bytes. Valid inside ``QueryService.open`` only.

    ``schema`` is DuckDB's own; `encoded` narrows it to primitive types (`narrow.Narrowing`). The first batch is there
    before the answer is handed out, so that most failures happen while a status code can still tell them.
    """

    def __init__(
        self, *, query_id: str, beginning: Beginning, rows: Rows, steps: Steps, clock: Clock, started: float
    ) -> None:
        self.query_id = query_id
        self.schema = beginning.schema
        self.row_count = 0
        self.planned_ms = (clock.now() - started) * 1000
        self._ready = beginning.batches
        self._ended = beginning.ended
        self._rows = rows
        self._steps = steps
        self._clock = clock
        self._started = started
        self._taken = False

    @property
    def elapsed_ms(self) -> int:
        """Since the statement came in, waiting for a place included."""
        return round((self._clock.now() - self._started) * 1000)

    def profile(self) -> dict[str, float | int]:
        """Arc's profile block. ``rows_scanned`` counts the rows of the files and batches that pruning left over."""
        total = (self._clock.now() - self._started) * 1000
        return {
            "total_ms": round(total, 3),
            "planner_ms": round(self.planned_ms, 3),
            "execution_ms": round(total - self.planned_ms, 3),
            "rows_scanned": self._rows.considered,
            "latency_ms": round(total, 3),
        }

    def batches(self) -> Batches:
        """The batches as DuckDB made them.

        Raises TimedOut, Conflict (cancelled), Overloaded, InvalidRequest while reading.
        """
        self._take()
        return Batches(self._step)

    def encoded(self, encoder: Encoder, *, profile: bool = False) -> Chunks:
        """The result as bytes. When this raises, the connection must be cut: see `results`."""
        self._take()
        encoding = Encoding(encoder, self.schema, self._next)
        return Chunks(encoding, self._in_place if self._is_whole() else self._on_worker, self, profile=profile)

    def summary(self, *, profile: bool) -> Summary:
        """The result's own figures, at its end."""
        return Summary(
            row_count=self.row_count,
            execution_time_ms=self.elapsed_ms,
            timestamp=rfc3339_us(self._clock.wall_us() // 1_000_000 * 1_000_000),
            profile=self.profile() if profile else None,
        )

    def _take(self) -> None:
        assert not self._taken, "an answer is read once"
        self._taken = True

    def _is_whole(self) -> bool:
        return self._ended and _is_small(self._ready)

    def _next(self) -> pa.RecordBatch | None:
        """The next batch, counted. On a worker, unless it is there already."""
        if self._ended and not self._ready:
            return None
        batch = self._ready.popleft() if self._ready else self._rows.next()
        self._ended = self._ended or batch is None
        if batch is not None:
            self.row_count += batch.num_rows
        return batch

    async def _step(self) -> pa.RecordBatch | None:
        return self._next() if self._ready or self._ended else await self._steps.run(self._next, self._rows)

    async def _on_worker(self, encode: Callable[[], bytes]) -> bytes:
        return await self._steps.run(encode, self._rows)

    async def _in_place(self, encode: Callable[[], bytes]) -> bytes:
        self._steps.check()
        return encode()


def _is_small(batches: deque[pa.RecordBatch]) -> bool:
    cells = sum(batch.num_rows * batch.num_columns for batch in batches)
    size: int = sum(batch.nbytes for batch in batches)
    return cells <= SMALL_CELLS and size <= SMALL_BYTES


class Batches:
    """Iterates over batches; each comes from one visit to a worker."""

    def __init__(self, step: Callable[[], Awaitable[pa.RecordBatch | None]]) -> None:
        self._step = step

    def __aiter__(self) -> Batches:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        batch = await self._step()
        if batch is None:
            raise StopAsyncIteration
        return batch


class Chunks:
    """Iterates over encoded bytes, each chunk from one visit to a worker.

    An iterator and not a generator: nothing has to be finalized when it is dropped half-way.
    """

    def __init__(
        self,
        encoding: Encoding,
        run: Callable[[Callable[[], bytes]], Awaitable[bytes]],
        answer: Answer,
        *,
        profile: bool,
    ) -> None:
        self._encoding = encoding
        self._run = run
        self._answer = answer
        self._profile = profile
        self._tail: deque[bytes] | None = None

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._tail is None and not self._encoding.ended:
                chunk = await self._run(self._encoding.chunk)
            else:
                chunk = self._next_of_tail()
            if chunk:
                return chunk

    def _next_of_tail(self) -> bytes:
        if self._tail is None:
            # Some keys and an end marker: no work for a worker, whatever the format.
            self._tail = deque(self._encoding.tail(self._answer.summary(profile=self._profile)))
        if not self._tail:
            raise StopAsyncIteration
        return self._tail.popleft()
