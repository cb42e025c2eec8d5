"""Where messages of replication cross from the transport to whoever is at work on this node: the sender of a reign, the
receiver of a follower, or nobody. It exists before both, because the transport does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from arc.replication.messages import Joiner, Message


class End(Protocol):
    """One end of the stream; `Sender` or `Receiver`."""

    def receive(self, peer: str, message: Message) -> None:
        """A peer said something. Never waits."""
        ...

    def progress(self, peer: str) -> None:
        """A part of a message came from a peer. Never waits."""
        ...

    def peer_up(self, name: str) -> None:
        """A node can be reached."""
        ...

    def peer_down(self, name: str) -> None:
        """A connection broke."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossingStatistics:
    """Messages since the start; ``nobody_total`` came while this node neither held the lease nor followed."""

    received_total: int
    nobody_total: int


class Replication:
    """Handlers for the transport's channel of rows."""

    def __init__(self) -> None:
        self._end: End | None = None
        self._joiners: dict[str, Joiner] = {}
        self._up: dict[str, None] = {}
        self._received = self._nobody = 0

    def __repr__(self) -> str:
        return f"<Replication {self._end!r} connected={sorted(self._up)}>"

    def receive(self, peer: str, payload: bytes) -> None:
        """Something came from a peer, in order. Raises ValueError when it is no message: close the stream."""
        message = self._joiners.setdefault(peer, Joiner()).join(payload)
        if message is None:
            if self._end is not None:
                self._end.progress(peer)
            return
        self._received += 1
        if self._end is None:
            self._nobody += 1
        else:
            self._end.receive(peer, message)

    def peer_up(self, name: str) -> None:
        """The connection to a peer stands."""
        self._up[name] = None
        self._joiners.pop(name, None)
        if self._end is not None:
            self._end.peer_up(name)

    def peer_down(self, name: str) -> None:
        """The connection to a peer broke."""
        self._up.pop(name, None)
        self._joiners.pop(name, None)
        if self._end is not None:
            self._end.peer_down(name)

    def connected(self) -> list[str]:
        """Peers that can be reached now."""
        return sorted(self._up)

    @contextmanager
    def at(self, end: End) -> Iterator[None]:
        """Messages are for ``end`` during the block."""
        assert self._end is None, (self._end, end)
        self._end = end
        try:
            yield
        finally:
            self._end = None

    def statistics(self) -> CrossingStatistics:
        """Numbers for status and metrics."""
        return CrossingStatistics(received_total=self._received, nobody_total=self._nobody)
