"""What a start may rely on, and what a damaged node may do: I-30, I-37, I-38.

The disk before the damage is kept by the simulator (`Disk.promised`), so that it can be told whether a node is whole
again: when it holds every committed entry of what it once held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.raft.types import Role
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.disk import Disk, Image, part_bytes

if TYPE_CHECKING:
    from simulations.host import Host

PREFIXES_MAX = 12


def i30_damage_is_known(host: Host) -> None:
    """I-30: a node that starts from a damaged disk knows it."""
    disk = host.disk
    if host.state.is_damaged != disk.is_damaged:
        raise Violation("I-30", "a start takes a damaged disk for a whole one, or the reverse", host, disk.is_damaged)
    if disk.promised and not disk.is_damaged:
        raise Violation("I-30", "the mark is gone and the damage is not", host)


def i30_quiet_until_whole(host: Host) -> None:
    """I-30, V-08: it leads nothing and campaigns for nothing; and it is whole when it says so."""
    state, disk = host.state, host.disk
    if not state.is_damaged:
        for before in disk.promised:
            index = committed_part(host, before)
            if disk.synced.chain(index) != host.world.ghost.committed[index]:
                raise Violation("I-30", "calls itself whole without what it had acknowledged", host, index)
        disk.promised.clear()
    elif state.role is not Role.FOLLOWER:
        raise Violation("I-30", "campaigns with a damaged log", host)


def committed_part(host: Host, image: Image) -> int:
    """Up to which index that log is the committed one."""
    committed = host.world.ghost.committed
    index = min(image.last, len(committed) - 1)
    while image.chain(index) != committed[index]:
        index -= 1
    return index


def i38_own_write(host: Host, write_id: int) -> None:
    """I-38: a completion belongs to this life, and to a write that its disk has done."""
    if write_id > host.disk.done:
        raise Violation("I-38", "told that a write is durable which this life's disk has not done", write_id, host)


def i37_any_prefix(host: Host) -> None:
    """I-37: whatever part of the pending writes a crash leaves, a node starts from it, and knows exactly that."""
    disk, world = host.disk, host.world
    for writes in range(min(len(disk.pending), PREFIXES_MAX) + 1):
        parts = len(part_bytes(disk.pending[writes])) if writes < min(len(disk.pending), PREFIXES_MAX) else 1
        for part in range(min(parts, PREFIXES_MAX)):
            _start_from(host, disk, writes, part)
            world.probes["prefix_started_from"] += 1


def _start_from(host: Host, disk: Disk, writes: int, parts: int) -> None:
    world, image = host.world, disk.synced.copy()
    for write in disk.pending[:writes]:
        image.do(write, with_entries=not disk.is_refused(write))
    if parts:
        image.do(disk.pending[writes], parts, with_entries=not disk.is_refused(disk.pending[writes]))
    image.tidy()
    chance = stream(world.plan.seed, "prefix")
    stored = image.stored(is_damaged=disk.is_damaged)
    try:
        state = world.core_class(host.peer, host.config, stored, chance, host.local(world.now)).state
    except Exception as error:
        raise Violation(
            "I-37", "a node does not start from what a crash may leave", host.peer, stored, error
        ) from error
    first = image.snapshot.index if image.snapshot is not None else 0
    if (state.term, state.vote, state.log.last_index) != (*image.hard, max(image.last, first)):
        raise Violation("I-37", "a start knows something else than its disk", state, image.hard, image.last)
    if state.history.current != image.configurations[-1][1]:
        raise Violation("I-37", "a start believes in another configuration", state.history, image.configurations)
