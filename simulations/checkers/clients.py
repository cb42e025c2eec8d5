"""What clients may rely on: I-21 and I-22 by witness, I-26, I-27.

The witness is the log itself: it proposes an order of all operations. If replaying that order gives every answer, and
the order agrees with real time, the history is linearizable (reference, 5.5, layer 1). Both are looked at when an
operation ends, so it costs next to nothing and every seed has it.
"""

from __future__ import annotations

from simulations.checkers.ghost import Ghost, Token
from simulations.checkers.violation import Violation
from simulations.history import Operation
from simulations.machine import CAS, READ


def witness(ghost: Ghost, operation: Operation) -> None:
    """I-21, and linearizability: after all that ended before it began, and with the answer of its place in the log."""
    position, index = operation.position, operation.position // 2
    is_read = position % 2 == 1
    if position < operation.floor or (position == operation.floor and not is_read):
        raise Violation("I-21", "ordered before something that ended before it began", operation, operation.floor)
    ghost.floor = max(ghost.floor, position)
    if is_read or operation.kind == READ:
        expected = ghost.value(operation.key, index)
    else:
        was = ghost.value(operation.key, index - 1)
        expected = "no" if operation.kind == CAS and was != operation.expected else "ok"
    if operation.answer != expected:
        raise Violation("I-22" if is_read else "I-26", "the answer is not that of the log", operation, expected)


def i26_acknowledged(ghost: Ghost, token: Token, index: int, answer: str) -> None:
    """I-26: an acknowledged proposal is committed, at its place, with that answer."""
    entry = ghost.entries[index] if index <= ghost.commit else None
    payload = entry.payload if entry is not None else b""
    if not isinstance(payload, bytes) or not payload.startswith(f"{token[0]} {token[1]} {token[2]} ".encode()):
        raise Violation("I-26", "acknowledged something else than what is committed there", token, entry)
    if ghost.answers[index] != answer:
        raise Violation("I-24", "a state machine answers differently", token, answer, ghost.answers[index])


def i27_failed(ghost: Ghost, token: Token) -> None:
    """I-27: what definitely failed never takes effect."""
    if token in ghost.seen:
        raise Violation("I-27", "a proposal took effect and is reported failed", token)
    ghost.failed.add(token)
