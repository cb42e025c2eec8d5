"""How long to wait before asking for more bytes, so that one session carries no more than it may: a token bucket.

Pure: the time is given. Who asks is let in at once as long as there are tokens, and may leave a debt that the next one
waits for; so a piece of any size goes through, and the rate holds over every second or more.
"""

from __future__ import annotations

BURST_SECONDS = 0.25
"""What may go at once after a silence, in seconds of the rate."""

BUCKETS_MAX = 256
"""Beyond it full buckets are forgotten, which changes nothing."""


class Bucket:
    """Tokens are bytes; ``rate`` of them come every second."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        assert rate > 0
        self._rate = rate
        self._tokens = rate * BURST_SECONDS
        self._at = now

    def __repr__(self) -> str:
        return f"<Bucket {self._tokens:.0f} of {self._rate * BURST_SECONDS:.0f}>"

    def reserve(self, size: int, now: float) -> float:
        """Take ``size`` tokens; they may be used after this many seconds."""
        self._fill(now)
        self._tokens -= size
        return max(0.0, -self._tokens / self._rate)

    def is_full(self, now: float) -> bool:
        """Whether it is as good as new."""
        self._fill(now)
        return self._tokens >= self._rate * BURST_SECONDS

    def _fill(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._tokens = min(self._rate * BURST_SECONDS, self._tokens + passed * self._rate)
        self._at = now


class Bandwidth:
    """A bucket for every session. ``rate`` in bytes per second; 0: no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._buckets: dict[str, Bucket] = {}

    def __repr__(self) -> str:
        return f"<Bandwidth {self._rate or 'unlimited'} peers={len(self._buckets)}>"

    def reserve(self, peer: str, size: int, now: float) -> float:
        """Seconds to wait before ``size`` bytes are asked of a peer."""
        if not self._rate:
            return 0.0
        if peer not in self._buckets and len(self._buckets) >= BUCKETS_MAX:
            self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.is_full(now)}
        return self._buckets.setdefault(peer, Bucket(self._rate, now)).reserve(size, now)
