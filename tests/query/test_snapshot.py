"""A query sees one moment: rows of files and buffer, each exactly once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arc.catalog.commands import PutPolicy
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.policies import DELETED_THROUGH
from arc.errors import Unavailable
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker, TableRange, merge_ranges
from tests.catalog.facts import declare, do, file, ready, register
from tests.query.conftest import Store, fetch, rows

HOUR = 3_600_000_000


async def test_a_flush_in_the_middle_of_a_query_changes_nothing_for_it(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", n="integer")
    store.file("default", "cpu", [0], n=[1])
    store.buffered("default", "cpu", [1], n=[2])
    async with service.open("SELECT n FROM cpu ORDER BY n") as answer:
        # The flush: rows move from the buffer into a file, the old file is compacted away.
        store.file("default", "cpu", [1], n=[2])
        store.buffer.clear()
        found = [value async for batch in answer.batches() for value in batch.column(0).to_pylist()]
    assert found == [1, 2]
    assert await rows(service, "SELECT n FROM cpu ORDER BY n") == [(1,), (2,)]


async def test_files_of_a_query_are_pinned_until_it_ends(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", n="integer")
    entry = store.file("default", "cpu", [0], n=[1])
    other = store.file("default", "cpu", [HOUR], n=[1])
    async with service.open("SELECT n FROM cpu WHERE time < '1970-01-01T00:30:00Z'"):
        assert store.pins.held == {entry.path: 1}
    async with service.open("SELECT a.n FROM cpu a, cpu b"):
        assert store.pins.held == {entry.path: 1, other.path: 1}
    assert store.pins.held == {}


async def test_a_widened_column_is_double_in_every_file_and_batch(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", v="integer")
    store.file("default", "cpu", [0], v=[1])
    store.buffered("default", "cpu", [2], v=[3])
    store.measurement("default", "cpu", v="float")
    store.file("default", "cpu", [1], v=[2.5])
    store.buffered("default", "cpu", [3], v=[4.5])
    table = await fetch(service, "SELECT v FROM cpu ORDER BY time")
    assert str(table.schema.field("v").type) == "double"
    assert table.column("v").to_pylist() == [1.0, 2.5, 3.0, 4.5]


async def test_columns_that_came_later_are_null_before(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", host="tag", a="integer")
    store.file("default", "cpu", [0], host=["x"], a=[1])
    store.buffered("default", "cpu", [2], a=[3])
    kinds = {"b": "string", "c": "boolean", "d": "unsigned", "e": "float"}
    store.measurement("default", "cpu", host="tag", region="tag", a="integer", **kinds)
    store.file("default", "cpu", [1], b=["t"])
    store.buffered("default", "cpu", [3], region=["eu"], c=[True], d=[2**63])
    table = await fetch(service, "SELECT * FROM cpu ORDER BY time")
    assert [str(field.type) for field in table.schema] == [
        "timestamp[us, tz=Etc/UTC]", "string", "string", "int64", "string", "bool", "uint64", "double",
    ]  # fmt: skip
    assert table.schema.names == ["time", "host", "region", "a", "b", "c", "d", "e"]
    assert [list(row.values())[1:] for row in table.to_pylist()] == [
        ["x", None, 1, None, None, None, None],
        [None, None, None, "t", None, None, None],
        [None, None, 3, None, None, None, None],
        [None, "eu", None, None, True, 2**63, None],
    ]


async def test_a_measurement_without_rows_is_empty_with_its_columns(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", host="tag", u="float")
    table = await fetch(service, "SELECT * FROM cpu")
    assert table.schema.names == ["time", "host", "u"] and table.num_rows == 0
    assert await rows(service, "SELECT count(*), max(u) FROM cpu") == [(0, None)]


@pytest.mark.parametrize(
    ("sql", "columns", "found"),
    [
        ("SELECT count(*) FROM cpu", ["count_star()"], [(4,)]),
        ("SELECT count(*) AS n FROM default.cpu;", ["n"], [(4,)]),
        ("SELECT count() FROM cpu", ["count_star()"], [(4,)]),
        ("SELECT count(*) FROM cpu WHERE u > 1", ["count_star()"], [(3,)]),
        ("SELECT count(*) FROM cpu HAVING count(*) > 4", ["count_star()"], []),
        ("SELECT count(*) FROM cpu LIMIT 0", ["count_star()"], []),
        ("SELECT count(*) FILTER (WHERE u > 1) FROM cpu", None, [(3,)]),
        ("SELECT count(u) FROM cpu", None, [(4,)]),
        ("SELECT count(*) FROM cpu GROUP BY u % 2 ORDER BY 1", None, [(2,), (2,)]),
        ("WITH cpu AS (SELECT 1) SELECT count(*) FROM cpu", None, [(1,)]),
        ("SELECT count(*) FROM cpu a, cpu b", None, [(16,)]),
        ("SELECT count(*) FROM cpu TABLESAMPLE 1 ROWS", None, [(1,)]),
        ("SELECT count(*) OVER () FROM cpu LIMIT 1", None, [(4,)]),
    ],
)
async def test_counting_rows_gives_what_the_engine_would(
    store: Store, service: QueryService, sql: str, columns: list[str] | None, found: list[tuple[int]]
) -> None:
    store.measurement("default", "cpu", u="float")
    store.file("default", "cpu", [0, 1], u=[1.0, 2.0])
    store.buffered("default", "cpu", [2, 3], u=[3.0, 4.0])
    table = await fetch(service, sql)
    assert columns is None or table.schema.names == columns
    assert str(table.schema.field(0).type) == "int64"
    assert [tuple(row.values()) for row in table.to_pylist()] == found


async def test_a_bare_count_opens_no_file(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", u="float")
    entry = store.file("default", "cpu", [0, 1], u=[1.0, 2.0])
    store.lose(entry)
    assert await rows(service, "SELECT count(*) FROM cpu") == [(2,)]


async def test_names_resolve_by_header_by_database_and_across_databases(store: Store, service: QueryService) -> None:
    for database, value in (("default", 1), ("prod", 2), ("my-db", 3)):
        store.measurement(database, "my.cpu-load", u="integer")
        store.file(database, "my.cpu-load", [0], u=[value])
    assert await rows(service, 'SELECT u FROM "my.cpu-load"') == [(1,)]
    assert await rows(service, 'SELECT u FROM "my.cpu-load"', "prod") == [(2,)]
    assert await rows(service, 'SELECT "my.cpu-load".u FROM "my-db"."my.cpu-load"', "prod") == [(3,)]
    joined = 'SELECT a.u, b.u FROM prod."my.cpu-load" a JOIN "my-db"."MY.CPU-LOAD" b ON a.time = b.time'
    assert await rows(service, joined) == [(2, 3)]


def test_ranges_of_one_table_are_covered_by_one() -> None:
    asked = [TableRange("d", "m", 1, 5), TableRange("d", "m", 3, 9), TableRange("d", "n", None, 2)]
    assert merge_ranges(asked) == (TableRange("d", "m", 1, 9), TableRange("d", "n", None, 2))
    assert merge_ranges([*asked, TableRange("d", "m", None, None)])[0] == TableRange("d", "m")


async def test_files_whose_columns_are_not_told_are_read_all_the_same(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", host="tag", a="integer", b="float")
    store.file("default", "cpu", [0], host=["x"], a=[1])
    store.file("default", "cpu", [1], b=[2.5])
    store.catalog.entries = [replace(entry, columns=()) for entry in store.catalog.entries]
    assert await rows(service, "SELECT host, a, b FROM cpu ORDER BY time") == [("x", 1, None), (None, None, 2.5)]
    assert await rows(service, "SELECT b FROM cpu WHERE time = '1970-01-01'") == [(None,)]


# ---- files that are not here


class Here:
    """What is on this node: files by path, and the buffer's bounds."""

    visible = 1 << 62

    def __init__(self, catalog: Catalog, *, floor: int, here: set[str]) -> None:
        self.catalog = catalog
        self._floor = floor
        self.here = here
        self.take = SnapshotTaker(
            lambda: self.catalog, lambda *_: (), coverage=self, is_readable=lambda path: path in self.here
        )

    def floor(self, database: str, measurement: str) -> int:
        return self._floor


