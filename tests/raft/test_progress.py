"""One follower as the leader sees it, and what of the log is on disk."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from arc.raft.durability import Durability
from arc.raft.progress import Pace, Progress
from arc.raft.types import Configuration, Peer, SnapshotMeta

N2 = Peer("n2")


def replicating(match: int = 5) -> Progress:
    progress = Progress(N2, match + 1, 0.0)
    progress.accept(match)
    progress.replicate()
    return progress


def test_a_probe_waits_for_its_answer() -> None:
    """R-09, R-11, R-12: at most one append while the place is unknown."""
    progress = Progress(N2, 6, 0.0)
    assert progress.is_open(9, 9)
    progress.sent(8, 100)
    assert not progress.is_open(9, 9) and progress.next == 6
    assert progress.reject(5, 3) and progress.next == 3 and progress.is_open(9, 9)


def test_replication_runs_ahead_within_the_window() -> None:
    """F-01, F-03: count and bytes; acknowledgements free from the front, old ones free nothing."""
    progress = replicating()
    progress.sent(6, 10)
    progress.sent(8, 10)
    assert (progress.next, progress.in_flight, progress.in_flight_bytes) == (9, 2, 20)
    assert not progress.is_open(2, 100) and not progress.is_open(9, 20) and progress.is_open(3, 21)
    assert not progress.accept(5) and progress.in_flight == 2
    assert progress.accept(7) and progress.in_flight == 1 and progress.match == 7
    progress.free_first()
    assert (progress.in_flight, progress.in_flight_bytes) == (0, 0)


def test_an_append_without_entries_takes_no_place() -> None:
    """F-01, F-05."""
    progress = replicating()
    progress.sent(5, 0)
    assert progress.in_flight == 0 and progress.next == 6


def test_a_late_rejection_changes_nothing() -> None:
    """R-07, R-12, K-34: neither below match nor for another probe than the last."""
    progress = replicating()
    assert not progress.reject(5, 1) and progress.pace is Pace.REPLICATE
    progress.sent(9, 10)
    assert progress.reject(9, 7) and progress.pace is Pace.PROBE and progress.next == 7
    assert not progress.reject(9, 6) and progress.next == 7
    assert progress.reject(6, 1) and progress.next == 6, "never at or below match"


def test_a_snapshot_silences_until_it_is_in() -> None:
    """S-04, R-09."""
    progress = Progress(N2, 6, 0.0)
    progress.snapshot(SnapshotMeta(20, 2, Configuration()), 1.0)
    assert not progress.is_open(9, 9) and not progress.reject(5, 1)
    progress.accept(20)
    progress.replicate()
    assert (progress.next, progress.match, progress.transfer) == (21, 20, None)


def test_an_abandoned_snapshot_is_followed_by_a_probe_after_it() -> None:
    """S-04: it may have arrived; then nothing is sent twice, else the answer says so."""
    progress = Progress(N2, 6, 0.0)
    progress.snapshot(SnapshotMeta(20, 2, Configuration()), 1.0)
    progress.probe()
    assert (progress.pace, progress.next, progress.transfer) == (Pace.PROBE, 21, None)


actions = st.lists(
    st.tuples(st.sampled_from(["sent", "accept", "reject", "probe", "replicate", "free"]), st.integers(0, 20)),
    max_size=40,
)


@given(actions)
@settings(max_examples=150, deadline=None)
def test_match_never_falls_and_stays_below_next(steps: list[tuple[str, int]]) -> None:
    """I-14, R-12, R-08: whatever is answered, in whatever order."""
    progress, last = Progress(N2, 10, 0.0), 20
    for what, number in steps:
        before = progress.match
        if what == "sent" and progress.is_open(4, 100):
            progress.sent(min(progress.next - 1 + number % 4, last), 7)
        elif what == "accept":
            progress.accept(number)
        elif what == "reject":
            progress.reject(number, number // 2 + 1)
        elif what == "probe":
            progress.probe()
        elif what == "replicate":
            progress.replicate()
        elif what == "free":
            progress.free_first()
        assert before <= progress.match < progress.next
        assert progress.in_flight <= 4 and progress.in_flight_bytes == 7 * progress.in_flight


def test_a_completion_says_nothing_about_what_was_written_over() -> None:
    """D-02, D-03, K-49, K-50: index 5 under terms A, B and A again."""
    disk = Durability(4)
    first = disk.issue(5, 6, has_hard_state=False, now=0.0)
    disk.cut(5)
    second = disk.issue(5, 5, has_hard_state=True, now=0.0)
    disk.cut(5)
    third = disk.issue(5, 7, has_hard_state=True, now=0.0)
    disk.persisted(first)
    assert disk.durable_index == 4
    disk.persisted(second)
    assert disk.durable_index == 4 and disk.covering(5) == third
    disk.persisted(third)
    assert disk.durable_index == 7 and disk.covering(7) == 0


def test_what_waits_for_a_write_is_told_which() -> None:
    """D-03, D-08: nothing for what is on disk, the id for what is under way, the next id for what is not yet asked."""
    disk = Durability(2)
    one, two = (disk.issue(index, index, has_hard_state=False, now=1.0 * index) for index in (3, 4))
    assert [disk.covering(index) for index in (2, 3, 4, 5)] == [0, one, two, two + 1]
    assert disk.oldest_issued_at == 3.0
    disk.persisted(two)
    assert disk.oldest_issued_at is None and disk.durable_index == 4


def test_a_refused_write_loses_its_entries_and_those_after_it() -> None:
    """D-11, K-56."""
    disk = Durability(2)
    disk.issue(3, 4, has_hard_state=False, now=0.0)
    second = disk.issue(5, 6, has_hard_state=True, now=0.0)
    disk.issue(7, 7, has_hard_state=False, now=0.0)
    assert disk.refuse(second, 0) == 5
    disk.persisted(3)
    assert disk.durable_index == 4


@given(st.lists(st.tuples(st.sampled_from(["write", "cut", "sync"]), st.integers(1, 6)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_the_durable_index_is_what_a_disk_would_hold(steps: list[tuple[str, int]]) -> None:
    """D-03, D-04, K-49: a twin that stamps every entry with the write that carries it."""
    disk, last, stamp = Durability(0), 0, {}
    unstamped = 1
    for what, amount in steps:
        if what == "write":
            last += amount
            write = disk.issue(unstamped, last, has_hard_state=False, now=0.0)
            stamp.update(dict.fromkeys(range(unstamped, last + 1), write))
            unstamped = last + 1
        elif what == "cut" and last:
            last = max(last - amount, 0)
            disk.cut(last + 1)
            stamp = {index: write for index, write in stamp.items() if index <= last}
            unstamped = min(unstamped, last + 1)
        elif what == "sync" and disk.next_id > 1:
            disk.persisted(min(disk.persisted_id + amount, disk.next_id - 1))
        held = [index for index in range(1, last + 1) if stamp[index] <= disk.persisted_id]
        assert disk.durable_index == max(held, default=0)


def test_what_a_snapshot_has_replaced_is_not_lost_with_its_write_and_not_durable_by_it() -> None:
    """D-11, swarm seed 406859: entries 4..6 wait for a full disk, a snapshot of 6 comes, then 7 is written."""
    disk = Durability(3)
    entries = disk.issue(4, 6, has_hard_state=False, now=0.0)
    installed = disk.issue(7, 6, has_hard_state=False, now=0.0, snapshot_index=6)
    later = disk.issue(7, 7, has_hard_state=False, now=0.0)
    assert disk.refuse(entries, 6) == 7, "only what lies above the snapshot is gone"
    disk.persisted(entries)
    assert disk.durable_index == 3, "the refused write made nothing durable"
    disk.persisted(installed)
    assert disk.durable_index == 6
    disk.persisted(later)
    assert disk.durable_index == 6
