"""The language of `talk` for transcripts of the simulator: nothing happens by itself, and every node has its own clock.

A transcript begins with ``simulated`` instead of ``cluster``; `simulations.transcript` writes it. What differs:

    simulated 3 seed=7 spares=1 sessions=on [key=value ...]   chance by the seed, the simulator's machine
    any command @1.25                                         the clock of the node it happens to, in seconds
    deliver|drop n1->n2 [Kind] [nth] [keep]                   one message; keep: another copy is still under way
    persist n1 7 | full n1 7 | applied n1 12                  up to this write, from this write, up to this entry
    propose n1 client/serial/attempt/kind/key/value/expected ...     read n1 client/serial/attempt
    change ... as=admin1 | transfer n1 n2 as=admin2           the request's name
    entries n1 token 4..6@1 | taken n1 12@3 | chunk n1 n2 12@3 0 [gone] | stored n1 12@3 0 [bad]
    join n4#2 life=1                                          with an empty disk
    restart n1 life=3 term=3 vote=n2 [snapshot=12@3] log=13..15@3 [damaged] [key=value ...]     what the crash left
"""

from __future__ import annotations

import zlib
from collections import deque
from dataclasses import replace
from typing import Any

from arc.raft import events
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Apply, Effect, ReadEntries, Restore, Send, SnapshotRead, SnapshotStore, Write
from arc.raft.events import Change, ChangeKind, Event
from arc.raft.messages import Message
from arc.raft.types import Configuration, Entry, HardState, Peer, SnapshotMeta, Stored, bootstrap
from simulations.machine import Machine
from simulations.spelling import pairs
from simulations.transcript import chance
from tests.raft.talk import Node, Talk


class RetoldNode(Node):
    """A node of which nothing is forgotten, so that a crash may leave any part of it."""

    core: RaftCore

    def __init__(self, talk: Retold, peer: Peer, stored: Stored) -> None:
        self.talk: Retold = talk  # type: ignore[assignment]
        self.entries: dict[tuple[int, int], Entry] = {}
        self.metas: dict[tuple[int, int], SnapshotMeta] = {}
        self.images: dict[SnapshotMeta, bytes] = {}
        self.begin(peer, stored, 1, talk.config)

    def begin(self, peer: Peer, stored: Stored, life: int, config: Config) -> None:
        """A new life."""
        self.peer = peer
        self.held: list[Send] = []
        self.dumps: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self.asked: list[SnapshotRead | SnapshotStore] = []
        self.staged = b""
        self.is_up = True
        self.machine = Machine(self.talk.has_sessions)
        if stored.snapshot is not None:
            self.metas[stored.snapshot[:2]] = stored.snapshot
            self.machine.load(self.images.setdefault(stored.snapshot, b""))
        self.core = self.talk.core_class(peer, config, stored, chance(self.talk.seed, peer, life), self.talk.now)


