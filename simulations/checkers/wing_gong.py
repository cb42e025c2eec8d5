"""Linearizability by search: an order of each key's operations that explains every answer (Wing and Gong, 1993, with
the memo of Lowe, 2017).

It believes nothing but the history: neither the log nor the ghost. Within its limits it is exact; beyond them the
answer is "inconclusive", which is never counted as checked.
"""

from __future__ import annotations

from collections.abc import Iterable

from simulations.checkers.violation import Violation
from simulations.history import INFINITY, Operation
from simulations.machine import CAS, READ

OPERATIONS_MAX = 400
VISITS_MAX = 20_000
"""Per key. A history that needs more has a shape that is not worth the time here: the witness has seen it anyway."""


def check(history: Iterable[Operation]) -> int:
    """Search each key's history; returns how many keys were decided. Raises Violation (LIN)."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        if operation.is_complete or operation.kind != READ:
            keys.setdefault(operation.key, []).append(operation)
    decided = 0
    for key, operations in sorted(keys.items()):
        if len(operations) <= OPERATIONS_MAX:
            verdict = is_linearizable(operations)
            if verdict is False:
                raise Violation("LIN", f"no order explains the history of {key}", *operations[-12:])
            decided += verdict is True
    return decided


def is_linearizable(operations: list[Operation], visits_max: int = VISITS_MAX) -> bool | None:
    """Whether there is such an order; None: not decided within the visits."""
    ordered = sorted(operations, key=lambda each: (each.called, each.client))
    count = len(ordered)
    must = sum(1 << place for place, each in enumerate(ordered) if each.is_complete)
    seen: set[tuple[int, str]] = set()
    stack: list[tuple[int, str]] = [(0, "-")]
    visits = 0
    while stack:
        done, state = stack.pop()
        if done & must == must:
            return True
        visits += 1
        if visits > visits_max:
            return None
        deadline = INFINITY
        following: list[tuple[int, str]] = []
        for place in range(_first_open(done), count):
            if done >> place & 1:
                continue
            operation = ordered[place]
            if operation.called > deadline:
                break
            deadline = min(deadline, operation.returned)
            after = _execute(operation, state)
            if after is not None:
                following.append((done | 1 << place, after))
        for candidate in reversed(following):
            if candidate not in seen:
                seen.add(candidate)
                stack.append(candidate)
    return False


def _first_open(done: int) -> int:
    """Place of the lowest bit that is not set."""
    return (~done & (done + 1)).bit_length() - 1


def _execute(operation: Operation, state: str) -> str | None:
    """The register after the operation, None if its answer cannot be."""
    if operation.kind == READ:
        return state if operation.answer == state else None
    if operation.kind == CAS:
        if state != operation.expected:
            return state if operation.answer in ("no", None) else None
        return operation.value if operation.answer in ("ok", None) else None
    return operation.value
