"""Which range of time a query can possibly need of each of its tables, told from the parse tree. Pure.

Only what is certain counts: a conjunct at the top of WHERE (never under OR or NOT) that compares the table's own
``time`` column itself (no function around it) with a moment known now. The range is closed and may be wider than the
truth, never narrower; when anything is unclear (two tables and a bare ``time``, the side of a join that may be padded
with NULLs, a sample, a literal in an unusual form) there is no bound, and DuckDB's own statistics prune what they can.

Literals mean what DuckDB makes of them with ``TimeZone='UTC'``: an offset counts for TIMESTAMPTZ and in a bare
string, which is cast to it; in a plain TIMESTAMP literal DuckDB drops it, so such a literal gives no bound.
"""

from __future__ import annotations

from collections.abc import Iterator

from arc.query.moments import Moment, moment
from arc.query.tree import Tree, items, text, texts

Range = tuple[int | None, int | None]
"""Closed, µs since 1970 UTC; None is open."""

_MIRRORED = {
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_EQUAL": "COMPARE_EQUAL",
}
_ATLEAST = ("COMPARE_GREATERTHAN", "COMPARE_GREATERTHANOREQUALTO", "COMPARE_EQUAL")
_ATMOST = ("COMPARE_LESSTHAN", "COMPARE_LESSTHANOREQUALTO", "COMPARE_EQUAL")


def ranges(node: Tree, now_us: int) -> dict[int, Range]:
    """Bounds of the tables that one SELECT reads directly, by ``id`` of their reference in the tree; only bounded
    ones."""
    where = node.get("where_clause")
    source = node.get("from_table")
    if not isinstance(where, dict) or not isinstance(source, dict) or node.get("sample") is not None:
        return {}
    leaves = list(_leaves(source))
    prunable = {id(reference): reference for reference in _prunable(source)}
    by_name = _by_name(leaves)
    alone = leaves[0] if len(leaves) == 1 and not _hides_time(node) else None
    found: dict[int, Range] = {}
    for conjunct in _conjuncts(where):
        for column, low, high in _bounds(conjunct, now_us):
            reference = alone if len(column) == 1 else by_name.get(column[0].lower()) if len(column) == 2 else None
            if reference is not None and id(reference) in prunable:
                found[id(reference)] = _narrow(found.get(id(reference), (None, None)), low, high)
    return found


def _leaves(reference: Tree) -> Iterator[Tree]:
    """Everything joined, tables or not."""
    if text(reference, "type") == "JOIN":
        for side in ("left", "right"):
            inner = reference.get(side)
            if isinstance(inner, dict):
                yield from _leaves(inner)
    else:
        yield reference


def _prunable(reference: Tree) -> Iterator[Tree]:
    """Tables whose rows may be left out when WHERE refuses them: on no side where a missing row changes another row."""
    kind = text(reference, "type")
    if kind == "BASE_TABLE" and reference.get("sample") is None and not reference.get("column_name_alias"):
        yield reference
    if kind != "JOIN" or text(reference, "alias") or text(reference, "ref_type") not in _SIDES:
        return
    for side in _SIDES[text(reference, "ref_type")].get(text(reference, "join_type"), ()):
        inner = reference.get(side)
        if isinstance(inner, dict):
            yield from _prunable(inner)


_PLAIN = {
    "INNER": ("left", "right"),
    "LEFT": ("left",),
    "RIGHT": ("right",),
    "SEMI": ("left",),
    "ANTI": ("left",),
}
# An ASOF join looks for the nearest row on its right: leaving some out would make another one the nearest.
_SIDES: dict[str, dict[str, tuple[str, ...]]] = {
    "REGULAR": _PLAIN,
    "NATURAL": _PLAIN,
    "CROSS": _PLAIN,
    "ASOF": {"INNER": ("left",), "LEFT": ("left",)},
}


def _by_name(leaves: list[Tree]) -> dict[str, Tree]:
    """Tables by the name that qualifies their columns; a name used twice is nobody's."""
    found: dict[str, Tree] = {}
    twice: set[str] = set()
    for leaf in leaves:
        name = (text(leaf, "alias") or text(leaf, "table_name")).lower()
        twice |= {name} & found.keys()
        found[name] = leaf
    return {name: leaf for name, leaf in found.items() if name not in twice}


def _hides_time(node: Tree) -> bool:
    """Whether the SELECT list calls something else ``time``: WHERE would still mean the column, but that is not ours
    to know."""
    return any(
        text(item, "alias").lower() == "time" and texts(item, "column_names")[-1:] != ["time"]
        for item in items(node, "select_list")
    )


def _conjuncts(expression: Tree) -> Iterator[Tree]:
    if text(expression, "type") == "CONJUNCTION_AND":
        for child in items(expression, "children"):
            yield from _conjuncts(child)
    else:
        yield expression


def _bounds(expression: Tree, now_us: int) -> Iterator[tuple[list[str], int | None, int | None]]:
    """(column path, lowest, highest) that a conjunct demands; nothing when it is of another form."""
    match text(expression, "class"):
        case "COMPARISON":
            yield from _comparison(expression, now_us)
        case "BETWEEN":
            column = _time_column(expression.get("input"))
            lower, upper = moment(expression.get("lower"), now_us), moment(expression.get("upper"), now_us)
            if column and lower is not None and upper is not None:
                yield column, lower.low, upper.high
        case "OPERATOR" if text(expression, "type") == "COMPARE_IN":
            first, *values = items(expression, "children")
            moments = [moment(value, now_us) for value in values]
            path = _time_column(first)
            known = [value for value in moments if value is not None]
            if path and known and len(known) == len(moments):
                yield path, min(value.low for value in known), max(value.high for value in known)


def _comparison(expression: Tree, now_us: int) -> Iterator[tuple[list[str], int | None, int | None]]:
    comparison = text(expression, "type")
    column = _time_column(expression.get("left"))
    value: Moment | None
    if column:
        value = moment(expression.get("right"), now_us)
    else:
        column = _time_column(expression.get("right"))
        value = moment(expression.get("left"), now_us)
        comparison = _MIRRORED.get(comparison, "")
    if column and value is not None:
        low = value.low if comparison in _ATLEAST else None
        high = value.high if comparison in _ATMOST else None
        yield column, low, high


def _time_column(expression: object) -> list[str]:
    """The path of a plain reference to a ``time`` column, else nothing."""
    if text(expression, "class") != "COLUMN_REF":
        return []
    names = texts(expression, "column_names")
    return names if names and names[-1].lower() == "time" else []


def _narrow(known: Range, low: int | None, high: int | None) -> Range:
    lows = [value for value in (known[0], low) if value is not None]
    highs = [value for value in (known[1], high) if value is not None]
    return max(lows, default=None), min(highs, default=None)
