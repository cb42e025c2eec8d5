"""DuckDB in a sandbox: parse a statement, run a checked one over a snapshot, hand out its rows batch by batch.

One in-memory instance per node; every query has its own cursor, whose registered rows no other query can see and which
dies with the query. The instance opens nothing but Parquet files below the given roots, and its settings are locked
before the first query. Everything here blocks and belongs on a worker thread, except `Run.interrupt`.

``preserve_insertion_order`` is off for the whole instance: a result without ORDER BY comes in any order, as SQL says,
3.4 times faster (it is a setting of the instance, so it cannot follow the query). ORDER BY is exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import duckdb
import orjson
import pyarrow as pa

from arc.errors import InvalidRequest
from arc.query.buffered import as_table
from arc.query.config import QueryConfig
from arc.query.lexer import quote_default, tokens
from arc.query.mistakes import clean, is_fatal, translate
from arc.query.names import UNKNOWN_TABLE, TableName
from arc.query.relation import files_within, parquet_source, quote_text, registered_source, relation_sql
from arc.query.show import parse_show
from arc.query.snapshot import Snapshot
from arc.query.statement import ONLY_QUERIES, Explain, Parsed, Statement
from arc.query.tree import Tree

BATCH_ROWS = 32_768
"""Rows per batch handed out: enough to encode at full speed, little enough that a batch of wide rows stays a few MB."""

PARENTHESES_MAX = 4_000
"""DuckDB walks nested SELECTs on the C stack: 30,000 levels crash the process, 3,000 are safe. Every level needs
one."""


class Bound(NamedTuple):
    """A statement ready to run: its text, the tables to register for it, and how many rows they and the files hold."""

    sql: str
    tables: dict[str, pa.Table]
    considered: int


class Engine:
    """The query engine of a node. Raises InvalidRequest, Overloaded, Unavailable in place of DuckDB's errors."""

    def __init__(
        self, config: QueryConfig, *, roots: Sequence[str], native_path: Callable[[str], str], cores: int = 0
    ) -> None:
        """``roots`` are the folders Parquet files lie in, ``native_path`` is `Disk.native_path`."""
        self._config = config
        self._roots = tuple(roots)
        self._native_path = native_path
        self._cores = cores
        self._duckdb = _open_sandbox(config, self._roots, cores)
        self._parser = _open_parser()

    def close(self) -> None:
        """Free the instance. Runs that are still open fail."""
        self._parser.close()
        self._duckdb.close()

    def parse(self, sql: str) -> Parsed:
        """Parse one statement. Raises InvalidRequest, code ``bad_query`` or ``forbidden``."""
        _check_text(sql, self._config.sql_bytes_max)
        show = parse_show(sql)
        if show is not None:
            return Parsed(show=show)
        explain, rest = _split_explain(sql)
        try:
            tree = self._tree(rest)
        except InvalidRequest:
            quoted = quote_default(rest)
            if quoted is None:
                raise
            tree = self._tree(quoted)
        return Parsed(tree=tree, explain=explain)

    def _tree(self, sql: str) -> Tree:
        # A cursor per call: several workers may parse at once.
        with self._parser.cursor() as cursor:
            (document,) = _one_row(cursor.execute("SELECT json_serialize_sql(?)", [sql]))
        return _only_statement(document)

    def unparse(self, tree: Tree) -> str:
        """The text of a tree."""
        document = orjson.dumps({"error": False, "statements": [tree]}).decode()
        with self._parser.cursor() as cursor:
            (sql,) = _one_row(cursor.execute("SELECT json_deserialize_sql(?)", [document]))
        return sql

    def run(self, statement: Statement, snapshot: Snapshot, *, token: str, counting: bool = False) -> Run:
        """Prepare to run a statement over a snapshot; nothing happens yet. ``token`` is the one `analyse` was given.

        With ``counting`` the result is one row with the number of rows that the statement would return.
        """
        return Run(self, statement, snapshot, token=token, counting=counting)

    def bind(self, statement: Statement, snapshot: Snapshot, *, token: str) -> Bound:
        """Put files and rows in the place of the internal relations. Raises InvalidRequest for a table that is gone."""
        sql = self.unparse(statement.tree)
        tables: dict[str, pa.Table] = {}
        names: dict[TableName, str] = {}
        expressions: dict[str, str] = {}
        considered = 0
        for use in statement.uses:
            held = snapshot.tables.get(use.table)
            if held is None:
                raise InvalidRequest(f"measurement {use.table} was dropped a moment ago", code=UNKNOWN_TABLE)
            if held.buffered and use.table not in names:
                names[use.table] = f"{token}_b{len(names):04d}"
                tables[names[use.table]] = as_table(held.schema, held.buffered)
            files = files_within(held.files, use.min_us, use.max_us)
            considered += sum(entry.rows for entry in files) + sum(batch.num_rows for batch in held.buffered)
            sources = []
            if files:
                sources.append(parquet_source(files, [self._native_path(entry.path) for entry in files]))
            if held.buffered:
                name = names[use.table]
                sources.append(registered_source(name, tables[name].column_names))
            expressions[use.relation] = relation_sql(held.schema, sources)
        text, replaced = re.subn(rf"{re.escape(token)}_\d{{4}}", lambda found: expressions[found.group()], sql)
        assert replaced == len(statement.uses), (replaced, statement.uses)
        return Bound(text, tables, considered)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the one instance."""
        return self._duckdb.cursor()

    def translate(self, error: BaseException, token: str) -> Exception:
        """What to raise in place of an error of DuckDB."""
        if is_fatal(error):
            # DuckDB refuses all further work in an instance that met a bug. The old one goes with its last cursor.
            self._duckdb = _open_sandbox(self._config, self._roots, self._cores)
        return translate(error, roots=self._roots, token=token)

    def clean(self, text: str, token: str) -> str:
        """Text of DuckDB without our paths and names."""
        return clean(text, roots=self._roots, token=token)


class Run:
    """One running query. `open`, `next` and `close` block and never overlap; `interrupt` may come from any thread."""

    def __init__(self, engine: Engine, statement: Statement, snapshot: Snapshot, *, token: str, counting: bool) -> None:
        self._engine = engine
        self._statement = statement
        self._snapshot = snapshot
        self._token = token
        self._counting = counting
        self.considered = 0
        self.closed = False
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._reader: pa.RecordBatchReader | None = None

    def open(self) -> pa.Schema:
        """Plan the query. Raises InvalidRequest, Overloaded, Unavailable, Interrupted."""
        bound = self._engine.bind(self._statement, self._snapshot, token=self._token)
        self.considered = bound.considered
        sql = bound.sql
        if self._counting:
            sql = f"SELECT count(*) AS estimated_rows FROM ({sql})"
        elif self._statement.explain:
            sql = f"{self._statement.explain} {sql}"
        try:
            self._cursor = self._engine.cursor()
            for name, table in bound.tables.items():
                self._cursor.register(name, table)
            # Not `execute`: that one copies the whole result before the first batch.
            self._reader = self._cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
            return self._reader.schema
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._engine.translate(error, self._token) from error

    def next(self) -> pa.RecordBatch | None:
        """The next batch that has rows, None at the end. Raises as `open` does."""
        assert self._reader is not None, "open comes first"
        try:
            batch = self._reader.read_next_batch()
            while batch.num_rows == 0:
                batch = self._reader.read_next_batch()
        except StopIteration:
            return None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._engine.translate(error, self._token) from error
        return self._without_paths(batch) if self._statement.explain and not self._counting else batch

    def interrupt(self) -> None:
        """Stop what runs now; it raises Interrupted. Does nothing when nothing runs, so it may have to be repeated."""
        cursor = self._cursor
        if cursor is not None:
            cursor.interrupt()

    def close(self) -> None:
        """Free what the query holds. A second call does nothing."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()
        self.closed = True

    def _without_paths(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A plan names the files it reads."""
        columns = [
            [self._engine.clean(value, self._token) if value else value for value in column.to_pylist()]
            for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays([pa.array(c, pa.utf8()) for c in columns], names=batch.schema.names)


def _open_sandbox(config: QueryConfig, roots: tuple[str, ...], cores: int) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:")
    folders = ", ".join(quote_text(root.rstrip("/") + "/") for root in roots)
    settings = [
        f"memory_limit = '{config.memory_limit_bytes}B'",
        # No spilling: a query that needs more memory fails, instead of filling the disk that the WAL needs.
        "temp_directory = ''",
        f"allowed_directories = [{folders}]",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "python_enable_replacements = false",
        "TimeZone = 'UTC'",
        "parquet_metadata_cache = true",
        "preserve_insertion_order = false",
        "enable_external_access = false",
    ]
    threads = config.threads or cores
    if threads:
        settings.insert(0, f"threads = {threads}")
    for setting in settings:
        connection.execute(f"SET {setting}")
    # Last: from here on no statement can undo any of them.
    connection.execute("SET lock_configuration = true")
    return connection


def _open_parser() -> duckdb.DuckDBPyConnection:
    """An instance that only turns text into trees and back: it holds nothing and may open nothing."""
    connection = duckdb.connect(":memory:")
    for setting in ("threads = 1", "python_enable_replacements = false", "enable_external_access = false"):
        connection.execute(f"SET {setting}")
    connection.execute("SET lock_configuration = true")
    return connection


def _one_row(result: duckdb.DuckDBPyConnection) -> tuple[str, ...]:
    row: tuple[str, ...] | None = result.fetchone()
    assert row is not None
    return row


def _check_text(sql: str, bytes_max: int) -> None:
    try:
        size = len(sql.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("the statement is not valid Unicode", code="bad_query") from error
    if size > bytes_max:
        raise InvalidRequest(f"the statement has {size} bytes, the limit is {bytes_max}", code="bad_query")
    if "\0" in sql:
        raise InvalidRequest("the statement holds a NUL character", code="bad_query")
    if sql.count("(") > PARENTHESES_MAX:
        raise InvalidRequest(f"the statement has more than {PARENTHESES_MAX} parentheses", code="bad_query")


def _split_explain(sql: str) -> tuple[Explain, str]:
    found = list(islice(tokens(sql), 3))
    if not found or not found[0].is_word("EXPLAIN"):
        return "", sql
    if len(found) > 1 and found[1].is_word("ANALYZE"):
        return "EXPLAIN ANALYZE", sql[found[1].end :]
    return "EXPLAIN", sql[found[0].end :]


def _only_statement(document: str) -> Tree:
    try:
        parsed = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("the statement is nested too deeply", code="bad_query") from error
    if parsed["error"]:
        if parsed["error_type"] == "parser":
            raise InvalidRequest(_syntax_error(parsed), code="bad_query")
        raise InvalidRequest(ONLY_QUERIES, code="forbidden")
    statements = parsed["statements"]
    if len(statements) != 1:
        raise InvalidRequest(f"one statement is expected, there are {len(statements)}", code="bad_query")
    tree: Tree = statements[0]
    return tree


def _syntax_error(parsed: Mapping[str, object]) -> str:
    message = f"Parser Error: {parsed['error_message']}"
    return f"{message} (at byte {parsed['position']})" if "position" in parsed else message
