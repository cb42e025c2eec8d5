"""Everybody who asked the driver for something and waits: each gets exactly one answer, or one error.

A proposal goes three steps: it waits for the core, it waits for agreement, it waits for the state machine. Which of
them it reached decides what its proposer is told when this node stops: nothing was stored, or nobody knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import trio

from arc.errors import (
    ArcError,
    Conflict,
    InvalidRequest,
    NoLeaderKnown,
    NotCoordinator,
    OutcomeUnknown,
    Overloaded,
    TooLarge,
    Unavailable,
)
from arc.raft.effects import Committed, NotLeader, Refused, Unknown
from arc.raft.types import Entry

WAITING_MAX = 10_000
"""Proposals that wait for the core, and as many reads."""

BATCH_COMMANDS_MAX = 1024
BATCH_BYTES_MAX = 1 << 20
"""Proposals that go into one step, hence into one write and one message per follower."""


class Proposed(NamedTuple):
    """A command that was agreed on and applied here: where, and what the state machine said."""

    index: int  # type: ignore[assignment]
    term: int
    result: object


class NotLeading(NotCoordinator):
    """Nothing happened; ``leader`` is the name of the node to ask."""

    def __init__(self, message: str, leader: str) -> None:
        super().__init__(message)
        self.leader = leader


Then: TypeAlias = Callable[[object, ArcError | None], None]
"""Hears the result or the error, in the middle of the driver's turn: quick, and never raising."""


class Asked:
    """Somebody who waits, or who left word. Equal only to itself.

    ``payload`` is the command of a proposal, None for anything else.
    """

    __slots__ = ("_done", "_error", "_is_settled", "_result", "_then", "is_abandoned", "payload")

    def __init__(self, payload: bytes | None, then: Then | None = None) -> None:
        self.payload = payload
        self.is_abandoned = False
        self._then = then
        self._done: trio.Event | None = None  # Made by whoever waits: most have left word.
        self._is_settled = False
        self._result: object = None
        self._error: ArcError | None = None

    async def wait(self) -> object:
        """The result. Raises what it was refused with; a cancelled caller loses the answer and nothing else."""
        self._done = trio.Event()
        if self._is_settled:
            self._done.set()
        try:
            await self._done.wait()
        except trio.Cancelled:
            self.is_abandoned = True
            raise
        if self._error is not None:
            raise self._error
        return self._result

    def settle(self, result: object, error: ArcError | None) -> None:
        """Tell the result or the error."""
        assert not self._is_settled, "one answer each"
        self._is_settled = True
        self._result, self._error = result, error
        if self._then is not None:
            self._then(result, error)
        elif self._done is not None:
            self._done.set()


