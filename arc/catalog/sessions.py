"""First results of proposals that may be asked again (P-30): per client the last accepted one.

A refusal is not remembered, because it changed nothing: asking again is safe and may have become possible. Only that
of a retry is: its proposer will be told no, and a copy of his first attempt that still travels must not make it yes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from arc.catalog.commands import Once
from arc.catalog.persistent import frozen, thawed
from arc.catalog.results import Refusal, Result

CLIENTS_MAX = 4_096
"""All lanes of 64 nodes (`arc.cluster.lanes`). The client whose last success is the oldest is forgotten first.

Forgetting is safe at any size: see `first_result`.
"""

CLIENT_CHARS_MAX = 256

Sessions = Mapping[str, tuple[int, Result]]
"""Client to (its last sequence, the result)."""


def first_result(state: Sessions, command: Once) -> Result | None:
    """The result of an earlier acceptance of this very command; None when it is new.

    Raises Refusal for an older one, and where it cannot be told whether it is new. A client is forgotten only when the
    table is full, and always the one with the lowest index; so whatever was ever forgotten is below every index that
    is left. A command that its client asked for first when he knew an index at or above the lowest one left can not
    have been accepted and forgotten before: it would have an index above that one, and would still be here.
    """
    if not 1 <= len(command.client) <= CLIENT_CHARS_MAX:
        raise Refusal("invalid", f"a client's name must have 1 to {CLIENT_CHARS_MAX} characters")
    known = state.get(command.client)
    if known is None:
        if len(state) >= CLIENTS_MAX and command.asked_after < _oldest(state):
            raise Refusal(
                "client_forgotten",
                f"client {command.client!r} is not known any more: whether its request {command.sequence} took effect "
                "cannot be told",
            )
        return None
    if command.sequence > known[0]:
        return None
    if command.sequence < known[0]:
        raise Refusal(
            "stale_request", f"client {command.client!r} is at {known[0]} already and asks for {command.sequence}"
        )
    return known[1]


def remember(state: Sessions, command: Once, result: Result) -> Sessions:
    """Keep a result. The order of the table is that of the indexes, so the oldest is the first."""
    assert result.ok or command.is_retry, "what changed nothing may be asked again"
    after = thawed(state)
    after.pop(command.client, None)
    after[command.client] = (command.sequence, result)
    if len(after) > CLIENTS_MAX:
        del after[next(iter(after))]
    return frozen(after)


def in_order(rows: Iterable[tuple[str, tuple[int, Result]]]) -> Sessions:
    """The table of these rows, whatever their order: an earlier version kept another one."""
    return frozen(dict(sorted(rows, key=lambda row: row[1][1].index)))


def _oldest(state: Sessions) -> int:
    """The lowest index in the table."""
    return next(iter(state.values()))[1].index
