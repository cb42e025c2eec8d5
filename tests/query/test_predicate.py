"""Conditions of a delete: parsed, fenced in, and of SQL's three truth values only TRUE matches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from arc.catalog.schemas import MeasurementSchema
from arc.catalog.values import ColumnSchema
from arc.errors import InvalidRequest
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.functions import DENIED, DENIED_PREFIXES
from arc.query.predicate import MOMENTS, UNREPEATABLE, Conditions

NOW_US = 1_767_225_600_000_000
"""2026-01-01."""

HOUR_US = 3_600_000_000
SCHEMA = MeasurementSchema(
    {
        name: ColumnSchema(name, kind)
        for name, kind in {
            "host": "tag", "usage": "float", "Count": "integer", "ok": "boolean", "note": "string", "size": "unsigned",
        }.items()
    },
    1,
)  # fmt: skip
ROWS = pa.table(
    {
        "time": pa.array([NOW_US - n * HOUR_US for n in range(5)], pa.timestamp("us", tz="UTC")),
        "host": pa.array(["a", "b", None, "a", "c"]).dictionary_encode(),
        "usage": pa.array([1.0, 2.0, 3.0, None, 5.0]),
        "Count": pa.array([1, None, 3, 4, 5]),
        "note": pa.array(["x", "y'z", None, "", "\u00fc"]),
    }
)


@pytest.fixture
def conditions(tmp_path: Path) -> Iterator[Conditions]:
    engine = Engine(QueryConfig(), roots=[str(tmp_path)], native_path=lambda path: path)
    yield Conditions(engine)
    engine.close()


def rows_of(conditions: Conditions, where: str) -> list[int]:
    condition = conditions.parse(where, "cpu", SCHEMA, NOW_US)
    return [n for n, hit in enumerate(condition.matches(ROWS)) if hit]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ("host = 'a'", [0, 3]),
        ("NOT (host = 'a')", [1, 4]),
        ("host <> 'a'", [1, 4]),
        ("host IS NULL", [2]),
        ("host IN ('a', NULL)", [0, 3]),
        ("host NOT IN ('a', NULL)", []),
        ("usage > 1 OR host = 'a'", [0, 1, 2, 3, 4]),
        ("usage > 1 AND host = 'a'", []),
        ("NOT (usage > 1 AND host = 'a')", [0, 1, 4]),
        ("cpu.usage >= 3", [2, 4]),
        ("COUNT = 3", [2]),
        ('"Count" BETWEEN 3 AND 4', [2, 3]),
        ("ok", []),
        ("ok IS NULL", [0, 1, 2, 3, 4]),
        ("note = 'y''z'", [1]),
        ("note = '\u00fc'", [4]),
        ("length(note) = 0", [3]),
        ("1=1", [0, 1, 2, 3, 4]),
        ("TRUE", [0, 1, 2, 3, 4]),
        ("1", [0, 1, 2, 3, 4]),
        ("NULL", []),
        ("false", []),
        ("time < TIMESTAMPTZ '2025-12-31 21:30:00Z'", [3, 4]),
        ("time < now() - INTERVAL '2 hours'", [3, 4]),
        ("time >= current_timestamp", [0]),
        ("time < current_date - INTERVAL 3 HOUR", [4]),
        ("host = 'a' -- ) OR 1=1", [0, 3]),
        ("host = 'a' /* ) */", [0, 3]),
        ("host = 'a') OR (host = 'b'", [0, 1, 3]),
        ("CASE WHEN usage > 2 THEN host = 'c' END", [4]),
    ],
)
def test_rows_match_where_the_condition_is_true(conditions: Conditions, where: str, rows: list[int]) -> None:
    assert rows_of(conditions, where) == rows


@pytest.mark.parametrize(
    "where",
    [
        "", "  ", "WHERE host = 'a'", "host = 'a';", "host = 'a'; DROP TABLE x", "host =", "host = 'a", "(host = 'a'",
        "host = 'a') GROUP BY (host", "host = 'a') ORDER BY (host", "host = 'a') LIMIT (1", "1=1) UNION SELECT (1",
        "1=1) UNION ALL SELECT 1 FROM arc_rows WHERE (1=1", "1=1) HAVING (1=1", "1=1) QUALIFY (1=1",
        "host IN (SELECT 'a')", "EXISTS (SELECT 1)", "EXISTS (FROM read_parquet('x'))", "usage > (SELECT 1)",
        "nowhere = 1", "other.host = 'a'", "plant.cpu.host = 'a'", "arc_row_number = 1", "rowid = 1",
        "COLUMNS(*) > 1", "#1 > 1", "host = $1", "host = ?", "count(*) > 1", "max(usage) > 1",
        "row_number() OVER () > 1", "read_text('/etc/passwd') = 'x'", "getenv('HOME') = 'x'", "random() < 0.5",
        "uuid() = host", "current_setting('threads') = '1'", "main.length(note) = 1", "age(time) > INTERVAL 1 DAY",
        "current_time > TIME '10:00:00'", "localtimestamp > TIMESTAMP '2026-01-01'", "usage = 'abc'",
        "list_filter([1], x -> x > 0) = [1]", "host = 'a\0'", "1=1) FOR (UPDATE", "host + 1 = usage::DATE",
    ],
)  # fmt: skip
def test_what_is_no_condition_on_these_rows_is_refused(conditions: Conditions, where: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        rows_of(conditions, where)
    assert "arc_row" not in caught.value.message or "arc_row" in where, caught.value.message


@pytest.mark.parametrize(
    ("where", "low", "high"),
    [
        ("host = 'a'", None, None),
        ("time >= '2026-01-01T00:00:00Z'", NOW_US, None),
        ("time < '2026-01-01T00:00:00Z' AND host = 'a'", None, NOW_US),
        ("time < now()", None, NOW_US),
        ("time < '2026-01-01T00:00:00Z' OR host = 'a'", None, None),
        ("time BETWEEN '2025-12-31T23:00:00Z' AND '2026-01-01T00:00:00Z'", NOW_US - HOUR_US, NOW_US),
    ],
)
def test_the_time_of_rows_that_can_match_is_bounded(
    conditions: Conditions, where: str, low: int | None, high: int | None
) -> None:
    found = conditions.parse(where, "cpu", SCHEMA, NOW_US)
    assert (found.low_us, found.high_us) == (low, high)


def test_only_the_columns_that_are_named_are_read(conditions: Conditions) -> None:
    assert conditions.parse("HOST = 'a' AND time > now()", "cpu", SCHEMA, NOW_US).columns == ("host", "time")
    assert conditions.parse("1=1", "cpu", SCHEMA, NOW_US).columns == ()


def test_a_column_that_was_widened_since_is_compared_as_what_it_is_now(conditions: Conditions) -> None:
    condition = conditions.parse("usage > 1.5", "cpu", SCHEMA, NOW_US)
    narrow = pa.table({"time": ROWS["time"], "usage": pa.array([1, 2, 3, None, 1])})
    assert condition.matches(narrow).tolist() == [False, True, True, False, False]


def test_a_value_that_cannot_be_cast_is_the_callers_mistake(conditions: Conditions) -> None:
    condition = conditions.parse("CAST(note AS INTEGER) = 1", "cpu", SCHEMA, NOW_US)
    with pytest.raises(InvalidRequest):
        condition.matches(ROWS)


def test_every_function_of_the_engine_that_is_not_repeatable_is_known() -> None:
    """A new version may bring more: look at them, and put them where they belong."""
    found = duckdb.sql("SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability = 'VOLATILE'").fetchall()
    volatile = {name for (name,) in found}
    known = UNREPEATABLE | DENIED | MOMENTS.keys()
    assert {name for name in volatile - known if not name.startswith(DENIED_PREFIXES)} == set()