def two_measurements() -> Catalog:
    """``cpu`` has a file in hour 0 (records 1 to 5) and one in hour 9 (records 6 to 10), ``mem`` an imported one."""
    machine = ready()
    do(machine, declare(measurement="mem"))
    old, new = file("old", first=1, last=5), file("new", hour=9, first=6, last=10)
    do(machine, register(old, new, file("mem", measurement="mem"), mark=10))
    return machine.catalog


OLD, NEW, MEM = (entry.path for entry in two_measurements().all_files())
ALL = TableRange("metrics", "cpu")


@pytest.mark.parametrize(
    ("floor", "here", "asked", "is_refused"),
    [
        (10, {OLD, NEW, MEM}, ALL, False),
        (10, {NEW, MEM}, ALL, True),
        (10, {NEW, MEM}, TableRange("metrics", "cpu", 9 * HOUR, None), False),
        (10, {NEW, MEM}, TableRange("metrics", "cpu", None, 9 * HOUR), True),
        (5, {NEW, MEM}, ALL, True),
        (5, {OLD, MEM}, ALL, False),
        (0, {MEM}, ALL, False),
        (10, {OLD, NEW}, ALL, False),
        (10, {OLD, NEW}, TableRange("metrics", "mem"), True),
        (0, {OLD, NEW}, TableRange("metrics", "mem"), True),
    ],
)
def test_a_query_is_refused_where_neither_files_nor_buffer_have_its_range_and_only_there(
    floor: int, here: set[str], asked: TableRange, is_refused: bool
) -> None:
    """DURABILITY 6: never silently short, and no measurement pays for another. ``floor``: the buffer has all above."""
    node = Here(two_measurements(), floor=floor, here=here)
    if is_refused:
        with pytest.raises(Unavailable) as caught:
            node.take([asked])
        assert (caught.value.code, caught.value.status) == ("files_missing", 503)
    else:
        node.take([asked])


@pytest.mark.parametrize(
    ("through", "here", "is_refused"),
    [
        (0, {MEM}, False),
        (3, {MEM}, True),
        (5, {MEM}, False),
        (5, {OLD, MEM}, False),
        (7, {OLD, MEM}, True),
        (10, {MEM}, True),
        (10, {OLD, NEW, MEM}, False),
        (99, {OLD, NEW, MEM}, False),
    ],
)
def test_a_buffer_does_not_answer_for_files_that_rows_were_deleted_from(
    through: int, here: set[str], is_refused: bool
) -> None:
    """The buffer still has the rows of a file that another one has replaced, if that one did not come yet: records up
    to ``through`` are answered from files or not at all. Above it nothing changes.
    """
    machine = ClusterFSM(two_measurements())
    do(machine, PutPolicy(kind=DELETED_THROUGH, name="metrics", body=str(through), at_us=1))
    do(machine, PutPolicy(kind=DELETED_THROUGH, name="other", body="99", at_us=1))
    node = Here(machine.catalog, floor=0, here=here)
    asked = TableRange("metrics", "cpu", 9 * HOUR, None) if through == 5 and here == {MEM} else ALL
    if is_refused:
        with pytest.raises(Unavailable):
            node.take([asked])
    else:
        node.take([asked])
