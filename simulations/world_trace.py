"""Everything that happened in a world, in order: a digest always, lines for people when asked for.

What goes in here is what must be the same when the run is repeated: every operation on a disk, a network or a worker,
every fault, every answer to a client, each with its time. Paths of this machine and wall clocks never do.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import trio


class Trace:
    """``events`` counts what was noted, ``who`` did the newest; ``lines`` are kept only when ``is_told``."""

    def __init__(self, *, is_told: bool = False) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._is_told = is_told
        self.events = 0
        self.who = ""
        self.lines: list[str] = []
        self.probes: Counter[str] = Counter()

    def note(self, who: str, what: str, *facts: object) -> None:
        """Something happened now."""
        line = f"{trio.current_time():.9f} {who} {what} {' '.join(map(str, facts))}"
        self.events += 1
        self.who = who
        self._digest.update(line.encode())
        if self._is_told:
            self.lines.append(line)

    def probe(self, name: str) -> None:
        """Something worth reaching was reached."""
        self.probes[name] += 1

    @property
    def digest(self) -> str:
        """Of all events so far."""
        return self._digest.hexdigest()
