"""The result of one query while it is being read: its schema, its batches, its bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import pyarrow as pa

from arc.ports import Clock
from arc.query.results import Encoder, Encoding, Summary
from arc.query.steps import Steps
from arc.query.times import rfc3339_us


class Rows(Protocol):
    """Where batches come from: `engine.Run`, or a table that is there already."""

    considered: int
    """Rows of the files and batches that pruning left over; known once `open` has returned."""

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
        """Free everything."""
        ...


class TableRows:
    """Rows that need no engine: answers about the catalog, counts from the manifest."""

    def __init__(self, table: pa.Table) -> None:
        self.considered = 0
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


class Answer:
    """One result, read once, either as `batches` or as `encoded` bytes. Valid inside ``QueryService.open`` only.

    ``schema`` is DuckDB's own; `encoded` narrows it to primitive types (`narrow.Narrowing`). The first batch is there
    before the answer is handed out, so that most failures happen while a status code can still tell them.
    """

    def __init__(
        self, *, query_id: str, schema: pa.Schema, rows: Rows, steps: Steps, clock: Clock, started: float
    ) -> None:
        self.query_id = query_id
        self.schema = schema
        self.row_count = 0
        self.planned_ms = 0.0
        self._rows = rows
        self._steps = steps
        self._clock = clock
        self._started = started
        self._first: list[pa.RecordBatch | None] = []
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

    async def fetch_first(self) -> None:
        """Get the first batch. Raises what the query raises."""
        self._first.append(await self._steps.run(self._rows.next, self._rows))

    def batches(self) -> Batches:
        """The batches as DuckDB made them. Raises TimedOut, Conflict (cancelled), Overloaded, InvalidRequest while
        reading."""
        self._take()
        return Batches(self._step)

    def encoded(self, encoder: Encoder, *, profile: bool = False) -> Chunks:
        """The result as bytes. When this raises, the connection must be cut: see `results`."""
        self._take()
        return Chunks(self, Encoding(encoder, self.schema, self._next), self._steps, self._rows, profile=profile)

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

    def _next(self) -> pa.RecordBatch | None:
        """On a worker: the next batch, counted."""
        batch = self._first.pop() if self._first else self._rows.next()
        if batch is not None:
            self.row_count += batch.num_rows
        return batch

    async def _step(self) -> pa.RecordBatch | None:
        return self._next() if self._first else await self._steps.run(self._next, self._rows)


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
    """Iterates over encoded bytes, each chunk from one visit to a worker. An iterator, not a generator: nothing to
    finalize."""

    def __init__(self, answer: Answer, encoding: Encoding, steps: Steps, rows: Rows, *, profile: bool) -> None:
        self._answer = answer
        self._encoding = encoding
        self._steps = steps
        self._rows = rows
        self._profile = profile
        self._tail: list[bytes] | None = None

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._tail is None and not self._encoding.ended:
                chunk = await self._steps.run(self._encoding.chunk, self._rows)
            else:
                chunk = await self._next_of_tail()
            if chunk:
                return chunk

    async def _next_of_tail(self) -> bytes:
        if self._tail is None:
            summary = self._answer.summary(profile=self._profile)
            pieces: Sequence[bytes] = await self._steps.run(lambda: self._encoding.tail(summary))
            self._tail = list(reversed(pieces))
        if not self._tail:
            raise StopAsyncIteration
        return self._tail.pop()
