"""Writes down what the cores of a run were given and what they did, in the language of tests/raft/conversations.

The cores are observed from inside: a subclass of the core under test notes its starts, its events and its effects. So
nothing of hosts, disks and networks is told but what a core could see of it; faults and crashes are comments. The words
are those of `tests.raft.retold`, which runs a transcript again, to the letter: put a small one among the conversations.

Times are rounded as far as the cores go on to do the same; what is printed under a command is what they did then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from arc.raft import events
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Effect, Effects, Send, Trace
from arc.raft.events import Event
from arc.raft.messages import Message
from arc.raft.types import Peer, Stored
from simulations.chance import Stream, stream
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.plan import Plan
from simulations.spelling import describe, ranges

DIGITS = (3, 6, 9)
"""Tried in turn; then times are told in full."""

LIVES_MAX = 10_000
STARTED, STEPPED, NOTED = range(3)
TOLD = ("crash", "sync_failed")
"""Notes that are told besides the faults of the plan."""


class Moment(NamedTuple):
    """Something that happened: a node's start, a step of its core, or a note about the world."""

    kind: int
    peer: Peer | None = None
    now: float = 0.0
    event: Event | None = None
    stored: Stored | None = None
    config: Config | None = None
    life: int = 0
    effects: tuple[Effect, ...] = ()
    error: str = ""
    note: str = ""
    persisted: int = 0
    """The write that survived last, after the step."""
    term: int = 0


def transcript(plan: Plan, core_class: type[Any] = RaftCore) -> str:
    """The transcript of a run, up to where it ended."""
    moments, ending = observe(plan, core_class)
    for digits in DIGITS:
        rounded = _rounded(plan, core_class, moments, digits)
        if rounded is not None:
            moments = rounded
            break
    head = [f"# {plan.scenario} seed {plan.seed}: {ending or 'nothing broke'}", f"# ids: {ending.split(' ')[0]}"]
    lines = [*head, *_Telling(plan, moments).lines(), f"# {ending}" if ending else "# the end"]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def observe(plan: Plan, core_class: type[Any] = RaftCore) -> tuple[list[Moment], str]:
    """Run a plan; everything that happened to its cores, and the violation that ended it, if any.

    Without audits: they step copies of the cores, which are no part of the story.
    """
    plan = replace(plan, audits=())
    moments: list[Moment] = []
    world: Cores | None = None
    try:
        world = _Observed(plan, _observed(core_class, moments, plan.seed), moments)
        world.run()
    except Violation as violation:
        return moments, str(violation)
    except Exception as error:  # As the runner tells it: the simulator stumbled over what a core did.
        return moments, f"SIM {error!r}"
    return moments, ""


class _Observed(Cores):
    """A run whose notes are moments, too."""

    def __init__(self, plan: Plan, core_class: type[Any], moments: list[Moment]) -> None:
        self.moments = moments
        self.words = {fault.kind for fault in plan.faults} | set(TOLD)
        super().__init__(plan, core_class)

    def note(self, what: str, *facts: object) -> None:
        """Something that a reader wants to see."""
        super().note(what, *facts)
        if what in self.words:
            told = f"{self.now:.3f} s: {what} {' '.join(map(str, facts))}".rstrip()
            peer = facts[0] if what in TOLD and isinstance(facts[0], Peer) else None
            self.moments.append(Moment(NOTED, peer, note=told))


def _observed(core_class: type[Any], moments: list[Moment], seed: int) -> type[Any]:
    """The core, telling its moments."""

    class Observed(core_class):  # type: ignore[misc]  # a class that is only known now
        def __init__(self, me: Peer, config: Config, stored: Stored, rng: Stream, now: float) -> None:
            moments.append(Moment(STARTED, me, now, stored=stored, config=config, life=_life(seed, me, rng)))
            super().__init__(me, config, stored, rng, now)
            self.me = me

        def step(self, event: Event, now: float) -> Effects:
            place = len(moments)
            moments.append(Moment(STEPPED, self.me, now, event))
            try:
                effects: Effects = super().step(event, now)
            except Exception as error:
                moments[place] = moments[place]._replace(error=f"{type(error).__name__}: {error}")
                raise
            state = self.state
            moments[place] = moments[place]._replace(
                effects=tuple(effects), persisted=state.writes.persisted_id, term=state.term
            )
            return effects

    return Observed


