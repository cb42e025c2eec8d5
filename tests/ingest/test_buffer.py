"""The buffer shows a row from its admission until its file is in the catalog, once."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.ingest.buffer import Buffer, Key
from arc.ingest.columns import TIME_TYPE

KEY = Key("db", "cpu")


def batch(first: int, rows: int, column: str = "v") -> pa.RecordBatch:
    times = pa.array(range(first, first + rows), pa.int64()).cast(TIME_TYPE)
    tags = pa.array([f"h{first % 7}"] * rows).dictionary_encode()
    return pa.RecordBatch.from_arrays([times, tags, pa.array([float(first)] * rows)], names=["time", "host", column])


def add(buffer: Buffer, sequence: int, rows: pa.RecordBatch, now: float) -> None:
    buffer.add(KEY, sequence, rows, now, rows.nbytes)


def times(buffer: Buffer, after: int) -> list[int]:
    return [t for b in buffer.snapshot("db", "cpu", after) for t in b.column("time").cast(pa.int64()).to_pylist()]


def test_snapshot_leaves_out_what_the_flush_mark_has_passed() -> None:
    buffer = Buffer()
    add(buffer, 1, batch(0, 3), 0.0)
    sealed = buffer.seal(KEY)
    add(buffer, 5, batch(10, 2), 1.0)
    assert times(buffer, 0) == [0, 1, 2, 10, 11]
    assert times(buffer, sealed.last) == [10, 11]
    buffer.forget(KEY, sealed.last)
    assert times(buffer, sealed.last) == [10, 11]
    assert buffer.oldest_sequence() == 5


def test_small_batches_are_merged_and_differing_columns_become_null() -> None:
    buffer = Buffer()
    for n in range(200):
        add(buffer, n + 1, batch(n, 1, "a" if n % 2 else "b"), 0.0)
    parts = buffer.snapshot("db", "cpu", 0)
    assert len(parts) < 70
    assert times(buffer, 0) == list(range(200))
    assert {name for part in parts for name in part.schema.names} == {"time", "host", "a", "b"}
    assert parts[0].column("a").null_count == 32


def test_merging_never_crosses_a_seal() -> None:
    buffer = Buffer()
    for n in range(60):
        add(buffer, n + 1, batch(n, 1), 0.0)
    sealed = buffer.seal(KEY)
    for n in range(60, 200):
        add(buffer, n + 1, batch(n, 1), 0.0)
    assert sealed.last == 60
    assert times(buffer, 60) == list(range(60, 200))


def test_taken_back_seal_is_flushed_with_what_came_since() -> None:
    buffer = Buffer()
    add(buffer, 1, batch(0, 3), 0.0)
    buffer.seal(KEY)
    add(buffer, 2, batch(3, 3), 0.0)
    buffer.unseal(KEY)
    (lane,) = buffer.lanes()
    assert (lane.rows, lane.first, lane.is_flushing) == (6, 1, False)
    assert buffer.seal(KEY).rows == 6


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["add", "seal", "commit", "fail"]), max_size=300))
def test_every_row_is_seen_exactly_once_at_every_moment(steps: list[str]) -> None:
    """Against a model: what the catalog's files hold plus the snapshot above its mark is everything ever added."""
    buffer, sequence, mark = Buffer(), 0, 0
    in_files: list[int] = []
    sealed = None
    for step in steps:
        if step == "add":
            sequence += 1
            add(buffer, sequence, batch(sequence, 1), 0.0)
        elif step == "seal" and sealed is None and any(lane.rows for lane in buffer.lanes()):
            sealed = buffer.seal(KEY)
        elif step == "commit" and sealed is not None:
            mark = sealed.last
            in_files += [t for b in sealed.batches for t in b.column("time").cast(pa.int64()).to_pylist()]
            assert sorted(in_files + times(buffer, mark)) == list(range(1, sequence + 1))
            buffer.forget(KEY, mark)
            sealed = None
        elif step == "fail" and sealed is not None:
            buffer.unseal(KEY)
            sealed = None
        assert sorted(in_files + times(buffer, mark)) == list(range(1, sequence + 1))
        statistics = buffer.statistics()
        assert statistics.records_buffered == sequence - len(in_files)
        assert statistics.size_bytes == sum(b.nbytes for b in buffer.snapshot("db", "cpu", mark))


def test_nobody_sees_and_no_flush_takes_what_lies_above_the_bounds() -> None:
    buffer = Buffer()
    for n in range(100):  # merged in the middle, so that the bounds lie inside a chunk
        add(buffer, n + 1, batch(n, 1), 0.0)
    buffer.visible = 40
    assert times(buffer, 10) == list(range(10, 40))
    (facts,) = buffer.lanes(through=40)
    assert (facts.rows, facts.first) == (40, 1)
    sealed = buffer.seal(KEY, 40)
    assert (sealed.rows, sealed.last) == (40, 40)
    (facts,) = buffer.lanes(through=40)
    assert (facts.rows, facts.is_flushing) == (0, True)
    buffer.forget(KEY, 40)
    buffer.visible = 100
    assert times(buffer, 40) == list(range(40, 100))
    assert buffer.floor("db", "cpu") == 40


def test_rows_that_are_in_files_elsewhere_are_kept_and_never_flushed_again() -> None:
    buffer = Buffer()
    for n in range(100):
        add(buffer, n + 1, batch(n, 1), 0.0)
    buffer.note_mark(KEY, 30)
    assert times(buffer, 0) == list(range(100))
    assert buffer.oldest_sequence() == 31
    assert buffer.kept() == [KEY]
    assert buffer.seal(KEY).first == 31
    assert buffer.evict_kept(0) == [KEY]
    assert (buffer.floor("db", "cpu"), buffer.kept()) == (30, [])
    assert times(buffer, 30) == list(range(30, 100))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.lists(st.tuples(st.sampled_from("cnf"), st.integers(0, 220)), max_size=8))
def test_cuts_marks_and_releases_fall_between_any_two_records(count: int, steps: list[tuple[str, int]]) -> None:
    buffer, low, high = Buffer(), 0, count
    for n in range(count):
        add(buffer, n + 1, batch(n, 1 if n % 70 else 300), 0.0)
    mark = 0
    for step, at in steps:
        if step == "c" and at > max(mark, low):
            buffer.cut(at + 1)
            high = min(high, at)
        elif step == "n" and at <= high:
            buffer.note_mark(KEY, at)
            mark = max(mark, at)
        elif step == "f" and at <= high:
            buffer.forget(KEY, at)
            low, mark = max(low, at), max(mark, at)
    expected = [t for n in range(low, high) for t in range(n, n + (1 if n % 70 else 300))]
    assert times(buffer, low) == expected
    statistics = buffer.statistics()
    assert statistics.records_buffered == len(expected)
    assert buffer.oldest_sequence() == (max(low, mark) + 1 if high > max(low, mark) else None)
