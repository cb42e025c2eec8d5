"""A file without the rows that match: the same order, columns and metadata, the same help for queries."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from arc.deletion import rewrite
from arc.errors import InvalidRequest
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from tests.compaction.rows import Row, flush, job_of, read, rows_of
from tests.compaction.test_merge import run as merged
from tests.fakes import MemoryDisk

ROWS: list[Row] = [(n, f"a{n % 3}", f"b{n % 5}" if n % 7 else None, n) for n in range(200)]


@dataclass(frozen=True)
class Multiples:
    """Rows whose value is a multiple of ``of``, or that ``fails``."""

    of: int
    fails: bool = False
    columns: tuple[str, ...] = ("v",)
    low_us: int | None = None
    high_us: int | None = None

    def matches(self, rows: pa.Table) -> np.ndarray:
        if self.fails:
            raise InvalidRequest("a value cannot be cast")
        values: np.ndarray = rows.column("v").to_numpy()
        return values % self.of == 0


def merged_file(disk: MemoryDisk) -> FileEntry:
    """As compaction leaves it, in several row groups."""
    sources = [file for n in range(2) for file in flush(disk, ROWS[n::2], n + 1)]
    (part,) = merged(disk, job_of(*sources)).parts
    path = sources[0].path.replace(".parquet", "@daily.0003.parquet")
    disk.make_dirs(f"{DATA}/{path.rpartition('/')[0]}")
    disk.install([(part.draft, f"{DATA}/{path}")])
    return replace(
        sources[0], path=path, sha256=part.sha256, size_bytes=part.size_bytes, rows=part.rows, last_sequence=2
    )


@pytest.mark.parametrize("group_rows", [7, 64, 1000])
def test_a_merged_file_stays_sorted_and_says_so(monkeypatch: pytest.MonkeyPatch, group_rows: int) -> None:
    monkeypatch.setattr(rewrite, "ROW_GROUP_ROWS", group_rows)
    disk = MemoryDisk()
    entry = merged_file(disk)
    disk.make_dirs("deletion")
    assert rewrite.count(disk, entry, Multiples(4)) == 50
    part = rewrite.rewrite(disk, entry, Multiples(4), "deletion/1", node="n9", epoch=77)
    assert part is not None
    old, new = read(disk, f"{DATA}/{entry.path}"), read(disk, "deletion/1")
    assert new.to_pylist() == [row for row in old.to_pylist() if row["v"] % 4]
    assert (part.rows, part.min_time_us, part.max_time_us) == (150, 1, 199)
    file = pq.ParquetFile(pa.BufferReader(disk.read("deletion/1")))
    before = pq.ParquetFile(pa.BufferReader(disk.read(f"{DATA}/{entry.path}")))
    assert file.schema_arrow.equals(before.schema_arrow)
    ours = {b"arc.writer": b"n9", b"arc.epoch": b"77"}
    told, was = (dict(each.metadata.metadata) for each in (file, before))
    assert {key: told[key] for key in was if key != b"ARROW:schema"} == {
        key: ours.get(key, value) for key, value in was.items() if key != b"ARROW:schema"
    }
    groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
    assert [group.num_rows for group in groups[:-1]] == [group_rows] * (len(groups) - 1)
    for group in groups:
        assert group.sorting_columns == before.metadata.row_group(0).sorting_columns
        told_of = {group.column(n).path_in_schema for n in range(group.num_columns) if group.column(n).is_stats_set}
        assert told_of == {"time", "a", "b"}


def test_nothing_is_written_where_all_rows_go() -> None:
    disk = MemoryDisk()
    (entry,) = flush(disk, ROWS, 1)
    disk.make_dirs("deletion")
    assert rewrite.rewrite(disk, entry, Multiples(1), "deletion/1", node="n9", epoch=77) is None
    assert disk.walk("deletion") == []


@pytest.mark.parametrize("condition", [Multiples(2, fails=True)])
def test_what_fails_leaves_no_draft(condition: Multiples) -> None:
    disk = MemoryDisk()
    (entry,) = flush(disk, ROWS, 1)
    disk.make_dirs("deletion")
    with pytest.raises(InvalidRequest):
        rewrite.rewrite(disk, entry, condition, "deletion/1", node="n9", epoch=77)
    assert disk.walk("deletion") == []
    assert len(rows_of(disk, [f"{DATA}/{entry.path}"])) == len(ROWS)


def test_a_column_that_the_catalog_does_not_know_stays() -> None:
    """A file is not made poorer by a delete."""
    disk = MemoryDisk()
    (entry,) = flush(disk, ROWS, 1, tags=("a",))
    disk.make_dirs("deletion")
    assert rewrite.rewrite(disk, entry, Multiples(2), "deletion/1", node="n9", epoch=77) is not None
    assert read(disk, "deletion/1").column_names == ["time", "a", "v"]
    assert pc.all(pc.equal(pc.bit_wise_and(read(disk, "deletion/1")["v"], 1), 1)).as_py()
