"""Chance, repeatable: one root seed, and a stream of its own for everything that draws.

A draw more in one stream shifts no other, so an old failing seed keeps its meaning longer and shrinking stays local.
Streams are derived by a hash of (seed, name) and never by ``hash()``, which differs between processes.
"""

from __future__ import annotations

import hashlib
import random


class Stream(random.Random):
    """A named stream of chance; also an `arc.ports.Rng`, so a core may draw from it."""

    def bytes(self, count: int) -> bytes:
        """Repeatable bytes."""
        return self.randbytes(count)


def stream(seed: int, name: str) -> Stream:
    """The stream of that name below the root seed."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
    return Stream(int.from_bytes(digest, "little"))
