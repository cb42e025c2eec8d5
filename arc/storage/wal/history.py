"""Which epoch wrote which records of a log, and where two logs part.

A record is named by its epoch and its sequence: one epoch has one holder, who numbers without gaps from the end of his
log on, so two logs that have the same name at one place are equal up to it. It is the log matching property of Raft
(Ongaro and Ousterhout, 5.3) with epochs for terms.

Pure; nothing is stored beside the records, which carry their epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Span(NamedTuple):
    """Records ``first`` … ``end`` - 1 were written in one epoch."""

    epoch: int
    first: int
    end: int


class History:
    """The spans of one log, oldest first; they follow each other without a gap."""

    def __init__(self, next_sequence: int = 1) -> None:
        self._spans: list[Span] = []
        self._next = next_sequence

    def __repr__(self) -> str:
        told = " ".join(f"{span.epoch}:{span.first}..{span.end - 1}" for span in self._spans)
        return f"<History {told or 'empty'} next={self._next}>"

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record."""
        return self._next

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record, 0 when there is none."""
        return self._spans[-1].epoch if self._spans else 0

    def spans(self) -> tuple[Span, ...]:
        """All that is held."""
        return tuple(self._spans)

    def note(self, epoch: int, first: int, count: int = 1) -> None:
        """``count`` records of ``epoch`` from ``first`` on were appended."""
        assert first == self._next or not self._spans, (first, self)
        last = self._spans[-1] if self._spans else None
        assert last is None or epoch >= last.epoch, (epoch, self)
        if last is not None and last.epoch == epoch:
            self._spans[-1] = Span(epoch, last.first, first + count)
        else:
            self._spans.append(Span(epoch, first, first + count))
        self._next = first + count

    def cut(self, first: int) -> None:
        """Records from ``first`` on are gone."""
        kept = [span for span in self._spans if span.first < first]
        self._spans = [Span(span.epoch, span.first, min(span.end, first)) for span in kept]
        self._next = first

    def restart(self, next_sequence: int) -> None:
        """Nothing is held; the next record is this one."""
        self._spans = []
        self._next = next_sequence

    def release(self, below: int) -> None:
        """Records below are gone from the old end."""
        kept = [span for span in self._spans if span.end > below]
        self._spans = [Span(span.epoch, max(span.first, below), span.end) for span in kept]


def common_end(mine: Iterable[Span], theirs: Iterable[Span]) -> int | None:
    """The sequence after the last record that both logs hold under the same name; None when they share none."""
    other = {span.epoch: span for span in theirs}
    for span in sorted(mine, reverse=True):
        twin = other.get(span.epoch)
        if twin is not None and max(span.first, twin.first) < min(span.end, twin.end):
            return min(span.end, twin.end)
    return None
