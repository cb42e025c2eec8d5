"""What a leader knows and assumes about one follower (dissertation, 3.5 and 10.2.1).

PROBE: it is unknown where the logs part; one append at a time, answered before the next. REPLICATE: the follower
follows; ``next`` runs ahead of ``match`` within a window of messages and bytes. SNAPSHOT: what it needs is compacted
away; nothing is appended until the snapshot is in.

``match`` is what the follower has on disk and never falls within a leadership (I-13, I-14), except when the follower
itself says that its disk lost something.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum

from arc.raft.types import Peer, SnapshotMeta


class Pace(IntEnum):
    """How the leader talks to a follower."""

    PROBE = 1
    REPLICATE = 2
    SNAPSHOT = 3


class Transfer:
    """One snapshot on its way to one follower, piece by piece."""

    __slots__ = ("is_reading", "meta", "offset", "reached", "sent_at")

    def __init__(self, meta: SnapshotMeta, now: float) -> None:
        self.meta = meta
        self.offset = self.reached = 0
        """``reached``: how far it was before it had to begin again, if it had to."""
        self.is_reading = False
        self.sent_at = now


class Progress:
    """State of one follower. Changed only by the methods, read everywhere."""

    __slots__ = (
        "_in_flight",
        "commit_told",
        "contact_at",
        "in_flight_bytes",
        "is_probe_sent",
        "match",
        "must_send",
        "next",
        "pace",
        "peer",
        "reading",
        "rebuilt_at",
        "round_acked",
        "round_sent",
        "transfer",
        "trust_round",
    )

    def __init__(self, peer: Peer, next_index: int, now: float) -> None:
        self.peer = peer
        self.match = 0
        self.next = next_index
        self.pace = Pace.PROBE
        self.is_probe_sent = False
        self.must_send = False
        """Send even if there is nothing new: the answer shows where the follower stands."""
        self.round_acked = 0
        self.round_sent = 0
        """Round in which the last append was sent: the answer to a later heartbeat should not come before its own."""
        self.contact_at = now
        """A new follower is given one window before its silence counts (Q-05)."""
        self.trust_round = 0
        """Acknowledgements of earlier rounds are void: the follower's disk lost what they were for."""
        self.commit_told = 0
        self.reading = 0
        """Token of a disk read for this follower, 0 for none."""
        self.transfer: Transfer | None = None
        self.rebuilt_at: float | None = None
        """From the begin of a snapshot until it needs none any more: when it last took a piece of it, or of the log."""
        self._in_flight: deque[tuple[int, int]] = deque()
        self.in_flight_bytes = 0

    def __repr__(self) -> str:
        return f"<{self.peer} {self.pace.name.lower()} match={self.match} next={self.next} flying={self.in_flight}>"

    @property
    def in_flight(self) -> int:
        """Messages of the window that are in use."""
        return len(self._in_flight)

    def is_open(self, messages_max: int, bytes_max: int) -> bool:
        """Whether an append may be sent now."""
        if self.pace is Pace.REPLICATE:
            return len(self._in_flight) < messages_max and self.in_flight_bytes < bytes_max
        return self.pace is Pace.PROBE and not self.is_probe_sent

    def sent(self, last_index: int, size_bytes: int) -> None:
        """An append with entries up to ``last_index`` left (``next`` - 1: it had none)."""
        self.must_send = False
        if self.pace is Pace.PROBE:
            self.is_probe_sent = True
        elif last_index >= self.next:
            self._in_flight.append((last_index, size_bytes))
            self.in_flight_bytes += size_bytes
            self.next = last_index + 1

    def accept(self, match: int) -> bool:
        """The follower holds everything up to ``match``. Says whether that is news."""
        while self._in_flight and self._in_flight[0][0] <= match:
            self.in_flight_bytes -= self._in_flight.popleft()[1]
        is_news = match > self.match
        if is_news:
            self.match = match
        self.next = max(self.next, match + 1)
        return is_news

    def reject(self, prev_index: int, retry_next: int) -> bool:
        """The follower does not hold ``prev_index``. Says whether to believe it; late answers change nothing (R-07)."""
        if self.pace is Pace.REPLICATE:
            if prev_index <= self.match:
                return False
            self.probe()
            self.next = max(min(retry_next, prev_index), self.match + 1)
            return True
        if self.pace is not Pace.PROBE or prev_index != self.next - 1 or prev_index <= self.match:
            return False
        self.next = max(min(retry_next, prev_index), self.match + 1)
        self.is_probe_sent = False
        return True

    def probe(self) -> None:
        """Find out again where the follower stands, from what is known for certain."""
        if self.transfer is not None and self.pace is Pace.SNAPSHOT:
            self.next = max(self.match + 1, self.transfer.meta.index + 1)
        else:
            self.next = self.match + 1
        self._leave(Pace.PROBE)

    def replicate(self) -> None:
        """The logs agree up to ``match``: stream."""
        self.next = self.match + 1
        self._leave(Pace.REPLICATE)

    def snapshot(self, meta: SnapshotMeta, now: float) -> None:
        """Send a snapshot and nothing else."""
        self._leave(Pace.SNAPSHOT)
        self.transfer = Transfer(meta, now)
        self.rebuilt_at = now

    def took(self, now: float, newest: SnapshotMeta | None) -> None:
        """It took something new; whoever holds what the ``newest`` snapshot stands for needs none."""
        if self.rebuilt_at is not None:
            is_level = self.transfer is None and newest is not None and self.match >= newest.index
            self.rebuilt_at = None if is_level else now

    def free_first(self) -> None:
        """A heartbeat came back while the window was full: let one message through (F-01, K-41)."""
        if self._in_flight:
            self.in_flight_bytes -= self._in_flight.popleft()[1]

    def forget(self, above: int, next_index: int, trust_round: int) -> None:
        """The follower's disk lost what it had acknowledged: the one case in which ``match`` falls.

        Its older answers may still be under way; they would bring back what is lost.
        """
        self.trust_round = trust_round
        self.match = min(self.match, above)
        self.next = next_index
        self._leave(Pace.PROBE)

    def _leave(self, pace: Pace) -> None:
        self.pace = pace
        self.is_probe_sent = False
        self.must_send = False
        self.transfer = None
        self.reading = 0
        self._in_flight.clear()
        self.in_flight_bytes = 0
