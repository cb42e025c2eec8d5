from __future__ import annotations

import pytest

from arc.errors import InvalidRequest
from arc.query.service import QueryService
from arc.query.show import Describe, ShowDatabases, ShowTables, parse_show
from tests.query.conftest import Store, fetch, rows


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SHOW DATABASES", ShowDatabases()),
        ("-- hello\n/* there */ show databases ; ;", ShowDatabases()),
        ("SHOW TABLES;", ShowTables(None)),
        ("show tables from default", ShowTables("default")),
        ('SHOW MEASUREMENTS FROM "my-db";', ShowTables("my-db")),
        ("SHOW MEASUREMENTS IN my-db", ShowTables("my-db")),
        ("SHOW COLUMNS FROM db.cpu", Describe(("db", "cpu"))),
        ("DESCRIBE cpu", Describe(("cpu",))),
        ('DESC db."my.cpu"', Describe(("db", "my.cpu"))),
        ("DESCRIBE SELECT 1", None),
        ("DESCRIBE (SELECT 1)", None),
        ("SELECT 'SHOW DATABASES'", None),
        ("", None),
    ],
)
def test_show_statements_are_told_from_others(sql: str, expected: object) -> None:
    assert parse_show(sql) == expected


@pytest.mark.parametrize(
    "sql", ["SHOW", "SHOW TABLES FROM", "SHOW TABLES FROM a.b", "SHOW x", "DESCRIBE a.b.c", "DESC a b; c"]
)
def test_a_show_that_is_not_known_names_the_known_ones(sql: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_show(sql)


async def test_show_has_the_columns_that_arcs_clients_read(store: Store, service: QueryService) -> None:
    store.measurement("prod", "cpu", u="float")
    entry = store.file("prod", "cpu", [0], u=[1.0])
    store.measurement("prod", "mem", u="float")
    store.measurement("default", "x", u="float")
    assert await rows(service, "SHOW DATABASES") == [("default",), ("prod",)]
    tables = await fetch(service, "SHOW TABLES FROM prod")
    assert tables.schema.names == ["database", "table_name", "storage_path", "file_count", "total_size_mb"]
    megabytes = round(entry.size_bytes / (1 << 20), 3)
    assert await rows(service, "SHOW TABLES FROM prod") == [
        ("prod", "cpu", "prod/cpu", 1, megabytes),
        ("prod", "mem", "prod/mem", 0, 0.0),
    ]
    assert await rows(service, "SHOW MEASUREMENTS", "prod") == await rows(service, "SHOW TABLES FROM prod")
    assert [row[1] for row in await rows(service, "SHOW TABLES")] == ["x"]
    assert await rows(service, "SHOW TABLES", "not-there-yet") == []
    with pytest.raises(InvalidRequest, match="did you mean 'prod'"):
        await rows(service, "SHOW TABLES FROM prodd")


async def test_describe_has_duckdbs_shape_and_tells_tags_from_fields(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", f="float", host="tag", i="integer", u="unsigned", b="boolean", s="string")
    table = await fetch(service, "DESCRIBE default.cpu")
    assert table.schema.names == ["column_name", "column_type", "null", "key", "default", "extra"]
    assert [tuple(row.values())[:4] for row in table.to_pylist()] == [
        ("time", "TIMESTAMP WITH TIME ZONE", "NO", "time"),
        ("host", "VARCHAR", "YES", "tag"),
        ("f", "DOUBLE", "YES", ""),
        ("i", "BIGINT", "YES", ""),
        ("u", "UBIGINT", "YES", ""),
        ("b", "BOOLEAN", "YES", ""),
        ("s", "VARCHAR", "YES", ""),
    ]
    in_order = (await fetch(service, "SELECT * FROM cpu")).schema.names
    assert table.column("column_name").to_pylist() == in_order


async def test_estimate_counts_what_a_statement_would_return(service: QueryService) -> None:
    assert await service.estimate("SELECT * FROM range(1000) WHERE range % 3 = 0 ORDER BY 1 LIMIT 300;") == 300
    assert await service.estimate("SHOW DATABASES") == 0


async def test_history_is_bounded_and_newest_first(store: Store, service: QueryService) -> None:
    for number in range(3):
        await rows(service, f"SELECT {number}")
    recent = service.recent()
    assert [query.sql for query in recent] == ["SELECT 2", "SELECT 1", "SELECT 0"]
    assert len({query.id for query in recent}) == 3 and all(len(query.id) == 12 for query in recent)
    assert service.find(recent[0].id).row_count == 1
    statistics = service.statistics()
    assert (statistics.completed_total, statistics.rows_total, statistics.running) == (3, 3, 0)
