"""Every state that a small cluster of real cores can reach, breadth first, within bounds that are stated.

Bounds are data: nodes, terms, entries, crashes, rounds of heartbeats. Within them anything may happen at any moment: a
node campaigns, takes a proposal, finishes a write, crashes and comes back with any prefix of its unfinished writes, or
is given any message that was *ever* sent to it. The network only grows: what is never delivered is lost, what is
delivered again is doubled, and every order is tried, so neither has a bound.

What makes it quick: a node's next state depends on its own state and the event alone. So nodes are interned by the
digest of all that matters (`exhaustive_node`), each (node, event) is stepped through the core once and never again,
and a state of the cluster is a handful of numbers. The network in it is one number per node: the set sent to it.

Left out, and the bounds of what this shows: time (cores run with their protections off: no pre-vote, no shield, no
CheckQuorum), reads, transfers, membership changes and snapshots. Those are the simulator's.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from arc.raft.core import RaftCore
from arc.raft.messages import AppendReply, HeartbeatReply, Message, VoteReply
from arc.raft.types import Entry, Peer, Role
from simulations.checkers.violation import Violation
from simulations.exhaustive_bounds import CI, LONG, Bounds, Found, Result
from simulations.exhaustive_node import Facts, Local, Moved, campaign, crash, found, persist, propose, receive, tick
from simulations.spec import Node


class Ghost(NamedTuple):
    """What happened, beyond what the nodes know: who led each term, what was committed and in which term."""

    leaders: tuple[int, ...]
    committed: tuple[tuple[Entry, int], ...] = ()


class Move(NamedTuple):
    """One node moves: to that state, saying that. ``is_news``: the properties have to be looked at."""

    label: str
    local: int
    sent: tuple[tuple[int, frozenset[int]], ...]
    is_news: bool


class _Table(dict[Any, int]):
    """Numbers for values, in the order of their first appearance."""

    def __init__(self) -> None:
        self.values_of: list[Any] = []

    def number(self, value: Any) -> int:
        """The number of this value."""
        known = self.get(value)
        if known is None:
            known = self[value] = len(self.values_of)
            self.values_of.append(value)
        return known


class Search:
    """One search. ``core_class`` is the core under test; ``has_spec``: each of its steps must be allowed by `spec`."""

    def __init__(self, bounds: Bounds, core_class: type[Any] = RaftCore, *, has_spec: bool = True) -> None:
        self.bounds = bounds
        self.core_class = core_class
        self.has_spec = has_spec
        self.peers = tuple(Peer(f"n{number + 1}") for number in range(bounds.nodes))
        self.probes: dict[str, int] = {}
        self._place = {peer: place for place, peer in enumerate(self.peers)}
        self._locals: list[Local] = []
        self._local_numbers: dict[Any, int] = {}
        self._messages = _Table()
        self._inboxes = _Table()
        self._ghosts = _Table()
        self._moves: dict[tuple[int, int], tuple[Move, ...]] = {}
        self._by_event: dict[tuple[int, int], Move | None] = {}
        self._proposals: dict[tuple[int, int], Move | None] = {}
        self._crashes: dict[int, tuple[Move, ...]] = {}
        self._tidied: dict[tuple[int, int], int] = {}
        self._joined: dict[tuple[int, frozenset[int]], int] = {}
        self._agreeing: dict[tuple[int, int], bool] = {}
        self._logs = _Table()
        self._pack = Struct(f"<{2 * bounds.nodes + 3}I")
        self._core_steps = 0
        self._last_label = "nothing"
        self._transitions = 0

    # ----------------------------------------------------------------------------------------------------- searching

    def run(self, tell: Callable[[int, int], None] = lambda states, depth: None) -> Result:
        """Search. ``tell(states, depth)`` is called now and then. A violation ends it and is in the result."""
        start = time.perf_counter()
        bounds, pack = self.bounds, self._pack
        seen: dict[bytes, int] = {}
        keys: list[bytes] = []
        parents: list[int] = []
        depth, is_exhausted, violation = 0, True, None
        first = pack.pack(*self._initial())
        seen[first] = 0
        keys.append(first)
        parents.append(-1)
        begin, end = 0, 1
        try:
            while begin < end and is_exhausted:
                for place in range(begin, end):
                    for state, _ in self._successors(pack.unpack(keys[place])):
                        self._transitions += 1
                        key = pack.pack(*state)
                        if key not in seen:
                            seen[key] = len(keys)
                            keys.append(key)
                            parents.append(place)
                    if len(keys) >= bounds.states_max or time.perf_counter() - start > bounds.seconds_max:
                        is_exhausted = False
                        break
                    if place % 1000 == 0:
                        tell(len(keys), depth)
                begin, end = end, len(keys)
                depth += begin < end
        except Violation as error:
            is_exhausted = False
            path = self._path(keys, parents, place)
            violation = Found(error.killer, str(error), (*path, self._last_label))
        return Result(
            bounds,
            len(keys),
            self._transitions,
            depth,
            len(self._locals),
            len(self._messages),
            self._core_steps,
            is_exhausted,
            time.perf_counter() - start,
            violation,
            dict(sorted(self.probes.items())),
        )

    def _initial(self) -> tuple[int, ...]:
        nodes = [self._intern(found(self.core_class, peer, self.peers)) for peer in self.peers]
        empty = self._inboxes.number(frozenset())
        ghost = self._ghosts.number(Ghost((-1,) * (self.bounds.terms + 1)))
        return (*nodes, *[empty] * len(nodes), ghost, 0, 0)

    def _successors(self, state: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Move]]:
        """Every state that one event leads to."""
        count, bounds = self.bounds.nodes, self.bounds
        ghost, proposed, crashed = state[2 * count :]
        for place in range(count):
            local = state[place]
            for move in self._moves_of(place, local, state[count + place]):
                yield self._after(state, place, move, ghost, proposed, crashed), move
            if proposed < bounds.entries:
                offered = self._propose(local, proposed)
                if offered is not None:
                    yield self._after(state, place, offered, ghost, proposed + 1, crashed), offered
            if crashed < bounds.crashes:
                for move in self._crashes_of(local):
                    yield self._after(state, place, move, ghost, proposed, crashed + 1), move
            if not any(state[count : 2 * count]) and all(state[each] == each for each in range(place, count)):
                return  # Nobody said anything and these did nothing yet: they differ by name only, one stands for all.

    def _after(
        self, state: tuple[int, ...], place: int, move: Move, ghost: int, proposed: int, crashed: int
    ) -> tuple[int, ...]:
        count = self.bounds.nodes
        new = [*state]
        new[place] = move.local
        if move.is_news:
            self._last_label = move.label
            ghost = self._judge(state, place, move, ghost)
        for to, messages in move.sent:
            known = (new[count + to], messages)
            joined = self._joined.get(known)
            if joined is None:
                joined = self._inboxes.number(self._inboxes.values_of[known[0]] | messages)
                self._joined[known] = joined
            new[count + to] = joined
            new[count + to] = self._tidy(new[to], new[count + to])
        new[count + place] = self._tidy(move.local, new[count + place])
        new[2 * count :] = (ghost, proposed, crashed)
        return tuple(new)

    def _tidy(self, local: int, inbox: int) -> int:
        """The same messages without answers that no later life of the node can have a use for: they only multiply."""
        known = self._tidied.get((local, inbox))
        if known is None:
            node, durable = self._locals[local].seen, self._locals[local].disk.term
            live = frozenset(
                number
                for number in self._inboxes.values_of[inbox]
                if not _is_idle(self._messages.values_of[number][1], node, durable)
                or not self._is_ignored(local, number)  # Then it was not idle after all (K-07, K-35).
            )
            known = self._tidied[local, inbox] = self._inboxes.number(live)
        return known

    def _is_ignored(self, local: int, number: int) -> bool:
        try:
            return self._received(local, number) is None
        except Violation:
            return False  # It is found again, with the way there, when its turn comes.

    def _path(self, keys: list[bytes], parents: list[int], place: int) -> list[str]:
        """What led to a state, one line an event."""
        chain = [place]
        while parents[chain[-1]] >= 0:
            chain.append(parents[chain[-1]])
        labels: list[str] = []
        last_label = self._last_label
        for before, after in zip(chain[::-1], chain[-2::-1], strict=False):
            for state, move in self._successors(self._pack.unpack(keys[before])):
                if self._pack.pack(*state) == keys[after]:
                    labels.append(move.label)
                    break
        self._last_label = last_label
        return labels

    # --------------------------------------------------------------------------------------------------- moves of one

    def _intern(self, local: Local) -> int:
        known = self._local_numbers.get(local.key)
        if known is None:
            known = self._local_numbers[local.key] = len(self._locals)
            self._locals.append(local)
        return known

    def _move(self, local: int, what: str, act: Callable[[Local], Moved | None]) -> Move | None:
        """The move that an act leads to; None if it changes nothing."""
        before = self._locals[local]
        self._last_label = label = f"{before.me} {what}"
        self._core_steps += 1
        moved = act(before)
        if moved is None:
            return None
        number = self._intern(moved.local)
        if number == local and not moved.left:
            return None
        after = self._locals[number]
        by_place: dict[int, set[int]] = {}
        for message in moved.left:
            by_place.setdefault(self._place[message.to], set()).add(self._messages.number((type(message), message)))
        sent = tuple((to, frozenset(messages)) for to, messages in sorted(by_place.items()))
        is_news = before.facts != after.facts
        return Move(label, number, sent, is_news)

    def _moves_of(self, place: int, local: int, inbox: int) -> tuple[Move, ...]:
        """What the node may do by itself and with any message ever sent to it."""
        known = self._moves.get((local, inbox))
        if known is not None:
            return known
        moves = [self._own_moves(local, which) for which in range(3)]
        for number in sorted(self._inboxes.values_of[inbox]):
            moves.append(self._received(local, number))
        found = tuple(move for move in moves if move is not None)
        self._moves[local, inbox] = found
        return found

    def _received(self, local: int, number: int) -> Move | None:
        """The node is given this message."""
        event = (local, number)
        if event not in self._by_event:
            message: Message = self._messages.values_of[number][1]
            act = partial(receive, message=message, has_spec=self.has_spec)
            self._by_event[event] = self._move(local, f"gets {_told(message)}", act)
        return self._by_event[event]

    def _own_moves(self, local: int, which: int) -> Move | None:
        event = (local, -1 - which)
        if event not in self._by_event:
            what, act = (
                ("campaigns", partial(campaign, terms=self.bounds.terms)),
                ("finishes a write", persist),
                ("sends heartbeats", partial(tick, rounds=self.bounds.rounds)),
            )[which]
            self._by_event[event] = self._move(local, what, partial(act, has_spec=self.has_spec))
        return self._by_event[event]

    def _propose(self, local: int, number: int) -> Move | None:
        if (local, number) not in self._proposals:
            self._proposals[local, number] = self._move(
                local, f"takes proposal {number + 1}", partial(propose, number=number, has_spec=self.has_spec)
            )
        return self._proposals[local, number]

    def _crashes_of(self, local: int) -> tuple[Move, ...]:
        known = self._crashes.get(local)
        if known is None:
            moves = [
                self._move(local, f"crashes, {fate}", partial(_become, after))
                for fate, after in crash(self._locals[local], self.core_class)
            ]
            distinct = {move.local: move for move in reversed(moves) if move is not None}
            known = self._crashes[local] = tuple(distinct.values())
        return known

    # ------------------------------------------------------------------------------------------------------ properties

    def _judge(self, state: tuple[int, ...], place: int, move: Move, ghost_number: int) -> int:
        """Raises Violation if the move breaks a property of the whole; returns the ghost after it."""
        before, after = self._locals[state[place]].facts, self._locals[move.local].facts
        ghost: Ghost = self._ghosts.values_of[ghost_number]
        others = [self._locals[state[other]].facts for other in range(self.bounds.nodes) if other != place]
        if after.log != before.log:
            for other in others:
                if not self._is_agreeing(after.log, other.log):
                    raise Violation("I-03", "two logs hold the same (index, term) and differ before", after, other)
        if after.is_leader and not (before.is_leader and before.term == after.term):
            ghost = self._elected(ghost, place, after.term, after.log)
        if after.commit > before.commit:
            ghost = self._committed(ghost, after, before.commit, [*(other.disk for other in others), after.disk])
        if after.disk != before.disk and ghost.committed:
            wanted = tuple(entry for entry, _ in ghost.committed)
            holders = sum(disk[: len(wanted)] == wanted for disk in (after.disk, *(other.disk for other in others)))
            if 2 * holders <= self.bounds.nodes:
                raise Violation("I-07", "what was committed is no longer on a quorum of disks", wanted, after)
        return self._ghosts.number(ghost)

    def _is_agreeing(self, one: tuple[Entry, ...], other: tuple[Entry, ...]) -> bool:
        """Log Matching: up to the last place where both have the same term, they are equal."""
        pair = (self._logs.number(one), self._logs.number(other))
        known = self._agreeing.get(pair)
        if known is None:
            same = [index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a.term == b.term]
            until = same[-1] + 1 if same else 0
            known = self._agreeing[pair] = one[:until] == other[:until]
        return known

    def _elected(self, ghost: Ghost, place: int, term: int, log: tuple[Entry, ...]) -> Ghost:
        self._probe(f"leader of term {term}")
        if ghost.leaders[term] not in (-1, place):
            raise Violation("I-01", "two leaders of one term", term, self.peers[ghost.leaders[term]], self.peers[place])
        for index, (entry, at_term) in enumerate(ghost.committed):
            if at_term < term and (index >= len(log) or log[index] != entry):
                raise Violation("I-04", "a leader lacks what was committed before its term", entry, log)
        leaders = list(ghost.leaders)
        leaders[term] = place
        return ghost._replace(leaders=tuple(leaders))

    def _committed(self, ghost: Ghost, after: Facts, was: int, disks: list[tuple[Entry, ...]]) -> Ghost:
        """State machines are given what is committed: so it must be one and the same, and on a quorum of disks."""
        prefix = after.log[: after.commit]
        known = tuple(entry for entry, _ in ghost.committed)
        shorter = min(len(known), len(prefix))
        if known[:shorter] != prefix[:shorter]:
            raise Violation("I-05", "two nodes commit different entries", known, prefix)
        if len(prefix) <= len(known):
            return ghost
        holders = sum(disk[: len(prefix)] == prefix for disk in disks)
        if 2 * holders <= self.bounds.nodes:
            raise Violation("I-06", "committed without a quorum of disks", prefix, disks)
        if not after.is_leader:
            raise Violation("I-15", "a follower commits what no leader did", prefix, known)
        self._probe(f"commit of entry {len(prefix)}")
        self._probe("commit over an older term's entry", any(entry.term < after.term for entry in prefix[was:]))
        return ghost._replace(committed=(*ghost.committed, *((entry, after.term) for entry in prefix[len(known) :])))

    def _probe(self, name: str, is_seen: bool = True) -> None:
        self.probes[name] = self.probes.get(name, 0) + is_seen


def _is_idle(message: Message, node: Node, durable: int) -> bool:
    """Whether it is an answer to an office that this node does not hold and, as its disk is that far, never will."""
    if not isinstance(message, AppendReply | HeartbeatReply | VoteReply) or message.term > durable:
        return False
    asks = Role.CANDIDATE if isinstance(message, VoteReply) else Role.LEADER
    # Terms are won once. A candidate may still lead, but then nothing was said to it as a leader yet.
    return message.term != node.term or node.role is not asks


def _become(after: Local, before: Local) -> Moved:
    return Moved(after, ())


def _told(message: Message) -> str:
    fields = ", ".join(f"{name}={value}" for name, value in zip(message._fields[2:], message[2:], strict=True))
    return f"{type(message).__name__}({fields}) of {message.sender}"


def search(
    bounds: Bounds,
    core_class: type[Any] = RaftCore,
    *,
    has_spec: bool = True,
    tell: Callable[[int, int], None] = lambda states, depth: None,
) -> Result:
    """Every state within the bounds. The collector of cycles is off meanwhile: nothing here makes any."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return Search(bounds, core_class, has_spec=has_spec).run(tell)
    finally:
        if was_enabled:
            gc.enable()


def search_all(each_of: Iterable[Bounds], tell: Callable[[str], None] = print) -> bool:
    """Search within each of these bounds and tell what was seen; says whether nothing was found broken."""
    is_clean = True
    for bounds in each_of:
        result = search(bounds)
        is_clean = is_clean and result.violation is None
        for line in (*result.lines(), ""):
            tell(line)
    return is_clean


__all__ = ["CI", "LONG", "Bounds", "Found", "Result", "Search", "search", "search_all"]

if __name__ == "__main__":
    raise SystemExit(not search_all(LONG))
