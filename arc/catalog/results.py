"""What applying a command answers.

Done, or refused with a stable code. A refusal is a value, because it must be equal everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from arc.catalog.events import Event
from arc.errors import ArcError, Conflict, InvalidRequest, NotFound, OutcomeUnknown, TooLarge

FAMILIES: dict[str, type[ArcError]] = {
    "invalid": InvalidRequest,
    "not_found": NotFound,
    "too_many": TooLarge,
    "conflict": Conflict,
    "exists": Conflict,
    "schema_conflict": Conflict,
    "stale_epoch": Conflict,
    "stale_request": Conflict,
    "client_forgotten": OutcomeUnknown,
    "stale_members": Conflict,
    "not_in_sync": Conflict,
    "backward_mark": Conflict,
    "already_flushed": Conflict,
    "duplicate_path": Conflict,
    "file_gone": Conflict,
}
"""Every code a refusal may carry, and the error it becomes for the proposer."""

Value = int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The answer to one command. ``index`` is its place in the log (0 when it was refused before it was logged)."""

    ok: bool
    code: str = ""
    message: str = ""
    value: Value = None
    index: int = 0

    def unwrap(self) -> Value:
        """Return the value of an accepted command.

        Raises Conflict, InvalidRequest, NotFound, TooLarge or OutcomeUnknown for a refused one.
        """
        if self.ok:
            return self.value
        raise FAMILIES[self.code](self.message, code=self.code)


class Refusal(Exception):
    """How a part of the state machine says no; never leaves `ClusterFSM.apply`."""

    def __init__(self, code: str, message: str) -> None:
        assert code in FAMILIES, code
        super().__init__(message)
        self.code = code
        self.message = message


State = TypeVar("State")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[State]):
    """What one part made of a command it accepted.

    Its new state (the same object if nothing changed) and what to tell.
    """

    state: State
    value: Value = None
    events: tuple[Event, ...] = ()
