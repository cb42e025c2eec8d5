"""A condition by itself: what stands behind WHERE in a delete, checked as a query's is, and asked of rows in memory.

The text is parsed as the WHERE of one SELECT over one table, and nothing else may come of it: no second clause, no
subquery, no function that a query may not call. It is the checked tree that becomes the statement that runs, in the
sandbox of queries, over the rows it is given; WHERE takes what is TRUE, so neither FALSE nor NULL matches.

A row must match the same way however often it is asked: ``now()`` is the moment at which the condition was parsed, and
what gives another value each time is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa

from arc.catalog.schemas import MeasurementSchema
from arc.errors import InvalidRequest
from arc.query import prune
from arc.query.buffered import ARROW_TYPES, TIME_TYPE
from arc.query.engine import Engine
from arc.query.functions import check_function
from arc.query.statement import EXPRESSIONS
from arc.query.tree import Tree, is_expression, items, text, texts

EXPRESSIONS_IN_CONDITIONS = EXPRESSIONS - {
    "LAMBDA", "LAMBDA_REF", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "WINDOW",
}  # fmt: skip

UNREPEATABLE = frozenset(
    {
        "current_localtime", "current_localtimestamp", "current_time", "error", "gen_random_uuid", "get_current_time",
        "localtime", "localtimestamp", "random", "uuid", "uuidv4", "uuidv7",
    }
)  # fmt: skip
"""Functions, and names without parentheses that are functions, that give another value each time."""

MOMENTS = {
    "now": "TIMESTAMPTZ",
    "get_current_timestamp": "TIMESTAMPTZ",
    "transaction_timestamp": "TIMESTAMPTZ",
    "current_timestamp": "TIMESTAMPTZ",
    "today": "DATE",
    "current_date": "DATE",
}
"""Functions that mean the moment of parsing, and the type it has there."""

_ROWS = "arc_rows"
_NUMBER = "arc_row_number"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition on the rows of one measurement. ``columns`` are those it reads, ``time`` among them; ``low_us`` and
    ``high_us`` bound the time of rows that can match (closed, None is open). ``sql`` is what runs.
    """

    sql: str
    columns: tuple[str, ...]
    low_us: int | None
    high_us: int | None
    schema: MeasurementSchema
    engine: Engine

    def matches(self, rows: pa.Table) -> np.ndarray:
        """For each row whether the condition is TRUE. Columns that ``rows`` lacks are NULL in all of them.

        Raises InvalidRequest (a value cannot be cast, …), Overloaded.
        """
        columns = {name: _fitted(self.schema, rows, name) for name in self.columns}
        table = pa.table({**columns, _NUMBER: pa.array(np.arange(rows.num_rows))})
        try:
            with self.engine.cursor() as cursor:
                cursor.register(_ROWS, table)
                found = cursor.execute(self.sql).fetchnumpy()
        except (duckdb.Error, pa.ArrowException) as error:
            raise self.engine.translate(error, _ROWS) from error
        mask = np.zeros(rows.num_rows, np.bool_)
        mask[found[_NUMBER]] = True
        return mask


