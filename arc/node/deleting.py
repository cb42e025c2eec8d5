"""The parts that remove rows, built and handed their neighbours."""

from __future__ import annotations

from arc.cluster.consensus import Consensus
from arc.deletion.deleter import Deleter
from arc.deletion.dropper import Dropper
from arc.deletion.service import Deletions
from arc.node.ground import Ground
from arc.node.rows import Rows
from arc.query.predicate import Conditions


def build_deletions(ground: Ground, consensus: Consensus, rows: Rows) -> Deletions:
    """All of them, and the door in front."""
    config, ports, log, node = ground.config, ground.ports, ground.log, ground.node
    deleter = Deleter(
        config=config.delete,
        node=node,
        ports=ports,
        catalog=lambda: ground.fsm.catalog,
        propose=consensus.proposals,
        writer=rows.writer,
        conditions=Conditions(rows.engine),
        copies=rows.spreading,
        files=rows.keeper,
        suspect=rows.scrubber.suspect,
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
