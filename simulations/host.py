"""A simulated node: one bare core, its disk, its state machine, its clock, and the driver that stands between them.

It does what `arc.raft.node` does with real disks and sockets, and nothing cleverer. It crashes, also between two
effects of one step, restarts from what its disk kept, is paused, and has a clock that is fast, slow or jumps.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arc.raft import effects as out
from arc.raft import events
from arc.raft.events import Event, Persisted, Receive
from arc.raft.messages import Message
from arc.raft.types import Peer, SnapshotMeta, Stored
from simulations import damage
from simulations.chance import stream
from simulations.checkers import judge, promises, purity, recovery, rules, snapshots
from simulations.checkers.violation import of_core
from simulations.disk import Disk
from simulations.machine import Machine

if TYPE_CHECKING:
    from simulations.cores import Cores

_TICK = events.Tick()


class Host:
    """One node of a `Cores` run. Methods that take a ``life`` do nothing when that life is over."""

    def __init__(self, world: Cores, peer: Peer, stored: Stored, *, is_started: bool = True) -> None:
        self.world = world
        self.peer = peer
        self.config = world.config
        """This node's own: versions differ while they are rolled out."""
        plan = world.plan
        self.disk = self.mounted = Disk(world.ghost, peer, stored, plan.disk, stream(plan.seed, f"disk/{peer}"))
        """``mounted`` is what the node finds when it starts, and sometimes not its disk."""
        self.backup: Disk | None = None
        self.is_gone = False
        """Its disk was lost; another incarnation has its name now."""
        self.is_deaf = False
        """Whether what arrives during a pause is lost."""
        self.fuse = 0
        """Crash just before that many effects more."""
        self.core: Any = None
        self.state: Any = None
        self.life = 0
        self.rate = 1.0
        self.offset = 0.0
        self.seen = float("-inf")
        """What the clock showed last; it goes back only when it is told to."""
        self.paused_until = 0.0
        self.sync_until = 0.0
        self.memory = judge.Memory()
        self.recording: purity.Recording | None = None
        if is_started:
            self.start()

    def __repr__(self) -> str:
        return f"<{self.core!r} synced={self.disk.synced.last}>" if self.core else f"<{self.peer} down>"

    # ---------------------------------------------------------------------------------------------------------- life

    def start(self) -> None:
        """Begin a life from what is on the disk, if it is this node's."""
        world = self.world
        if self.mounted is not self.disk and not self._takes_foreign_disk():
            return
        damage.recover(self.disk, world.probes)
        synced = self.disk.synced
        self.life += 1
        self.held: list[tuple[int, Message]] = []
        self.waiting: dict[int, Any] = {}
        """Index -> request of ours that was committed there and waits for its answer."""
        self.outstanding: set[Any] = set()
        self.staged: tuple[SnapshotMeta | None, bytes] = (None, b"")
        self.tick_at = float("inf")
        self.paused_until = self.sync_until = 0.0
        self.machine = Machine(world.plan.has_sessions)
        if synced.snapshot is not None:
            self.machine.load(self.disk.images[synced.snapshot])
        self.applied = synced.snapshot.index if synced.snapshot is not None else 0
        chance = stream(world.plan.seed, f"election/{self.peer}/{self.life}")
        try:
            tail_bytes = self.config.memory_bytes_max
            stored = synced.stored(is_damaged=self.disk.is_damaged, tail_bytes=tail_bytes)
            self.core = world.core_class(self.peer, self.config, stored, chance, self.local(world.now))
        except Exception as error:
            raise of_core(error) from error
        self.state = self.core.state
        self.fuse = 0
        if world.is_replayed:
            self.recording = purity.Recording(self, stored, f"election/{self.peer}/{self.life}")
        judge.started(self)
        self.schedule_tick()

    def _takes_foreign_disk(self) -> bool:
        """Whether it starts from a disk that is another node's, or an old copy of its own. I-10: never.

        A folder says whose it is, name and incarnation, and where it was made: a copy is somewhere else. Whoever wants
        to begin from a copy begins as another incarnation, for nobody knows what was promised after it was made.
        """
        world, disk = self.world, self.mounted
        if not world.plan.is_disk_checked:
            self.disk = disk
            return True
        kind = "foreign_disk_refused" if disk.owner != self.peer else "stale_disk_refused"
        world.probes[kind] += 1
        world.note(kind, self.peer, disk.owner)
        return False

    def remount(self) -> None:
        """The right disk is back in its place."""
        if self.mounted is self.disk or self.is_gone:
            return
        is_stale = self.mounted.owner == self.peer
        self.mounted = self.disk
        if is_stale:  # What was on it is lost for good: only the copy is left, and nothing may begin from that.
            self.world.wipe(self, 0.001)
        elif self.core is None:
            self.start()

    def repaired(self) -> None:
        """The core says that the log is whole again; the mark on the disk goes a little later."""
        self.world.at(self.world.now + 0.002, self._unmark, self.life, self.disk.damages)

    def _unmark(self, life: int, damages: int) -> None:
        if life == self.life and damages == self.disk.damages:
            self.disk.is_damaged = False

    def life_ended(self) -> None:
        """Whatever is known of this life only now."""
        if self.recording is not None:
            self.recording.check()
            self.recording = None

    def crash(self, *, is_dropped: bool = False) -> None:
        """The power goes, here and now. ``is_dropped``: and nothing that waited for the disk gets there."""
        if self.core is None:
            return
        world = self.world
        self.life_ended()
        if world.prefix_stream is not None and world.prefix_stream.random() < 0.5:
            recovery.i37_any_prefix(self)
        state = self.state
        world.probes["crash_of_leader"] += state.leading is not None
        if state.leading is not None and state.log.last_index > state.commit:
            world.probes["leader_crash_between_append_and_commit"] += 1
        if is_dropped:
            self.disk.pending.clear()
        fate = self.disk.crash()
        world.probes[f"tail_{fate}"] += 1
        self.core = self.state = None
        self.life += 1
        world.note("crash", self.peer, fate)
        judge.crashed(self)

    def local(self, true: float) -> float:
        """This node's clock."""
        return true * self.rate + self.offset

    def true(self, local: float) -> float:
        """When this node's clock will show that."""
        return (local - self.offset) / self.rate

    def set_clock(self, rate: float, jump: float) -> None:
        """Change the clock: its rate from now on, and a jump at once."""
        now = self.world.now
        self.offset = self.local(now) + jump - now * rate
        self.rate = rate
        self.seen = float("-inf")
        self.tick_at = float("inf")
        if self.core is not None:
            self.schedule_tick()

    # ------------------------------------------------------------------------------------------------------- stepping

    def schedule_tick(self) -> None:
        """Make sure that somebody looks at the clock in time."""
        due = self.core.deadline
        if due is not None:
            at = (due - self.offset) / self.rate
            if at < self.tick_at:
                self.tick_at = at
                self.world.at(at, self.tick, self.life, at)

    def tick(self, life: int, at: float) -> None:
        """The time of a deadline came; perhaps it has moved on since."""
        if life != self.life or at != self.tick_at:
            return
        self.tick_at = float("inf")
        due = self.core.deadline
        if due is None:
            return
        if (due - self.offset) / self.rate > self.world.now + 1e-9:
            self.schedule_tick()
        else:
            self.step(_TICK)

    def deliver(self, life: int, event: Event) -> None:
        """An answer of this node's own machinery arrives."""
        if life == self.life:
            self.step(event)
        elif self.core is not None:
            self.world.probes["late_completion_dropped"] += 1  # I-38: it belongs to a life before this one.

    def later(self, seconds: float, event: Event) -> None:
        """Deliver an event to this life, after a while."""
        world = self.world
        world.at(world.now + seconds, self.deliver, self.life, event)

    def step(self, event: Event) -> None:
        """Give the core one event, look at what it became, and do what it asks."""
        world = self.world
        if self.core is None:
            return
        if self.paused_until > world.now:
            world.at(self.paused_until, self.deliver, self.life, event)
            return
        world.traced(self.peer, event)
        local = max(self.local(world.now), self.seen)
        if type(event) is events.Tick:  # A hair late, as in life: sums of times are rounded, and early ticks repeat.
            local = max(local, min(self.core.deadline or local, local + 1e-6) + 1e-9)
        self.seen = local
        was = rules.before(self, event)
        try:
            effects = self.core.step(event, local)
        except Exception as error:
            raise of_core(error) from error
        if self.recording is not None:
            self.recording.add(event, local, effects)
        if effects and type(effects[0]) is out.Write:
            judge.writing(self, effects[0])
            self.disk.take(effects[0])
        judge.stepped(self, event, effects)
        rules.after(self, event, effects, was)
        life = self.life
        for effect in effects:
            if self.fuse and self._is_fuse_burnt(effect):
                world.guided_crash(self)
                return
            _DO[type(effect)](self, effect)
            if world.guided and self._is_guided_crash(effect):
                world.guided_crash(self)
            if life != self.life:
                return
        self.schedule_tick()

    def _is_guided_crash(self, effect: out.Effect) -> bool:
        """Crash, sometimes, right after a send, a write or an answer while something is not synced (reference, 7.8)."""
        kind = type(effect)
        if kind is not out.Send and kind is not out.Write and kind is not out.Answer:
            return False
        return bool(self.disk.pending) and self.world.guided_stream.random() < self.world.guided

    def _is_fuse_burnt(self, effect: out.Effect) -> bool:
        """Crash just before a chosen effect: of two that belong together, only the first was done."""
        if type(effect) is out.Trace:
            return False
        self.fuse -= 1
        if self.fuse == 0:
            self.world.probes[f"crash_before_{type(effect).__name__}"] += 1
        return self.fuse == 0

    # -------------------------------------------------------------------------------------------------------- effects

    def _write(self, effect: out.Write) -> None:
        if not self.disk.is_syncing:
            self._begin_sync()

    def _begin_sync(self) -> None:
        seconds, covered = self.disk.begin(self.world.now)
        self.sync_until = self.world.now + seconds
        self.world.at(self.sync_until, self._synced, self.life, covered)

    def _synced(self, life: int, covered: int) -> None:
        if life != self.life:
            return
        disk, world = self.disk, self.world
        if disk.is_failing:
            world.fault("sync_failed")
            world.note("sync_failed", self.peer)
            # Never asked again: what the page cache says now is worth nothing (fsyncgate, K-55). The kernel may have
            # dropped the pages, and the next sync would say that all is well.
            self.crash(is_dropped=disk.is_dropping)
            world.restart_later(self)
            return
        refused = disk.finish(covered)
        report = disk.shape.report_seconds
        if refused:
            world.probes["disk_full_refused_a_write"] += 1
            world.at(world.now + report, self._refuse, self.life, refused)
        world.at(world.now + report, self._persisted, self.life, covered)
        if disk.pending:
            self._begin_sync()

    def _refuse(self, life: int, write_id: int) -> None:
        if life != self.life:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self._refuse, life, write_id)
            return
        self.disk.told_full(self.state.writes.next_id - 1)
        # What waits for these writes promises entries that are not there; whoever lost a message asks again (K-56).
        self.held = [each for each in self.held if each[0] < write_id]
        self.step(events.WriteRefused(write_id))

    def _persisted(self, life: int, write_id: int) -> None:
        if life != self.life:
            return
        if self.paused_until > self.world.now:
            self.world.at(self.paused_until, self._persisted, life, write_id)
            return
        recovery.i38_own_write(self, write_id)
        self.step(Persisted(write_id))
        if life != self.life:
            return
        if self.disk.refused_from and write_id > self.disk.refused_to:
            self.disk.refused_from = self.disk.refused_to = 0
            self.disk.issued.is_lossy = False
        if self.held:
            ready = [message for after, message in self.held if after <= write_id]
            self.held = [each for each in self.held if each[0] > write_id]
            for message in ready:
                if self.core is not None and life == self.life and message.term >= self.core.term:
                    self.transmit(message)

    def _send(self, effect: out.Send) -> None:
        promises.made(self, effect.message)
        after = effect.after
        if after is not None and after > self.state.writes.persisted_id:
            self.held.append((after, effect.message))
        else:
            self.transmit(effect.message)

    def transmit(self, message: Message) -> None:
        """A message leaves this node."""
        promises.leaving(self, message)
        self.world.carry(message)

    def _apply(self, effect: out.Apply) -> None:
        for entry in effect.entries:
            judge.applying(self, entry)
            self.applied = entry.index
            answer = self.machine.apply(entry)
            request = self.waiting.pop(entry.index, None)
            if request is not None:
                self.world.finished(self, request, entry.index, answer)
        self.later(self.world.apply_seconds(), events.Applied(self.applied))
        every = self.world.plan.snapshot_every
        if every and self.applied - self.memory.snapshot_index >= every:
            self.take_snapshot()

    def take_snapshot(self) -> None:
        """Write down the state machine; the core hears of it when it is safe."""
        state, index = self.state, self.applied
        self.memory.snapshot_index = index
        term = state.log.term(index)
        if term is None:
            return
        at, configuration = state.history.at(index)
        if not configuration.voters:
            self.world.probes["newcomer_waits_with_its_snapshot"] += 1
            return
        image = self.machine.dump()
        meta = SnapshotMeta(index, term, configuration, at, len(image), f"{zlib.crc32(image):08x}")
        snapshots.taken(self, meta, image)
        self.world.at(self.world.now + 0.004, self._snapshot_safe, self.life, (meta, image))

    def _snapshot_safe(self, life: int, snapshot: tuple[SnapshotMeta, bytes]) -> None:
        meta, image = snapshot
        if life != self.life or self.paused_until > self.world.now:
            return
        if self.state.applied < meta.index or meta.index > self.disk.synced.last:
            self.world.at(self.world.now + 0.004, self._snapshot_safe, life, snapshot)
            return
        newest = self.disk.synced.snapshot
        if newest is None or meta.index > newest.index:
            pending = self.disk.issued.snapshot
            if pending is not None and pending.index > meta.index:
                return
            self.disk.images[meta] = image
            if self.disk.shape.head_seconds:
                self.disk.renamed.append(meta)
                self.world.at(self.world.now + self.disk.shape.head_seconds, self._head_synced, life, meta)
                return
            self.disk.synced.snapshot = self.disk.issued.snapshot = meta
        self.step(events.SnapshotTaken(meta))

    def _head_synced(self, life: int, meta: SnapshotMeta) -> None:
        """The directory that names the snapshot is synced: only now it counts, and the log before it may go."""
        if life != self.life:
            return
        self.disk.renamed.remove(meta)
        newest, pending = self.disk.synced.snapshot, self.disk.issued.snapshot
        if (newest is None or newest.index < meta.index) and (pending is None or pending.index < meta.index):
            self.disk.synced.snapshot = self.disk.issued.snapshot = meta
            self.step(events.SnapshotTaken(meta))

    def _restore(self, effect: out.Restore) -> None:
        self.machine.load(self.disk.images[effect.meta])
        self.applied = self.memory.snapshot_index = effect.meta.index
        snapshots.restored(self, effect.meta)
        self.world.probes["snapshot_restored"] += 1
        self.later(self.world.apply_seconds(), events.Applied(effect.meta.index))

    def _read_entries(self, effect: out.ReadEntries) -> None:
        image, disk = self.disk.issued, self.disk
        if disk.rotten and not damage.is_readable(disk, effect.first, effect.last):
            self.world.damaged(self)
            return
        start = max(effect.first - image.base - 1, 0)
        found = tuple(image.entries[start : max(effect.last - image.base, 0)])
        if disk.shape.read_errors and found and disk.chance.random() < disk.shape.read_errors:
            self.world.probes["read_error"] += 1
            found = disk.chance.choice(((), found[:1], tuple(image.entries[:1])))
        if found and found[0].index != effect.first:  # Records say what they are: this one is from elsewhere.
            found = ()
        self.later(0.001, events.EntriesRead(found, effect.token))

    def _compact(self, effect: out.Compact) -> None:
        if self.world.plan.is_compacting_disk:
            self.disk.synced.compact(effect.first)
            self.disk.issued.compact(effect.first)

    def _snapshot_read(self, effect: out.SnapshotRead) -> None:
        disk = self.disk
        image = disk.images.get(effect.meta)
        if disk.is_snapshot_rotten and effect.meta == disk.synced.snapshot:
            self.world.damaged(self)
            return
        if disk.shape.read_errors and image is not None and disk.chance.random() < disk.shape.read_errors:
            self.world.probes["read_error"] += 1
            effect = effect._replace(bytes_max=max(effect.bytes_max // 2, 1))
        data = None if image is None else image[effect.offset : effect.offset + effect.bytes_max]
        is_last = image is not None and effect.offset + effect.bytes_max >= len(image)
        chunk = events.SnapshotChunk(effect.peer, effect.meta, effect.offset, data, zlib.crc32(data or b""), is_last)
        self.later(0.001, chunk)

    def _snapshot_store(self, effect: out.SnapshotStore) -> None:
        meta, staged = self.staged
        if effect.offset == 0:
            meta, staged = effect.meta, b""
        is_ok = meta == effect.meta and len(staged) == effect.offset and zlib.crc32(effect.data) == effect.checksum
        if is_ok:
            staged += effect.data
        self.staged = (meta, staged)
        if effect.is_last and is_ok:
            is_ok = f"{zlib.crc32(staged):08x}" == effect.meta.digest and len(staged) == effect.meta.size_bytes
            if is_ok:
                self.disk.images[effect.meta] = staged
        self.later(0.001, events.SnapshotStored(effect.meta, effect.offset, is_ok))

    def _answer(self, effect: out.Answer) -> None:
        self.world.answered(self, effect.request, effect.result)

    def _trace(self, effect: out.Trace) -> None:
        self.world.told(self, effect)


_DO: dict[type, Callable[[Host, Any], None]] = {
    out.Write: Host._write,
    out.Send: Host._send,
    out.Apply: Host._apply,
    out.Restore: Host._restore,
    out.ReadEntries: Host._read_entries,
    out.Compact: Host._compact,
    out.SnapshotRead: Host._snapshot_read,
    out.SnapshotStore: Host._snapshot_store,
    out.Answer: Host._answer,
    out.Trace: Host._trace,
}

__all__ = ["Host", "Receive"]
