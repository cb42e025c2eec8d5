"""What a statement reads, told from DuckDB's own parse tree: allowed or refused, its tables, and the tree to run.

`analyse` walks the tree of one SELECT-class statement. Every table reference that no CTE in scope binds is looked up
in the catalog and replaced by a relation name that no user can guess; the engine puts the measurement's files and
buffered rows in its place. Whatever the walk does not know (a node type, an expression class, a function) is refused,
so a new construct of a new DuckDB starts out forbidden. Pure: tree in, tree out.

It is the tree that is checked and it is that same tree that DuckDB turns back into the text that runs, so no trick of
quoting or comments can make the two differ. The engine's sandbox stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from arc.catalog.fsm import Catalog
from arc.errors import InvalidRequest
from arc.query import prune
from arc.query.functions import check_function, check_table_function
from arc.query.names import TableName, find_table
from arc.query.show import Show
from arc.query.snapshot import TableRange
from arc.query.tree import Tree, is_expression, is_query_node, is_table_reference, items, text, texts

QUERY_NODES_MAX = 500
"""SELECTs in one statement. Planning cannot be interrupted and takes minutes for some thousands of them."""

QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
TABLE_REFERENCES = frozenset(
    {"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SHOW_REF", "SUBQUERY", "TABLE_FUNCTION"}
)
EXPRESSIONS = frozenset(
    {
        "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
        "LAMBDA", "LAMBDA_REF", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW",
    }
)  # fmt: skip

ONLY_QUERIES = "only statements that read are available: SELECT, WITH, VALUES, SHOW, DESCRIBE, EXPLAIN"

Explain = Literal["", "EXPLAIN", "EXPLAIN ANALYZE"]


@dataclass(frozen=True, slots=True)
class Parsed:
    """One parsed statement: a SHOW, or the tree of a SELECT and the EXPLAIN it stood behind."""

    show: Show | None = None
    tree: Tree = field(default_factory=dict)
    explain: Explain = ""


@dataclass(frozen=True, slots=True)
class TableUse:
    """One reference to a measurement. ``relation`` is its name in the rewritten tree; the range prunes this use
    alone."""

    relation: str
    table: TableName
    min_us: int | None = None
    max_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement that may run. ``count`` is the result's column name when it is a bare ``SELECT count(*) FROM
    table``."""

    tree: Tree
    explain: Explain = ""
    uses: tuple[TableUse, ...] = ()
    count: str | None = None

    @property
    def ranges(self) -> tuple[TableRange, ...]:
        """What to ask a snapshot for."""
        return tuple(TableRange(*use.table, use.min_us, use.max_us) for use in self.uses)


def analyse(parsed: Parsed, *, database: str, catalog: Catalog, token: str, now_us: int) -> Statement:
    """Check a parsed SELECT, find its measurements and rewrite it. The tree is changed in place and must not be used
    again.

    ``database`` is what a bare name belongs to; ``token`` starts the internal relation names. Raises InvalidRequest
    with code ``forbidden``, ``forbidden_function``, ``unknown_table``, ``unknown_database`` or ``bad_query``.
    """
    assert parsed.show is None
    walk = _Walk(database=database, catalog=catalog, token=token, now_us=now_us)
    walk.run(parsed.tree)
    return Statement(
        tree=parsed.tree, explain=parsed.explain, uses=tuple(walk.uses), count=walk.count_column(parsed.tree)
    )


