"""Who did what to the cluster: the last acts of administrators, the same list on every node.

An act that is a command is remembered in the entry of the log that carries it out, so there is neither an act without
its line nor a line without its act. Ids are indexes of the log. Secrets never come here: an act says what it was about
in words its proposer chose (`arc.api.audit`), and tokens are named by id and name.
"""

from __future__ import annotations

from dataclasses import dataclass

from arc.catalog.access_commands import Audited
from arc.catalog.results import Value

ENTRIES_KEPT = 5_000
"""Older ones are forgotten; each was an event in the log of the node that was asked, too."""

TEXT_CHARS_MAX = 256
"""Of each text; what is longer is cut."""

DETAIL_CHARS_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act. ``status`` is the HTTP status of its answer, 0 when it was remembered before; ``detail`` is JSON.

    ``value`` is what the command answered: the id of what was made.
    """

    id: int
    at_us: int
    event_type: str
    actor: str
    token_id: int | None
    method: str
    path: str
    database: str
    measurement: str
    status: int
    client: str
    user_agent: str
    duration_ms: int
    detail: str
    value: int | str | None = None


Audit = tuple[AuditEntry, ...]
"""Oldest first."""


def remember(state: Audit, index: int, act: Audited, value: Value) -> Audit:
    """One more, and the oldest goes when there are too many."""
    entry = AuditEntry(
        id=index,
        at_us=act.at_us,
        event_type=act.event_type[:TEXT_CHARS_MAX],
        actor=act.actor[:TEXT_CHARS_MAX],
        token_id=act.token_id,
        method=act.method[:TEXT_CHARS_MAX],
        path=act.path[:TEXT_CHARS_MAX],
        database=act.database[:TEXT_CHARS_MAX],
        measurement=act.measurement[:TEXT_CHARS_MAX],
        status=act.status,
        client=act.client[:TEXT_CHARS_MAX],
        user_agent=act.user_agent[:TEXT_CHARS_MAX],
        duration_ms=act.duration_ms,
        detail=act.detail[:DETAIL_CHARS_MAX],
        value=value,
    )
    return (*state, entry)[-ENTRIES_KEPT:]
