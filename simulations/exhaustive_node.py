"""One node of the exhaustive search, as a value: a real core, its disk, its unfinished writes, what it holds back.

A node is never changed: a step copies the core (`clone`: a purpose-made copy, nine times quicker than
``deepcopy``) and steps the copy. Two nodes are the same if all that can matter later is the same (`digest`): ids of
writes count from the last one that is done, time stands still, and what only reports, or only timers look at, is out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

from arc.raft import effects as out
from arc.raft.config import Config
from arc.raft.effects import Write
from arc.raft.events import Applied, Campaign, Event, Persisted, Propose, Receive, Tick
from arc.raft.messages import AppendReply, AppendStatus, Message, VoteReply
from arc.raft.types import Entry, HardState, Peer, Role, Stored, bootstrap
from simulations.checkers.violation import Violation, of_core
from simulations.costep import Step, abstract, check_step, written
from simulations.spec import Disk, Log, Node, recover

NOW = 1.0
CONFIG = Config(
    election_timeout_seconds=1.0,
    heartbeat_seconds=1e-300,  # Lost in the sum with NOW: a heartbeat is due whenever the search says "tick".
    is_pre_vote=False,
    is_check_quorum=False,
    is_sticky=False,
)
"""Time stands still, and no protection that counts on time is on: elections happen whenever the search says so."""


class NoChance:
    """The same at every draw: nothing is left to chance where everything is tried."""

    def uniform(self, low: float, high: float) -> float:
        """The lower end."""
        return low

    def random(self) -> float:
        """Nought."""
        return 0.0

    def bytes(self, count: int) -> bytes:
        """Noughts."""
        return b"\0" * count


class Facts(NamedTuple):
    """What the properties of the whole look at. ``disk`` is the log that survives now, ``log`` the node's own."""

    is_leader: bool
    term: int
    commit: int
    log: tuple[Entry, ...]
    disk: tuple[Entry, ...]


class Local(NamedTuple):
    """One state of one node. ``held`` are (write to wait for, message, log that an acknowledgement promises)."""

    me: Peer
    core: Any
    disk: Disk
    pending: tuple[Write, ...]
    held: tuple[tuple[int, Message, tuple[Entry, ...]], ...]
    seen: Node
    key: tuple[object, ...]
    facts: Facts


class Moved(NamedTuple):
    """Where a step leads, and what leaves the node in it."""

    local: Local
    left: tuple[Message, ...]


# ------------------------------------------------------------------------------------------------------------- lives


def found(core_class: type[Any], me: Peer, peers: tuple[Peer, ...]) -> Local:
    """A founding member before its first event."""
    start = recover(me, bootstrap(*peers))
    return _begin(core_class, me, Disk(0, None, start.log))


def _begin(core_class: type[Any], me: Peer, disk: Disk) -> Local:
    """A life begins from a disk. I-29: the core knows what the disk holds, and holds no office."""
    stored = Stored(
        hard_state=HardState(disk.term, disk.vote),
        snapshot=bootstrap(*disk.log.base_configuration.voters).snapshot,
        entries=disk.log.entries,
    )
    try:
        core = core_class(me, CONFIG, stored, NoChance(), NOW)
    except Exception as error:
        raise of_core(error) from error
    seen = abstract(core.state, disk.log)
    if seen != recover(me, stored):
        raise Violation("I-29", "the core starts with something else than its disk", seen, stored)
    return _local(me, core, disk, (), (), seen)


def crash(local: Local, core_class: type[Any]) -> Iterator[tuple[str, Local]]:
    """Every outcome of a power cut: some first writes survive, and perhaps the beginning of the next."""
    outcomes: dict[Disk, str] = {local.disk: "loses all that is not synced"}
    disk = local.disk
    for write in local.pending:
        hard_only = write._replace(truncate_from=None, entries=())
        parts = [hard_only, *(write._replace(entries=write.entries[:count]) for count in range(len(write.entries) + 1))]
        for part in parts:
            outcomes.setdefault(written(disk, part), f"keeps its writes up to {part[1:4]}")
        disk = written(disk, write)
    for outcome, fate in outcomes.items():
        yield fate, _begin(core_class, local.me, outcome)


# ------------------------------------------------------------------------------------------------------------- steps


def campaign(local: Local, terms: int, has_spec: bool) -> Moved | None:
    """The election timeout passes."""
    state = local.core.state
    return step(local, Campaign(), has_spec) if state.term < terms and state.leading is None else None


def tick(local: Local, rounds: int, has_spec: bool) -> Moved | None:
    """A leader's next round of heartbeats."""
    leading = local.core.state.leading
    return step(local, Tick(), has_spec) if leading is not None and leading.round < rounds else None


def propose(local: Local, number: int, has_spec: bool) -> Moved | None:
    """A leader is given a command; all of them differ."""
    if local.core.state.leading is None:
        return None
    return step(local, Propose(((number, b"%d" % (number + 1)),)), has_spec)


def persist(local: Local, has_spec: bool) -> Moved | None:
    """The oldest unfinished write is done, and what waited for it leaves."""
    if not local.pending:
        return None
    disk = written(local.disk, local.pending[0])
    done = local._replace(disk=disk, pending=local.pending[1:])
    return step(done, Persisted(local.pending[0].write_id), has_spec)


