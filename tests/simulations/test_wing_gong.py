"""The search for an order agrees with trying all orders, and the checkers of histories can fail."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from arc.raft.types import Configuration, Peer
from simulations.checkers.clients import witness
from simulations.checkers.ghost import Ghost
from simulations.checkers.violation import Violation
from simulations.checkers.wing_gong import check, is_linearizable
from simulations.history import INFINITY, Operation
from simulations.machine import CAS, READ, WRITE


def operation(kind: str, called: float, returned: float, value: str, answer: str | None, client: int = 1) -> Operation:
    expected = "a" if kind == CAS else "-"
    made = Operation(client, 1, kind, "k", value, expected, called)
    made.returned, made.answer = returned, answer
    return made


def step(each: Operation, state: str) -> tuple[str, str]:
    """(answer, next state)"""
    if each.kind == READ:
        return state, state
    if each.kind == CAS and state != each.expected:
        return "no", state
    return "ok", each.value


def by_force(operations: list[Operation]) -> bool:
    pending = [each for each in operations if not each.is_complete]
    for left_out in range(1 << len(pending)):
        chosen = [each for each in operations if each.is_complete or not left_out >> pending.index(each) & 1]
        for order in permutations(chosen):
            state, is_fine = "-", True
            for place, each in enumerate(order):
                answer, state = step(each, state)
                if each.is_complete and answer != each.answer:
                    is_fine = False
                if any(later.returned < each.called for later in order[place + 1 :]):
                    is_fine = False
            if is_fine:
                return True
    return False


def test_search_agrees_with_trying_every_order() -> None:
    chance = random.Random(7)
    verdicts = set()
    for _ in range(1500):
        operations = []
        for number in range(chance.randint(1, 5)):
            called = chance.uniform(0, 5)
            is_open = chance.random() < 0.15
            kind = chance.choice((READ, WRITE, WRITE, CAS))
            answer = chance.choice(("-", "a", "b")) if kind == READ else chance.choice(("ok", "ok", "no"))
            if kind == WRITE:
                answer = "ok"
            if is_open and kind == READ:
                continue
            returned = INFINITY if is_open else called + chance.uniform(0.1, 4)
            operations.append(
                operation(kind, called, returned, chance.choice("ab"), None if is_open else answer, client=number)
            )
        expected = by_force(operations)
        assert is_linearizable(operations, 1_000_000) is expected, operations
        verdicts.add(expected)
    assert verdicts == {True, False}


def test_a_stale_read_is_found() -> None:
    history = [operation(WRITE, 0, 1, "a", "ok"), operation(WRITE, 2, 3, "b", "ok"), operation(READ, 4, 5, "", "a")]
    with pytest.raises(Violation, match="LIN"):
        check(history)


def test_the_witness_refuses_what_comes_before_something_that_ended_before() -> None:
    ghost = Ghost(Configuration(voters=(Peer("n1"),)), has_sessions=True)
    late = operation(READ, 4, 5, "", "-")
    late.floor, late.position = 8, 7
    with pytest.raises(Violation, match="I-21"):
        witness(ghost, late)
