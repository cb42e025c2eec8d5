"""One deterministic run of bare Raft cores. READ FIRST.

A heap of events, ordered by time and then by age; a plan that says what happens to the nodes; clients that write down
what they are told; checkers that look after every event. No trio, no threads, no wall clock, no bytes on wires: tens of
thousands of seeds. The same for whole nodes is `world`.

First phase: faults. Second: faults stop for a core that holds a quorum, and the cluster must be as good as new.
"""

from __future__ import annotations

import gc
import hashlib
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Committed, Trace, Unknown
from arc.raft.events import Change, Event, Propose, Receive, SpaceAgain, Unreachable
from arc.raft.messages import Append, InstallSnapshot, Message
from arc.raft.types import Configuration, Peer, Stored, bootstrap
from simulations import costep, faults, probes, wire
from simulations.chance import stream
from simulations.checkers import contact, liveness, promises, wing_gong
from simulations.checkers.clients import i27_failed
from simulations.checkers.ghost import Ghost
from simulations.checkers.violation import Violation
from simulations.deviations import Scripted
from simulations.fabric import Fabric
from simulations.history import Operation
from simulations.host import Host
from simulations.machine import WRITE, command
from simulations.plan import Fault, Plan
from simulations.workload import Client

EVENTS_MAX = 150_000
"""A run that needs more is a storm (I-34)."""


_TOLD = frozenset({"cut", "handover_ended", "membership", "membership_reverted", "role", "snapshot_installed"})
"""Traces that a reader of the report wants to see."""

BURST = 100_000
"""Clients from here on ask once and never look back."""


