"""A core with the specification beside it: every step must be an allowed one, every message an allowed one.

`watched` makes a class that is a core to its driver and checks each step against `spec`: the abstraction of the state
before and after, what was said, written, applied and answered. It keeps its own idea of the disk, from the writes that
the core asked for and the completions it was told, so it needs nothing from whoever drives it: bare cores, planted
copies, whole nodes. A step that the rules do not allow raises Violation("SPEC").
"""

from __future__ import annotations

from typing import Any, NamedTuple

from arc.raft import effects as out
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Effects, Write
from arc.raft.events import Event, Persisted, WriteRefused
from arc.raft.messages import Message
from arc.raft.types import Peer, Role, Stored
from simulations.checkers.violation import Violation
from simulations.spec import Disk, Log, Node, explain, may_leave, may_say, recover

EVERY = 16
"""One seed in so many of the simulator's runs has the specification beside it; it doubles the time of a step."""


def abstract(state: Any, written: Log) -> Node:
    """What the specification sees of a core. Entries that left its memory are read from ``written``, its own writes."""
    log, boundary = state.log, state.log.boundary_index
    evicted = tuple(entry for entry in written.entries if boundary < entry.index < log.memory_index)
    held = log.read(log.memory_index, log.last_index, 1 << 62, 1 << 62) if log.memory_index <= log.last_index else ()
    image = Log(boundary, log.boundary_term, state.history.at(boundary)[1], evicted + held)
    leading = state.leading
    matches = leading.progress.values() if leading is not None else ()
    node = Node(
        me=state.me,
        term=state.term,
        vote=state.vote,
        role=Role.FOLLOWER if state.role == Role.PRE_CANDIDATE else Role(state.role),
        log=image,
        commit=state.commit,
        applied=state.applying,
        agreed=state.accepted_index if state.accepted_term == state.term else 0,
        votes=frozenset(peer for peer, is_granted in state.votes.items() if is_granted)
        if state.role == Role.CANDIDATE
        else frozenset(),
        match=frozenset((progress.peer, progress.match) for progress in matches),
    )
    if image.last != log.last_index:
        raise Violation("SPEC", "entries are missing", image, log)
    if node.configuration != state.history.current:
        raise Violation("SPEC", "the configuration in force is not the newest of the log", node.configuration, state)
    return node


def written(disk: Disk, write: Write) -> Disk:
    """The disk after a write: snapshot, hard state, cut, entries."""
    log = disk.log
    if write.snapshot is not None and write.truncate_from is not None and write.truncate_from <= write.snapshot.index:
        log = Log(write.snapshot.index, write.snapshot.term, write.snapshot.configuration)
    elif write.truncate_from is not None:
        log = log.up_to(write.truncate_from - 1)
    if write.entries:
        if write.entries[0].index != log.last + 1:
            raise Violation("SPEC", "a write leaves a gap in the log", write, log)
        log = log._replace(entries=log.entries + write.entries)
    hard = write.hard_state
    return Disk(disk.term, disk.vote, log) if hard is None else Disk(hard.term, hard.vote, log)


class Step(NamedTuple):
    """One step of a core, as the specification sees it. ``disk`` is what had survived when it began."""

    before: Node
    event: Event
    after: Node
    disk: Disk


def check_step(step: Step, effects: Effects) -> None:
    """Raises Violation("SPEC") unless the rules allow the step and all that was said and handed out in it."""
    path = explain(step.before, step.event, step.after, step.disk)
    if path is None:
        raise Violation("SPEC", "no rule allows this step", *difference(step))
    applied = step.before.applied
    for effect in effects:
        if isinstance(effect, out.Send):
            if not any(may_say(node, effect.message) for node in path):
                raise Violation("SPEC", "a node in this state may not say that", effect.message, step.after)
        elif isinstance(effect, out.Apply):
            if effect.entries != step.after.log.after(applied)[: len(effect.entries)]:
                raise Violation("SPEC", "other entries are applied than those of the log", effect, step.after)
            applied = effect.entries[-1].index
        elif isinstance(effect, out.Answer) and isinstance(effect.result, out.Committed):
            index, term = effect.result.index, step.after.log.term(effect.result.index)
            if index > step.after.commit or (term is not None and index and term != effect.result.term):
                raise Violation("SPEC", "called committed and is not", effect, step.after)