def _rounded(plan: Plan, core_class: type[Any], moments: list[Moment], digits: int) -> list[Moment] | None:
    """The same moments at rounder times, if the cores do the same then; else None."""
    unit = 10.0**-digits
    cores: dict[Peer, Any] = {}
    clocks: dict[Peer, tuple[float, float]] = {}
    found: list[Moment] = []
    for moment in moments:
        if moment.peer is None or moment.kind == NOTED:
            found.append(moment)
            continue
        peer, at = moment.peer, round(moment.now, digits)
        was, now = clocks.get(peer, (-math.inf, -math.inf))
        if moment.kind == STEPPED and isinstance(moment.event, events.Tick):
            due = cores[peer].deadline  # A tick that comes in time must go on to come in time.
            at = math.ceil(max(moment.now, due if due is not None else 0.0) / unit) * unit
        if moment.now >= was:
            at = max(at, now)  # Rounding turns no clock back.
        at = round(at, digits)
        clocks[peer] = (moment.now, at)
        if moment.kind == STARTED:
            cores[peer] = core_class(peer, moment.config, moment.stored, chance(plan.seed, peer, moment.life), at)
            found.append(moment._replace(now=at))
            continue
        try:
            effects = tuple(cores[peer].step(moment.event, at))
        except Exception as error:
            if moment.error != f"{type(error).__name__}: {error}":
                return None
            effects = ()
        if _essence(effects) != _essence(moment.effects):
            return None
        found.append(moment._replace(now=at, effects=effects))
    return found


def chance(seed: int, peer: Peer, life: int) -> Stream:
    """The chance that the core of a node draws from, in its nth life as its host counts (ends count, too)."""
    return stream(seed, f"election/{peer}/{life}")


def _life(seed: int, peer: Peer, rng: Stream) -> int:
    """Which life that chance belongs to: the host does not tell."""
    state = rng.getstate()
    return next(life for life in range(1, LIVES_MAX) if chance(seed, peer, life).getstate() == state)


def _essence(effects: tuple[Effect, ...]) -> list[Effect]:
    """All but times in what is only told."""
    return [
        effect._replace(detail=tuple(0.0 if isinstance(each, float) else each for each in effect.detail))
        if isinstance(effect, Trace)
        else effect
        for effect in effects
    ]


