"""Rows to files: by the UTC hour of their own time, in (tags, time) order, with nothing lost on the way."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.storage import parquet, paths
from arc.storage.paths import HOUR_US

UTC = pa.timestamp("us", tz="UTC")


def batch(rows: list[tuple[int, str | None, float | None]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [
            pa.array([row[0] for row in rows], pa.int64()).cast(UTC),
            pa.array([row[1] for row in rows], pa.utf8()).dictionary_encode(),
            pa.array([row[2] for row in rows], pa.float64()),
        ],
        names=["time", "host", "v"],
    )


def read(file: parquet.EncodedFile) -> pa.Table:
    return pq.read_table(pa.BufferReader(file.data))


ROWS = st.lists(
    st.tuples(
        st.integers(-3 * HOUR_US, 3 * HOUR_US), st.sampled_from([None, "", "b", "a", "ü"]), st.floats(allow_nan=False)
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_files_hold_every_row_once_in_its_hour_sorted_by_tag_and_time(
    groups: list[list[tuple[int, str, float]]],
) -> None:
    files = parquet.encode_hours(tuple(batch(rows) for rows in groups), {"k": "v"})
    found = []
    for file in files:
        table = read(file)
        times = table.column("time").cast(pa.int64()).to_pylist()
        assert {paths.hour_of(t) for t in times} == {file.hour}
        assert (min(times), max(times), len(times)) == (file.min_time_us, file.max_time_us, file.rows)
        hosts = table.column("host").to_pylist()
        order = [(host is not None, (host or "").encode(), t) for host, t in zip(hosts, times, strict=True)]
        assert order == sorted(order)
        found += zip(times, hosts, table.column("v").to_pylist(), strict=True)
    assert [file.hour for file in files] == sorted({file.hour for file in files})
    expected = [row for rows in groups for row in rows]
    assert sorted(found, key=repr) == sorted(expected, key=repr)


def test_batches_with_other_columns_and_widened_integers_fit_one_file() -> None:
    old = pa.RecordBatch.from_arrays([pa.array([1], UTC), pa.array([7])], names=["time", "n"])
    new = pa.RecordBatch.from_arrays([pa.array([2], UTC), pa.array([0.5]), pa.array(["x"])], names=["time", "n", "s"])
    (file,) = parquet.encode_hours((old, new), {})
    assert read(file).to_pylist() == [
        {"time": pa.scalar(1, UTC).as_py(), "n": 7.0, "s": None},
        {"time": pa.scalar(2, UTC).as_py(), "n": 0.5, "s": "x"},
    ]
    assert file.columns == ("time", "n", "s")


def test_many_tags_of_many_values_do_not_overflow_the_packed_order() -> None:
    count = 3000
    tags = [
        pa.array([f"{(n * (7919 + 2 * k)) % (count - k)}" for n in range(count)]).dictionary_encode() for k in range(6)
    ]
    times = pa.array([n * 5_000_000 for n in range(count)], UTC)
    rows = pa.RecordBatch.from_arrays([times, *tags], names=["time", *"abcdef"])
    files = parquet.encode_hours((rows,), {})
    assert sum(file.rows for file in files) == count
    table = read(files[0])
    keys = list(zip(*(table.column(n).to_pylist() for n in "abcdef"), strict=True))
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("time_us", "folder"),
    [
        (0, "db/cpu/1970/01/01/00"),
        (-1, "db/cpu/1969/12/31/23"),
        (1_700_000_000_000_000, "db/cpu/2023/11/14/22"),
        (HOUR_US - 1, "db/cpu/1970/01/01/00"),
        (HOUR_US, "db/cpu/1970/01/01/01"),
    ],
)
def test_hour_folder(time_us: int, folder: str) -> None:
    assert paths.hour_folder("db", "cpu", paths.hour_of(time_us)) == folder


@given(st.text(min_size=1, max_size=40))
def test_quoted_names_are_one_safe_folder_and_come_back(name: str) -> None:
    try:
        quoted = paths.quote_part(name)
    except UnicodeEncodeError:
        return  # lone surrogates never pass the name rules
    assert "/" not in quoted and not quoted.startswith(".") and quoted.isascii()
    assert paths.unquote_part(quoted) == name
