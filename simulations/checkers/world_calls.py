"""Questions between nodes: what a question ends with is the answer that was made for it.

An answer that went to another question is seldom seen from outside: one "done" looks like the other. So every answer is
known here by its bytes, with the questions that it was made for. Equal answers to different questions are no matter.
"""

from __future__ import annotations

import hashlib

from simulations.checkers.violation import Violation

KILLER = "W-23"


class Answers:
    """Told by `world_calls_spy`. ``asker`` stands for one life of one node, as long as it lives."""

    def __init__(self) -> None:
        self._asked: dict[tuple[int, int], bytes] = {}
        self._made: dict[bytes, set[bytes]] = {}

    def asked(self, asker: int, number: int, kind: str, question: bytes) -> None:
        """A question is about to leave."""
        self._asked[asker, number] = _digest(kind.encode(), question)

    def made(self, kind: str, question: bytes, answer: bytes) -> None:
        """An answer, as it goes back, was made."""
        self._made.setdefault(_digest(answer), set()).add(_digest(kind.encode(), question))

    def told(self, asker: int, number: int, answer: bytes, who: str) -> None:
        """A question that waits ends with this. Raises Violation."""
        if self._asked[asker, number] not in self._made.get(_digest(answer), ()):
            raise Violation(KILLER, "the answer to another question", who, number, answer[:80])


def _digest(*parts: bytes) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "big"))
        found.update(part)
    return found.digest()
