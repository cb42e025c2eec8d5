"""What holding the compactor lease obliges: a `Compactor` for the length of each grant, and none between.

Nothing has to be handed over. Whoever is given the lease finds what an earlier grant on this disk left by its receipts;
what was under way elsewhere is refused by the catalog, because its epoch is over.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from arc.catalog.leases import Lease
from arc.catalog.values import COMPACTOR
from arc.compaction.runner import Compactor
from arc.duties.standing import Feed
from arc.errors import Unavailable
from arc.ids import Epoch, NodeId
from arc.telemetry import Log


class CompactorDuty:
    """``build`` makes the compactor of one epoch."""

    def __init__(self, node: NodeId, feed: Feed, build: Callable[[Epoch], Compactor], log: Log) -> None:
        self._node, self._feed, self._build = node, feed, build
        self._log = log.bind(component="compactor")
        self._compactor: Compactor | None = None

    def __repr__(self) -> str:
        return f"<CompactorDuty of {self._node} {self._compactor!r}>"

    @property
    def holder(self) -> NodeId | None:
        """Who has the lease, as far as is known here."""
        lease = self._feed.catalog.leases.get(COMPACTOR)
        return lease.holder if lease is not None else None

    @property
    def compactor(self) -> Compactor | None:
        """The one of now, None where this node holds no lease."""
        return self._compactor

    def require(self) -> Compactor:
        """The one of now. Raises Unavailable."""
        if self._compactor is None:
            holder = self.holder
            told = f"{holder} does" if holder not in (None, self._node) else "nobody does just now"
            raise Unavailable(f"{self._node} does not compact; {told}", code="not_compactor")
        return self._compactor

    async def run(self) -> None:
        """One nursery per grant, until cancelled. Raises DiskFailed, after which the node must stop."""
        with self._feed.subscribe() as changes:
            catalog = self._feed.catalog
            while True:
                lease = catalog.leases.get(COMPACTOR)
                async with trio.open_nursery() as nursery:
                    if lease is not None and lease.holder == self._node:
                        nursery.start_soon(self._hold, lease)
                    while catalog.lease_epoch(COMPACTOR) == (lease.epoch if lease is not None else 0):
                        catalog = (await changes.receive()).catalog
                    nursery.cancel_scope.cancel()

    async def _hold(self, lease: Lease) -> None:
        self._compactor = self._build(lease.epoch)
        self._log.info("compaction_begins", epoch=lease.epoch)
        try:
            await self._compactor.run()
        finally:
            self._compactor = None
            self._log.info("compaction_ends", epoch=lease.epoch)
