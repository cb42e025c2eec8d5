"""Who goes for good waits until others have every file that he has, as the manifest tells it.

A file that a flush has just written is on one node. Before that one leaves, some node that stays has to hold it.
Whoever is leaving himself does not count: two that go together could otherwise rely on each other; nor does whoever
cannot be reached now, since nobody knows what is left of him. What a store has that all nodes share goes with nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import trio

from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.telemetry import Log

AGAIN_SECONDS = 0.5


def only_here(catalog: Catalog, me: str, reachable: Collection[str], is_here: Callable[[str], bool]) -> list[str]:
    """Files that ``me`` has, and no node that stays and can be reached, sorted."""
    staying = {
        name
        for name, known in catalog.nodes.items()
        if name != me and name in reachable and known.state != NodeState.LEAVING
    }
    return sorted(
        entry.path for entry in catalog.all_files() if staying.isdisjoint(entry.holders) and is_here(entry.path)
    )


class Holdings:
    """Of the node ``me``. ``others`` are the nodes that can be reached now; ``is_here`` tells of files on
    this disk that others could not fetch from a shared store.
    """

    def __init__(
        self,
        me: str,
        others: Callable[[], Sequence[str]],
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        log: Log,
    ) -> None:
        self._me = me
        self._others = others
        self._catalog = catalog
        self._is_here = is_here
        self._log = log.bind(component="holdings")

    def __repr__(self) -> str:
        return f"<Holdings of {self._me}>"

    async def only_here(self) -> list[str]:
        """`only_here` of this node now."""
        await trio.lowlevel.checkpoint()
        return only_here(self._catalog(), self._me, self._others(), self._is_here)

    async def wait_held_elsewhere(self) -> None:
        """Return when no file is on this node alone. The caller sets the time limit."""
        told = 0
        while left := await self.only_here():
            if len(left) != told:
                told = len(left)
                self._log.info("files_only_here", files=told, first=left[0])
            await trio.sleep(AGAIN_SECONDS)
