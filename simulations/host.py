"""A simulated node: the life, the clock and the steps of one bare core, which has a disk and a state machine.

It does what `arc.raft.node` does with real disks and sockets, and nothing cleverer. It crashes, also between two
effects of one step, restarts from what its disk kept, is paused, and has a clock that is fast, slow or jumps. What it
does when the core asks is `deeds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arc.raft import effects as out
from arc.raft import events
from arc.raft.events import Event
from arc.raft.messages import Message
from arc.raft.types import Peer, SnapshotMeta, Stored
from simulations import damage
from simulations.chance import stream
from simulations.checkers import judge, purity, recovery, rules
from simulations.checkers.violation import of_core
from simulations.deeds import DO
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
            tail_bytes = 1 << 60 if world.is_specified else self.config.memory_bytes_max
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
            DO[type(effect)](self, effect)
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
