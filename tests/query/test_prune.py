"""A pruned answer equals the unpruned one, whatever the predicate; and simple predicates do prune."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.snapshot import TableRange
from arc.query.statement import Statement, analyse
from tests.query.conftest import Store

HOUR = 3_600_000_000
START = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
NOW = START + 6 * HOUR


def parsed(engine: Engine, store: Store, sql: str) -> Statement:
    return analyse(engine.parse(sql), database="default", catalog=store.catalog, token="arc_t", now_us=NOW)  # type: ignore[arg-type]


def bounds(engine: Engine, store: Store, where: str, source: str = "cpu") -> list[tuple[int | None, int | None]]:
    statement = parsed(engine, store, f"SELECT * FROM {source} WHERE {where}")
    return [(use.min_us, use.max_us) for use in statement.uses]


@pytest.fixture
def two(store: Store) -> Store:
    for name in ("cpu", "mem"):
        store.measurement("default", name, host="tag", n="integer")
    return store


@pytest.mark.parametrize(
    ("where", "low", "high"),
    [
        ("time >= '2026-01-01'", START, None),
        ("time > '2026-01-01T00:00:00Z'", START, None),
        ("'2026-01-01T02:00:00+02:00' <= time", START, None),
        ("time < TIMESTAMP '2026-01-01 01:00:00'", None, START + HOUR),
        ("time = TIMESTAMPTZ '2026-01-01 02:00:00+02'", START, START),
        ("TIME BETWEEN '2026-01-01' AND DATE '2026-01-02'", START, START + 24 * HOUR),
        ("time IN ('2026-01-01', '2026-01-01T05:00:00Z')", START, START + 5 * HOUR),
        ("time >= '2026-01-01' AND n > 3 AND (time < '2026-01-02' AND host = 'a')", START, START + 24 * HOUR),
        ("cpu.time >= '2026-01-01T00:00:00.123456789Z'", START + 123_456, None),
        ("time >= now() - INTERVAL '1 hour'", NOW - HOUR - 24 * HOUR, None),
        ("time >= now() - INTERVAL 5 MINUTE", NOW - HOUR // 12 - 24 * HOUR, None),
        ("time >= TIMESTAMPTZ '2026-01-01' + INTERVAL '2 hours'", START + 2 * HOUR, None),
        ("time >= to_timestamp(1767225600)", START - 1000, None),
    ],
)
def test_a_plain_comparison_with_a_known_moment_bounds_the_range(
    two: Store, engine: Engine, where: str, low: int | None, high: int | None
) -> None:
    assert bounds(engine, two, where) == [(low, high)]


@pytest.mark.parametrize(
    "where",
    [
        "time >= '2026-01-01' OR n = 1",
        "NOT time >= '2026-01-01'",
        "time NOT BETWEEN '2026-01-01' AND '2026-01-02'",
        "time + INTERVAL '1 hour' >= '2026-01-01'",
        "date_trunc('day', time) = '2026-01-01'",
        "uptime >= '2026-01-01'",
        "time >= TIMESTAMP '2026-01-01 00:00:00+02:00'",
        "time >= 'yesterday'",
        "time >= (SELECT max(time) FROM (SELECT 1 AS time))",
        "time >= now() - INTERVAL '1 month'",
        "time IS DISTINCT FROM '2026-01-01'",
        "time <> '2026-01-01'",
        "(time >= '2026-01-01') IS NULL",
        "time >= CASE WHEN n > 1 THEN '2026-01-01' ELSE '1999-01-01' END",
    ],
)
def test_anything_else_bounds_nothing(two: Store, engine: Engine, where: str) -> None:
    assert bounds(engine, two, where) == [(None, None)]


@pytest.mark.parametrize(
    ("source", "where", "expected"),
    [
        ("cpu JOIN mem USING (host)", "cpu.time >= '2026-01-01'", [True, False]),
        ("cpu JOIN mem USING (host)", "time >= '2026-01-01'", [False, False]),
        ("cpu LEFT JOIN mem USING (host)", "mem.time >= '2026-01-01'", [False, False]),
        ("cpu LEFT JOIN mem USING (host)", "cpu.time >= '2026-01-01'", [True, False]),
        ("cpu RIGHT JOIN mem USING (host)", "mem.time >= '2026-01-01'", [False, True]),
        ("cpu FULL JOIN mem USING (host)", "cpu.time >= '2026-01-01'", [False, False]),
        ("cpu ASOF JOIN mem ON cpu.time >= mem.time", "mem.time <= '2026-01-01'", [False, False]),
        ("cpu POSITIONAL JOIN mem", "cpu.time >= '2026-01-01'", [False, False]),
        ("cpu, mem", "cpu.time >= '2026-01-01' AND mem.time < '2026-01-01'", [True, True]),
        ("cpu a, cpu b", "b.time >= '2026-01-01'", [False, True]),
        ("cpu TABLESAMPLE 2 ROWS", "time >= '2026-01-01'", [False]),
        ("cpu AS c(time2, time)", "time >= '2026-01-01'", [False]),
    ],
)
def test_a_join_bounds_only_the_side_whose_rows_can_be_missed(
    two: Store, engine: Engine, source: str, where: str, expected: list[bool]
) -> None:
    statement = parsed(engine, two, f"SELECT 1 FROM {source} WHERE {where}")
    # References are found in no promised order; the relation's table and alias tell them apart.
    bounded = {use.relation: (use.min_us, use.max_us) != (None, None) for use in statement.uses}
    with_names = [bounded[name] for name in _in_order_of_text(engine, statement)]
    assert with_names == expected


def _in_order_of_text(engine: Engine, statement: Statement) -> list[str]:
    found: list[str] = []

    def walk(tree: object) -> None:
        if isinstance(tree, dict):
            if tree.get("type") == "BASE_TABLE":
                found.append(str(tree["table_name"]))
            for key in ("node", "from_table", "left", "right"):
                walk(tree.get(key))

    walk(statement.tree)
    return found


def test_a_select_alias_named_time_stops_pruning(two: Store, engine: Engine) -> None:
    statement = parsed(engine, two, "SELECT time + INTERVAL '1 day' AS time FROM cpu WHERE time >= '2026-01-01'")
    assert statement.ranges == (TableRange("default", "cpu"),)


# --- pruned equals unpruned


def _moments() -> st.SearchStrategy[str]:
    hours = st.integers(-2, 10)
    offsets = st.sampled_from(["", "Z", "+02:00", "-05:30", "+00"])

    def literal(hour: int, offset: str, form: str) -> str:
        text = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M:%S") + offset
        return form.format(text)

    forms = st.sampled_from(["'{}'", "TIMESTAMPTZ '{}'", "TIMESTAMP '{}'", "CAST('{}' AS TIMESTAMPTZ)"])
    shifts = st.sampled_from(["", " + INTERVAL '1 hour'", " - INTERVAL 90 MINUTE", " - INTERVAL '1 day'"])
    typed = st.builds(lambda h, o, s: literal(h, o, "TIMESTAMPTZ '{}'") + s, hours, offsets, shifts)
    epochs = st.builds(lambda h: f"to_timestamp({(START + h * HOUR) // 1_000_000})", hours)
    return st.one_of(st.builds(literal, hours, offsets, forms), typed, epochs)


def _predicates() -> st.SearchStrategy[str]:
    column = st.sampled_from(["time", "cpu.time", "time", "time + INTERVAL '1 hour'"])
    operator = st.sampled_from(["=", "<", "<=", ">", ">=", "<>"])
    leaf = st.one_of(
        st.builds("{} {} {}".format, column, operator, _moments()),
        st.builds("{} {} {}".format, _moments(), operator, column),
        st.builds("{} BETWEEN {} AND {}".format, column, _moments(), _moments()),
        st.builds("{} IN ({}, {})".format, column, _moments(), _moments()),
        st.sampled_from(["n > 2", "host = 'a'", "n IS NULL", "true"]),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds("({} AND {})".format, inner, inner),
            st.builds("({} OR {})".format, inner, inner),
            st.builds("NOT ({})".format, inner),
        ),
        max_leaves=5,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Engine, duckdb.DuckDBPyConnection]:
    root: Path = tmp_path_factory.mktemp("prune")
    (root / "files").mkdir()
    store = Store(root)
    store.measurement("default", "cpu", host="tag", n="integer")
    plain = duckdb.connect()
    plain.execute("SET TimeZone='UTC'")
    plain.execute("CREATE TABLE cpu (time TIMESTAMPTZ, host VARCHAR, n BIGINT)")
    for hour in range(-1, 9):
        times = [START + hour * HOUR, START + hour * HOUR + HOUR // 2, START + (hour + 1) * HOUR - 1]
        batch = store.batch("default", "cpu", times, host=["a", "b", None], n=[hour, None, 3])
        store.file_of("default", "cpu", batch)
        plain.register("batch", batch)
        plain.execute("INSERT INTO cpu SELECT time, host, n FROM batch")
    engine = Engine(QueryConfig(threads=1), roots=[str(root / "files")], native_path=store.native_path)
    return store, engine, plain


@given(predicate=_predicates())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pruned_answer_equals_the_unpruned_one(
    world: tuple[Store, Engine, duckdb.DuckDBPyConnection], predicate: str
) -> None:
    store, engine, plain = world
    sql = f"SELECT epoch_us(time), host, n FROM cpu WHERE {predicate} ORDER BY 1, 2"
    expected = plain.execute(sql).fetchall()
    statement = parsed(engine, store, sql)
    snapshot = store.take(statement.ranges)
    run = engine.run(statement, snapshot, token="arc_t")
    try:
        run.open()
        found = []
        while (batch := run.next()) is not None:
            found += list(zip(*(column.to_pylist() for column in batch.columns), strict=True))
    finally:
        run.close()
        snapshot.release()
    assert found == expected
    assert store.pins.held == {}
