"""Messages that may not leave before a write survives: a promise goes out only when it can be kept (K-01 … K-05).

They are held by write id. When the write survives they leave, but for those whose term is over by then; when the disk
refuses the write they never do.
"""

from __future__ import annotations

from collections.abc import Callable

from arc.raft.messages import Message


class Outbox:
    """``send`` gives a message to the network: at once, never waiting, allowed to lose it."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._held: dict[int, list[Message]] = {}
        self._persisted = 0
        self.sent_total = 0

    def __repr__(self) -> str:
        return f"<Outbox held={self.held} persisted={self._persisted}>"

    @property
    def held(self) -> int:
        """Messages that wait."""
        return sum(map(len, self._held.values()))

    def put(self, message: Message, after: int | None) -> None:
        """Send it, once write ``after`` survives."""
        if after is not None and after > self._persisted:
            self._held.setdefault(after, []).append(message)
        else:
            self.sent_total += 1
            self._send(message)

    def persisted(self, write_id: int, term: int) -> None:
        """All writes up to this id survive; nobody needs what was said in a term before ``term``."""
        self._persisted = max(self._persisted, write_id)
        for after in sorted(self._held):
            if after > write_id:
                return
            for message in self._held.pop(after):
                if message.term >= term:
                    self.sent_total += 1
                    self._send(message)

    def refused(self, write_id: int) -> None:
        """What waits for this write or a later one promises entries that are not there (K-56).

        Whoever misses a message asks again.
        """
        for after in [after for after in self._held if after >= write_id]:
            del self._held[after]
