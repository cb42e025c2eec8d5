"""Which of DuckDB's functions a query may call.

Table functions: an allow-list of the three that make rows out of their arguments. All others read files, the catalog of
the engine or run SQL from a string. Scalar functions and aggregates: everything but those that look out of the query
(settings, engine, session, SQL in strings) or act on it (sequences, logs, sleeping). `tests/query/test_functions.py`
lists DuckDB's functions by suspicious name, so that a new version's additions are looked at before they are allowed.
"""

from __future__ import annotations

from arc.errors import InvalidRequest

TABLE_FUNCTIONS = frozenset({"generate_series", "range", "unnest"})
"""Functions that may stand in FROM."""

DENIED = frozenset(
    {
        # the engine, its settings and its environment
        "current_setting", "getenv", "version", "get_block_size", "getvariable", "hive_partition_component", "stats",
        "vector_type", "which_secret", "can_cast_implicitly", "index_key",
        # the session
        "current_catalog", "current_connection_id", "current_database", "current_query", "current_query_id",
        "current_role", "current_schema", "current_schemas", "current_transaction_id", "current_user",
        "in_search_path", "session_user", "txid_current", "user",
        # the engine's catalog
        "col_description", "format_pg_type", "format_type", "map_to_pg_oid", "obj_description", "shobj_description",
        # SQL in a string
        "json_deserialize_sql", "json_execute_serialized_sql", "json_serialize_plan", "json_serialize_sql", "query",
        "query_table",
        # effects: sequences, logs, other queries' random numbers, sleeping with a place taken
        "currval", "nextval", "parse_duckdb_log_message", "setseed", "setval", "sleep_ms", "write_log",
        # files
        "glob", "sniff_csv",
    }
)  # fmt: skip

DENIED_PREFIXES = ("__internal", "duckdb_", "has_", "inet_", "pg_", "pragma_", "read_", "parquet_", "icu_calendar")

_ALLOWED_AGAIN = frozenset({"pg_typeof", "pg_size_pretty"})

_SCHEMAS = frozenset({"main", "system", "temp", "pg_catalog", "information_schema", "memory"})


def check_function(path: list[str]) -> None:
    """Raises InvalidRequest when a scalar or aggregate function may not be called. ``path`` is its name with
    qualifiers."""
    name = path[-1].lower()
    if len(path) > 2 or (len(path) == 2 and path[0].lower() in _SCHEMAS):
        # `column.function()` also arrives as a path of two; a schema is never needed to reach an allowed function.
        raise InvalidRequest(f"function {'.'.join(path)!r}: call it without a schema", code="forbidden_function")
    if name in _ALLOWED_AGAIN:
        return
    if name in DENIED or name.startswith(DENIED_PREFIXES):
        raise InvalidRequest(f"function {name!r} is not available here", code="forbidden_function")


def check_table_function(path: list[str]) -> None:
    """Raises InvalidRequest when a function may not stand in FROM."""
    if len(path) != 1 or path[0].lower() not in TABLE_FUNCTIONS:
        allowed = ", ".join(sorted(TABLE_FUNCTIONS))
        raise InvalidRequest(
            f"table function {'.'.join(path)!r} is not available here; there are: {allowed}", code="forbidden_function"
        )
