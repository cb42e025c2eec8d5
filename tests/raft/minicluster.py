"""A small deterministic cluster of bare cores: a heap of events, a bad network, disks that forget what was not synced.

It is the unit tests' tool: a few hundred short seeds. The real simulator is in simulations/. Ghost facts that no node
sees are checked as they happen: one leader a term (I-01), log matching (I-03), leader completeness (I-04), equal state
machines (I-05), commits on durable quorums (I-06), nothing said before it is durable (I-12, I-28), reads never stale
(I-21).
"""

from __future__ import annotations

import heapq
import random
import zlib
from collections.abc import Callable
from typing import Any

from arc.quorum import majority
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import (
    Answer,
    Apply,
    Committed,
    Compact,
    Effect,
    Readable,
    ReadEntries,
    Restore,
    Send,
    SnapshotRead,
    SnapshotStore,
    Trace,
    Write,
)
from arc.raft.events import (
    Applied,
    ChangeMembers,
    EntriesRead,
    Event,
    Persisted,
    Propose,
    Read,
    Receive,
    SnapshotChunk,
    SnapshotStored,
    SnapshotTaken,
    SpaceAgain,
    Tick,
    TransferLeadership,
    Unreachable,
    WriteRefused,
)
from arc.raft.messages import AppendReply, AppendStatus, InstallSnapshotReply, Message, VoteReply
from arc.raft.types import (
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Peer,
    Role,
    SnapshotMeta,
    Stored,
    bootstrap,
)


