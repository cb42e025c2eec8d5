"""First results of proposals that may be asked again (P-30): per client the last accepted one.

A refusal is not remembered, because it changed nothing: asking again is safe and may have become possible.
"""

from __future__ import annotations

from collections.abc import Mapping

from arc.catalog.commands import Once
from arc.catalog.persistent import frozen, thawed
from arc.catalog.results import Refusal, Result

CLIENTS_MAX = 1_000
"""The client whose last success is the oldest is forgotten first.

A proposer lives for one run of one node, so this is plenty.
"""

CLIENT_CHARS_MAX = 256

Sessions = Mapping[str, tuple[int, Result]]
"""Client to (its last sequence, the result)."""


def first_result(state: Sessions, command: Once) -> Result | None:
    """The result of an earlier acceptance of this very command; None when it is new.

    Raises Refusal for an older one.
    """
    if not 1 <= len(command.client) <= CLIENT_CHARS_MAX:
        raise Refusal("invalid", f"a client's name must have 1 to {CLIENT_CHARS_MAX} characters")
    known = state.get(command.client)
    if known is None or command.sequence > known[0]:
        return None
    if command.sequence < known[0]:
        raise Refusal(
            "stale_request", f"client {command.client!r} is at {known[0]} already and asks for {command.sequence}"
        )
    return known[1]


def remember(state: Sessions, command: Once, result: Result) -> Sessions:
    """Keep an accepted result."""
    assert result.ok, "only what changed something is remembered"
    after = thawed(state)
    after[command.client] = (command.sequence, result)
    if len(after) > CLIENTS_MAX:
        del after[min(after, key=lambda client: after[client][1].index)]
    return frozen(after)
