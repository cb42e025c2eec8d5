"""Whether a node may be let go while it lives: what would go with it. The node is asked, because it knows best.

`Leaving` waits until others have the files; whoever removes a node that lives is told instead, and decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import cbor2

from arc.errors import InvalidRequest

KIND = "files-only-there"
"""Of the question between nodes."""

ASK_SECONDS = 30.0
"""The node asks each of the others in turn."""


class Ask(Protocol):
    """`cluster.calls.Calls.call`."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The answer. Raises Unavailable, OutcomeUnknown, and what was raised there."""
        ...


class Farewells:
    """Asks a node which files are on it alone, and answers that of this one (``only_here``)."""

    def __init__(self, only_here: Callable[[], Awaitable[Sequence[str]]], ask: Ask) -> None:
        self._only_here = only_here
        self._ask = ask

    async def answer(self, question: bytes) -> bytes:
        """How many, and the first of them."""
        found = await self._only_here()
        answer: bytes = cbor2.dumps([len(found), *found[:1]])
        return answer

    async def __call__(self, name: str) -> tuple[int, str]:
        """How many files are on that node alone, and the first of them. Raises ArcError: it does not say."""
        answer = await self._ask(name, KIND, b"", timeout_seconds=ASK_SECONDS)
        try:
            match cbor2.loads(answer):
                case [0]:
                    return 0, ""
                case [int(count), str(first)] if count > 0:
                    return count, first
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise InvalidRequest(f"{name} gave an answer that cannot be read: {error}") from error
        raise InvalidRequest(f"{name} gave an answer that cannot be read")
