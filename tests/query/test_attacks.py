"""Statements that must not run: a catalogue. Every one is refused by the check alone, before the sandbox has to."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from arc.errors import InvalidRequest
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.service import QueryService
from arc.query.show import answer_show
from arc.query.statement import analyse
from tests.query.conftest import Store, make_service, rows

SECRET = "the-secret-is-out"

ATTACKS = [
    # other statements
    "DROP TABLE cpu",
    "CREATE TABLE x (a int)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO m() AS TABLE SELECT * FROM read_text('{file}')",
    "CREATE OR REPLACE TEMP MACRO f(a) AS getenv(a)",
    "CREATE SECRET s (TYPE S3, KEY_ID 'a', SECRET 'b')",
    "CREATE SEQUENCE s",
    "CREATE TYPE t AS ENUM ('a')",
    "CREATE SCHEMA s",
    "INSERT INTO cpu VALUES (now(), 'a', 1, 1)",
    "UPDATE cpu SET u = 1",
    "DELETE FROM cpu",
    "TRUNCATE cpu",
    "MERGE INTO cpu USING mem ON (true) WHEN MATCHED THEN DELETE",
    "ALTER TABLE cpu ADD COLUMN x int",
    "ATTACH '{file}' AS a",
    "DETACH memory",
    "USE memory",
    "COPY cpu TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT csv)",
    "COPY cpu FROM '{file}'",
    "EXPORT DATABASE '{out}'",
    "IMPORT DATABASE '{out}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL httpfs FROM community",
    "UPDATE EXTENSIONS",
    "SET threads = 1",
    "SET memory_limit = '100GB'",
    "SET enable_external_access = true",
    "SET VARIABLE x = 1",
    "RESET threads",
    "PRAGMA database_list",
    "PRAGMA table_info('cpu')",
    "PRAGMA enable_profiling",
    "CALL duckdb_settings()",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "BEGIN TRANSACTION",
    "COMMIT",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "COMMENT ON TABLE cpu IS 'x'",
    # several statements, however they are hidden
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE cpu",
    "SELECT 1;/**/;COPY cpu TO '{out}'",
    "SELECT 1 -- ;\n; DROP TABLE cpu",
    "/* ; */ SET threads = 1",
    "-- SELECT 1\nSET threads = 1",
    "/* SELECT 1 */ /* -- */ PRAGMA version",
    "SELECT ';'; DROP TABLE cpu",
    "SELECT $$;$$; DROP TABLE cpu",
    "EXPLAIN DROP TABLE cpu",
    "EXPLAIN ANALYZE COPY cpu TO '{out}'",
    "EXPLAIN ANALYZE INSERT INTO cpu SELECT * FROM cpu",
    "EXPLAIN EXPLAIN ANALYZE DELETE FROM cpu",
    "EXPLAIN (FORMAT json) COPY cpu TO '{out}'",
    "EXPLAIN SELECT 1; DROP TABLE cpu",
    "DESCRIBE SELECT * FROM read_text('{file}')",
    "SUMMARIZE SELECT * FROM read_text('{file}')",
    # writing inside a WITH
    "WITH x AS (INSERT INTO cpu SELECT * FROM cpu RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM cpu RETURNING *) SELECT 1",
    "WITH x AS (UPDATE cpu SET u = 1 RETURNING *) SELECT 1",
    "WITH x AS (COPY cpu TO '{out}') SELECT 1",
    # files by function
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM READ_TEXT('{file}')",
    "SELECT * FROM \"read_text\"('{file}')",
    "SELECT * FROM system.main.read_text('{file}')",
    "SELECT * FROM main.read_text('{file}')",
    'SELECT * FROM "system"."main"."read_csv"(\'{file}\')',
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv_auto('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_json_objects_auto('{file}')",
    "SELECT * FROM read_ndjson('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_scan('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM parquet_schema('{file}')",
    "SELECT * FROM parquet_kv_metadata('{file}')",
    "SELECT * FROM parquet_full_metadata('{file}')",
    "SELECT * FROM read_duckdb('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM python_arrow_scan(1, 2, 3)",
    "SELECT * FROM seq_scan('cpu')",
    "SELECT * FROM cpu, LATERAL read_text('{file}')",
    "SELECT * FROM (SELECT * FROM read_text('{file}'))",
    "WITH x AS (SELECT * FROM read_text('{file}')) SELECT * FROM x",
    "WITH RECURSIVE x AS (SELECT 1 a UNION ALL SELECT a FROM x, read_text('{file}')) SELECT * FROM x",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM cpu WHERE host IN (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM cpu WHERE EXISTS (FROM read_text('{file}'))",
    "SELECT * FROM cpu ORDER BY (SELECT content FROM read_text('{file}'))",
    "SELECT * FROM cpu LIMIT (SELECT length(content) FROM read_text('{file}'))",
    "SELECT 1 UNION ALL SELECT content FROM read_text('{file}')",
    "SELECT 1 EXCEPT (SELECT content FROM read_text('{file}'))",
    "VALUES ((SELECT content FROM read_text('{file}')))",
    "SELECT sum(u) FILTER (WHERE EXISTS (FROM read_text('{file}'))) FROM cpu",
    "SELECT sum(u) OVER (ORDER BY (SELECT content FROM read_text('{file}'))) FROM cpu",
    "SELECT list_transform([1], lambda x: (SELECT content FROM read_text('{file}')))",
    "SELECT CASE WHEN true THEN (SELECT content FROM read_text('{file}')) END",
    "SELECT * FROM cpu GROUP BY ALL HAVING (SELECT true FROM read_text('{file}'))",
    "SELECT * FROM cpu QUALIFY (SELECT true FROM read_text('{file}'))",
    "SELECT * FROM cpu JOIN mem ON (SELECT true FROM read_text('{file}'))",
    "SELECT * FROM unnest((SELECT [content] FROM read_text('{file}')))",
    "SELECT * FROM range((SELECT 3 FROM read_text('{file}')))",
    "SELECT * REPLACE ((SELECT content FROM read_text('{file}')) AS host) FROM cpu",
    "SELECT COLUMNS(x -> (SELECT true FROM read_text('{file}'))) FROM cpu",
    "SELECT * FROM cpu PIVOT (sum((SELECT 1 FROM read_text('{file}'))) FOR host IN ('a'))",
    "SELECT * FROM (DESCRIBE SELECT * FROM read_text('{file}'))",
    "FROM read_text('{file}')",
    "FROM read_text('{file}') SELECT content",
    "TABLE read_text",
    # files as tables
    "SELECT * FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM '{file}' AS cpu",
    "SELECT * FROM cpu, '{file}'",
    "FROM '{file}'",
    "SELECT * FROM cpu JOIN '{file}' ON true",
    "SELECT * FROM 'https://example.org/x.parquet'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    'SELECT * FROM "memory"."main"."{file}"',
    'WITH "{file}" AS (SELECT 1) SELECT * FROM (SELECT 1) a, main."{file}"',
    'SELECT * FROM (WITH "{file}" AS (SELECT 1) SELECT 1), "{file}"',
    'WITH a AS (SELECT * FROM "{file}"), "{file}" AS (SELECT 1) SELECT * FROM a',
    # the engine's own tables
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM pragma_table_info('cpu')",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM system.information_schema.columns",
    "SELECT * FROM show_databases()",
    "SELECT * FROM (SHOW ALL TABLES)",
    "SELECT * FROM (SHOW TABLES)",
    "SELECT * FROM (SHOW DATABASES)",
    "SHOW ALL TABLES",
    "SHOW memory_limit",
    "DESCRIBE duckdb_settings",
    "DESCRIBE '{file}'",
    # functions that look out of the query or act
    "SELECT getenv('HOME')",
    "SELECT GetEnv('HOME')",
    "SELECT \"getenv\"('HOME')",
    "SELECT main.getenv('HOME')",
    "SELECT system.main.current_setting('home_directory')",
    "SELECT current_setting('allowed_directories')",
    "SELECT 'allowed_directories'.current_setting()",
    "SELECT max(current_setting('threads')) FROM cpu",
    "SELECT list_transform(['threads'], lambda x: current_setting(x))",
    "SELECT * FROM cpu WHERE current_setting('threads') = '1'",
    "SELECT getvariable('x')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('cpu')",
    "SELECT json_serialize_plan('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT nextval('s')",
    "SELECT write_log('x')",
    "SELECT pg_sleep(100)",
    "SELECT sleep_ms(100000)",
    "SELECT version()",
    "SELECT current_query()",
    "SELECT current_schemas(true)",
    "SELECT current_database()",
    "SELECT pg_get_viewdef(1)",
    "SELECT setseed(0.5)",
    "SELECT which_secret('s3://x', 's3')",
    # text tricks
    "SEL/**/ECT 1",
    "SELECT 1\x00; DROP TABLE cpu",
    "SELECT \ud800",
    "SELECT ?",
    "SELECT $1",
    "SELECT $name",
    "",
    ";",
    "-- nothing",
    "SELECT " + "(" * 10_000 + "1" + ")" * 10_000,
    "SELECT * FROM " + "(SELECT * FROM " * 3_000 + "cpu" + ")" * 3_000,
    "SELECT 1" + " UNION ALL SELECT 1" * 1_000,
    "SELECT '" + "x" * 300_000 + "'",
]


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("attacks")
    (root / "files").mkdir()
    store = Store(root)
    store.measurement("default", "cpu", host="tag", u="float", n="integer")
    store.measurement("default", "mem", host="tag", u="float")
    store.file("default", "cpu", [0], host=["a"], u=[1.0], n=[1])
    (store.root / "secret.csv").write_text(SECRET)
    (store.root / "files" / "secret.csv").write_text(SECRET)
    return store


@pytest.fixture(scope="module")
def engine(victim: Store) -> Iterator[Engine]:
    """One for all: an attack that changed it would show in the statements behind it."""
    engine = Engine(QueryConfig(threads=2), roots=[str(victim.root / "files")], native_path=victim.native_path)
    yield engine
    engine.close()


@pytest.fixture
def service(victim: Store, engine: Engine) -> QueryService:
    return make_service(victim, engine)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack[:60].encode("ascii", "replace").decode())
def test_an_attack_is_refused_before_it_reaches_the_engine(victim: Store, engine: Engine, attack: str) -> None:
    # A file inside the folder that the sandbox allows: only the check stands before it.
    sql = attack.replace("{file}", str(victim.root / "files" / "secret.csv")).replace("{out}", str(victim.root / "out"))
    with pytest.raises(InvalidRequest) as caught:
        parsed = engine.parse(sql)
        assert parsed.show is None or _refused_show(sql), parsed.show
        if parsed.show is None:
            analyse(parsed, database="default", catalog=victim.catalog, token="arc_t", now_us=0)  # type: ignore[arg-type]
        else:
            answer_show(parsed.show, catalog=victim.catalog, database="default")  # type: ignore[arg-type]
    assert SECRET not in caught.value.message
    assert not (victim.root / "out").exists()


def _refused_show(sql: str) -> bool:
    return sql.startswith("DESCRIBE")


SANDBOXED = [
    "SELECT * FROM read_text('{outside}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '{outside}'",
    "COPY (SELECT 1) TO '{out}'",
    "ATTACH '{out}' AS a",
    "INSTALL httpfs",
    "LOAD '{outside}'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET memory_limit = '100GB'",
    "SET lock_configuration = false",
    "RESET allowed_directories",
    "SELECT * FROM local_python_variable",
]


@pytest.mark.parametrize("statement", SANDBOXED)
def test_the_sandbox_holds_where_the_check_to_fail(victim: Store, engine: Engine, statement: str) -> None:
    local_python_variable = duckdb.connect().sql("SELECT 1").to_arrow_table()
    assert local_python_variable is not None
    sql = statement.replace("{outside}", str(victim.root / "secret.csv")).replace("{out}", str(victim.root / "out"))
    cursor = engine.cursor()
    with pytest.raises(duckdb.Error):
        cursor.execute(sql).fetchall()
    assert not (victim.root / "out").exists()


HARMLESS = [
    "SELECT 'DROP TABLE cpu; COPY x TO y' AS text",
    'SELECT 1 AS "set", 2 AS "call", 3 AS "pragma"',
    "SELECT 1 -- ; DROP TABLE cpu",
    "/* ATTACH */ SELECT /* COPY */ 1;",
    "SELECT 1 ; ; -- end",
    "SELECT * FROM range(3)",
    "SELECT unnest([1, 2, 3])",
    "SELECT * FROM generate_series(1, 2) g(i), unnest(['a']) u(x)",
    "WITH cpu AS (SELECT * FROM cpu) SELECT count(u) FROM cpu",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t",
    "WITH a AS (SELECT 1 AS x), b AS (SELECT x + 1 AS x FROM a) SELECT * FROM a, b",
    "SELECT 'abc'.upper(), host.upper() FROM cpu",
    "SELECT pg_typeof(1)",
    "SUMMARIZE cpu",
    "DESCRIBE SELECT host FROM cpu",
    "EXPLAIN SELECT * FROM cpu",
    "EXPLAIN ANALYZE SELECT * FROM cpu",
    "-- comment\n /* another */ EXPLAIN /* x */ SELECT 1",
    "VALUES (1, 'a'), (2, 'b')",
    "FROM cpu",
    "TABLE cpu",
    "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
    "SELECT * FROM cpu PIVOT (sum(u) FOR host IN ('a', 'b'))",
    "SELECT * FROM cpu UNPIVOT (value FOR name IN (u))",
    "SELECT * FROM cpu a ASOF JOIN mem b ON a.host = b.host AND a.time >= b.time",
    "SELECT default.cpu.host, 'default.x', $$default.y$$ FROM default . cpu WHERE DEFAULT.cpu.u > 0",
]


@pytest.mark.parametrize("sql", HARMLESS)
async def test_a_harmless_statement_that_looks_like_an_attack_runs(
    victim: Store, service: QueryService, sql: str
) -> None:
    await rows(service, sql)
