"""Bugs that nobody thought of: one small change anywhere in the core, drawn from all that the operators can make.

The table of planted bugs says that known bugs die; this says what share of arbitrary ones does, and lists those that
live. A survivor is either equivalent, or changes only how quickly things go, or shows a gap of the simulator; which of
the three is for a person to say (`table.SURVIVORS`).

Left alone are asserts and what only tells (traces, ``__repr__``): changing them is no bug of consensus.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple

from simulations.chance import stream
from simulations.mutants.plant import CORE, sources

MODULES = tuple(name for name in CORE if name not in ("invariants", "status"))
SILENT = ("trace", "TRACES")
SKIPPED = ("__repr__",)

FLIPS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
"""One bound moves by one, or the sense turns round."""

TURNS = {"min": "max", "max": "min"}


class Change(NamedTuple):
    """One change: where (line and column, from 1 and 0), which operator, the text before and after."""

    module: str
    line: int
    column: int
    operator: str
    old: str
    new: str
    start: int
    end: int

    def __str__(self) -> str:
        old = " ".join(self.old.split())
        return f"{self.module}.py:{self.line} {self.operator}: {old[:70]} -> {self.new[:70]}"

    @property
    def key(self) -> str:
        """What names it as long as its text stays, wherever the line moves."""
        return f"{self.module} {self.operator}: {' '.join(self.old.split())} -> {' '.join(self.new.split())}"


def drawn(count: int, seed: int) -> list[Change]:
    """That many different changes, spread over all operators. The same for the same source and seed."""
    everything = [change for module in MODULES for change in changes(module, sources()[module])]
    chance = stream(seed, "generic")
    chosen: list[Change] = []
    by_operator: dict[str, list[Change]] = {}
    for change in everything:
        by_operator.setdefault(change.operator, []).append(change)
    for group in by_operator.values():
        chance.shuffle(group)
    names = sorted(by_operator)
    while len(chosen) < count and any(by_operator.values()):
        for name in names:
            if by_operator[name] and len(chosen) < count:
                chosen.append(by_operator[name].pop())
    return chosen


def texts_with(change: Change) -> dict[str, str]:
    """The sources with one change."""
    found = sources()
    text = found[change.module]
    assert text[change.start : change.end] == change.old, change
    found[change.module] = text[: change.start] + change.new + text[change.end :]
    return found


def changes(module: str, text: str) -> Iterator[Change]:
    """All changes of a module, in the order of its source."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None and node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def change(node: ast.AST, operator: str, new: str) -> Change:
        assert isinstance(node, ast.expr | ast.stmt)
        start, end = at(node)
        return Change(module, node.lineno, node.col_offset, operator, text[start:end], new, start, end)

    def source(node: ast.AST) -> str:
        start, end = at(node)
        return text[start:end]

    for node in _walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            left, right = source(node.left), source(node.comparators[0])
            yield change(node, "compare", f"{left} {FLIPS[type(node.ops[0])]} {right}")
            if isinstance(node.ops[0], ast.Lt | ast.Gt | ast.LtE | ast.GtE):
                yield change(node, "negate", f"not ({source(node)})")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            if isinstance(node.right, ast.Constant) and node.right.value == 1:
                yield change(node, "plus-minus one", f"({source(node.left)})")
        elif isinstance(node, ast.BoolOp):
            for place, value in enumerate(node.values):
                rest = [source(each) for each in node.values if each is not value]
                word = " and " if isinstance(node.op, ast.And) else " or "
                yield change(node, f"dropped operand {place + 1}", f"({word.join(rest)})")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield change(node, "dropped not", f"({source(node.operand)})")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TURNS:
            yield change(node.func, "min-max", TURNS[node.func.id])
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield change(node, "dropped call", "pass")
        elif isinstance(node, ast.Assign | ast.AugAssign) and _is_state(node):
            yield change(node, "dropped assignment", "pass")
        elif (
            isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and node.value.value in (True, False)
        ):
            yield change(node, "turned return", f"return {not node.value.value}")


def _is_state(node: ast.Assign | ast.AugAssign) -> bool:
    """Whether something is remembered that outlives the function: an attribute or an item."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes in order, without asserts, traces, annotations and what only tells. Constructors keep what they set."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Assert | ast.AnnAssign | ast.arguments):
            continue
        if isinstance(child, ast.FunctionDef) and child.name in SKIPPED:
            continue
        if isinstance(child, ast.FunctionDef) and child.name == "__init__":
            continue
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            function = child.value.func
            if isinstance(function, ast.Attribute) and function.attr in SILENT:
                continue
        yield child
        yield from _walk(child)
