"""The log against a list that holds every entry."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.raft.log import Log
from arc.raft.membership import History
from arc.raft.recovery import recover
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, SnapshotMeta, Stored, entry_bytes


def log_of(*terms: int, boundary: tuple[int, int] = (0, 0)) -> Log:
    log = Log(*boundary)
    for term in terms:
        log.append(Entry(log.last_index + 1, term))
    return log


class Naive:
    """Every entry in a list, no runs, no memory limit."""

    def __init__(self) -> None:
        self.base, self.base_term = 0, 0
        self.terms: list[int] = []

    def term(self, index: int) -> int | None:
        if index == self.base:
            return self.base_term
        place = index - self.base - 1
        return self.terms[place] if 0 <= place < len(self.terms) else None

    def skip_back(self, index: int, term: int) -> tuple[int, int]:
        index = min(index, self.base + len(self.terms))
        while index > self.base and (self.term(index) or 0) > term:
            index -= 1
        return index, self.term(index) or 0


steps = st.lists(
    st.tuples(st.sampled_from(["append", "cut", "compact", "evict"]), st.integers(0, 12), st.integers(0, 3)),
    max_size=40,
)


@given(steps, st.integers(0, 40), st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_log_equals_a_plain_list(steps: list[tuple[str, int, int]], index: int, term: int) -> None:
    """S-07, D-04: terms, bounds and skipping are those of a list, wherever memory and boundary stand."""
    log, naive = Log(), Naive()
    for what, amount, bump in steps:
        last = naive.base + len(naive.terms)
        if what == "append":
            new = (naive.term(last) or 0) + bump or 1
            log.append(Entry(last + 1, new, EntryKind.COMMAND, bytes(amount)))
            naive.terms.append(new)
        elif what == "cut" and naive.terms:
            at = max(last - amount, naive.base + 1)
            log.cut(at)
            del naive.terms[at - naive.base - 1 :]
        elif what == "compact":
            at = min(naive.base + amount, last)
            base_term = naive.term(at) or 0
            log.compact(at)
            del naive.terms[: at - naive.base]
            naive.base, naive.base_term = at, base_term
        elif what == "evict":
            log.evict(min(naive.base + amount, last))
    assert (log.boundary_index, log.last_index) == (naive.base, naive.base + len(naive.terms))
    for each in range(50):
        assert log.term(each) == naive.term(each), each
    assert log.last_term == (naive.term(log.last_index) or 0)
    assert log.skip_back(index, term) == naive.skip_back(max(index, naive.base), term) or index < naive.base
    held = [log.entry(each) for each in range(log.memory_index, log.last_index + 1)]
    assert log.memory_bytes == sum(entry_bytes(entry) for entry in held if entry is not None)


def test_the_boundary_counts_for_the_consistency_check() -> None:
    """R-02: an append right after a snapshot is checked against the snapshot's term."""
    log = log_of(3, boundary=(5, 2))
    assert log.matches(5, 2) and not log.matches(5, 1) and not log.matches(4, 2) and log.matches(6, 3)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [((2, 3), True), ((9, 2), False), ((3, 3), True), ((1, 3), False), ((1, 4), True), ((0, 0), False)],
)
def test_up_to_date_compares_term_before_length(candidate: tuple[int, int], expected: bool) -> None:
    """C-04 (5.4.1): the own log ends with (2, 3) as (index, term)."""
    assert log_of(1, 3).is_up_to_date(*candidate) is expected


def test_reading_gives_at_least_one_entry_whatever_its_size() -> None:
    """F-05: a limit below one entry must not stop replication."""
    log = Log()
    for index in range(1, 4):
        log.append(Entry(index, 1, EntryKind.COMMAND, bytes(100)))
    assert [entry.index for entry in log.read(1, 3, 1, 10) or ()] == [1]
    assert [entry.index for entry in log.read(1, 3, 264, 10) or ()] == [1, 2]
    assert [entry.index for entry in log.read(1, 3, 10_000, 2) or ()] == [1, 2]
    log.evict(2)
    assert log.read(2, 3, 1000, 10) is None and log.term(2) == 1


def test_gaps_and_falling_terms_are_refused_loudly() -> None:
    """S-07: a log is contiguous and its terms never fall."""
    for bad in (Entry(4, 2), Entry(2, 2), Entry(3, 1)):
        with pytest.raises(AssertionError):
            log_of(1, 2).append(bad)


N1 = Peer("n1")
CONFIGURATION = Configuration(voters=(N1,))


def recovered(**found: object) -> tuple[Log, History]:
    stored = Stored(hard_state=HardState(9), **found)  # type: ignore[arg-type]
    meta = stored.snapshot or SnapshotMeta(0, 0, CONFIGURATION)
    log, history = Log(meta.index, meta.term), History(meta.configuration_index, meta.configuration)
    recover(log, history, stored)
    return log, history


def entries(first: int, *terms: int) -> tuple[Entry, ...]:
    return tuple(Entry(index, term) for index, term in enumerate(terms, first))


@pytest.mark.parametrize(
    ("snapshot", "found", "expected"),
    [
        ((0, 0), entries(1, 1, 1, 2), (0, 3, 2)),
        ((2, 1), entries(1, 1, 1, 2), (2, 3, 2)),
        ((2, 1), entries(3, 2, 2), (2, 4, 2)),
        ((5, 2), entries(1, 1, 1, 2), (5, 5, 2)),  # the log ends before the snapshot
        ((2, 2), entries(1, 1, 1, 1), (2, 2, 2)),  # crash between the snapshot and the cut: the log contradicts it
    ],
)
def test_a_start_takes_what_follows_the_snapshot(
    snapshot: tuple[int, int], found: tuple[Entry, ...], expected: tuple[int, int, int]
) -> None:
    """D-07, D-09: log and snapshot may stand in any relation after a crash."""
    log, _ = recovered(snapshot=SnapshotMeta(*snapshot, CONFIGURATION), entries=found)
    assert (log.boundary_index, log.last_index, log.last_term) == expected


def test_a_start_may_leave_most_of_the_log_on_disk() -> None:
    """D-07, M-14: terms and configurations of the part on disk are told, only the tail is given."""
    other = Configuration(voters=(N1, Peer("n2")))
    log, history = recovered(
        snapshot=SnapshotMeta(2, 1, CONFIGURATION),
        runs=((1, 1), (4, 3)),
        configurations=((5, other),),
        entries=entries(7, 3, 4),
    )
    assert [log.term(index) for index in range(1, 10)] == [None, 1, 1, 3, 3, 3, 3, 4, None]
    assert log.entry(6) is None and log.entry(7) is not None and (history.index, history.current) == (5, other)
