"""A cluster of cores that does nothing by itself: every message, every disk write and every second is asked for.

It speaks a small language, one command a line, and prints what happened; `test_conversations` compares that with the
transcripts in conversations/, other tests use it as an object. Commands (nodes are n1, n2, ...):

    cluster 3 [key=value ...]        founders n1..n3; keys are fields of Config, and drift/lease in short
    found n1 terms=1,1,2 [term=3 vote=n2 damaged]     what a founder has on its disk; the log is told by its terms
    join n4                          a node with an empty disk that nobody knows yet
    timeout n1 | tick n1 | time 0.5 | forget n1
    propose n1 a b | read n1 r | transfer n1 [n2] | unreachable n1 n2
    change n1 +n4 ~n5 -n1 [now] [explicit]     voter, learner, remove; no changes: leave joint
    deliver n1->n2 [Kind] | drop n1->n2 [Kind] | twice n1->n2 | hold n1->n2 (deliver the newest first)
    persist n1 [one] | full n1 | space n1
    settle                           deliver and persist until nothing is left
    snapshot n1 | crash n1 | restart n1
    status | log n1 | flying
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import fields
from typing import Any

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import (
    Answer,
    Apply,
    Compact,
    Effect,
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
    Campaign,
    Change,
    ChangeKind,
    ChangeMembers,
    EntriesRead,
    Event,
    ForgetLeader,
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
from arc.raft.messages import Message
from arc.raft.types import Entry, EntryKind, HardState, Peer, SnapshotMeta, Stored, bootstrap
from simulations.spelling import describe, plain, spell
from tests.raft.minicluster import Disk


class FixedRng:
    """Chance that has no say: tokens begin at 0, the timeout of node k is T plus k tenths."""

    def __init__(self, number: int) -> None:
        self._number = number

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * min(self._number, 9) / 10

    def bytes(self, count: int) -> bytes:
        return bytes(count)


class Node:
    """Core, disk, what is not yet written, what waits for it."""

    def __init__(self, talk: Talk, peer: Peer, stored: Stored) -> None:
        self.talk, self.peer = talk, peer
        self.disk = Disk(stored)
        self.core: RaftCore = self._boot()

    def _boot(self) -> RaftCore:
        self.pending: list[Write] = []
        self.held: list[Send] = []
        self.staged = b""
        self.is_up = True
        self.applied: list[Entry] = []
        number = int("".join(filter(str.isdigit, self.peer.name)) or 0)
        return RaftCore(self.peer, self.talk.config, self.disk.stored(), FixedRng(number), self.talk.now)

    def restart(self) -> None:
        self.core = self._boot()


class Talk:
    """See the module."""

    def __init__(self, size: int = 0, **options: Any) -> None:
        self.now = 0.0
        self.config = Config()
        self.nodes: dict[str, Node] = {}
        self.links: dict[tuple[str, str], deque[Message]] = {}
        self.lines: list[str] = []
        self.answers: dict[Any, Any] = {}
        self.traces: list[Trace] = []
        self.is_quiet = False
        self.requests = 0
        if size:
            self.found_cluster(size, **options)

    # ---------------------------------------- as an object

    def found_cluster(self, size: int, **options: Any) -> None:
        self.config = Config(**options)
        peers = [Peer(f"n{number}") for number in range(1, size + 1)]
        for peer in peers:
            self.nodes[peer.name] = Node(self, peer, bootstrap(*peers))

    def core(self, name: str) -> RaftCore:
        return self.nodes[name].core

    def step(self, name: str, event: Event) -> list[Effect]:
        node = self.nodes[name]
        if not node.is_up:
            return []
        effects = node.core.step(event, self.now)
        for effect in effects:
            self.say(name, effect)
        for effect in effects:
            self._act(node, effect)
        return effects

    def do(self, *commands: str) -> list[str]:
        """Run commands; returns what they printed."""
        start = len(self.lines)
        for command in commands:
            word, *rest = command.split()
            getattr(self, f"do_{word}")(*rest)
        return self.lines[start:]

    def elect(self, name: str) -> None:
        """Make a node leader of a cluster at rest."""
        self.do(f"timeout {name}", "settle")
        assert self.core(name).is_leader, self.core(name)

    def flying(self, kind: type | None = None) -> list[Message]:
        return [message for queue in self.links.values() for message in queue if kind is None or type(message) is kind]

    def traced(self, name: str) -> bool:
        return any(trace.name == name for trace in self.traces)

    # ---------------------------------------- executing

    def _act(self, node: Node, effect: Effect) -> None:
        name = node.peer.name
        match effect:
            case Write():
                node.pending.append(effect)
            case Send(message, after):
                if after is None or after <= node.core.state.writes.persisted_id:
                    self._fly(message)
                else:
                    node.held.append(effect)
            case Apply(entries):
                node.applied.extend(entries)
                self.step(name, Applied(entries[-1].index))
            case Restore(meta):
                self.step(name, Applied(meta.index))
            case ReadEntries(first, last, _, token):
                found = tuple(entry for entry in node.disk.log if first <= entry.index <= last)
                self.step(name, EntriesRead(found, token))
            case SnapshotRead(peer, meta, offset, bytes_max):
                image = node.disk.images.get(meta)
                data = None if image is None else image[offset : offset + bytes_max]
                is_last = image is not None and offset + bytes_max >= len(image)
                self.step(name, SnapshotChunk(peer, meta, offset, data, zlib.crc32(data or b""), is_last))
            case SnapshotStore(meta, offset, data, checksum, is_last):
                node.staged = data if offset == 0 else node.staged + data
                is_ok = zlib.crc32(data) == checksum
                if is_last and is_ok:
                    is_ok = f"{zlib.crc32(node.staged):08x}" == meta.digest
                    node.disk.images[meta] = node.staged
                self.step(name, SnapshotStored(meta, offset, is_ok))
            case Answer(request, result):
                assert request not in self.answers, ("answered twice", request)
                self.answers[request] = result
            case Trace():
                self.traces.append(effect)
            case Compact():
                pass

    def _fly(self, message: Message) -> None:
        self.links.setdefault((message.sender.name, message.to.name), deque()).append(message)

    def _persist(self, node: Node, count: int) -> bool:
        writes, node.pending = node.pending[:count], node.pending[count:]
        if not writes:
            return False
        for write in writes:
            node.disk.do(write)
        self.step(node.peer.name, Persisted(writes[-1].write_id))
        ready = [send for send in node.held if (send.after or 0) <= writes[-1].write_id]
        node.held = [send for send in node.held if send not in ready]
        for send in ready:
            if send.message.term >= node.core.term:
                self._fly(send.message)
        return True

    def say(self, name: str, effect: Effect) -> None:
        if not self.is_quiet:
            self.lines.append(f"  {name}: {describe(effect)}")

    # ---------------------------------------- commands

    def do_cluster(self, size: str, *options: str) -> None:
        types = {field.name: str(field.type) for field in fields(Config)}
        parsed: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            kind = types[key]
            parsed[key] = value in ("on", "true") if kind == "bool" else int(value) if kind == "int" else float(value)
        self.found_cluster(int(size), **parsed)

    def do_found(self, name: str, *options: str) -> None:
        founders = self.nodes[name].core.state.history.current.voters
        given = dict(option.partition("=")[::2] for option in options)
        terms = [int(term) for term in given.get("terms", "").split(",") if term]
        entries = tuple(
            Entry(index, term, EntryKind.COMMAND, f"{index}@{term}".encode()) for index, term in enumerate(terms, 1)
        )
        term = int(given.get("term", max(terms, default=0)))
        vote = Peer.parse(given["vote"]) if "vote" in given else None
        stored = bootstrap(*founders)._replace(
            hard_state=HardState(term, vote), entries=entries, is_damaged="damaged" in given
        )
        self.nodes[name] = Node(self, Peer(name), stored)
        if "damaged" in given:
            self.nodes[name].core = RaftCore(Peer(name), self.config, stored, FixedRng(0), self.now)

    def do_join(self, name: str) -> None:
        self.nodes[Peer.parse(name).name] = Node(self, Peer.parse(name), Stored())

    def do_timeout(self, name: str) -> None:
        self.step(name, Campaign())

    def do_tick(self, name: str) -> None:
        self.step(name, Tick())

    def do_time(self, seconds: str) -> None:
        self.now += float(seconds)

    def do_forget(self, name: str) -> None:
        self.step(name, ForgetLeader())

    def do_propose(self, name: str, *payloads: str) -> None:
        self.step(name, Propose(tuple((payload, payload.encode()) for payload in payloads)))

    def do_read(self, name: str, request: str) -> None:
        self.step(name, Read(request))

    def do_transfer(self, name: str, target: str = "") -> None:
        self.requests += 1
        self.step(name, TransferLeadership(f"transfer{self.requests}", Peer.parse(target) if target else None))

    def do_unreachable(self, name: str, other: str) -> None:
        self.step(name, Unreachable(Peer(other)))

    def do_change(self, name: str, *words: str) -> None:
        self.requests += 1
        kinds = {"+": ChangeKind.VOTER, "~": ChangeKind.LEARNER, "-": ChangeKind.REMOVE}
        changes = tuple(Change(kinds[word[0]], Peer.parse(word[1:])) for word in words if word[0] in kinds)
        event = ChangeMembers(
            f"change{self.requests}", changes, is_catch_up="now" not in words, is_auto_leave="explicit" not in words
        )
        self.step(name, event)

    def do_deliver(self, link: str, kind: str = "") -> None:
        for message in self._take(link, kind):
            self.step(message.to.name, Receive(message))

    def do_drop(self, link: str, kind: str = "") -> None:
        self._take(link, kind)

    def do_twice(self, link: str) -> None:
        for message in self._take(link, ""):
            self.step(message.to.name, Receive(message))
            self.step(message.to.name, Receive(message))

    def do_hold(self, link: str) -> None:
        for message in reversed(self._take(link, "")):
            self.step(message.to.name, Receive(message))

    def _take(self, link: str, kind: str) -> list[Message]:
        sender, _, to = link.partition("->")
        taken: list[Message] = []
        for (a, b), queue in self.links.items():
            if sender in ("*", a) and to in ("*", b):
                taken += [message for message in queue if kind in ("", type(message).__name__)]
                kept = [message for message in queue if kind not in ("", type(message).__name__)]
                queue.clear()
                queue.extend(kept)
        return taken

    def do_persist(self, name: str, count: str = "") -> None:
        self._persist(self.nodes[name], 1 if count == "one" else 1 << 30)

    def do_full(self, name: str) -> None:
        node = self.nodes[name]
        if node.pending:
            first = node.pending[0].write_id
            node.pending = [write._replace(entries=()) for write in node.pending]
            node.held = [send for send in node.held if (send.after or 0) < first]
            self.step(name, WriteRefused(first))
        else:
            self.step(name, WriteRefused(node.core.state.writes.next_id))

    def do_space(self, name: str) -> None:
        self.step(name, SpaceAgain())

    def do_settle(self, *silent: str) -> None:
        """Until nothing moves; traffic is not printed, only how it ends. Nodes named stay cut off."""
        self.is_quiet = True
        for _ in range(200):
            moved = False
            for node in list(self.nodes.values()):
                moved |= node.is_up and self._persist(node, 1 << 30)
            for (sender, to), queue in list(self.links.items()):
                batch = list(queue)
                queue.clear()
                for message in batch:
                    is_cut = to in silent or sender in silent or to not in self.nodes
                    if not is_cut:
                        self.step(to, Receive(message))
                        moved = True
            if not moved:
                break
        else:
            raise AssertionError("it never settles")
        self.is_quiet = False
        self.do_status()

    def do_snapshot(self, name: str) -> None:
        node = self.nodes[name]
        index = node.core.state.applied
        at, configuration = node.core.state.history.at(index)
        image = b";".join(bytes(entry.payload) for entry in node.applied if isinstance(entry.payload, bytes))
        term = node.core.term_at(index)
        assert term is not None
        meta = SnapshotMeta(index, term, configuration, at, len(image), f"{zlib.crc32(image):08x}")
        node.disk.images[meta] = image
        node.disk.snapshot = meta
        self.step(name, SnapshotTaken(meta))

    def do_crash(self, name: str) -> None:
        self.nodes[name].is_up = False
        for (_, to), queue in self.links.items():
            if to == name:
                queue.clear()

    def do_restart(self, name: str) -> None:
        self.nodes[name].restart()
        self.do_status(name)

    def do_status(self, *names: str) -> None:
        for name, node in self.nodes.items():
            if names and name not in names:
                continue
            self.lines.append(f"  {node.core!r}{'' if node.is_up else ' (down)'}")

    def do_log(self, name: str) -> None:
        log = self.core(name).state.log
        entries = [repr(log.entry(index)) for index in range(log.boundary_index + 1, log.last_index + 1)]
        self.lines.append(
            f"  {name}: after {log.boundary_index}@{log.boundary_term}: {', '.join(entries) or 'nothing'}"
        )

    def do_flying(self) -> None:
        for queue in self.links.values():
            self.lines.extend(f"  {spell(message)}" for message in queue)


__all__ = ["FixedRng", "Node", "Talk", "describe", "plain", "spell"]