class Retold(Talk):
    """See the module. ``core_class`` may be a copy with a planted bug."""

    def __init__(self, core_class: type[Any] = RaftCore) -> None:
        super().__init__()
        self.core_class = core_class
        self.seed = 0
        self.has_sessions = True

    def do(self, *commands: str) -> list[str]:
        start = len(self.lines)
        for command in commands:
            line, _, at = command.rpartition(" @")
            if line and at.replace(".", "").replace("e-", "").lstrip("-").isdigit():
                self.now, command = float(at), line
            try:
                super().do(command)
            except LookupError as error:  # Another core than the one whose story it is: so this is another story.
                self.lines.append(f"  cannot {command.split()[0]}: {error}")
        return self.lines[start:]

    def step(self, name: str, event: Event) -> list[Effect]:
        node = self.node(name)
        try:
            effects: list[Effect] = node.core.step(event, self.now)
        except Exception as error:
            self.lines.append(f"  {name}: ! {type(error).__name__}: {error}")
            return []
        for effect in effects:
            self.say(name, effect)
        for effect in effects:
            self._act(node, effect)
        return effects

    def node(self, name: str) -> RetoldNode:
        found = self.nodes[name]
        assert isinstance(found, RetoldNode)
        return found

    def _act(self, node: Node, effect: Effect) -> None:
        assert isinstance(node, RetoldNode)
        match effect:
            case Write():
                node.entries.update({entry[:2]: entry for entry in effect.entries})
                if effect.snapshot is not None:
                    node.metas[effect.snapshot[:2]] = effect.snapshot
            case Send(message, after):
                if after is None or after <= node.core.state.writes.persisted_id:
                    self._fly(message)
                else:
                    node.held.append(effect)
            case Apply(entries):
                for entry in entries:
                    node.machine.apply(entry)
                self._dump(node, entries[-1].index)
            case Restore(meta):
                node.machine.load(node.images[meta])
            case SnapshotRead() | SnapshotStore():
                node.asked.append(effect)
            case ReadEntries():
                pass  # The answer says what was read.
            case _:
                pass

    def _dump(self, node: RetoldNode, index: int) -> None:
        state = node.core.state
        term = state.log.term(index)
        if term is not None:
            at, configuration = state.history.at(index)
            image = node.machine.dump()
            meta = SnapshotMeta(index, term, configuration, at, len(image), f"{zlib.crc32(image):08x}")
            node.dumps[index] = (meta, image)

    # ---------------------------------------- commands

    def do_simulated(self, size: str, *options: str) -> None:
        given = dict(option.split("=", 1) for option in options)
        self.seed, spares = int(given.pop("seed")), int(given.pop("spares"))
        self.has_sessions = given.pop("sessions") == "on"
        self.config = Config(**{key: _value(text) for key, text in given.items()})
        founders = [Peer(f"n{number}") for number in range(1, int(size) + 1)]
        for number in range(1, int(size) + spares + 1):
            peer = Peer(f"n{number}")
            self.nodes[peer.name] = RetoldNode(self, peer, bootstrap(*founders) if peer in founders else Stored())

    def do_join(self, name: str, life: str = "life=1") -> None:
        peer = Peer.parse(name)
        if peer.name not in self.nodes:
            self.nodes[peer.name] = RetoldNode(self, peer, Stored())
        self.node(peer.name).begin(peer, Stored(), int(life.removeprefix("life=")), self.config)

    def do_restart(self, name: str, *options: str) -> None:
        peer = Peer.parse(name)
        node = self.node(peer.name)
        given = dict(option.partition("=")[::2] for option in options)
        life, term, vote, log = (given.pop(word) for word in ("life", "term", "vote", "log"))
        snapshot = node.metas[next(pairs(given.pop("snapshot")))] if "snapshot" in given else None
        is_damaged = given.pop("damaged", None) is not None
        entries = tuple(node.entries[pair] for pair in pairs(log))
        runs = tuple(pairs(given.pop("runs", "-")))
        changes = [(pair[0], node.entries[pair].payload) for pair in pairs(given.pop("changes", "-"))]
        configurations = tuple((index, told) for index, told in changes if isinstance(told, Configuration))
        hard = HardState(int(term), None if vote == "-" else Peer.parse(vote))
        config = replace(self.config, **{key: _value(text) for key, text in given.items()})
        stored = Stored(hard, snapshot, entries, 0, runs, configurations, is_damaged)
        node.begin(peer, stored, int(life), config)

    def _take(self, link: str, kind: str) -> list[Message]:
        raise AssertionError("one message at a time")

    def _one(self, link: str, *words: str) -> Message:
        """Take a message from a link; with ``keep`` it stays."""
        sender, _, to = link.partition("->")
        queue = self.links.setdefault((sender, to), deque())
        kinds = [word for word in words if word[0].isupper()]
        nth = next((int(word) for word in words if word.isdigit()), 1)
        alike = [message for message in queue if not kinds or type(message).__name__ == kinds[0]]
        if nth > len(alike):
            raise LookupError("no such message is under way")
        message = alike[nth - 1]
        if "keep" not in words:
            del queue[next(at for at, each in enumerate(queue) if each is message)]
        return message

    def do_deliver(self, link: str, *words: str) -> None:
        message = self._one(link, *words)
        self.step(message.to.name, events.Receive(message))

    def do_drop(self, link: str, *words: str) -> None:
        self._one(link, *words)

    def do_persist(self, name: str, count: str = "") -> None:
        node, write_id = self.node(name), int(count)
        self.step(name, events.Persisted(write_id))
        ready = [send for send in node.held if (send.after or 0) <= write_id]
        node.held = [send for send in node.held if (send.after or 0) > write_id]
        for send in ready:
            if send.message.term >= node.core.term:
                self._fly(send.message)

    def do_full(self, name: str, write_id: str = "") -> None:
        node = self.node(name)
        node.held = [send for send in node.held if (send.after or 0) < int(write_id)]
        self.step(name, events.WriteRefused(int(write_id)))

    def do_applied(self, name: str, index: str) -> None:
        self.step(name, events.Applied(int(index)))

    def do_propose(self, name: str, *payloads: str) -> None:
        self.step(name, events.Propose(tuple((_token(each), each.replace("/", " ").encode()) for each in payloads)))

    def do_read(self, name: str, request: str) -> None:
        self.step(name, events.Read(_token(request)))

    def do_transfer(self, name: str, target: str = "", request: str = "") -> None:
        peer = None if target == "-" else Peer.parse(target)
        self.step(name, events.TransferLeadership(request.removeprefix("as="), peer))

    def do_change(self, name: str, *words: str) -> None:
        kinds = {"+": ChangeKind.VOTER, "~": ChangeKind.LEARNER, "-": ChangeKind.REMOVE}
        changes = tuple(Change(kinds[word[0]], Peer.parse(word[1:])) for word in words if word[0] in kinds)
        request = words[-1].removeprefix("as=")
        self.step(
            name,
            events.ChangeMembers(
                request, changes, is_catch_up="now" not in words, is_auto_leave="explicit" not in words
            ),
        )

    def do_entries(self, name: str, token: str, found: str) -> None:
        entries = tuple(self.node(name).entries[pair] for pair in pairs(found))
        self.step(name, events.EntriesRead(entries, int(token)))

    def do_taken(self, name: str, which: str) -> None:
        node = self.node(name)
        ((index, _),) = pairs(which)
        meta, image = node.dumps[index]
        node.images[meta] = image
        node.metas[meta[:2]] = meta
        self.step(name, events.SnapshotTaken(meta))

    def do_chunk(self, name: str, peer: str, which: str, offset: str, *words: str) -> None:
        node = self.node(name)
        asked = next(
            each
            for each in [*node.asked, None]
            if each is None
            or (
                isinstance(each, SnapshotRead)
                and (str(each.peer), each.offset) == (peer, int(offset))
                and each.meta[:2] in pairs(which)
            )
        )
        if not isinstance(asked, SnapshotRead):
            raise LookupError("nobody asked for it")
        node.asked.remove(asked)
        image = None if "gone" in words else node.images[asked.meta]
        short = next((int(word.removeprefix("short=")) for word in words if word.startswith("short=")), None)
        size = asked.bytes_max if short is None else short
        data = None if image is None else image[asked.offset : asked.offset + size]
        is_last = image is not None and asked.offset + size >= len(image)
        checksum = zlib.crc32(data or b"")
        self.step(name, events.SnapshotChunk(asked.peer, asked.meta, asked.offset, data, checksum, is_last))

    def do_stored(self, name: str, which: str, offset: str, *words: str) -> None:
        node = self.node(name)
        asked = next(
            each
            for each in [*node.asked, None]
            if each is None
            or (isinstance(each, SnapshotStore) and each.offset == int(offset) and each.meta[:2] in pairs(which))
        )
        if not isinstance(asked, SnapshotStore):
            raise LookupError("nobody asked for it")
        node.asked.remove(asked)
        node.staged = asked.data if asked.offset == 0 else node.staged + asked.data
        if asked.is_last and "bad" not in words:
            node.images[asked.meta] = node.staged
        self.step(name, events.SnapshotStored(asked.meta, asked.offset, "bad" not in words))


def _token(text: str) -> Any:
    """``1/2/3/...`` is attempt 3 of operation 2 of client 1; anything else is a name."""
    parts = text.split("/")
    return tuple(int(part) for part in parts[:3]) if len(parts) >= 3 else text


def _value(text: str) -> Any:
    if text in ("on", "off"):
        return text == "on"
    return float(text) if any(mark in text for mark in ".e") else int(text)
