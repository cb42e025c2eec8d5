"""The high watermark: up to where records are durable on every node that could take over.

It is the lowest of what the members of the in-sync set have on disk. While a change of the set is asked for and its
outcome is not known, both sets count: whichever of them is agreed on, whoever of it takes over has every record below
the watermark. It never goes back.

Pure: what was heard goes in, one number comes out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Watermark:
    """Of one reign of ``me``, which begins with ``high`` known from before and the set that the catalog has."""

    def __init__(self, me: str, members: Iterable[str], *, high: int) -> None:
        self._me = me
        self._agreed = frozenset(members)
        self._proposed: frozenset[str] | None = None
        self._durable: dict[str, int] = {}
        self.high = high
        assert me in self._agreed, (me, self._agreed)

    def __repr__(self) -> str:
        told = " ".join(f"{name}:{self.durable(name)}" for name in sorted(self.counted))
        return f"<Watermark {self.high} of {told}>"

    @property
    def agreed(self) -> frozenset[str]:
        """The in-sync set as the catalog here has it."""
        return self._agreed

    @property
    def counted(self) -> frozenset[str]:
        """All that must have a record before it counts."""
        return self._agreed if self._proposed is None else self._agreed | self._proposed

    @property
    def in_sync(self) -> int:
        """How many nodes are in sync for sure: of the two sets the smaller one."""
        return len(self._agreed) if self._proposed is None else min(len(self._agreed), len(self._proposed))

    def durable(self, name: str) -> int:
        """The last record known to be durable there; 0 when nothing was heard in this reign."""
        return self._durable.get(name, 0)

    def wrote(self, name: str, through: int) -> bool:
        """A node has the holder's records up to here on its disk. Returns whether the watermark moved."""
        self._durable[name] = through
        return self._advance()

    def propose(self, members: Collection[str]) -> None:
        """Another set is going to be asked for: from now on both count."""
        assert self._proposed is None and self._me in members, (self, members)
        self._proposed = frozenset(members)

    def settle(self) -> bool:
        """What was asked for has an outcome, and `agree` has told it if it is new. Returns whether the watermark
        moved.
        """
        self._proposed = None
        return self._advance()

    def agree(self, members: Iterable[str]) -> bool:
        """The catalog has this set now. Returns whether the watermark moved."""
        self._agreed = frozenset(members)
        assert self._me in self._agreed, (self._me, self._agreed)
        return self._advance()

    def _advance(self) -> bool:
        before = self.high
        self.high = max(before, min(map(self.durable, self.counted)))
        return self.high > before
