"""What this node has of one other node: what waits for it, the session with it, what a new one has to know."""

from __future__ import annotations

from arc.raft.types import Peer
from arc.wire.outbox import Outbox
from arc.wire.session import Bell, Session
from arc.wire.settlement import Standing


class Link:
    """One other node, by its name. Mutable; owned by the transport."""

    __slots__ = ("backoff", "bell", "is_proving", "known", "misses", "outbox", "peer", "session", "turn")

    def __init__(self, peer: Peer, backoff: float) -> None:
        self.peer = peer
        self.outbox = Outbox()
        self.bell = Bell()
        """Rings when something waits, and when a session begins or ends."""
        self.turn = Bell()
        """Rings only for the latter: whoever has nothing to do while a session stands sleeps through its messages."""
        self.session: Session | None = None
        self.known = b""
        """Name of the last session that stood here."""
        self.is_proving = False
        """Whether our own proof waits for its answer."""
        self.backoff = backoff
        self.misses = 0
        """How often it was dialled in vain: where it may be in several places, they take turns."""

    def __repr__(self) -> str:
        return f"<Link {self.peer} {self.session or 'no session'} {self.outbox}>"

    @property
    def standing(self) -> Standing | None:
        """The session, as a settlement sees it."""
        found = self.session
        return None if found is None else Standing(found.name, found.boot, found.is_dialled_here)