class Requests:
    """The book of who waits for what."""

    def __init__(self) -> None:
        self.closed_because: str | None = "consensus has not started yet"
        self.waiting: deque[Asked] = deque()
        """Proposals that the core has not seen."""
        self.readers: list[Asked] = []
        """Reads that the core has not seen."""
        self._open: dict[Asked, None] = {}
        """Everything else without an answer; a dict, because a set would be walked in another order every run."""
        self._agreed: dict[int, tuple[int, Asked]] = {}
        """Index -> term and proposal that is agreed on and not yet applied here."""

    def propose(self, payload: bytes, then: Then | None = None) -> Asked:
        """Queue a proposal; ``then`` hears what became of it. Raises Unavailable, Overloaded; nothing happened then."""
        if len(self.waiting) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} proposals are waiting already; nothing was stored")
        self._check()
        asked = Asked(payload, then)
        self.waiting.append(asked)
        return asked

    def ask(self) -> Asked:
        """Note a request of another kind, which goes to the core at once. Raises Unavailable."""
        self._check()
        asked = Asked(None)
        self._open[asked] = None
        return asked

    def read(self, then: Then | None = None) -> Asked:
        """Queue a read; ``then`` hears what became of it. Raises Unavailable, Overloaded."""
        if len(self.readers) >= WAITING_MAX:
            raise Overloaded(f"{WAITING_MAX} reads are waiting already")
        self._check()
        asked = Asked(None, then)
        self.readers.append(asked)
        return asked

    def take_readers(self) -> Asked:
        """All who wait to read as one request: what the leader confirms after the last of them asked holds for each."""
        readers, self.readers = self.readers, []

        def then(result: object, error: ArcError | None) -> None:
            for each in readers:
                each.settle(result, error)

        asked = Asked(None, then)
        self._open[asked] = None
        return asked

    def take_batch(self) -> tuple[tuple[Asked, bytes], ...]:
        """The next proposals for the core, without those whose callers have gone."""
        batch: list[tuple[Asked, bytes]] = []
        size = 0
        while self.waiting and len(batch) < BATCH_COMMANDS_MAX and size < BATCH_BYTES_MAX:
            asked = self.waiting.popleft()
            assert asked.payload is not None, asked
            if not asked.is_abandoned:
                self._open[asked] = None
                batch.append((asked, asked.payload))
                size += len(asked.payload)
        return tuple(batch)

    def answered(self, asked: Asked, result: object, applied: int) -> None:
        """The core answered. A proposal that was agreed on still waits for its result, unless it is applied already."""
        if type(result) is Committed and asked.payload is not None:
            assert result.index > applied, (result, applied)  # The core answers before it hands the entry on.
            self._agreed[result.index] = (result.term, asked)
            return
        del self._open[asked]
        asked.settle(result, error_of(result))

    def applied(self, entry: Entry, result: object) -> None:
        """An entry went through the state machine."""
        if entry.index in self._agreed:
            term, asked = self._agreed.pop(entry.index)
            assert entry.term == term, (entry, term)  # I-26
            del self._open[asked]
            asked.settle(Proposed(entry.index, term, result), None)

    def skipped(self, index: int) -> None:
        """A snapshot replaces the state machine: what was agreed on up to there stands, its results went by."""
        for each in [each for each in self._agreed if each <= index]:
            _, asked = self._agreed.pop(each)
            del self._open[asked]
            asked.settle(None, OutcomeUnknown("it was agreed on, but its result went by in a snapshot"))

    def close(self, reason: str) -> None:
        """Answer everybody; nobody may ask any more."""
        self.closed_because = reason
        for asked in self.waiting:
            asked.settle(None, Unavailable(f"{reason}; nothing was stored"))
        for asked in self.readers:
            asked.settle(None, Unavailable(reason))
        for asked in self._open:
            asked.settle(None, OutcomeUnknown(f"{reason}; whether it happened is not known here"))
        self.waiting.clear()
        self.readers.clear()
        self._open.clear()
        self._agreed.clear()

    def _check(self) -> None:
        if self.closed_because is not None:
            raise Unavailable(self.closed_because)


def error_of(result: object) -> ArcError | None:
    """The error that a core's answer stands for; None for a good one."""
    match result:
        case NotLeader(leader=None):
            return NoLeaderKnown("no leader is known now; an election may be under way")
        case NotLeader(leader=leader) if leader is not None:
            return NotLeading(f"this node does not lead; {leader.name} does", leader.name)
        case Unknown(index, term):
            return OutcomeUnknown(
                f"leadership was lost before entry {index} of term {term} was agreed on; it may still happen"
            )
        case Refused(code, message):
            return _REFUSALS[code](message)
        case _:
            return None


def _disk_full(message: str) -> ArcError:
    return Overloaded(message, code="disk_full", retry_after_seconds=5)


def _transferring(message: str) -> ArcError:
    return Unavailable(message, code="transferring")


_REFUSALS: dict[str, Callable[[str], ArcError]] = {
    "overloaded": Overloaded,
    "too_large": TooLarge,
    "transferring": _transferring,
    "no_space": _disk_full,
    "conflict": Conflict,
    "invalid": InvalidRequest,
    "unavailable": Unavailable,
}