def difference(step: Step) -> list[str]:
    """What the step changed, for a reader."""
    said = [repr(step.event)]
    for name, before, after in zip(Node._fields, step.before, step.after, strict=True):
        if before != after:
            said.append(f"{name}: {_short(before)} -> {_short(after)}")
    return [*said, f"durable: term={step.disk.term} vote={step.disk.vote} log={_short(step.disk.log)}"]


def _short(value: object) -> str:
    return f"..{value.last} {value.entries[-6:]}" if isinstance(value, Log) else str(value)


def watched(core_class: type[Any]) -> type[Any]:
    """The same core, checked at every step and start."""

    class Watched(core_class):  # type: ignore[misc]
        """A core with the specification beside it."""

        def __init__(self, me: Peer, config: Config, stored: Stored, rng: Any, now: float) -> None:
            super().__init__(me, config, stored, rng, now)
            start = recover(me, stored)
            self._disk = self._issued = Disk(start.term, start.vote, start.log)
            self._pending: list[Write] = []
            self._held: list[tuple[int, Message, Node]] = []
            self._node = abstract(self.state, start.log)
            if self._node != start:
                raise Violation("SPEC", "no start from this disk", start, self._node)

        def step(self, event: Event, now: float) -> Effects:
            self._completed(event)
            effects: Effects = super().step(event, now)
            for effect in effects:
                if isinstance(effect, Write):
                    self._pending.append(effect)
                    self._issued = written(self._issued, effect)
            before, self._node = self._node, abstract(self.state, self._issued.log)
            check_step(Step(before, event, self._node, self._disk), effects)
            self._check_written()
            for effect in effects:
                if isinstance(effect, out.Send):
                    self._held.append((effect.after or 0, effect.message, self._node))
                elif isinstance(effect, out.Compact):
                    self._compact(effect.first - 1)
            self._leave()
            return effects

        def _completed(self, event: Event) -> None:
            """What the event says about the disk."""
            if isinstance(event, Persisted):
                while self._pending and self._pending[0].write_id <= event.write_id:
                    self._disk = written(self._disk, self._pending.pop(0))
            elif isinstance(event, WriteRefused):
                lost = event.write_id
                self._held = [each for each in self._held if each[0] < lost]
                self._pending = [
                    write._replace(entries=()) if write.write_id >= lost else write for write in self._pending
                ]
                self._issued = self._disk
                for write in self._pending:
                    self._issued = written(self._issued, write)

        def _check_written(self) -> None:
            """Once all writes are done the disk is what the node believes."""
            node, issued = self._node, self._issued
            if (issued.term, issued.vote) != (node.term, node.vote):
                raise Violation("SPEC", "term or vote are not what was written", issued, node)
            if issued.log.last != node.log.last or node.log.shared(issued.log) != node.log.last:
                raise Violation("SPEC", "the log is not what was written", _short(issued.log), _short(node.log))

        def _leave(self) -> None:
            """Messages whose write survives leave; those of an old term are dropped by any driver."""
            done = self.state.writes.persisted_id
            for after, message, said in self._held:
                is_leaving = after <= done and message.term >= self._node.term
                if is_leaving and not may_leave(said, self._disk, message):
                    raise Violation("SPEC", "leaves before the disk holds what it promises", message, self._disk)
            self._held = [each for each in self._held if each[0] > done]

        def _compact(self, index: int) -> None:
            self._disk = _compacted(self._disk, index)
            self._issued = _compacted(self._issued, index)

    Watched.__name__ = Watched.__qualname__ = core_class.__name__
    return Watched


def _compacted(disk: Disk, index: int) -> Disk:
    """Without the entries up to ``index``, if it holds them."""
    log = disk.log
    return disk._replace(log=log.compacted(index)) if log.base < index <= log.last else disk


def sampled(core_class: type[Any], seed: int) -> type[Any]:
    """The class for a seed: one in `EVERY` has the specification beside it. Planted copies meet the checkers alone."""
    return watched(core_class) if core_class is RaftCore and seed % EVERY == 0 else core_class


__all__ = ["EVERY", "Step", "abstract", "check_step", "difference", "sampled", "watched", "written"]