def receive(local: Local, message: Message, has_spec: bool) -> Moved:
    """A message arrives."""
    return step(local, Receive(message), has_spec)


def step(local: Local, event: Event, has_spec: bool) -> Moved:
    """Give a copy of the core an event and do what it asks; the state machine is always up to date."""
    core, state = (copied := clone(local.core)), copied.state
    pending, said, before = local.pending, list(local.held), local.seen
    waiting: list[Event] = [event]
    while waiting:
        event = waiting.pop(0)
        try:
            effects = core.step(event, NOW)
        except Exception as error:
            raise of_core(error) from error
        seen = abstract(state, local.disk.log)
        if has_spec:
            check_step(Step(before, event, seen, local.disk), effects)
        before = seen
        for effect in effects:
            if isinstance(effect, out.Write):
                pending = (*pending, effect)
            elif isinstance(effect, out.Send):
                promised = seen.log.entries[: effect.message.match] if _is_acceptance(effect.message) else ()  # type: ignore[union-attr]
                said.append((effect.after or 0, effect.message, promised))
            elif isinstance(effect, out.Apply):
                waiting.append(Applied(effect.entries[-1].index))
            else:
                assert isinstance(effect, out.Answer | out.Trace), effect
    done = state.writes.persisted_id
    left = [each for each in said if each[0] <= done and each[1].term >= state.term]
    for _, message, promised in left:
        _check_promise(message, promised, local.disk)
    waits = {(type(each[1]), each): each for each in said if each[0] > done}  # Tuples are equal whatever their type.
    held = tuple(waits.values())
    return Moved(_local(local.me, core, local.disk, pending, held, seen), tuple(message for _, message, _ in left))


def _is_acceptance(message: Message) -> bool:
    return isinstance(message, AppendReply) and message.status == AppendStatus.ACCEPTED


def _check_promise(message: Message, promised: tuple[Entry, ...], disk: Disk) -> None:
    """What a message promises is on disk when it leaves (I-12, I-28)."""
    if message.term > disk.term:
        raise Violation("I-28", "a term leaves that is not on disk", message, disk)
    if isinstance(message, VoteReply) and message.is_granted and (disk.term, disk.vote) != (message.term, message.to):
        raise Violation("I-12", "a vote leaves that is not on disk", message, disk)
    if disk.log.entries[: len(promised)] != promised:
        raise Violation("I-12", "entries are acknowledged that are not on disk", message, disk)


# ------------------------------------------------------------------------------------------------- what a state is


def _local(me: Peer, core: Any, disk: Disk, pending: tuple[Write, ...], held: Any, seen: Node) -> Local:
    facts = Facts(seen.role is Role.LEADER, seen.term, seen.commit, seen.log.entries, disk.log.entries)
    return Local(me, core, disk, pending, held, seen, digest(core.state, disk, pending, held, seen), facts)


def digest(state: Any, disk: Disk, pending: tuple[Write, ...], held: Any, seen: Node) -> tuple[object, ...]:
    """All of a node that can matter later, and nothing else: equal digests behave equally for ever."""
    writes, leading = state.writes, state.leading
    done = writes.persisted_id

    def since(write_id: int) -> int:
        return write_id - done if write_id > done else 0

    return (
        (seen, int(state.role), state.leader, tuple(sorted(state.votes.items()))),
        (state.applied, state.unwritten, writes.durable_index, since(writes.hard_state_id), writes.next_id - done),
        (since(state.self_vote_after), since(state.campaign_after)),
        tuple((since(each.write_id), each.first, each.last) for each in writes._pending),
        tuple(write._replace(write_id=since(write.write_id)) for write in pending),
        frozenset((since(after), type(message), message, promised) for after, message, promised in held),
        disk,
        _digest_of_leading(leading) if leading is not None else None,
    )


def _digest_of_leading(leading: Any) -> tuple[object, ...]:
    return (
        leading.term_start,
        leading.round,
        tuple(index for index, _, _ in leading.proposals),
        tuple(
            (peer, p.match, p.next, int(p.pace), p.is_probe_sent, p.must_send, p.round_sent, p.commit_told, p.in_flight)
            for peer, p in sorted(leading.progress.items())
        ),
    )


_SHARED = (str, int, float, bytes, tuple, frozenset, type(None), Enum, Config, NoChance)
"""Never changed, so copies may share them. What a core keeps in tuples is immutable all the way down."""


def clone(value: Any) -> Any:
    """A copy of a core that shares whatever never changes."""
    kind = type(value)
    if isinstance(value, _SHARED):
        return value
    if kind is list:
        return [clone(each) for each in value]
    if kind is deque:
        return deque(clone(each) for each in value)
    if kind is dict:
        return {key: clone(each) for key, each in value.items()}
    new = object.__new__(kind)
    for name in getattr(kind, "__slots__", None) or value.__dict__:
        setattr(new, name, clone(getattr(value, name)))
    return new


__all__ = ["Facts", "Local", "Log", "Moved", "campaign", "crash", "found", "persist", "propose", "receive", "tick"]
