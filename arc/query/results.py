"""A result on its way to a client: an answer in, chunks of bytes out, never more than a few batches in memory.

An `Encoder` turns batches into bytes and keeps no rows, except MessagePack, whose shape needs them all and which is
bounded. Encoding runs on the worker that fetched the batch.

A failure in mid-stream raises out of the iterator, and the server must then cut the connection: a chunked body without
its last chunk is an error for every HTTP client, while anything well-formed would look like a short result. JSON also
has ``"success":true`` as its last key, so that not even a reader that forgives a cut body can take it for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from arc.query.narrow import Narrowing

CHUNK_BYTES = 1 << 20
"""Encoded bytes that one visit to a worker gathers before it returns: few thread changes, little memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is known when the last row was encoded. ``timestamp`` is RFC 3339; ``profile`` only when it was asked
    for."""

    row_count: int
    execution_time_ms: int
    timestamp: str
    profile: dict[str, float | int] | None = None


class Encoder(Protocol):
    """One result in one format: `head` once, `rows` for every batch, `tail` once. Batches are of primitive types."""

    content_type: str

    def head(self, schema: pa.Schema) -> bytes:
        """Bytes before the first row."""
        ...

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Bytes of one batch. May raise TooLarge."""
        ...

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """Bytes behind the last row, in pieces."""
        ...


class Encoding:
    """The blocking half of an encoded stream: pulls batches and makes chunks. Every method belongs on a worker."""

    def __init__(self, encoder: Encoder, schema: pa.Schema, next_batch: Callable[[], pa.RecordBatch | None]) -> None:
        self._encoder = encoder
        self._schema = schema
        self._next_batch = next_batch
        self._narrowing: Narrowing | None = None
        self.row_count = 0
        self.ended = False

    def chunk(self) -> bytes:
        """About `CHUNK_BYTES` of the stream, less at the end; then ``ended`` is set and `tail` is due."""
        parts = list(self._parts())
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """The end of the stream."""
        assert self.ended
        return self._encoder.tail(summary)

    def _parts(self) -> Iterator[bytes]:
        size = 0
        while size < CHUNK_BYTES:
            batch = self._next_batch()
            if self._narrowing is None:
                self._narrowing = Narrowing(self._schema, batch)
                yield self._encoder.head(self._narrowing.schema)
            if batch is None:
                self.ended = True
                return
            self.row_count += batch.num_rows
            part = self._encoder.rows(self._narrowing.batch(batch))
            size += len(part)
            yield part