class _Telling:
    """Finds the words for moments. It keeps the messages under way as whoever reads the transcript will."""

    def __init__(self, plan: Plan, moments: list[Moment]) -> None:
        self.plan = plan
        self.moments = moments
        self.flying: dict[tuple[str, str], list[Message]] = {}
        self.held: dict[str, list[tuple[int, Message]]] = {}
        self.left: Counter[tuple[type, Message]] = Counter()
        """Message -> how many times it still arrives. Equal messages are as good as one another."""
        self.link_left: Counter[tuple[str, str]] = Counter()
        self.config = Config(**plan.config)
        for moment in moments:
            if isinstance(moment.event, events.Receive):
                self.left[_key(moment.event.message)] += 1
                self.link_left[_link(moment.event.message)] += 1

    def lines(self) -> Iterator[str]:
        """Commands, what they did, and notes."""
        plan = self.plan
        given = " ".join(f"{key}={_option(value)}" for key, value in sorted(plan.config.items()))
        sessions = "on" if plan.has_sessions else "off"
        yield f"> simulated {plan.size} seed={plan.seed} spares={plan.spares} sessions={sessions} {given}".rstrip()
        founders = {f"n{number}" for number in range(1, plan.size + plan.spares + 1)}
        for moment in self.moments:
            if moment.kind == NOTED:
                yield f"# {moment.note}"
                continue
            assert moment.peer is not None
            name = moment.peer.name
            if moment.kind == STARTED:
                is_first = name not in self.held
                self.held[name] = []
                if is_first and name in founders and moment.config == self.config:
                    continue
                yield f"> {self._start(moment)} @{moment.now!r}"
                continue
            assert moment.event is not None
            yield f"> {self._word(name, moment.event)} @{moment.now!r}"
            if moment.error:
                yield f"  {name}: ! {moment.error}"
            for effect in moment.effects:
                yield f"  {name}: {describe(effect)}"
            yield from self._fly(moment)

    def _fly(self, moment: Moment) -> Iterator[str]:
        """Messages leave at once, or when their write survives. What never arrives is dropped where it leaves."""
        assert moment.peer is not None
        held, leaving = self.held[moment.peer.name], []
        for effect in moment.effects:
            if isinstance(effect, Send):
                if effect.after is not None and effect.after > moment.persisted:
                    held.append((effect.after, effect.message))
                else:
                    leaving.append(effect.message)
        match moment.event:
            case events.Persisted(write_id):
                leaving += [message for after, message in held if after <= write_id and message.term >= moment.term]
                held[:] = [each for each in held if each[0] > write_id]
            case events.WriteRefused(write_id):
                held[:] = [each for each in held if each[0] < write_id]
        for message in leaving:
            queue = self.flying.setdefault(_link(message), [])
            queue.append(message)
            # On a link that is never used again it does not matter what is left.
            if not self.left[_key(message)] and self.link_left[_link(message)]:
                yield f"> drop {self._which(message)}"
                del queue[next(at for at, each in enumerate(queue) if _key(each) == _key(message))]

    def _which(self, message: Message) -> str:
        """A message under way: its link, and as much more as it takes."""
        link = _link(message)
        queue, kind = self.flying.get(link, []), type(message)
        place = next((at for at, each in enumerate(queue) if _key(each) == _key(message)), None)
        if place is None:
            return f"{link[0]}->{link[1]} {kind.__name__} unknown"  # Made up on the way: a fault that is not told yet.
        alike = [each for each in queue if type(each) is kind]
        nth = alike.index(message)
        words = [f"{link[0]}->{link[1]}"]
        if place or nth:
            words.append(kind.__name__)
        if nth:
            words.append(str(nth + 1))
        return " ".join(words)

    def _receive(self, message: Message) -> str:
        which = self._which(message)
        queue = self.flying.get(_link(message), [])
        key = _key(message)
        self.left[key] -= 1
        self.link_left[_link(message)] -= 1
        alike = [at for at, each in enumerate(queue) if _key(each) == key]
        if self.left[key] and len(alike) == 1:
            return f"deliver {which} keep"
        del queue[alike[0]]
        return f"deliver {which}"

    def _start(self, moment: Moment) -> str:
        stored = moment.stored
        assert stored is not None and moment.peer is not None
        if stored == Stored():
            return f"join {moment.peer} life={moment.life}"
        words = [f"restart {moment.peer} life={moment.life}"]
        words.append(f"term={stored.hard_state.term} vote={stored.hard_state.vote or '-'}")
        if stored.snapshot is not None:
            words.append(f"snapshot={stored.snapshot.index}@{stored.snapshot.term}")
        words.append(f"log={ranges(entry[:2] for entry in stored.entries)}")
        if stored.runs:  # What stays on the disk: its terms, and the configurations in it.
            words.append(f"runs={','.join(f'{first}@{term}' for first, term in stored.runs)}")
        if stored.configurations:
            terms = dict(_terms(stored, [index for index, _ in stored.configurations]))
            words.append(f"changes={','.join(f'{index}@{terms[index]}' for index, _ in stored.configurations)}")
        if stored.is_damaged:
            words.append("damaged")
        assert moment.config is not None
        for field in fields(Config):
            value = getattr(moment.config, field.name)
            if value != getattr(self.config, field.name):
                words.append(f"{field.name}={_option(value)}")
        return " ".join(words)

    def _word(self, name: str, event: Event) -> str:
        match event:
            case events.Receive(message):
                return self._receive(message)
            case events.Tick():
                return f"tick {name}"
            case events.Persisted(write_id):
                return f"persist {name} {write_id}"
            case events.WriteRefused(write_id):
                return f"full {name} {write_id}"
            case events.SpaceAgain():
                return f"space {name}"
            case events.Applied(index):
                return f"applied {name} {index}"
            case events.Propose(commands):
                return f"propose {name} {' '.join(payload.decode().replace(' ', '/') for _, payload in commands)}"
            case events.Read(request):
                return f"read {name} {_request(request)}"
            case events.ChangeMembers(request, changes, _, is_catch_up, is_auto_leave):
                told = [f"{'?+~-'[change.kind]}{change.peer}" for change in changes]
                more = [*([] if is_catch_up else ["now"]), *([] if is_auto_leave else ["explicit"])]
                return " ".join(["change", name, *told, *more, f"as={request}"])
            case events.TransferLeadership(request, target):
                return f"transfer {name} {target or '-'} as={request}"
            case events.Campaign():
                return f"timeout {name}"
            case events.ForgetLeader():
                return f"forget {name}"
            case events.Unreachable(peer):
                return f"unreachable {name} {peer}"
            case events.EntriesRead(entries, token):
                return f"entries {name} {token} {ranges(entry[:2] for entry in entries)}"
            case events.SnapshotTaken(meta):
                return f"taken {name} {meta.index}@{meta.term}"
            case events.SnapshotChunk(peer, meta, offset, data, _, is_last):
                size = self.config.snapshot_chunk_bytes if data is None or is_last else len(data)
                short = "" if size == self.config.snapshot_chunk_bytes else f" short={size}"
                gone = " gone" if data is None else ""
                return f"chunk {name} {peer} {meta.index}@{meta.term} {offset}{gone}{short}"
            case events.SnapshotStored(meta, offset, is_ok):
                return f"stored {name} {meta.index}@{meta.term} {offset}{'' if is_ok else ' bad'}"


def _key(message: Message) -> tuple[type, Message]:
    return type(message), message


def _link(message: Message) -> tuple[str, str]:
    return message.sender.name, message.to.name


def _request(request: object) -> str:
    return "/".join(map(str, request)) if isinstance(request, tuple) else str(request)


def _option(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else repr(value)


def _terms(stored: Stored, indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The terms of entries in the part of the log that stays on the disk."""
    for index in indexes:
        yield index, next(term for first, term in reversed(stored.runs) if first <= index)