class _Walk:
    """One pass over a tree with its own stack: user input decides the depth, Python's recursion limit must not."""

    def __init__(self, *, database: str, catalog: Catalog, token: str, now_us: int) -> None:
        self.uses: list[TableUse] = []
        self._database = database
        self._catalog = catalog
        self._token = token
        self._now_us = now_us
        self._ranges: dict[int, prune.Range] = {}
        self._columns: list[list[str]] = []
        self._bare: dict[str, set[str]] = {}
        self._query_nodes = 0
        self._stack: list[tuple[object, frozenset[str]]] = []

    def run(self, tree: Tree) -> None:
        self._stack = [(tree, frozenset())]
        while self._stack:
            value, scope = self._stack.pop()
            if isinstance(value, list):
                self._stack.extend((item, scope) for item in value)
            elif isinstance(value, dict):
                self._visit(value, scope)
        self._unqualify()

    def _visit(self, tree: Tree, scope: frozenset[str]) -> None:
        if is_query_node(tree):
            self._query_node(tree, scope)
        elif is_expression(tree):
            self._expression(tree, scope)
        elif is_table_reference(tree):
            self._table_reference(tree, scope)
        else:
            self._push(tree.values(), scope)

    def _push(self, values: Iterable[object], scope: frozenset[str]) -> None:
        for value in values:
            if isinstance(value, dict | list):
                self._stack.append((value, scope))

    # --- query nodes and the names their CTEs bind

    def _query_node(self, node: Tree, scope: frozenset[str]) -> None:
        kind = text(node, "type")
        if kind not in QUERY_NODES:
            raise _not_a_query()
        self._query_nodes += 1
        if self._query_nodes > QUERY_NODES_MAX:
            raise InvalidRequest(f"a statement may have {QUERY_NODES_MAX} SELECTs, this one has more", code="bad_query")
        scope = self._bind_ctes(node, scope)
        if kind == "SELECT_NODE":
            self._ranges.update(prune.ranges(node, self._now_us))
        # The right side of a recursive CTE also sees the CTE itself.
        right = scope | {text(node, "cte_name").lower()} if kind == "RECURSIVE_CTE_NODE" else scope
        for key, value in node.items():
            if key != "cte_map":
                self._push([value], right if key == "right" else scope)

    def _bind_ctes(self, node: Tree, scope: frozenset[str]) -> frozenset[str]:
        """Walk the WITH list in order: each entry sees the ones before it, a recursive one also itself (on its
        right)."""
        cte_map = node.get("cte_map")
        for entry in items(cte_map if isinstance(cte_map, dict) else {}, "map"):
            name = text(entry, "key").lower()
            self._push([entry.get("value")], scope)
            scope = scope | {name}
        return scope

    # --- tables

    def _table_reference(self, reference: Tree, scope: frozenset[str]) -> None:
        kind = text(reference, "type")
        if kind not in TABLE_REFERENCES:
            raise InvalidRequest(f"{kind.lower()} is not available here", code="forbidden")
        if kind == "BASE_TABLE":
            self._base_table(reference, scope)
            return
        if kind == "SHOW_REF" and (reference.get("query") is None or text(reference, "table_name")):
            raise InvalidRequest("SHOW and DESCRIBE of the engine's own tables are not available", code="forbidden")
        if kind == "TABLE_FUNCTION":
            function = reference.get("function")
            assert isinstance(function, dict)
            check_table_function(_function_path(function))
            # Its arguments are ordinary expressions; its own name was just checked as what it is here.
            self._push([value for key, value in reference.items() if key != "function"], scope)
            self._push(function.values(), scope)
            return
        self._push(reference.values(), scope)

    def _base_table(self, reference: Tree, scope: frozenset[str]) -> None:
        path = _path(reference) or [text(reference, "table_name")]
        if len(path) == 1 and path[0].lower() in scope:
            return
        if reference.get("at_clause") is not None:
            raise InvalidRequest("AT (…) is not available: Arc keeps no versions", code="forbidden")
        table = find_table(self._catalog, path, self._database)
        relation = f"{self._token}_{len(self.uses):04d}"
        low, high = self._ranges.get(id(reference), (None, None))
        self.uses.append(TableUse(relation, table, low, high))
        if not text(reference, "alias"):
            reference["alias"] = path[-1]
            self._bare.setdefault(path[-1].lower(), set()).add(table.database)
        reference["table_name"] = relation
        reference["schema_name"] = reference["catalog_name"] = ""
        reference["qualified_name"] = {"path": [relation]}
        self._push([reference.get("sample")], scope)

    def _unqualify(self) -> None:
        """``db.cpu.host`` → ``cpu.host``: the rewritten relation has no database, its alias is the measurement's
        name."""
        for names in self._columns:
            if len(names) >= 3 and names[0] in self._bare.get(names[1].lower(), ()):
                del names[0]

    # --- expressions

    def _expression(self, expression: Tree, scope: frozenset[str]) -> None:
        kind = text(expression, "class")
        if kind == "PARAMETER":
            raise InvalidRequest("parameters ($1, ?) are not available: put the value into the text", code="bad_query")
        if kind not in EXPRESSIONS:
            raise InvalidRequest(f"{kind.lower()} is not available here", code="forbidden")
        if "function_name" in expression:
            check_function(_function_path(expression))
        if kind == "COLUMN_REF":
            names = expression.get("column_names")
            if isinstance(names, list):
                self._columns.append(names)
            return
        self._push(expression.values(), scope)

    # --- the one statement that needs no engine

    def count_column(self, tree: Tree) -> str | None:
        """The column name of a bare ``SELECT count(*) FROM measurement``, None for every other statement."""
        node = tree.get("node")
        if not isinstance(node, dict) or len(self.uses) != 1 or text(node, "type") != "SELECT_NODE":
            return None
        selected, source = items(node, "select_list"), node.get("from_table")
        plain = (
            text(node, "aggregate_handling") == "STANDARD_HANDLING"
            and not any(node.get(key) for key in _REFINEMENTS)
            and not items(node.get("cte_map"), "map")
        )
        if not plain or len(selected) != 1 or not isinstance(source, dict) or text(source, "type") != "BASE_TABLE":
            return None
        function = selected[0]
        counts_all = text(function, "class") == "FUNCTION" and text(function, "function_name") == "count_star"
        if not counts_all or function.get("filter") or function.get("distinct") or function.get("arguments"):
            return None
        return None if source.get("sample") else text(function, "alias") or "count_star()"


_REFINEMENTS = ("modifiers", "where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")


def _function_path(function: Tree) -> list[str]:
    return _path(function) or [text(function, "function_name")]


def _path(tree: Tree) -> list[str]:
    qualified = tree.get("qualified_name")
    return texts(qualified, "path") if isinstance(qualified, Mapping) else []


def _not_a_query() -> InvalidRequest:
    return InvalidRequest(ONLY_QUERIES, code="forbidden")