class Conditions:
    """Parses them. Everything blocks and belongs on a worker; ``engine`` is that of the node's queries."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def parse(self, where: str, measurement: str, schema: MeasurementSchema, now_us: int) -> Condition:
        """Raises InvalidRequest, code ``bad_query``, ``forbidden`` or ``forbidden_function``."""
        if not where.strip():
            raise InvalidRequest("'where' must be a condition; 1=1 means all rows", code="bad_query")
        # On a line of its own, so that a comment at the end cannot take the parenthesis along.
        parsed = self._engine.parse(f"SELECT 1 FROM {_ROWS} WHERE ({where}\n)")
        node = parsed.tree.get("node")
        if parsed.show is not None or parsed.explain or not isinstance(node, dict) or not _is_bare(node):
            raise InvalidRequest("'where' must be one condition, as it stands behind WHERE", code="bad_query")
        walk = _Walk(measurement, schema, now_us)
        node["where_clause"] = walk.run(node["where_clause"])
        source = node["from_table"]
        assert isinstance(source, dict)
        low, high = prune.ranges(node, now_us).get(id(source), (None, None))
        source["alias"] = measurement
        node["select_list"] = [_column(_NUMBER)]
        condition = Condition(
            sql=self._engine.unparse(parsed.tree),
            columns=tuple(sorted(walk.columns)),
            low_us=low,
            high_us=high,
            schema=schema,
            engine=self._engine,
        )
        # Names and types are wrong before anything is read, if they are.
        condition.matches(pa.table({"time": pa.array([], TIME_TYPE)}))
        return condition


def _is_bare(node: Tree) -> bool:
    """Whether a SELECT has nothing but the list, the table and the condition that we wrote around it."""
    return (
        text(node, "type") == "SELECT_NODE"
        and text(node, "aggregate_handling") == "STANDARD_HANDLING"
        and not any(node.get(key) for key in ("modifiers", "group_expressions", "group_sets", "having", "sample"))
        and not node.get("qualify")
        and not items(node.get("cte_map"), "map")
        and len(items(node, "select_list")) == 1
        and text(node.get("from_table"), "type") == "BASE_TABLE"
        and text(node.get("from_table"), "table_name") == _ROWS
        and isinstance(node.get("where_clause"), dict)
    )


class _Walk:
    """One pass over a condition, which puts the moment in the place of the clock."""

    def __init__(self, measurement: str, schema: MeasurementSchema, now_us: int) -> None:
        self.columns: set[str] = set()
        self._measurement = measurement
        self._schema = schema
        self._now_us = now_us

    def run(self, condition: object) -> object:
        """The condition as it may run. Raises InvalidRequest."""
        root: dict[str, object] = {"root": condition}
        stack: list[dict[str, object] | list[object]] = [root]
        while stack:
            held = stack.pop()
            # Its own stack: user input decides the depth, Python's recursion limit must not.
            places: Iterator[tuple[str | int, object]] = (
                iter(list(held.items())) if isinstance(held, dict) else iter(list(enumerate(held)))
            )
            for place, value in places:
                if isinstance(value, dict) and is_expression(value):
                    value = self._expression(value)
                    held[place] = value  # type: ignore[index]
                if isinstance(value, dict | list):
                    stack.append(value)
        return root["root"]

    def _expression(self, expression: Tree) -> Tree:
        kind = text(expression, "class")
        if kind == "PARAMETER":
            raise InvalidRequest("parameters ($1, ?) are not available: put the value into the text", code="bad_query")
        if kind not in EXPRESSIONS_IN_CONDITIONS:
            raise InvalidRequest(f"{kind.lower()} is not available in a condition", code="forbidden")
        if "function_name" in expression:
            return self._function(expression)
        if kind == "COLUMN_REF":
            return self._column(expression)
        return expression

    def _function(self, expression: Tree) -> Tree:
        qualified = expression.get("qualified_name")
        check_function(texts(qualified, "path") or [text(expression, "function_name")])
        name = text(expression, "function_name").lower()
        arguments = items(expression, "arguments")
        if name in UNREPEATABLE or (name == "age" and len(arguments) == 1):
            raise _unrepeatable(name)
        if name in MOMENTS and not arguments:
            return _moment(self._now_us, MOMENTS[name])
        return expression

    def _column(self, expression: Tree) -> Tree:
        names = texts(expression, "column_names")
        name = names[-1] if len(names) == 1 or (len(names) == 2 and self._is_table(names[0])) else ""
        if name.lower() == "time":
            self.columns.add("time")
            return expression
        known = self._schema.get(name) or self._schema.find_ignoring_case(name)
        if known is not None:
            self.columns.add(known.name)
            return expression
        if len(names) == 1 and name.lower() in MOMENTS:
            return _moment(self._now_us, MOMENTS[name.lower()])
        if len(names) == 1 and name.lower() in UNREPEATABLE:
            raise _unrepeatable(name)
        raise InvalidRequest(f"there is no column {'.'.join(names)!r} in {self._measurement}", code="bad_query")

    def _is_table(self, name: str) -> bool:
        return name.casefold() == self._measurement.casefold()


def _unrepeatable(name: str) -> InvalidRequest:
    return InvalidRequest(
        f"{name} gives another value each time: put the value itself into the condition", code="forbidden_function"
    )


def _moment(now_us: int, kind: str) -> Tree:
    """``CAST('…' AS kind)``."""
    moment = _EPOCH + timedelta(microseconds=now_us)
    literal = moment.date().isoformat() if kind == "DATE" else moment.isoformat(sep=" ", timespec="microseconds")
    return {
        **_BLANK,
        "class": "CAST",
        "type": "OPERATOR_CAST",
        "child": {
            **_BLANK,
            "class": "CONSTANT",
            "type": "VALUE_CONSTANT",
            "literal": {"kind": "STRING", "text": literal},
        },
        "try_cast": False,
        "type_expr": {
            **_BLANK,
            "class": "TYPE",
            "type": "TYPE",
            "catalog": "",
            "schema": "",
            "type_name": kind,
            "children": [],
            "qualified_name": {"path": [kind]},
        },
    }


def _column(name: str) -> Tree:
    return {**_BLANK, "class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": [name]}


_BLANK: Tree = {"alias": "", "query_location": 0, "query_location_length": 0}


def _fitted(schema: MeasurementSchema, rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    """A column in the catalog's type; in a file it may be narrower, or absent."""
    wanted = TIME_TYPE if name == "time" else ARROW_TYPES[schema.columns[name].kind]
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, wanted)
    column = rows.column(name)
    if pa.types.is_dictionary(column.type) and pa.types.is_string(wanted):
        return column
    # An integer above 2**53 becomes the nearest float, as it would in a query.
    return column if column.type == wanted else column.cast(wanted, safe=False)
