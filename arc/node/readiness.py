"""What this node may do now, for load balancers, gates and pages: one place for every reason not to.

Reasons come from the parts whose matter they are, asked anew each time, so none can be forgotten when it is gone. A
node that passes writes on to the one that takes them is ready; whether it takes them itself is another question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from arc.catalog.roles import NodeRole
from arc.errors import Unavailable
from arc.ids import Position

SEEN_SECONDS = 5.0
"""How long a query waits to see what its caller has seen. A healthy node needs milliseconds; a client's patience is
longer.
"""


class Rows(Protocol):
    """The rows of this node; `duties.WriterDuty`."""

    @property
    def closed_because(self) -> str | None:
        """Why no writes are taken; None while they are."""
        ...

    @property
    def behind(self) -> str | None:
        """Why queries may lack acknowledged rows; None when they cannot."""
        ...

    @property
    def inherited_sequence(self) -> int:
        """On the holder of the writer lease: the last record that holders before it may have acknowledged."""
        ...

    async def wait_admitted(self, sequence: int) -> None:
        """Return once queries here see that record."""
        ...

    async def flush_all(self) -> None:
        """Write every buffered row to files. Raises Unavailable."""
        ...


class WaitIndex(Protocol):
    """`cluster.feed.Feed.wait_index`."""

    async def __call__(self, index: int, /) -> object:
        """Return once the catalog has reached the index."""
        ...


class Readiness:
    """``membership`` says why this node does not take part in its cluster as it should; None when it does. ``holds``:
    whether it holds the writer lease. ``forwards``: whether requests that are not for it go to whom they are for.
    """

    def __init__(
        self,
        rows: Rows,
        wait_index: WaitIndex,
        *,
        role: NodeRole,
        membership: Callable[[], str | None],
        holds: Callable[[], bool],
        forwards: bool,
    ) -> None:
        self._rows = rows
        self._wait_index = wait_index
        self._role = role
        self._membership = membership
        self._holds = holds
        self._forwards = forwards
        self.starting: str | None = "the node is starting"
        self.stopping = False

    def __repr__(self) -> str:
        return f"<Readiness {self.not_ready() or 'ready'}>"

    def behind(self) -> str | None:
        """Why the catalog here may lack what was agreed on long ago; None once it has caught up after the start."""
        return self.starting

    def not_ready(self) -> str | None:
        """Why nothing should be sent here; None when this node serves, itself or by passing on."""
        if not self._forwards:
            return self.refuses_writes() or self.refuses_queries()
        if not self._holds():
            return self._refuses_all()
        # The holder is where writes and strong queries end up: there is nobody to pass them on to.
        return self.refuses_writes() or self._rows.behind

    def refuses_writes(self) -> str | None:
        """Why this node itself takes no writes; None when it does."""
        return self._refuses_all() or self._rows.closed_because

    def refuses_queries(self) -> str | None:
        """Why this node itself answers no queries; None when it does."""
        if not self._role.capabilities.can_query:
            return self._refuses_all() or f"this node is a {self._role}"
        return self._refuses_all() or self._rows.behind

    def _refuses_all(self) -> str | None:
        return self.starting or ("the node is stopping" if self.stopping else self._membership())

    async def wait_seen(self, position: Position | None, index: int | None, *, is_strong: bool = False) -> None:
        """Return once queries here see that write and that entry of the catalog. With ``is_strong``, on the holder of
        the writer lease: and all that was acknowledged before this call. Raises Unavailable when not soon.

        A holder has what it acknowledged itself in sight. Of what others acknowledged before it, it has all in its log;
        it shows the last of that only once the in-sync set has told that it has it too, which takes as long as it takes
        to leave out a member that died with the holder before.
        """
        with trio.move_on_after(SEEN_SECONDS):
            if index is not None:
                await self._wait_index(index)
            if position is not None:
                # An epoch is the index of its grant: who has applied it knows of no later rows under an older one.
                await self._wait_index(position.epoch)
                await self._rows.wait_admitted(position.sequence)
            if is_strong:
                await self._rows.wait_admitted(self._rows.inherited_sequence)
            return
        what = "all that was acknowledged before" if is_strong else f"position {position} or index {index}"
        raise Unavailable(f"this node has not seen {what} within {SEEN_SECONDS:g} s", code="not_seen_yet")

    async def flush_all(self) -> None:
        """Write every buffered row to files. Raises Unavailable."""
        await self._rows.flush_all()