class Stream:
    """A named stream of chance."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(name)

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)


class Disk:
    """What is on a disk: changed by writes, in order."""

    def __init__(self, stored: Stored) -> None:
        self.hard = stored.hard_state
        self.snapshot = stored.snapshot
        self.base = stored.snapshot.index if stored.snapshot else 0
        self.log: list[Entry] = list(stored.entries)
        self.images: dict[SnapshotMeta, bytes] = {}

    def do(self, write: Write) -> None:
        if write.snapshot is not None:
            self.snapshot = write.snapshot
        if write.hard_state is not None:
            assert write.hard_state.term >= self.hard.term, "I-10"
            self.hard = write.hard_state
        if write.truncate_from is not None:
            if write.snapshot is not None and write.truncate_from <= write.snapshot.index:
                self.log, self.base = [], write.snapshot.index
            else:
                del self.log[max(write.truncate_from - self.base - 1, 0) :]
        if write.entries:
            assert write.entries[0].index == self.last + 1, (write, self.last, self.base)
            self.log.extend(write.entries)

    @property
    def last(self) -> int:
        return self.base + len(self.log)

    def term(self, index: int) -> int | None:
        if index == self.base:
            return self.snapshot.term if self.snapshot and self.snapshot.index == index else None
        return self.log[index - self.base - 1].term if self.base < index <= self.last else None

    def holds(self, index: int, term: int) -> bool:
        if self.snapshot is not None and index <= self.snapshot.index:
            return True
        return self.term(index) == term

    def stored(self, applied: int = 0) -> Stored:
        return Stored(hard_state=self.hard, snapshot=self.snapshot, entries=tuple(self.log), applied=applied)


class Host:
    """One node: core, disk, state machine."""

    def __init__(self, cluster: Cluster, peer: Peer, stored: Stored) -> None:
        self.cluster, self.peer = cluster, peer
        self.disk = Disk(stored)
        if stored.snapshot is not None:
            self.disk.images[stored.snapshot] = b""
        self.life = 0
        self.core: RaftCore | None = None
        self.start()

    def start(self) -> None:
        self.life += 1
        self.pending: list[Write] = []
        self.held: list[Send] = []
        self.staged = b""
        self.staged_meta: SnapshotMeta | None = None
        self.tick_at: float | None = None
        self.machine = b""
        snapshot = self.disk.snapshot
        if snapshot is not None:
            self.machine = self.disk.images[snapshot]
        self.applied = snapshot.index if snapshot is not None else 0
        stored = self.disk.stored()
        name = f"{self.cluster.seed}/{self.peer}/{self.life}"
        self.core = RaftCore(self.peer, self.cluster.config, stored, Stream(name), self.cluster.now)
        self.mirror = Disk(stored)
        self.mirror.log, self.mirror.base = list(self.disk.log), self.disk.base
        self.commit = self.core.state.commit
        self.schedule_tick()

    def fill_disk(self) -> None:
        """The disk is full from the next write on: entries are not stored, hard states are."""
        if self.core is None or not self.pending or not self.core.state.has_space:
            return
        first = self.pending[0].write_id
        self.pending = [write._replace(entries=()) for write in self.pending]
        self.held = [send for send in self.held if (send.after or 0) < first]
        self.mirror = Disk(self.disk.stored())
        self.mirror.base = self.disk.base
        for write in self.pending:
            self.mirror.do(write)
        self.step(WriteRefused(first))
        self.commit = self.core.state.commit
        self.after(1.0, SpaceAgain())

    def crash(self) -> None:
        """Lose what was not synced, but for a prefix that happened to get through."""
        survived = self.cluster.chance.randint(0, len(self.pending))
        for write in self.pending[:survived]:
            self.disk.do(write)
        self.core = None
        self.life += 1

    def step(self, event: Event) -> None:
        if self.core is None:
            return
        was_leader = self.core.is_leader
        effects = self.core.step(event, self.cluster.now)
        for effect in effects:
            if isinstance(effect, Write):
                self.mirror.do(effect)
                self.cluster.check_matching(self, effect)
        self.cluster.check(self, was_leader)
        for effect in effects:
            self.act(effect)
        self.schedule_tick()

    def schedule_tick(self) -> None:
        assert self.core is not None
        due = self.core.deadline
        if due is not None and (self.tick_at is None or due < self.tick_at):
            self.tick_at = due
            self.cluster.later(due - self.cluster.now, self.tick, self.life)

    def tick(self, life: int) -> None:
        if life != self.life:
            return
        self.tick_at = None
        self.step(Tick())

    def after(self, delay: float, event: Event) -> None:
        life = self.life
        self.cluster.later(delay, lambda: self.step(event) if life == self.life else None)

    def act(self, effect: Effect) -> None:
        cluster = self.cluster
        cluster.probes[type(effect).__name__ if not isinstance(effect, Trace) else effect.name] += 1
        match effect:
            case Write():
                self.pending.append(effect)
                self.after_sync(effect.write_id)
            case Send(message, after):
                if after is None or after <= self.core.state.writes.persisted_id:  # type: ignore[union-attr]
                    cluster.transmit(self, message)
                else:
                    self.held.append(effect)
            case Apply(entries):
                for entry in entries:
                    assert entry.index == self.applied + 1, (entry, self.applied)
                    cluster.check_applied(self, entry)
                    self.applied = entry.index
                    self.machine = cluster.execute(self.machine, entry)
                self.after(cluster.delay(0.001), Applied(self.applied))
                if cluster.snapshot_every and self.applied % cluster.snapshot_every == 0:
                    self.take_snapshot()
            case Restore(meta):
                self.machine, self.applied = self.disk.images[meta], meta.index
                cluster.check_machine(self)
                self.after(cluster.delay(0.001), Applied(meta.index))
            case ReadEntries(first, last, _, token):
                found = tuple(entry for entry in self.mirror.log if first <= entry.index <= last)
                self.after(cluster.delay(0.002), EntriesRead(found, token))
            case SnapshotRead(peer, meta, offset, bytes_max):
                image = self.disk.images.get(meta)
                data = None if image is None else image[offset : offset + bytes_max]
                is_last = image is not None and offset + bytes_max >= len(image)
                self.after(
                    cluster.delay(0.002), SnapshotChunk(peer, meta, offset, data, zlib.crc32(data or b""), is_last)
                )
            case SnapshotStore(meta, offset, data, checksum, is_last):
                self.store(meta, offset, data, checksum, is_last)
            case Compact(first):
                keep = max(first - 1 - self.mirror.base, 0)
                self.compacted = first
                assert keep >= 0
            case Answer(request, result):
                cluster.answered(self, request, result)
            case Trace():
                pass

    def store(self, meta: SnapshotMeta, offset: int, data: bytes, checksum: int, is_last: bool) -> None:
        if offset == 0:
            self.staged, self.staged_meta = b"", meta
        is_ok = zlib.crc32(data) == checksum and self.staged_meta == meta and len(self.staged) == offset
        if is_ok:
            self.staged += data
        if is_last and is_ok:
            is_ok = f"{zlib.crc32(self.staged):08x}" == meta.digest
            self.disk.images[meta] = self.staged
        self.after(self.cluster.delay(0.002), SnapshotStored(meta, offset, is_ok))

    def take_snapshot(self) -> None:
        core = self.core
        assert core is not None
        index, configuration = core.state.history.at(self.applied)
        term = core.term_at(self.applied)
        assert term is not None
        if not configuration.voters:
            return  # A newcomer that has not heard of the members yet.
        digest = f"{zlib.crc32(self.machine):08x}"
        meta = SnapshotMeta(self.applied, term, configuration, index, len(self.machine), digest)
        self.disk.images[meta] = self.machine
        life = self.life

        def done() -> None:
            if life == self.life and self.core is not None and self.core.state.applied >= meta.index:
                if self.disk.snapshot is None or meta.index > self.disk.snapshot.index:
                    self.disk.snapshot = meta
                self.step(SnapshotTaken(meta))

        self.cluster.later(0.005, done)

    def after_sync(self, write_id: int) -> None:
        life = self.life

        def synced() -> None:
            if life != self.life or self.core is None:
                return
            while self.pending and self.pending[0].write_id <= write_id:
                self.disk.do(self.pending.pop(0))
            if write_id <= self.core.state.writes.persisted_id:
                return
            self.step(Persisted(write_id))
            if self.core is None:
                return
            ready = [send for send in self.held if (send.after or 0) <= write_id]
            self.held = [send for send in self.held if (send.after or 0) > write_id]
            for send in ready:
                if send.message.term >= self.core.term:
                    self.cluster.transmit(self, send.message)

        self.cluster.later(self.cluster.delay(self.cluster.disk_seconds), synced)


class Cluster:
    """Hosts, network, chance and ghost facts."""

    def __init__(self, seed: object, size: int = 3, *, loss: float = 0.0, config: Config | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(f"{seed}/world")
        self.config = config or Config(trailing_entries=4, trailing_entries_max=16, snapshot_chunk_bytes=64)
        self.now = 0.0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.count = 0
        self.loss, self.duplicate, self.latency, self.disk_seconds = loss, loss / 2, 0.005, 0.003
        self.snapshot_every = 0
        self.cut: set[tuple[str, str]] = set()
        self.probes: dict[str, int] = _Counter()
        self.leaders: dict[int, tuple[Peer, int]] = {}
        self.chain: dict[tuple[int, int], int] = {}
        self.committed: list[Entry] = []
        self.machines: dict[int, bytes] = {0: b""}
        self.asked: dict[object, int] = {}
        self.answers: dict[object, Any] = {}
        peers = [Peer(f"n{number}") for number in range(1, size + 1)]
        self.hosts: dict[Peer, Host] = {}
        for peer in peers:
            self.hosts[peer] = Host(self, peer, bootstrap(*peers))

    # -- time and network

    def later(self, delay: float, action: Callable[..., None], *arguments: Any) -> None:
        self.count += 1
        heapq.heappush(self.heap, (self.now + max(delay, 0.0), self.count, action, arguments))

    def delay(self, mean: float) -> float:
        return self.chance.uniform(0.2 * mean, 1.8 * mean) if self.chance.random() < 0.95 else 10 * mean

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.heap and self.heap[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(self.heap)
            action(*arguments)
        self.now = until

    def transmit(self, host: Host, message: Message) -> None:
        self.check_promise(host, message)
        if (message.sender.name, message.to.name) in self.cut:
            return
        for _ in range(1 + (self.chance.random() < self.duplicate)):
            if self.chance.random() >= self.loss:
                self.later(self.delay(self.latency), self.deliver, message)

    def deliver(self, message: Message) -> None:
        if (message.sender.name, message.to.name) not in self.cut and message.to in self.hosts:
            self.hosts[message.to].step(Receive(message))

    def isolate(self, peer: Peer) -> None:
        for other in self.hosts:
            if other != peer:
                self.cut |= {(peer.name, other.name), (other.name, peer.name)}

    def unreachable(self, host: Host, peer: Peer) -> None:
        host.step(Unreachable(peer))

    def heal(self) -> None:
        self.cut.clear()

    # -- clients

    @property
    def leader(self) -> Host | None:
        leading = [host for host in self.hosts.values() if host.core is not None and host.core.is_leader]
        return max(leading, key=lambda host: host.core.term if host.core else 0) if leading else None

    def propose(self, request: object, payload: bytes, host: Host | None = None) -> None:
        host = host or self.leader
        if host is not None:
            host.step(Propose(((request, payload),)))

    def read(self, request: object, host: Host) -> None:
        self.asked[request] = len(self.committed)
        host.step(Read(request))

    def change(self, request: object, *changes: Any, host: Host | None = None, **options: Any) -> None:
        host = host or self.leader
        if host is not None:
            host.step(ChangeMembers(request, changes, **options))

    def transfer(self, request: object, target: Peer | None = None) -> None:
        if self.leader is not None:
            self.leader.step(TransferLeadership(request, target))

    def join(self, peer: Peer) -> Host:
        self.hosts[peer] = Host(self, peer, Stored())
        return self.hosts[peer]

    def answered(self, host: Host, request: object, result: Any) -> None:
        assert request not in self.answers, ("answered twice", request, self.answers[request], result)
        self.answers[request] = result
        if isinstance(result, Committed) and isinstance(request, str) and request.startswith("w"):
            entry = self.committed[result.index - 1]
            assert (entry.term, entry.payload) == (result.term, request.encode()), ("I-26", request, result, entry)
        if isinstance(result, Readable):
            assert result.index >= self.asked[request], ("I-21 stale read", request, result, self.asked[request])
            assert host.applied >= result.index, "I-22"

    # -- ghost facts

    def check(self, host: Host, was_leader: bool) -> None:
        core = host.core
        assert core is not None
        if core.is_leader and not was_leader:
            holder = self.leaders.setdefault(core.term, (host.peer, host.life))
            assert holder == (host.peer, host.life), ("I-01", core.term, holder, host.peer)
            if self.committed and host.mirror.base < len(self.committed):
                last = self.committed[-1]
                assert host.mirror.holds(last.index, last.term), ("I-04", core, last)
        while host.commit < core.state.commit:
            host.commit += 1
            if host.commit <= host.mirror.base:
                continue
            entry = host.mirror.log[host.commit - host.mirror.base - 1]
            if host.commit > len(self.committed):
                assert host.commit == len(self.committed) + 1 and (was_leader or core.is_leader), (
                    "I-15",
                    core,
                    host.commit,
                )
                self.committed.append(entry)
                if host.commit == core.state.commit:
                    self.check_quorum(host, entry)
            assert self.committed[host.commit - 1] == entry, (
                "I-05",
                host.commit,
                entry,
                self.committed[host.commit - 1],
            )
        host.commit = core.state.commit

    def check_quorum(self, host: Host, entry: Entry) -> None:
        assert host.core is not None and entry.term == host.core.term, ("I-16", entry)
        configuration = host.core.state.history.current
        for group in (configuration.voters, configuration.outgoing):
            if group:
                holders = [p for p in group if p in self.hosts and self.hosts[p].disk.holds(entry.index, entry.term)]
                assert len(holders) >= majority(len(group)), ("I-06", entry, holders, configuration)

    def check_matching(self, host: Host, write: Write) -> None:
        for entry in write.entries:
            before = self.chain.get((entry.index - 1, host.mirror.term(entry.index - 1) or 0), 0)
            digest = hash((before, entry.term, entry.kind, entry.payload))
            known = self.chain.setdefault((entry.index, entry.term), digest)
            assert known == digest or before == 0, ("I-03", host.peer, entry)

    def check_promise(self, host: Host, message: Message) -> None:
        disk = host.disk
        assert message.term <= disk.hard.term, ("I-28", message, disk.hard)
        if isinstance(message, VoteReply) and message.is_granted:
            assert disk.hard == HardState(message.term, message.to), ("I-12 vote", message, disk.hard)
        if isinstance(message, AppendReply) and message.status is AppendStatus.ACCEPTED:
            term = host.mirror.term(message.match)
            assert term is None or disk.holds(message.match, term), ("I-12 append", message, disk.last)
        if isinstance(message, InstallSnapshotReply) and message.is_done:
            assert max(disk.last, disk.snapshot.index if disk.snapshot else 0) >= message.index, ("I-12", message)

    def execute(self, machine: bytes, entry: Entry) -> bytes:
        if entry.kind is not EntryKind.COMMAND:
            return machine
        assert isinstance(entry.payload, bytes)
        return machine + entry.payload + b";"

    def check_applied(self, host: Host, entry: Entry) -> None:
        assert entry.index <= len(self.committed) and self.committed[entry.index - 1] == entry, ("I-05", entry)
        self.machines[entry.index] = self.execute(self.machines[entry.index - 1], entry)

    def check_machine(self, host: Host) -> None:
        assert self.machines[host.applied] == host.machine, ("I-24", host.peer, host.applied)


class _Counter(dict[str, int]):
    def __missing__(self, key: str) -> int:
        return 0


__all__ = ["Cluster", "Configuration", "Host", "Role", "Stream"]
