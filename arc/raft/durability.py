"""What of the log is on disk, told by write ids and never by index alone.

An index may be written three times, under terms A, B and A again; that *some* write of it finished says nothing about
the entry that is there now (D-02, K-49). So every write is remembered with the range of entries it carries; cutting the
log also cuts these ranges, and the completion of a write makes durable what is left of its range.
"""

from __future__ import annotations

from collections import deque


class _Write:
    __slots__ = ("first", "issued_at", "last", "snapshot_index", "write_id")

    def __init__(self, write_id: int, first: int, last: int, snapshot_index: int, issued_at: float) -> None:
        self.write_id = write_id
        self.first = first
        self.last = last
        self.snapshot_index = snapshot_index
        self.issued_at = issued_at


class Durability:
    """Watermark of writes, and what it means for the log. Ids count up from 1; 0 stands for "long since"."""

    __slots__ = ("_pending", "durable_index", "hard_state_id", "next_id", "persisted_id")

    def __init__(self, durable_index: int) -> None:
        self.next_id = 1
        self.persisted_id = 0
        self.durable_index = durable_index
        self.hard_state_id = 0
        self._pending: deque[_Write] = deque()

    def __repr__(self) -> str:
        waiting = ", ".join(f"{each.write_id}:{each.first}..{each.last}" for each in self._pending)
        return f"<Durability persisted={self.persisted_id} index={self.durable_index} pending=[{waiting}]>"

    @property
    def oldest_issued_at(self) -> float | None:
        """When the oldest unfinished write was asked for."""
        return self._pending[0].issued_at if self._pending else None

    def issue(self, first: int, last: int, *, has_hard_state: bool, now: float, snapshot_index: int = 0) -> int:
        """A write of the entries first..last (first > last: none) goes out; returns its id.

        With a snapshot everything up to ``snapshot_index`` becomes durable, too, and entries follow right after it.
        """
        if snapshot_index:
            first = min(first, snapshot_index)
        write_id = self.next_id
        self.next_id += 1
        if has_hard_state:
            self.hard_state_id = write_id
        self._pending.append(_Write(write_id, first, last, snapshot_index, now))
        return write_id

    def cut(self, from_index: int) -> None:
        """The log lost its entries from there on, whatever writes of them are still under way (K-50)."""
        self.durable_index = min(self.durable_index, from_index - 1)
        for write in self._pending:
            write.last = min(write.last, from_index - 1)

    def persisted(self, write_id: int) -> None:
        """All writes up to this id are on disk."""
        assert write_id < self.next_id, (write_id, self)
        while self._pending and self._pending[0].write_id <= write_id:
            write = self._pending.popleft()
            if write.first <= write.last:
                self.durable_index = max(self.durable_index, write.last)
        self.persisted_id = max(self.persisted_id, write_id)

    def refuse(self, write_id: int, boundary: int) -> int | None:
        """Entries of this write and later ones were not stored. Returns the first index lost, None for none.

        What a snapshot has replaced since, up to ``boundary``, is not durable by these writes, but no loss.
        """
        lost: int | None = None
        for write in self._pending:
            first = max(write.first, write.snapshot_index + 1)  # A snapshot is on disk already.
            if write.write_id >= write_id and first <= write.last:
                if write.last > boundary:
                    above = max(first, boundary + 1)
                    lost = above if lost is None else min(lost, above)
                write.last = first - 1
        return lost

    def covering(self, index: int) -> int:
        """Id of the write that brings ``index`` to disk: 0 if it is there, ``next_id`` if not yet asked for."""
        if index <= self.durable_index:
            return 0
        for write in self._pending:
            if write.first <= index <= write.last:
                return write.write_id
        return self.next_id
