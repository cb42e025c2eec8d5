"""Merged files hold every row once, in order, however little memory there is; or of each key the row written last."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.catalog.schemas import MeasurementSchema
from arc.catalog.values import ColumnSchema
from arc.compaction.merge import Limits, Merged, Progress, limits_of, merge
from arc.compaction.tiers import Job
from arc.compaction.windows import Stopped
from arc.errors import Corrupt, NotFound
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from tests.compaction.rows import Row, batch_of, data_paths, flush, job_of, read, rows_of
from tests.fakes import MemoryDisk

CPU = MeasurementSchema(
    {"a": ColumnSchema("a", "tag"), "b": ColumnSchema("b", "tag"), "v": ColumnSchema("v", "integer")}, 1
)
TINY = Limits(runs_max=2, window_rows=2, row_group_rows=3)
WIDE = Limits(runs_max=64, window_rows=1000, row_group_rows=1000)


def run(
    disk: MemoryDisk,
    job: Job,
    *,
    dedup: bool = False,
    target: int = 1 << 30,
    limits: Limits | None = WIDE,
    known: MeasurementSchema | None = CPU,
    stop: object = None,
    folder: str = "compaction/1",
) -> Merged:
    return merge(
        job,
        disk=disk,
        folder=folder,
        known=known,
        node="n2",
        epoch=9,
        number=1,
        deduplicate=dedup,
        target_bytes=target,
        memory_bytes=64 << 20,
        stop=stop or (lambda: False),
        progress=Progress(),
        limits=limits,
    )  # type: ignore[arg-type]


def outcome(disk: MemoryDisk, merged: Merged) -> list[Row]:
    return rows_of(disk, [part.draft for part in merged.parts])


def key(row: Row) -> tuple[bytes, bytes, int]:
    a, b = (b"" if tag is None else b"\x01" + tag.encode() for tag in row[1:3])
    return a, b, row[0]


def install(disk: MemoryDisk, merged: Merged, job: Job, name: str) -> tuple[FileEntry, ...]:
    """The parts as files of the manifest, to be merged again."""
    made = []
    for n, part in enumerate(merged.parts):
        path = f"metrics/cpu/1970/01/01/00/0000000009-{int(name):014d}-n2@late.{n:04d}.parquet"
        disk.install([(part.draft, f"{DATA}/{path}")])
        made.append(
            replace(
                job.sources[0],
                path=path,
                sha256=part.sha256,
                size_bytes=part.size_bytes,
                rows=part.rows,
                first_sequence=min(f.first_sequence for f in job.sources),
                last_sequence=max(f.last_sequence for f in job.sources),
            )
        )
    return tuple(made)


TAG = st.sampled_from([None, "", "x", "y", "ü"])
ROWS = st.lists(st.tuples(st.integers(0, 5), TAG, TAG), min_size=1, max_size=12)
FLUSHES = st.lists(st.tuples(ROWS, st.sampled_from([("a", "b"), ("b", "a")])), min_size=2, max_size=6)


def flushed(
    disk: MemoryDisk, flushes: list[tuple[list[tuple[int, str | None, str | None]], tuple[str, str]]]
) -> tuple[list[FileEntry], list[Row]]:
    """One file each, with tags in either order; values say when a row was written."""
    entries, rows, number = [], list[Row](), 0
    for n, (keys, tags) in enumerate(flushes):
        group = [(*k, number + place) for place, k in enumerate(keys)]
        number += len(group)
        rows += group
        entries += flush(disk, group, n + 1, tags=tags)
    return entries, rows


@settings(max_examples=30, deadline=None)
@given(FLUSHES, st.sampled_from([TINY, WIDE]), st.sampled_from([1, 1 << 30]))
def test_every_row_comes_out_once_sorted_and_equal_ones_in_the_order_of_the_log(flushes, limits, target) -> None:  # type: ignore[no-untyped-def]
    disk = MemoryDisk()
    entries, rows = flushed(disk, flushes)
    merged = run(disk, job_of(*entries), limits=limits, target=target)
    assert outcome(disk, merged) == sorted(rows, key=lambda row: (key(row), row[3]))
    assert disk.walk("compaction") == [part.draft for part in merged.parts]
    for part in merged.parts:
        body, times = disk.read(part.draft), [row[0] for row in rows_of(disk, [part.draft])]
        assert (part.sha256, part.size_bytes) == (hashlib.sha256(body).hexdigest(), len(body))
        assert (part.rows, part.min_time_us, part.max_time_us) == (len(times), min(times), max(times))
    keys = [{key(row) for row in rows_of(disk, [part.draft])} for part in merged.parts]
    assert len(set().union(*keys)) == sum(map(len, keys)), "a key is in two files"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.large_base_example])
@given(FLUSHES, st.data())
def test_the_row_written_last_wins_however_merges_nest(flushes, data) -> None:  # type: ignore[no-untyped-def]
    disk = MemoryDisk()
    entries, rows = flushed(disk, flushes)
    expected = sorted({key(row): row for row in rows}.values(), key=key)
    chains: list[tuple[FileEntry, ...]] = [(entry,) for entry in entries]
    number = 100
    while True:
        low = data.draw(st.integers(0, max(len(chains) - 2, 0)))
        high = data.draw(st.integers(low + 2, len(chains))) if len(chains) > 2 else len(chains)
        is_last = (low, high) == (0, len(chains))
        if is_last:
            low, high = 0, len(chains)
        number += 1
        job = job_of(*chains[low:high])
        dedup = is_last or data.draw(st.booleans())
        target = data.draw(st.sampled_from([1, 1 << 30]))
        merged = run(disk, job, dedup=dedup, target=target, limits=data.draw(st.sampled_from([TINY, WIDE])))
        if is_last:
            assert outcome(disk, merged) == expected
            assert merged.rows_in >= merged.rows_out == len(expected)
            return
        chains[low:high] = [install(disk, merged, job, str(number))]


def test_more_rows_of_one_key_than_memory_holds_stream_through() -> None:
    disk = MemoryDisk()
    entries = [
        *flush(disk, [(1, "x", "x", n) for n in range(50)], 1),
        *flush(disk, [(1, "x", "x", 99), (2, "x", "x", 7)], 2),
    ]
    assert [row[3] for row in outcome(disk, run(disk, job_of(*entries), limits=TINY))] == [*range(50), 99, 7]
    assert [row[3] for row in outcome(disk, run(disk, job_of(*entries), limits=TINY, dedup=True, folder="d"))] == [
        99,
        7,
    ]


def test_columns_are_the_union_with_the_types_of_the_catalog() -> None:
    disk = MemoryDisk()
    other = pa.RecordBatch.from_arrays(
        [pa.array([5], UTC_TYPE), pa.array(["z"]).dictionary_encode(), pa.array([True]), pa.array(["t"])],
        names=["time", "c", "ok", "text"],
    )
    job = job_of(*flush(disk, [(1, "x", "y", 2)], 1), *flush(disk, other, 2))
    columns = {"b": "tag", "v": "float", "a": "tag", "c": "tag", "ok": "boolean", "text": "string", "unused": "float"}
    known = MeasurementSchema({name: ColumnSchema(name, kind) for name, kind in columns.items()}, 1)
    merged = run(disk, job, known=known)
    table = read(disk, merged.parts[0].draft)
    assert table.column_names == ["time", "b", "a", "c", "v", "ok", "text"] == list(merged.columns)
    assert table.schema.field("v").type == pa.float64() and pa.types.is_dictionary(table.schema.field("c").type)
    first, second = table.to_pylist()
    assert (first["b"], first["c"], first["v"], first["ok"]) == (None, "z", None, True)
    assert (second["b"], second["a"], second["v"], second["text"]) == ("y", "x", 2.0, None)


def test_footers_tell_what_the_file_is_and_queries_can_prune() -> None:
    disk = MemoryDisk()
    job = job_of(
        *flush(disk, [(1, "x", "y", 2)], 4), *flush(disk, [(2, "x", None, 2), (3, "z", None, 2)], 5, tags=("a",))
    )
    merged = run(disk, job, limits=replace(WIDE, row_group_rows=2))
    file = pq.ParquetFile(pa.BufferReader(disk.read(merged.parts[0].draft)))
    told = {k.decode(): v.decode() for k, v in file.metadata.metadata.items() if k.startswith(b"arc.")}
    assert told == {
        "arc.tags": "a,b",
        "arc.writer": "n2",
        "arc.epoch": "9",
        "arc.wal_first": "4",
        "arc.wal_last": "5",
        "arc.tier": "daily",
        "arc.job": "1",
        "arc.sources": "2",
        "arc.deduplicated": "false",
    }
    group = file.metadata.row_group(0)
    by_name = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert (by_name["a"].statistics.min, by_name["a"].statistics.max) == ("x", "x")
    assert by_name["v"].compression == "ZSTD" and by_name["time"].statistics is not None
    assert file.metadata.num_row_groups == 2 and len(group.sorting_columns) == 3


def test_a_file_that_is_not_sorted_though_it_looks_so_is_sorted_first() -> None:
    disk = MemoryDisk()
    (good,) = flush(disk, [(4, "x", "x", 1)], 1)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([batch_of([(t, "x", "x", t) for t in (5, 3, 9, 1, 1, 7)])]), sink)
    body = sink.getvalue().to_pybytes()
    bad = replace(
        good,
        path=good.path.replace("001-n1", "002-n1"),
        sha256=hashlib.sha256(body).hexdigest(),
        size_bytes=len(body),
        rows=6,
    )
    disk.write_durable(f"{DATA}/{bad.path}", body)
    for limits in (TINY, WIDE):
        merged = run(disk, job_of(good, bad), limits=limits)
        assert [row[0] for row in outcome(disk, merged)] == [1, 1, 3, 4, 5, 7, 9]


def two(disk: MemoryDisk) -> list[FileEntry]:
    return [
        *flush(disk, [(n, "x", "y", n) for n in range(9)], 1),
        *flush(disk, [(n, "x", "z", n) for n in range(9)], 2),
    ]


def test_a_source_with_a_rotten_byte_is_told_and_leaves_nothing_behind() -> None:
    """World seed 700314: the first that was noticed of one was a name in its footer, and it ended the process."""
    disk = MemoryDisk()
    entries = two(disk)
    path, spoiled = data_paths(entries)[1], 0
    for offset in range(0, entries[1].size_bytes, 5):
        disk.flip(path, offset, 0xFF)
        with pytest.raises(Corrupt, match=r"cpu/1970") as caught:
            run(disk, job_of(*entries), limits=TINY)
        assert caught.value.path == entries[1].path
        assert disk.walk("compaction") == []
        disk.flip(path, offset, 0xFF)
        spoiled += 1
    assert spoiled > 200


def test_a_source_that_is_not_here_is_told() -> None:
    disk = MemoryDisk()
    entries = two(disk)
    disk.remove(data_paths(entries)[0])
    with pytest.raises(NotFound, match="not on this disk"):
        run(disk, job_of(*entries))


def test_a_full_disk_at_any_write_leaves_nothing_behind() -> None:
    disk = MemoryDisk()
    entries = two(disk)
    wrote = disk.writes
    run(disk, job_of(*entries), limits=TINY)
    for path in disk.walk("compaction"):
        disk.remove(path)
    for after in range(disk.writes - wrote):
        disk.fail_next_write(OSError(errno.ENOSPC, "full"), after=after)
        with pytest.raises(OSError, match="full") as caught:
            run(disk, job_of(*entries), limits=TINY)
        assert caught.value.errno == errno.ENOSPC
        assert disk.walk("compaction") == []


def test_stop_between_any_two_pieces_ends_it_and_leaves_nothing_behind() -> None:
    disk = MemoryDisk()
    entries = two(disk)
    asked = [0]

    def at(limit: int) -> bool:
        asked[0] += 1
        return asked[0] > limit

    run(disk, job_of(*entries), limits=TINY, stop=lambda: at(1 << 30))
    total = asked[0]
    assert total > 5
    for path in disk.walk("compaction"):
        disk.remove(path)
    for limit in range(total):
        asked[0] = 0
        with pytest.raises(Stopped):
            run(disk, job_of(*entries), limits=TINY, stop=lambda limit=limit: at(limit))
        assert disk.walk("compaction") == []


def test_memory_bounds_windows_and_runs_not_the_size_of_files() -> None:
    assert limits_of(512 << 20, 10, 200) == Limits(runs_max=58, window_rows=26843)
    assert limits_of(32 << 20, 100, 1000) == Limits(runs_max=2, window_rows=1677)
    assert limits_of(32 << 20, 2, 100_000).window_rows == 1024


UTC_TYPE = pa.timestamp("us", tz="UTC")
