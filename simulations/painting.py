"""Watches a run for its picture: who led when, what was cut off, which message came when, what clients were told.

The run is the same as without a watcher; it is only seen. `page` draws what is collected here.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any, NamedTuple

from arc.raft.core import RaftCore
from arc.raft.events import Applied, Event
from arc.raft.messages import Message
from arc.raft.types import Peer
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.history import Operation
from simulations.plan import Plan
from simulations.spelling import spell

SENT_MAX = 200_000
"""Messages that are remembered; a run has an end of its own long before."""


class Span(NamedTuple):
    """A node in one role and term, or down."""

    node: str
    role: str
    term: int
    begin: float
    end: float


class Cut(NamedTuple):
    """From when to when which links (from, to) were cut."""

    begin: float
    end: float
    links: tuple[tuple[str, str], ...]


class Flight(NamedTuple):
    """A message; ``arrived`` is None when it never did."""

    sender: str
    to: str
    kind: str
    told: str
    sent: float
    arrived: float | None


class Level(NamedTuple):
    """An index of a node from a time on: ``commit`` or ``applied``."""

    node: str
    what: str
    at: float
    index: int  # type: ignore[assignment]


class Painting(NamedTuple):
    """All of it, in order of time."""

    plan: Plan
    end: float
    nodes: tuple[str, ...]
    spans: tuple[Span, ...]
    cuts: tuple[Cut, ...]
    flights: tuple[Flight, ...]
    levels: tuple[Level, ...]
    operations: tuple[Operation, ...]
    story: tuple[tuple[float, str, str], ...]
    """When, what, about whom: faults, roles, changes of members."""
    faults: tuple[str, ...]
    """What of the story is a fault."""
    violation: str


def paint(plan: Plan, core_class: type[Any] = RaftCore) -> Painting:
    """Run a plan and watch."""
    world = Watched(plan, core_class)
    violation = ""
    try:
        world.run()
    except Violation as error:
        violation = str(error)
    except Exception as error:  # As the runner tells it: the simulator stumbled over what a core did.
        violation = f"SIM {error!r}"
    world.cut_now()
    nodes = tuple(dict.fromkeys(peer.name for peer in world.hosts))
    return Painting(
        plan,
        world.now,
        nodes,
        tuple(_spans(world, nodes)),
        tuple(Cut(begin, end, links) for (begin, links), (end, _) in _neighbours(world) if links),
        tuple(world.flights()),
        tuple(world.levels),
        tuple(world.history),
        tuple((at, what, " ".join(map(_plain, facts))) for at, what, facts in world.timeline),
        tuple(sorted({*world.fault_counts, "crash", "wiped", "unreadable"})),
        violation,
    )


class Watched(Cores):
    """A run that remembers what a picture needs."""

    def __init__(self, plan: Plan, core_class: type[Any]) -> None:
        self.cut_times: list[tuple[float, tuple[tuple[str, str], ...]]] = [(0.0, ())]
        self.sent: list[tuple[Message, float]] = []
        self.arrivals: dict[tuple[type, Message], deque[float]] = {}
        self.levels: list[Level] = []
        self.commits: dict[str, int] = {}
        super().__init__(plan, core_class)

    def note(self, what: str, *facts: object) -> None:
        """Faults, and the healing after them, change what is cut."""
        super().note(what, *facts)
        if what == "heal":
            self.cut_now()

    def _fault(self, fault: Any, _: object) -> None:
        super()._fault(fault, _)
        self.cut_now()

    def cut_now(self) -> None:
        """Remember what is cut from now on."""
        links = tuple(sorted(self.fabric.cuts))
        if links != self.cut_times[-1][1]:
            self.cut_times.append((self.now, links))

    def carry(self, message: Message) -> None:
        """A message sets out."""
        if len(self.sent) < SENT_MAX:
            self.sent.append((message, self.now))
        super().carry(message)

    def arrive(self, message: Message, _: object) -> None:
        """A message arrives, unless it is stopped at the last moment."""
        if not self.fabric.is_cut(message):
            self.arrivals.setdefault((type(message), message), deque()).append(self.now)
        super().arrive(message, _)

    def traced(self, peer: Peer, event: Event) -> None:
        """An event is about to happen."""
        super().traced(peer, event)
        state = self.hosts[peer].state
        if state is not None and self.commits.get(peer.name) != state.commit:
            self.commits[peer.name] = state.commit
            self.levels.append(Level(peer.name, "commit", self.now, state.commit))
        if type(event) is Applied:
            self.levels.append(Level(peer.name, "applied", self.now, event.index))

    def flights(self) -> list[Flight]:
        """Messages with their arrivals; equal ones arrive in the order in which they set out."""
        found = []
        for message, sent in self.sent:
            waiting = self.arrivals.get((type(message), message))
            arrived = waiting.popleft() if waiting and waiting[0] >= sent else None
            kind, told = type(message).__name__, spell(message)
            found.append(Flight(message.sender.name, message.to.name, kind, told, sent, arrived))
        return found


def _neighbours(world: Watched) -> list[tuple[Any, Any]]:
    times = [*world.cut_times, (world.now, ())]
    return list(pairwise(times))


def _spans(world: Cores, nodes: tuple[str, ...]) -> list[Span]:
    found = []
    for node in nodes:
        begin, role, term = 0.0, "follower", 0
        for at, what, facts in [*world.timeline, (world.now, "end", ())]:
            is_mine = what == "end" or (facts and str(facts[0]).partition("#")[0] == node)
            is_change = what in ("role", "crash", "end") or (what == "restart" and role == "down")
            if not is_mine or not is_change:
                continue
            if at > begin:
                found.append(Span(node, role, term, begin, at))
            begin = at
            if what == "role" and len(facts) > 2:
                role, term = _plain(facts[1]), int(str(facts[2]))
            else:
                role = "down" if what == "crash" else "follower"
    return found


def _plain(value: object) -> str:
    return value.name.lower() if hasattr(value, "name") and hasattr(value, "value") else str(value)
