"""The rows of a log that another node writes: into the buffer in order, seen up to the high watermark, cut where the
log is cut. What the intake does for rows that clients send here, this does for rows that come as records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arc.catalog.fsm import Catalog
from arc.ingest.buffer import Buffer, Key
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.retirement import Retirement
from arc.ingest.visibility import Visibility
from arc.ports import Clock
from arc.storage.wal.keys import StoredKey
from arc.storage.wal.record import Logged


class Mirror:
    """Buffer and idempotency keys of a follower."""

    def __init__(
        self,
        *,
        buffer: Buffer,
        keys: IdempotencyKeys,
        visibility: Visibility,
        retirement: Retirement,
        catalog: Callable[[], Catalog],
        clock: Clock,
    ) -> None:
        self._buffer = buffer
        self._keys = keys
        self._visibility = visibility
        self._retirement = retirement
        self._catalog = catalog
        self._clock = clock

    @property
    def visible(self) -> int:
        """The last record that queries see."""
        return self._visibility.through

    def add(self, records: Sequence[Logged]) -> None:
        """The log here has these records now."""
        now, catalog = self._clock.now(), self._catalog()
        in_files: dict[Key, None] = {}
        for header, batch, size_bytes in records:
            key, sequence = Key(header.database, header.measurement), header.position.sequence
            self._buffer.add(key, sequence, batch, now, size_bytes)
            self._keys.note(header)
            if sequence <= catalog.mark(header.database, header.measurement):
                in_files[key] = None
        if in_files:
            self._retirement.settle(in_files)

    def show(self, through: int) -> None:
        """Records up to here are durable on the whole in-sync set."""
        self._visibility.show(through)

    def cut(self, first: int) -> None:
        """The log here has lost the records from ``first`` on."""
        self._visibility.take_back(first - 1)
        self._buffer.cut(first)
        self._keys.cut(first)

    def restart(self, first: int, keys: Sequence[StoredKey]) -> None:
        """The log here begins with ``first``; ``keys`` are those of the records below."""
        self._visibility.take_back(first - 1)
        self._buffer.restart(first)
        self._keys.clear()
        self._keys.restore(keys)
