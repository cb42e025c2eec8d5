"""Idempotency keys: a retry of a write that is stored answers as the first one did and stores nothing.

The keys live in WAL records, so replay brings them back. A segment that leaves the WAL would take its keys with it;
before that happens the living ones go into a checkpoint. Bounded by age and by number; at the bound a *new* key is
refused, because forgetting a living one would let a row be stored twice.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from arc.errors import Overloaded
from arc.ids import Position


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first write with a key: where it is, how many rows it stored, and when (wall clock, for expiry only)."""

    position: Position
    rows: int
    wall_us: int


class IdempotencyKeys:
    """Keys of stored writes, per database, oldest first."""

    def __init__(self, window_us: int, keys_max: int) -> None:
        self._window_us = window_us
        self._keys_max = keys_max
        self._known: OrderedDict[tuple[str, str], Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, database: str, key: str, now_us: int) -> Remembered | None:
        """The stored write with this key, if it is young enough."""
        self._expire(now_us)
        return self._known.get((database, key))

    def check_room(self, now_us: int) -> None:
        """Raise Overloaded when one more key would be too many."""
        self._expire(now_us)
        if len(self._known) >= self._keys_max:
            raise Overloaded(
                f"{self._keys_max} idempotency keys are remembered, the most that are kept; "
                "retry when older ones expire, "
                "or raise wal.idempotency_keys_max",
                retry_after_seconds=5,
            )

    def remember(self, database: str, key: str, write: Remembered) -> None:
        """Note a stored write. Parts of one request add up: the last position and the sum of rows count."""
        known = self._known.get((database, key))
        if known is not None and known.position >= write.position:
            return  # replay meets records whose keys the checkpoint brought already
        rows = write.rows + (known.rows if known is not None else 0)
        self._known[database, key] = Remembered(write.position, rows, write.wall_us)

    def below(self, sequence: int, now_us: int) -> list[tuple[str, str, Remembered]]:
        """Living keys whose records are about to leave the WAL."""
        self._expire(now_us)
        return [(*name, write) for name, write in self._known.items() if write.position.sequence < sequence]

    def all(self, now_us: int) -> list[tuple[str, str, Remembered]]:
        """All living keys, oldest first."""
        self._expire(now_us)
        return [(*name, write) for name, write in self._known.items()]

    def cut(self, first: int) -> None:
        """Forget writes whose records the log has lost: from ``first`` on, always whole requests."""
        gone = [name for name, write in self._known.items() if write.position.sequence >= first]
        for name in gone:
            del self._known[name]

    def clear(self) -> None:
        """Forget everything: what is known now comes from somewhere else."""
        self._known.clear()

    def _expire(self, now_us: int) -> None:
        limit = now_us - self._window_us
        while self._known:
            name, oldest = next(iter(self._known.items()))
            if oldest.wall_us >= limit:
                return
            del self._known[name]
