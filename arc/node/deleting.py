"""The parts that remove rows, built and handed their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arc.catalog.facts import Catalog
from arc.cluster.consensus import Consensus
from arc.deletion.deleter import Deleter
from arc.deletion.dropper import Dropper
from arc.deletion.ports import Copies
from arc.deletion.service import Deletions
from arc.errors import Unavailable
from arc.node.ground import Ground
from arc.node.rows import Rows
from arc.query.predicate import Conditions
from arc.storage.files import FileEntry
from arc.storage.shelf import Shelf


def build_deletions(ground: Ground, consensus: Consensus, rows: Rows, copies: Copies) -> Deletions:
    """``copies`` brings files to other nodes before the manifest has them."""
    config, ports, log, node = ground.config, ground.ports, ground.log, ground.node
    deleter = Deleter(
        config=config.delete,
        node=node,
        ports=ports,
        catalog=lambda: ground.fsm.catalog,
        propose=consensus.proposals,
        writer=rows.writer,
        conditions=Conditions(rows.engine),
        copies=copies,
        files=rows.keeper,
        reserve_bytes=config.storage.reserve_bytes,
        log=log,
        shelf=rows.shelf,
    )
    dropper = Dropper(
        node=node,
        catalog=lambda: ground.fsm.catalog,
        propose=consensus.proposals,
        writer=rows.writer,
        clock=ports.clock,
        rng=ports.rng,
        log=log,
    )
    calls = consensus.calls
    return Deletions(
        config.delete,
        deleter,
        dropper,
        lambda: ground.fsm.catalog,
        node=node,
        ask=calls.call if calls is not None else None,
        wait_index=ground.feed.wait_index,
    )


class OnlyHere:
    """Sees to no copies: a node that is all there is needs none, nor does a store that all nodes share."""

    def __init__(self, catalog: Callable[[], Catalog], shelf: Shelf | None) -> None:
        self._catalog = catalog
        self._shelf = shelf

    async def spread(self, entries: Sequence[FileEntry]) -> None:
        """Raises Unavailable where other nodes would have to get these files first."""
        if len(self._catalog().nodes) > 1 and self._shelf is None:
            raise Unavailable("files written again cannot be brought to the other nodes before they take effect")
