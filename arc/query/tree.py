"""Reading DuckDB's serialized parse tree without trusting its shape.

The tree is JSON: objects of three sorts that matter (query nodes, table references, expressions), told apart by the
keys each always has, and plain containers between them.
"""

from __future__ import annotations

from typing import TypeAlias

Tree: TypeAlias = dict[str, object]


def is_query_node(tree: Tree) -> bool:
    """A SELECT, a set operation, … and in a WITH also INSERT and its like."""
    return "cte_map" in tree or text(tree, "type").endswith("_NODE")


def is_expression(tree: Tree) -> bool:
    """A value: column, constant, call, subquery, …"""
    return "class" in tree


def is_table_reference(tree: Tree) -> bool:
    """Something that stands in FROM."""
    return "sample" in tree and "alias" in tree


def text(tree: object, key: str) -> str:
    """The string under ``key``, empty when there is none."""
    value = tree.get(key) if isinstance(tree, dict) else None
    return value if isinstance(value, str) else ""


def texts(tree: object, key: str) -> list[str]:
    """The strings of the list under ``key``."""
    value = tree.get(key) if isinstance(tree, dict) else None
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def items(tree: object, key: str) -> list[Tree]:
    """The objects of the list under ``key``."""
    value = tree.get(key) if isinstance(tree, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
