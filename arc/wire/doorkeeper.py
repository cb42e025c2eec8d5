"""Who may come in and say who he is: handshakes at once, and attempts in a time, by the host they come from.

A handshake that succeeds gives its attempt back, so that only strangers run out of them. What no longer fits into the
tables is refused: a flood from many hosts must not open the door.
"""

from __future__ import annotations

from collections import Counter

from arc.ports import Clock

HANDSHAKES_MAX = 64
"""At once; a handshake takes some milliseconds, and a stranger is cut off after two seconds."""

HANDSHAKES_PER_HOST_MAX = 32

ATTEMPTS_MAX = 64.0
ATTEMPTS_PER_SECOND = 8.0
"""Failures that a host may have at once, and how fast they are forgotten."""

HOSTS_MAX = 1024


class Doorkeeper:
    """Counts and bounds handshakes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inside: Counter[str] = Counter()
        self._spent: dict[str, tuple[float, float]] = {}
        """Host → attempts spent, and when that was so."""

    def __repr__(self) -> str:
        return f"<Doorkeeper inside={self.inside} hosts={len(self._spent)}>"

    @property
    def inside(self) -> int:
        """Handshakes under way."""
        return self._inside.total()

    def refuses(self, host: str) -> str | None:
        """Let in a connection, to be ended by `leave`; or why not."""
        if self.inside >= HANDSHAKES_MAX or self._inside[host] >= HANDSHAKES_PER_HOST_MAX:
            return "too_many"
        spent = self._now_spent(host)
        if spent + 1 > ATTEMPTS_MAX or (host not in self._spent and not self._has_place()):
            return "too_fast"
        self._spent[host] = (spent + 1, self._clock.now())
        self._inside[host] += 1
        return None

    def leave(self, host: str, *, is_known: bool) -> None:
        """A handshake ended; ``is_known``: with a peer."""
        self._inside[host] -= 1
        if not self._inside[host]:
            del self._inside[host]
        if is_known:
            spent = self._now_spent(host) - 1
            if spent > 0:
                self._spent[host] = (spent, self._clock.now())
            else:
                self._spent.pop(host, None)

    def _now_spent(self, host: str) -> float:
        spent, at = self._spent.get(host, (0.0, 0.0))
        return max(0.0, spent - (self._clock.now() - at) * ATTEMPTS_PER_SECOND)

    def _has_place(self) -> bool:
        if len(self._spent) >= HOSTS_MAX:
            for host in [host for host in self._spent if not self._now_spent(host)]:
                del self._spent[host]
        return len(self._spent) < HOSTS_MAX
