"""How often something may be done that costs others: retries in proportion to requests, things per second.

Both start full, so that the first burst after a quiet time passes; at the bound the answer is no, and it is counted.
"""

from __future__ import annotations

from arc.ports import Clock


class Budget:
    """Retries that may still be made: every request pays in a share of one, up to ``full``, where it starts."""

    def __init__(self, full: float) -> None:
        self._full = full
        self._left = full
        self.taken = 0
        self.refused = 0

    def pay_in(self, share: float) -> None:
        """Count a request."""
        self._left = min(self._full, self._left + share)

    def take(self) -> bool:
        """Whether there is one left; it is gone then."""
        if self._left < 1.0:
            self.refused += 1
            return False
        self._left -= 1.0
        self.taken += 1
        return True


class Bucket:
    """Lets ``per_second`` things pass in the long run and ``at_once`` after a pause."""

    def __init__(self, per_second: float, at_once: float, clock: Clock) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._clock = clock
        self._level = at_once
        self._updated = clock.now()
        self.taken = 0
        self.refused = 0

    def take(self) -> bool:
        """Whether one more may pass."""
        now = self._clock.now()
        self._level = min(self._at_once, self._level + (now - self._updated) * self._per_second)
        self._updated = now
        if self._level < 1.0:
            self.refused += 1
            return False
        self._level -= 1.0
        self.taken += 1
        return True
