"""Where the groups of a journal lie: for each that still counts, its first record's number and its place.

Two arrays of 8-byte numbers, because a log of millions of small groups must not cost hundreds of MiB to remember; a
group takes at least 4 KiB on disk, so this is below half a percent of it. Groups that were cut are forgotten; of one
that was cut in the middle the front counts, up to where the next one begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right

from arc.journal.frames import Kind

_OFFSET_BITS = 40
"""A segment is at most 1 TiB, and there are at most 16 million of them."""


class GroupIndex:
    """First numbers ascend, and so do places (segment number, offset): a cut only ever drops the end."""

    __slots__ = ("_firsts", "_places", "next_index")

    def __init__(self, next_index: int = 1) -> None:
        self._firsts = array("Q")
        self._places = array("Q")
        self.next_index = next_index

    def __len__(self) -> int:
        return len(self._firsts)

    def __repr__(self) -> str:
        return f"<GroupIndex {self.first_index}..{self.next_index - 1} in {len(self)} groups>"

    @property
    def first_index(self) -> int:
        """Number of the oldest record that counts (of the next one, when there is none)."""
        return self._firsts[0] if self._firsts else self.next_index

    def add(self, kind: Kind, first_index: int, count: int, number: int, offset: int) -> None:
        """A group of ``count`` records from ``first_index`` on was written there."""
        if kind is not Kind.CONTINUES:
            keep = 0 if kind is Kind.RESTARTS else bisect_left(self._firsts, first_index)
            del self._firsts[keep:]
            del self._places[keep:]
        if count:
            self._firsts.append(first_index)
            self._places.append(number << _OFFSET_BITS | offset)
        self.next_index = first_index + count

    def find(self, index: int) -> int:
        """Position of the group that holds a record, which must be there."""
        assert self.first_index <= index < self.next_index, (index, self)
        return bisect_right(self._firsts, index) - 1

    def group(self, nth: int) -> tuple[int, int, int, int]:
        """(first record, the one after its last that counts, segment number, offset)."""
        place = self._places[nth]
        limit = self._firsts[nth + 1] if nth + 1 < len(self._firsts) else self.next_index
        return self._firsts[nth], limit, place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)

    def groups_before(self, number: int) -> int:
        """How many of the groups lie in segments before this one."""
        return bisect_left(self._places, number << _OFFSET_BITS)

    def drop(self, count: int) -> None:
        """Forget the oldest groups."""
        del self._firsts[:count]
        del self._places[:count]
