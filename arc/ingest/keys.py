"""Idempotency keys: a retry of a write that is stored answers as the first one did and stores nothing.

Another write under a key that is known is no retry but a mistake of its program, and is refused: the answer that it is
stored would be true of other rows. What tells them apart is a fingerprint of what was sent, which stays with the key.

The keys live in WAL records, so replay brings them back. A segment that leaves the WAL would take its keys with it;
before that happens the living ones go into a checkpoint. Bounded by age and by number; at the bound a *new* key is
refused, because forgetting a living one would let a row be stored twice.

For the same reason no wall clock says how old a key is: one that was set, or that of a node whose clock is an hour
ahead and that takes over, would make all keys old at once. Writes carry a *moment* instead, and moments go on where the
newest one that is known ended, as fast as a clock that nobody can set, whoever gives them out. Only the very first one
is what the wall clock said. A time in which nobody was up does not count, so a key may live longer than it should.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import google_crc32c

from arc.errors import InvalidRequest, Overloaded
from arc.ids import Position
from arc.storage.wal.keys import StoredKey
from arc.storage.wal.record import RecordHeader

NOT_KNOWN = 0
"""Fingerprint of a write of which none was taken."""


class KeyReused(InvalidRequest):
    """The key is another write's, and nothing of this one was stored. Status as in section 2.7 of
    draft-ietf-httpapi-idempotency-key-header.
    """

    code = "idempotency_key_reused"
    status = 422


@dataclass(frozen=True, slots=True)
class Remembered:
    """The first write with a key: where it is, how many rows it stored, its moment (for expiry only) and its
    `fingerprint_of`.
    """

    position: Position
    rows: int
    moment_us: int
    fingerprint: int = NOT_KNOWN


def fingerprint_of(body: bytes, *meaning: str) -> int:
    """What a retry has in common with its first try, and another write by mistake has not: 32 bits of the inflated
    body and of all that gives it its meaning. Never `NOT_KNOWN`.
    """
    return int(google_crc32c.extend(google_crc32c.value("\0".join(meaning).encode()), body)) or 1


def require_same(key: str, known: int, fingerprint: int) -> None:
    """Raise KeyReused when these are the fingerprints of two different writes: who is told that the second one is
    stored loses its rows.
    """
    if known != fingerprint and NOT_KNOWN not in (known, fingerprint):
        raise KeyReused(
            f"Idempotency-Key {key!r} was used for another write, nothing of this one was stored. "
            "A retry sends the same rows in the same bytes; a write that is none needs a key of its own"
        )


class IdempotencyKeys:
    """Keys of stored writes, per database, oldest first. ``now`` gives seconds of a clock that never goes back."""

    def __init__(self, window_us: int, keys_max: int, now: Callable[[], float]) -> None:
        self._window_us = window_us
        self._keys_max = keys_max
        self._now = now
        self._ahead_us: int | None = None
        """Of ``now``; None until a write is known."""
        self._known: OrderedDict[tuple[str, str], Remembered] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def moment_us(self, wall_us: int) -> int:
        """The moment of a write that is logged now; ``wall_us`` is that of the very first one."""
        return wall_us if self._ahead_us is None else self._ahead_us + self._now_us()

    def find(self, database: str, key: str) -> Remembered | None:
        """The stored write with this key, if it is young enough."""
        self._expire()
        return self._known.get((database, key))

    def check_room(self) -> None:
        """Raise Overloaded when one more key would be too many."""
        self._expire()
        if len(self._known) >= self._keys_max:
            raise Overloaded(
                f"{self._keys_max} idempotency keys are remembered, the most that are kept; "
                "retry when older ones expire, "
                "or raise wal.idempotency_keys_max",
                retry_after_seconds=5,
            )

    def remember(self, database: str, key: str, write: Remembered) -> None:
        """Note a stored write. Parts of one request add up: the last position and the sum of rows count."""
        ahead_us = write.moment_us - self._now_us()
        self._ahead_us = ahead_us if self._ahead_us is None else max(self._ahead_us, ahead_us)
        known = self._known.get((database, key))
        if known is not None and known.position >= write.position:
            return  # replay meets records whose keys the checkpoint brought already
        if known is not None and known.moment_us == write.moment_us:
            write = replace(write, rows=known.rows + write.rows)
        elif known is not None:
            # Of an earlier request, which is too old by now: a log may go back further than keys are known.
            del self._known[database, key]
        self._known[database, key] = write

    def note(self, header: RecordHeader) -> None:
        """`remember` what a record of the log says, if its request has a key."""
        if header.key:
            write = Remembered(header.position, header.rows, header.moment_us, header.fingerprint)
            self.remember(header.database, header.key, write)

    def restore(self, stored: Iterable[StoredKey]) -> None:
        """Note writes whose records are in the log no more."""
        for key in stored:
            position = Position(key.epoch, key.sequence)
            self.remember(key.database, key.key, Remembered(position, key.rows, key.moment_us, key.fingerprint))

    def below(self, sequence: int) -> list[StoredKey]:
        """Living keys whose records are about to leave the WAL, for `restore`."""
        self._expire()
        return [
            StoredKey(
                database=database,
                key=key,
                epoch=write.position.epoch,
                sequence=write.position.sequence,
                rows=write.rows,
                moment_us=write.moment_us,
                fingerprint=write.fingerprint,
            )
            for (database, key), write in self._known.items()
            if write.position.sequence < sequence
        ]

    def cut(self, first: int) -> None:
        """Forget writes whose records the log has lost: from ``first`` on, always whole requests."""
        gone = [name for name, write in self._known.items() if write.position.sequence >= first]
        for name in gone:
            del self._known[name]

    def clear(self) -> None:
        """Forget everything: what is known now comes from somewhere else."""
        self._known.clear()

    def _now_us(self) -> int:
        return int(self._now() * 1e6)

    def _expire(self) -> None:
        limit = self.moment_us(0) - self._window_us
        while self._known:
            name, oldest = next(iter(self._known.items()))
            if oldest.moment_us >= limit:
                return
            del self._known[name]
