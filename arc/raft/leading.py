"""What only a leader has: it is made when a term is won and thrown away as a whole when the leadership ends.

That is the point of keeping it in one object: no flag of a transfer, no count of uncommitted bytes, no match index can
outlive the leadership it belongs to (K-38, K-43, K-91).
"""

from __future__ import annotations

from collections import deque

from arc.raft.events import Change, Request
from arc.raft.progress import Progress
from arc.raft.types import Configuration, Peer


class Handover:
    """A leadership transfer under way (dissertation, 3.10)."""

    __slots__ = ("deadline", "is_sent", "requests", "target")

    def __init__(self, target: Peer, requests: list[Request], deadline: float) -> None:
        self.target = target
        self.requests = requests
        self.deadline = deadline
        self.is_sent = False


class CatchUp:
    """New voters that follow as learners until they are close enough (dissertation, 4.2.1)."""

    __slots__ = ("changes", "deadline", "is_auto_leave", "peers", "request", "round", "round_end", "round_started_at")

    def __init__(
        self,
        request: Request,
        changes: tuple[Change, ...],
        peers: tuple[Peer, ...],
        *,
        is_auto_leave: bool,
        deadline: float,
    ) -> None:
        self.request = request
        self.changes = changes
        self.peers = peers
        self.is_auto_leave = is_auto_leave
        self.deadline = deadline
        self.round = 0
        self.round_end = 0
        self.round_started_at = 0.0


class WaitingRead:
    """A read that waits for a quorum to confirm the leadership. ``origin`` is None for a local one."""

    __slots__ = ("asked_at", "index", "origin", "request", "round", "token")

    def __init__(self, request: Request, origin: Peer | None, token: int, asked_at: float) -> None:
        self.request = request
        self.origin = origin
        self.token = token
        self.asked_at = asked_at
        self.index = 0
        self.round = 0


class Leading:
    """One leadership."""

    __slots__ = (
        "catch_up",
        "change_goal",
        "change_request",
        "confirmed_at",
        "confirmed_round",
        "handover",
        "heartbeat_at",
        "is_lease_void",
        "is_settled",
        "progress",
        "proposals",
        "quorum_at",
        "reads",
        "reads_early",
        "round",
        "rounds",
        "term_start",
        "uncommitted_bytes",
    )

    def __init__(self, term_start: int, now: float) -> None:
        self.term_start = term_start
        """Index of the empty entry that began the term."""
        self.progress: dict[Peer, Progress] = {}
        self.proposals: deque[tuple[int, Request, int]] = deque()
        """Uncommitted proposals as (index, request, payload bytes)."""
        self.uncommitted_bytes = 0
        self.is_settled = False
        """Nothing moved since the commit index was last computed."""
        self.round = 0
        self.rounds: deque[tuple[int, float]] = deque()
        """Rounds of heartbeats that may still be answered, as (number, started at)."""
        self.heartbeat_at = now
        self.confirmed_round = 0
        self.confirmed_at = float("-inf")
        """Start of the newest round that a quorum answered."""
        self.quorum_at = now
        """Since when no quorum was heard: the moment CheckQuorum counts from."""
        self.is_lease_void = False
        self.reads_early: list[WaitingRead] = []
        """Reads that came before the first commit of the term (X-03)."""
        self.reads: deque[WaitingRead] = deque()
        self.handover: Handover | None = None
        self.catch_up: CatchUp | None = None
        self.change_request: Request | None = None
        self.change_goal: Configuration | None = None
        """Whoever asked for the change in progress, and the configuration that completes it."""
