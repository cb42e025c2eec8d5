"""What the intake asks of its log, and of whoever knows when a record is durable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class AppendRecords(Protocol):
    """The log of this node; `storage.wal.log.WalLog`."""

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record."""
        ...

    async def append(self, records: Sequence[bytes]) -> None:
        """Store as one group, durable on return. Raises Overloaded (nothing stored), DiskFailed."""
        ...


class WaitDurable(Protocol):
    """Says when a record is durable wherever the write level asks for."""

    def require_able(self) -> None:
        """Raise Unavailable when nothing could become durable now, so that nothing is begun in vain."""
        ...

    async def wait_durable(self, sequence: int) -> int:
        """Return how far records may be acknowledged once that is at least ``sequence``. Raises OutcomeUnknown when
        the reign ended.
        """
        ...


class LocalDurability:
    """Durability on this node alone: what the WAL has synced is durable."""

    def __init__(self, log: AppendRecords) -> None:
        self._log = log

    def require_able(self) -> None:
        """Always able."""

    async def wait_durable(self, sequence: int) -> int:
        """At once: the intake only asks for records that its own log has."""
        return max(sequence, self._log.next_sequence - 1)
