"""Snapshots are the committed state at their index, the same bytes everywhere: I-23, I-24."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.raft.types import SnapshotMeta
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


def taken(host: Host, meta: SnapshotMeta, image: bytes) -> None:
    """I-24: whoever takes a snapshot at this index takes the same."""
    i23_reference(host, meta)
    known = host.world.ghost.images.setdefault(meta.index, (meta, image))
    if known[1] != image:
        raise Violation("I-24", "two snapshots of one index differ", host, meta, known[0])


def restored(host: Host, meta: SnapshotMeta) -> None:
    """I-24: what came over the network is what was taken."""
    known = host.world.ghost.images.get(meta.index)
    if known is None or known[1] != host.machine.dump():
        raise Violation("I-24", "restored something else than what was taken", host, meta)


def i07_stands_for_what_is_missing(host: Host, meta: SnapshotMeta) -> None:
    """I-07, I-08 (7; S-02): a snapshot never replaces a log that holds its last entry, nor a newer state."""
    issued = host.disk.issued
    if issued.base < meta.index <= issued.last and issued.term(meta.index) == meta.term:
        raise Violation("I-07", "a snapshot replaces a log that holds all of it", host, meta)
    if meta.index <= host.memory.commit:
        raise Violation("I-08", "a snapshot from before the commit index replaces the state", host, meta)


def i23_reference(host: Host, meta: SnapshotMeta) -> None:
    """I-23 (dissertation, 5.1): index, term and configuration are those of the committed log there."""
    ghost = host.world.ghost
    if meta.index > ghost.commit or ghost.entries[meta.index].term != meta.term:
        raise Violation("I-23", "a snapshot beside the committed log", host, meta)
    if ghost.configuration_at(meta.index) != (meta.configuration_index, meta.configuration):
        raise Violation("I-23", "a snapshot with another configuration", meta, ghost.configuration_at(meta.index))
