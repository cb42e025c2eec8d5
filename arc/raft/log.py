"""The log as the core sees it: every term, and the entries of the tail.

The log runs from ``boundary_index`` + 1 to ``last_index``. The boundary is the last entry that compaction or a snapshot
took away; its term stays known, because the entry after it is checked against it (Raft paper, 7).

Terms are kept as runs (first index, term), so that all arithmetic about terms, however far back, needs neither disk
nor memory per entry. Entries themselves are kept in memory from ``memory_index`` on; older ones are on disk only, and
whoever needs them gets None and must ask for them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from arc.raft.types import Entry, entry_bytes


class Log:
    """Boundary, runs of terms, tail of entries. Knows nothing of commit, disk or followers."""

    __slots__ = (
        "_entries",
        "_run_firsts",
        "_run_terms",
        "boundary_index",
        "boundary_term",
        "last_index",
        "last_term",
        "memory_bytes",
        "memory_index",
    )

    def __init__(self, boundary_index: int = 0, boundary_term: int = 0) -> None:
        self.reset(boundary_index, boundary_term)

    def __repr__(self) -> str:
        return f"<Log {self.boundary_index + 1}..{self.last_index}@{self.last_term}>"

    def reset(self, index: int, term: int) -> None:
        """Hold nothing but the boundary."""
        self.boundary_index = self.last_index = index
        self.boundary_term = self.last_term = term
        self.memory_index = index + 1
        self.memory_bytes = 0
        self._entries: list[Entry] = []
        self._run_firsts: list[int] = []
        self._run_terms: list[int] = []

    def extend_on_disk(self, runs: Sequence[tuple[int, int]], last_index: int) -> None:
        """Take note of entries up to ``last_index`` that are on disk only (a start); they follow what is held."""
        assert not self._entries, self
        for first, term in runs:
            assert first == self.last_index + 1 or self._run_firsts, (first, self)
            assert term >= self.last_term, (term, self)
            self._run_firsts.append(first)
            self._run_terms.append(term)
            self.last_term = term
        assert last_index >= self.last_index, (last_index, self)
        self.last_index = last_index
        self.memory_index = last_index + 1

    def append(self, entry: Entry) -> None:
        """Add one entry at the end. Terms never fall (Raft paper, 5.3)."""
        index, term = entry[0], entry[1]
        assert index == self.last_index + 1, (index, self)
        if term != self.last_term or not self._run_firsts:
            assert term >= self.last_term, (term, self)
            self._run_firsts.append(index)
            self._run_terms.append(term)
            self.last_term = term
        self._entries.append(entry)
        self.memory_bytes += entry_bytes(entry)
        self.last_index = index

    def cut(self, from_index: int) -> None:
        """Drop the entries from there on."""
        assert self.boundary_index < from_index <= self.last_index, (from_index, self)
        place = max(from_index - self.memory_index, 0)
        self.memory_bytes -= sum(map(entry_bytes, self._entries[place:]))
        del self._entries[place:]
        while self._run_firsts and self._run_firsts[-1] >= from_index:
            self._run_firsts.pop()
            self._run_terms.pop()
        self.last_index = from_index - 1
        self.last_term = self._run_terms[-1] if self._run_terms else self.boundary_term
        self.memory_index = min(self.memory_index, from_index)

    def compact(self, index: int) -> None:
        """Move the boundary up to ``index``; entries up to there go."""
        assert self.boundary_index <= index <= self.last_index, (index, self)
        term = self.term(index)
        assert term is not None, (index, self)
        self.evict(index)
        place = bisect_right(self._run_firsts, index)
        if (
            place
            and index < self.last_index
            and (place == len(self._run_firsts) or self._run_firsts[place] > index + 1)
        ):
            place -= 1
            self._run_firsts[place] = index + 1
        del self._run_firsts[:place]
        del self._run_terms[:place]
        self.boundary_index, self.boundary_term = index, term

    def evict(self, index: int) -> None:
        """Keep entries up to ``index`` on disk only."""
        count = index + 1 - self.memory_index
        if count > 0:
            self.memory_bytes -= sum(map(entry_bytes, self._entries[:count]))
            del self._entries[:count]
            self.memory_index = index + 1

    def shrink(self, bytes_max: int, limit: int) -> None:
        """Keep the oldest entries, but none after ``limit``, on disk only until the rest fits."""
        size, index = self.memory_bytes, self.memory_index - 1
        for entry in self._entries:
            if size <= bytes_max or index >= limit:
                break
            size -= entry_bytes(entry)
            index += 1
        self.evict(index)

    def term(self, index: int) -> int | None:
        """Term of the entry, None outside boundary..last."""
        if index >= self.memory_index:
            return self._entries[index - self.memory_index][1] if index <= self.last_index else None
        if index <= self.boundary_index:
            return self.boundary_term if index == self.boundary_index else None
        return self._run_terms[bisect_right(self._run_firsts, index) - 1]

    def entry(self, index: int) -> Entry | None:
        """The entry, None if it is not in memory."""
        if self.memory_index <= index <= self.last_index:
            return self._entries[index - self.memory_index]
        return None

    def read(self, first: int, last: int, bytes_max: int, entries_max: int) -> tuple[Entry, ...] | None:
        """Entries first..last, cut to the limits but never to nothing (F-05); None if the first is not in memory."""
        assert first <= last <= self.last_index, (first, last, self)
        if first < self.memory_index:
            return None
        start = first - self.memory_index
        found = self._entries[start : min(last + 1 - self.memory_index, start + entries_max)]
        size = 0
        for count, entry in enumerate(found):
            size += entry_bytes(entry)
            if size > bytes_max:
                return tuple(found[: max(count, 1)])
        return tuple(found)

    def matches(self, index: int, term: int) -> bool:
        """Whether the log holds this entry: the consistency check (Raft paper, 5.3; R-02). The boundary counts."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: int, last_term: int) -> bool:
        """Whether a candidate's log is at least as good as this one: term first, then length (5.4.1; C-04, K-10)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def skip_back(self, index: int, term: int) -> tuple[int, int]:
        """(index, term) of the last entry up to ``index`` whose term is not above ``term``; at least the boundary.

        Both sides of a mismatch skip like this, so it takes one round per run of terms and not one per entry (R-05).
        """
        index = min(index, self.last_index)
        place = bisect_right(self._run_firsts, index) - 1
        while place >= 0 and self._run_terms[place] > term:
            index = self._run_firsts[place] - 1
            place -= 1
        if place < 0:
            return self.boundary_index, self.boundary_term
        return index, self._run_terms[place]

    def runs(self) -> tuple[tuple[int, int], ...]:
        """All runs of terms, for status and tests."""
        return tuple(zip(self._run_firsts, self._run_terms, strict=True))
