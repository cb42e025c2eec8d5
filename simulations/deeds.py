"""What a simulated node does when its core asks: writes, sends, applies, snapshots, reads, on what stands for hardware.

One function for each kind of effect (`DO`), and the completions that come later. A completion carries the life that it
belongs to and says nothing to a later one. Who lives, and when it is asked, is `host`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arc.raft import effects as out
from arc.raft import events
from arc.raft.events import Persisted
from arc.raft.messages import Message
from arc.raft.types import SnapshotMeta
from simulations import damage
from simulations.checkers import commits, judge, promises, recovery, snapshots

if TYPE_CHECKING:
    from simulations.host import Host


def _write(host: Host, effect: out.Write) -> None:
    if not host.disk.is_syncing:
        _begin_sync(host)


def _begin_sync(host: Host) -> None:
    seconds, covered = host.disk.begin(host.world.now)
    host.sync_until = host.world.now + seconds
    host.world.at(host.sync_until, _synced, host, (host.life, covered))


def _synced(host: Host, ticket: tuple[int, int]) -> None:
    life, covered = ticket
    if life != host.life:
        return
    disk, world = host.disk, host.world
    if disk.is_failing:
        world.fault("sync_failed")
        world.note("sync_failed", host.peer)
        # Never asked again: what the page cache says now is worth nothing (fsyncgate, K-55). The kernel may have
        # dropped the pages, and the next sync would say that all is well.
        host.crash(is_dropped=disk.is_dropping)
        world.restart_later(host)
        return
    for write in disk.pending:
        if write.truncate_from is not None and write.write_id <= covered:
            commits.i07_cut(host, write.truncate_from)
    refused = disk.finish(covered)
    report = disk.shape.report_seconds
    if refused:
        world.probes["disk_full_refused_a_write"] += 1
        world.at(world.now + report, _refuse, host, (host.life, refused))
    world.at(world.now + report, _persisted, host, (host.life, covered))
    if disk.pending:
        _begin_sync(host)


def _refuse(host: Host, ticket: tuple[int, int]) -> None:
    life, write_id = ticket
    if life != host.life:
        return
    if host.paused_until > host.world.now:
        host.world.at(host.paused_until, _refuse, host, ticket)
        return
    host.disk.told_full(host.state.writes.next_id - 1)
    # What waits for these writes promises entries that are not there; whoever lost a message asks again (K-56).
    host.held = [each for each in host.held if each[0] < write_id]
    host.step(events.WriteRefused(write_id))
    if life == host.life and not host.disk.is_full:  # It has room again since before the node knew (seed 616099).
        host.world.space_again(host, None)


def _persisted(host: Host, ticket: tuple[int, int]) -> None:
    life, write_id = ticket
    if life != host.life:
        return
    if host.paused_until > host.world.now:
        host.world.at(host.paused_until, _persisted, host, ticket)
        return
    recovery.i38_own_write(host, write_id)
    host.step(Persisted(write_id))
    if life != host.life:
        return
    if host.disk.refused_from and write_id > host.disk.refused_to:
        host.disk.refused_from = host.disk.refused_to = 0
        host.disk.issued.is_lossy = False
    if host.held:
        ready = [message for after, message in host.held if after <= write_id]
        host.held = [each for each in host.held if each[0] > write_id]
        for message in ready:
            if host.core is not None and life == host.life and message.term >= host.core.term:
                transmit(host, message)


def _send(host: Host, effect: out.Send) -> None:
    promises.made(host, effect.message)
    after = effect.after
    if after is not None and after > host.state.writes.persisted_id:
        host.held.append((after, effect.message))
    else:
        transmit(host, effect.message)


def transmit(host: Host, message: Message) -> None:
    """A message leaves this node."""
    promises.leaving(host, message)
    host.world.carry(message)


def _apply(host: Host, effect: out.Apply) -> None:
    for entry in effect.entries:
        judge.applying(host, entry)
        host.applied = entry.index
        answer = host.machine.apply(entry)
        request = host.waiting.pop(entry.index, None)
        if request is not None:
            host.world.finished(host, request, entry.index, answer)
    host.later(host.world.apply_seconds(), events.Applied(host.applied))
    every = host.world.plan.snapshot_every
    if every and host.applied - host.memory.snapshot_index >= every:
        take_snapshot(host)


def take_snapshot(host: Host) -> None:
    """Write down the state machine; the core hears of it when it is safe."""
    state, index = host.state, host.applied
    host.memory.snapshot_index = index
    term = state.log.term(index)
    if term is None:
        return
    at, configuration = state.history.at(index)
    if not configuration.voters:
        host.world.probes["newcomer_waits_with_its_snapshot"] += 1
        return
    image = host.machine.dump()
    meta = SnapshotMeta(index, term, configuration, at, len(image), f"{zlib.crc32(image):08x}")
    snapshots.taken(host, meta, image)
    host.world.at(host.world.now + 0.004, _snapshot_safe, host, (host.life, meta, image))


def _snapshot_safe(host: Host, ticket: tuple[int, SnapshotMeta, bytes]) -> None:
    life, meta, image = ticket
    if life != host.life or host.paused_until > host.world.now:
        return
    if host.state.applied < meta.index or meta.index > host.disk.synced.last:
        host.world.at(host.world.now + 0.004, _snapshot_safe, host, ticket)
        return
    newest = host.disk.synced.snapshot
    if newest is None or meta.index > newest.index:
        pending = host.disk.issued.snapshot
        if pending is not None and pending.index > meta.index:
            return
        host.disk.images[meta] = image
        if host.disk.shape.head_seconds:
            host.disk.renamed.append(meta)
            host.world.at(host.world.now + host.disk.shape.head_seconds, _head_synced, host, (life, meta))
            return
        host.disk.synced.snapshot = host.disk.issued.snapshot = meta
    host.step(events.SnapshotTaken(meta))


def _head_synced(host: Host, ticket: tuple[int, SnapshotMeta]) -> None:
    """The directory that names the snapshot is synced: only now it counts, and the log before it may go."""
    life, meta = ticket
    if life != host.life:
        return
    host.disk.renamed.remove(meta)
    newest, pending = host.disk.synced.snapshot, host.disk.issued.snapshot
    if (newest is None or newest.index < meta.index) and (pending is None or pending.index < meta.index):
        host.disk.synced.snapshot = host.disk.issued.snapshot = meta
        host.step(events.SnapshotTaken(meta))


def _restore(host: Host, effect: out.Restore) -> None:
    host.machine.load(host.disk.images[effect.meta])
    host.applied = host.memory.snapshot_index = effect.meta.index
    snapshots.restored(host, effect.meta)
    host.world.probes["snapshot_restored"] += 1
    host.later(host.world.apply_seconds(), events.Applied(effect.meta.index))


def _read_entries(host: Host, effect: out.ReadEntries) -> None:
    image, disk = host.disk.issued, host.disk
    if disk.rotten and not damage.is_readable(disk, effect.first, effect.last):
        host.world.damaged(host)
        return
    start = max(effect.first - image.base - 1, 0)
    found = tuple(image.entries[start : max(effect.last - image.base, 0)])
    if disk.shape.read_errors and found and disk.chance.random() < disk.shape.read_errors:
        host.world.probes["read_error"] += 1
        found = disk.chance.choice(((), found[:1], tuple(image.entries[:1])))
    if found and found[0].index != effect.first:  # Records say what they are: this one is from elsewhere.
        found = ()
    host.later(0.001, events.EntriesRead(found, effect.token))


def _compact(host: Host, effect: out.Compact) -> None:
    if host.world.plan.is_compacting_disk:
        host.disk.synced.compact(effect.first)
        host.disk.issued.compact(effect.first)


def _snapshot_read(host: Host, effect: out.SnapshotRead) -> None:
    disk = host.disk
    image = disk.images.get(effect.meta)
    if disk.is_snapshot_rotten and effect.meta == disk.synced.snapshot:
        host.world.damaged(host)
        return
    if disk.shape.read_errors and image is not None and disk.chance.random() < disk.shape.read_errors:
        host.world.probes["read_error"] += 1
        effect = effect._replace(bytes_max=max(effect.bytes_max // 2, 1))
    data = None if image is None else image[effect.offset : effect.offset + effect.bytes_max]
    is_last = image is not None and effect.offset + effect.bytes_max >= len(image)
    chunk = events.SnapshotChunk(effect.peer, effect.meta, effect.offset, data, zlib.crc32(data or b""), is_last)
    host.later(0.001, chunk)


def _snapshot_store(host: Host, effect: out.SnapshotStore) -> None:
    meta, staged = host.staged
    if effect.offset == 0:
        meta, staged = effect.meta, b""
    is_ok = meta == effect.meta and len(staged) == effect.offset and zlib.crc32(effect.data) == effect.checksum
    if is_ok:
        staged += effect.data
    host.staged = (meta, staged)
    if effect.is_last and is_ok:
        is_ok = f"{zlib.crc32(staged):08x}" == effect.meta.digest and len(staged) == effect.meta.size_bytes
        if is_ok:
            host.disk.images[effect.meta] = staged
    host.later(0.001, events.SnapshotStored(effect.meta, effect.offset, is_ok))


def _answer(host: Host, effect: out.Answer) -> None:
    host.world.answered(host, effect.request, effect.result)


def _trace(host: Host, effect: out.Trace) -> None:
    host.world.told(host, effect)


DO: dict[type, Callable[[Host, Any], None]] = {
    out.Write: _write,
    out.Send: _send,
    out.Apply: _apply,
    out.Restore: _restore,
    out.ReadEntries: _read_entries,
    out.Compact: _compact,
    out.SnapshotRead: _snapshot_read,
    out.SnapshotStore: _snapshot_store,
    out.Answer: _answer,
    out.Trace: _trace,
}