class Cores:
    """One run. ``core_class`` is the core under test: the project's own, or a copy with a planted bug."""

    def __init__(self, plan: Plan, core_class: type[Any] = RaftCore, *, is_told: bool = False) -> None:
        self.plan = plan
        self.core_class = costep.sampled(core_class, plan.seed)
        self.is_specified = self.core_class is not core_class
        """Whether the specification stands beside the cores. It must know every entry, so starts get whole logs."""
        self.config = Config(**plan.config)
        self.now = 0.0
        self.events = 0
        self.heap: list[tuple[float, int, Callable[[Any, Any], None], Any, Any]] = []
        self.count = 0
        self.probes: Counter[str] = Counter()
        self.fault_counts: Counter[str] = Counter()
        self.timeline: list[tuple[float, str, tuple[object, ...]]] = []
        self.is_told = is_told
        self.transcript: list[str] = []
        self.touched = ""
        """Who took the last event: where to look when a property breaks."""
        self._lines: list[str] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self.fabric = Fabric(plan.network, stream(plan.seed, "network"))
        if plan.deviations is not None:
            self.fabric = Scripted(plan.network, stream(plan.seed, "network"), plan.deviations)
        self.guided = plan.guided
        self.guided_stream = stream(plan.seed, "guided")
        self.restart_stream = stream(plan.seed, "restart")
        self.apply_stream = stream(plan.seed, "apply")
        founders = tuple(Peer(f"n{number}") for number in range(1, plan.size + 1))
        self.ghost = Ghost(Configuration(voters=founders), plan.has_sessions)
        self.history: list[Operation] = []
        self.completed = 0
        self.elections = 0
        self.is_closing = False
        self.admin = 0
        self.admin_results: dict[Any, Any] = {}
        self.changes_asked: dict[str, tuple[Change, ...]] = {}
        """Changes of membership by request, answered or not."""
        self.is_hunting = False
        """Whether the next leader that has an older term's entry on a majority of disks is to crash."""
        self.is_coded = "codec" in plan.audits
        self.is_replayed = "replay" in plan.audits
        self.prefix_stream = stream(plan.seed, "prefixes") if "prefixes" in plan.audits else None
        self.fabric.special = stream(plan.seed, "links")
        self.core_peers: tuple[Peer, ...] = founders
        self.hosts: dict[Peer, Host] = {}
        self.peers = (*founders, *(Peer(f"n{plan.size + number}") for number in range(1, plan.spares + 1)))
        for place, peer in enumerate(self.peers):
            host = Host(self, peer, bootstrap(*founders) if peer in founders else Stored())
            self.hosts[peer] = host
            if place < len(plan.clocks):
                host.set_clock(plan.clocks[place], 0.0)
        self.clients = {number: Client(self, number) for number in range(1, plan.clients + 1)}

    def __repr__(self) -> str:
        return f"<Cores {self.plan.scenario} seed={self.plan.seed} t={self.now:.3f} events={self.events}>"

    # ----------------------------------------------------------------------------------------------------------- time

    def at(self, time: float, action: Callable[[Any, Any], None], first: Any, second: Any) -> None:
        """Call ``action(first, second)`` at that time."""
        self.count += 1
        heappush(self.heap, (time if time > self.now else self.now, self.count, action, first, second))

    def run_until(self, time: float, done: Callable[[], bool] | None = None) -> None:
        """Let everything happen that is due by then, or until ``done``."""
        heap = self.heap
        while heap and heap[0][0] <= time:
            if done is not None and done():
                return
            self.now, _, action, first, second = heappop(heap)
            self.events += 1
            action(first, second)
            if self.events > EVENTS_MAX:
                raise Violation("I-34", "more events than any plan explains", self)
        if done is None or not done():
            self.now = time

    def run(self, phases: int = 2) -> None:
        """The whole run, or its first phase only. Raises Violation."""
        plan = self.plan
        _tidy_memory()
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            for fault in plan.faults:
                self.at(fault.at, self._fault, fault, None)
            for number, client in self.clients.items():
                self.at(0.01 * number, client._next, None, None)
            self.run_until(plan.seconds)
            if phases > 1:
                liveness.second_phase(self)
            for host in self.hosts.values():
                if host.core is not None:
                    host.life_ended()
            self.probes["wing_gong_searched"] += wing_gong.check(self.history)
        except Violation as violation:
            if violation.killer not in plan.expects:
                raise
            self.probes[f"shown_{violation.killer}"] += 1
            self.note("shown", str(violation)[:300])
        finally:
            if was_enabled:
                gc.enable()

    @property
    def digest(self) -> str:
        """Of every event so far."""
        self._hash.update("\n".join(self._lines).encode())
        self._lines.clear()
        return self._hash.hexdigest()

    # --------------------------------------------------------------------------------------------------------- events

    def traced(self, peer: Peer, event: Event) -> None:
        """An event is about to happen to a node: it goes into the digest."""
        self.touched = peer.name
        kind = type(event)
        if kind is Receive:
            message: Message = event.message  # type: ignore[union-attr]
            body: Any = message[2:]
            if type(message) is Append:
                entries = message.entries
                body = (*message[2:5], len(entries), entries[-1][:2] if entries else (), message.commit, message.round)
            elif type(message) is InstallSnapshot:
                body = (message.term, message.meta.digest, message.offset, message.checksum)
            line = f"{self.now!r} {peer.name} {type(message).__name__} {message.sender.name} {body}"
        else:
            line = f"{self.now!r} {peer.name} {event!r}"
        self._lines.append(line)
        if self.is_told:
            self.transcript.append(line)
        if len(self._lines) > 2000:
            _ = self.digest

    def note(self, what: str, *facts: object) -> None:
        """Something that a reader of the report wants to see."""
        self.timeline.append((self.now, what, facts))
        self._lines.append(f"{self.now!r} {what} {facts}")
        if self.is_told:
            self.transcript.append(self._lines[-1])

    def told(self, host: Host, trace: Trace) -> None:
        """A core tells something."""
        name = trace.name
        probes.told(self, host, trace)
        if name == "lease_read":
            promises.i20_no_lease_after_transfer(host)
            contact.i20_lease_from_the_round(host)
        elif name in _TOLD:
            self.note(name, host.peer, *trace.detail)

    def carry(self, message: Message) -> None:
        """A message sets out."""
        fabric = self.fabric
        if self.is_coded:
            message = wire.round_trip(message)
        if fabric.is_plain:
            for at in fabric.times(message, self.now):
                self.at(at, self.arrive, message, None)
        else:
            self._carry_specially(message)

    def _carry_specially(self, message: Message) -> None:
        """Links with room for so many, that break, go bad for a while, or damage what they carry."""
        fabric, link = self.fabric, (message.sender.name, message.to.name)
        times = fabric.times(message, self.now) if fabric.admits(link) else []
        if not times:
            self.probes["link_refused"] += 1
            self._break(link, message)
        for at in times[: 1 if fabric.shape.is_stream else None]:
            frame = None
            if fabric.shape.garble and fabric.special.random() < fabric.shape.garble:
                frame = wire.noise(wire.frame(message), fabric.special)
            fabric.under_way[link] += 1
            self.at(
                at, self._arrive_specially, message if frame is None else frame, (link, fabric.breaks[link], message)
            )

    def _arrive_specially(self, arrived: Message | bytes, ticket: tuple[tuple[str, str], int, Message]) -> None:
        link, breaks, message = ticket
        self.fabric.under_way[link] -= 1
        if self.fabric.shape.is_stream and breaks != self.fabric.breaks[link]:
            self.probes["lost_with_its_connection"] += 1
            return
        if isinstance(arrived, bytes):
            whole = wire.unframe(arrived)
            if whole is None:
                self.probes["garbled_dropped"] += 1
                self._break(link, message)
                return
            if whole != message:
                raise Violation("I-32", "a damaged frame became another message", message, whole)
        self.arrive(message, None)

    def _break(self, link: tuple[str, str], message: Message) -> None:
        if self.fabric.shape.is_stream:
            self.fabric.breaks[link] += 1
            self.at(self.now + 0.01, self._unreachable, message.sender, message.to)

    def _unreachable(self, sender: Peer, to: Peer) -> None:
        host = self.hosts[sender]
        if host.core is not None:
            self.probes["told_unreachable"] += 1
            host.step(Unreachable(to))

    def arrive(self, message: Message, _: object) -> None:
        """A message comes to the end of its link."""
        if not self.fabric.is_cut(message):
            host = self.hosts.get(message.to)
            if host is None or host.is_gone:
                self._arrive_at_successor(message)
            elif host.core is not None and not (host.is_deaf and host.paused_until > self.now):
                host.step(Receive(message))

    def _arrive_at_successor(self, message: Message) -> None:
        """For an incarnation that is no more: it has the address of the one before, and nothing else (I-40)."""
        host = next((self.hosts[peer] for peer in self.peers if peer.name == message.to.name), None)
        if host is not None and host.core is not None:
            before = repr(host.state)
            host.step(Receive(message))
            self.probes["other_incarnation_refused"] += 1
            if host.core is not None and repr(host.state) != before and host.paused_until <= self.now:
                raise Violation("I-40", "believes what was said to another incarnation", message, before, host)

    def wipe(self, host: Host, seconds: float) -> None:
        """A disk is lost: the node comes back as another incarnation, and a stranger to everybody."""
        host.crash()
        host.is_gone = True
        peer = Peer(host.peer.name, host.peer.incarnation + 1)
        self.peers = tuple(peer if each == host.peer else each for each in self.peers)
        self.hosts[peer] = new = Host(self, peer, Stored(), is_started=False)
        new.set_clock(host.rate, new.offset)
        self.note("wiped", host.peer, peer)
        self.restart_later(new, seconds)

    def remount(self, host: Host, _: object) -> None:
        """Somebody sees to a disk that is in the wrong place."""
        host.remount()

    def damaged(self, host: Host) -> None:
        """A node read what is not readable any more: it stops, and starts from what is."""
        self.probes["rot_found_while_running"] += 1
        self.note("unreadable", host.peer)
        host.crash()
        self.restart_later(host)

    def _fault(self, fault: Fault, _: object) -> None:
        if not self.is_closing:
            faults.happen(self, fault)

    def fault(self, kind: str) -> None:
        """Count a fault."""
        self.fault_counts[kind] += 1

    def elected(self, host: Host) -> None:
        """A node became leader."""
        self.elections += 1

    def committed(self, host: Host) -> None:
        """The committed log grew."""
        if host.state is not None and host.state.history.current.is_joint:
            self.probes["committed_while_joint"] += 1

    # ------------------------------------------------------------------------------------------------------ requests

    @property
    def leader(self) -> Host | None:
        """Who leads the highest term, if anybody leads."""
        best: Host | None = None
        for host in self.hosts.values():
            is_leading = host.core is not None and host.state.leading is not None
            if is_leading and (best is None or host.state.term > best.state.term):
                best = host
        return best

    def ask_admin(self, host: Host, make: Callable[[str], Event]) -> str:
        """An operator asks something of a node. Returns the request, whose answer goes to ``admin_results``."""
        self.admin += 1
        request = f"admin{self.admin}"
        host.outstanding.add(request)
        host.step(make(request))
        return request

    def burst(self, host: Host, count: int) -> None:
        """Many commands at once, on a key that nobody reads."""
        commands = []
        for _ in range(count):
            self.admin += 1
            token = (BURST + self.admin, 1, 1)
            host.outstanding.add(token)
            commands.append((token, command(token, WRITE, "burst", f"b{self.admin}", "-")))
        host.step(Propose(tuple(commands)))

    def answered(self, host: Host, request: Any, result: Any) -> None:
        """A core gave its one answer to a request. V-09: neither none nor two."""
        if request not in host.outstanding:
            raise Violation("V-09", "an answer to no request, or a second one", request, result)
        host.outstanding.discard(request)
        contact.i21_confirmed_since(host, request, result)
        self.probes[f"answer_{type(result).__name__}"] += 1
        if isinstance(request, tuple):
            client = self.clients.get(request[0])
            if client is not None:
                client.answered(host, request, result)
            elif not isinstance(result, Committed | Unknown):
                i27_failed(self.ghost, request)
        else:
            self.admin_results[request] = result
            self.note("answer", host.peer, request, type(result).__name__, result)

    def finished(self, host: Host, request: Any, index: int, answer: str) -> None:
        """The state machine executed what was committed."""
        if isinstance(request, tuple) and request[0] in self.clients:
            self.clients[request[0]].finished(host, request, index, answer)

    # --------------------------------------------------------------------------------------------------------- faults

    def apply_seconds(self) -> float:
        """How long the state machine takes."""
        return self.plan.apply_seconds * (0.5 + self.apply_stream.random())

    def guided_crash(self, host: Host) -> None:
        """Crash where it hurts."""
        if self.is_closing or host.core is None:
            return
        self.fault("guided_crash")
        host.crash()
        self.restart_later(host)

    def strike(self, host: Host, _: object) -> None:
        """The moment that was waited for is here."""
        self.guided_crash(host)

    def restart_later(self, host: Host, seconds: float = 0.0) -> None:
        """Bring a crashed node back."""
        after = seconds or self.restart_stream.choice(self.plan.restarts)
        self.at(self.now + after, self._restart, host, None)

    def _restart(self, host: Host, _: object) -> None:
        if host.core is None and not host.is_gone:
            self.fault("restart")
            self.note("restart", host.peer)
            host.start()

    def space_again(self, host: Host, _: object) -> None:
        """A disk has room again."""
        host.disk.space_again()
        if host.core is not None and not host.state.has_space:
            self.probes["disk_full_then_free"] += 1
            host.later(host.disk.shape.report_seconds + 0.001, SpaceAgain())


COLLECT_EVERY_RUNS = 16
_runs = 0


def _tidy_memory() -> None:
    """Cycles of earlier runs go now and then; what was imported by the first run is never looked at again.

    A collection between all seeds took a third of a campaign's time.
    """
    global _runs
    if _runs == 0:
        gc.collect()
        gc.freeze()
    elif _runs % COLLECT_EVERY_RUNS == 0:
        gc.collect()
    _runs += 1
