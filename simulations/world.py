"""READ FIRST of world mode: whole nodes of `arc.node` on simulated machines, under Trio's virtual clock.

`run_world` turns a plan into an outcome, alone in its own Trio run. What is simulated are the five ports of a node
(`world_ports`, `world_disk`, `world_network`); everything above them is the real thing: proposals, WAL, buffer, flush,
query engine, HTTP. Clients (`world_client`) write and query over the network, faults (`world_faults`) happen on time,
machines (`world_machine`) start their nodes again, and checkers (`checkers/world_*`) judge every answer and every disk.

A run has three parts. In the first one faults happen. Then they end, and every node must be ready and every request
answered within a bounded time. At last everything is flushed, compared, stopped in order, started again and compared
once more.

All that happened goes through `world_trace`, whose digest is the proof that a run was repeated.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from arc.catalog.facts import Catalog
from arc.catalog.values import WRITER
from arc.config import load
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from simulations import clock, world_faults
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.checkers.world_agreement import Ghost
from simulations.checkers.world_compaction import Swaps
from simulations.checkers.world_durability import Rows
from simulations.checkers.world_leases import Leases
from simulations.clock import Tasks
from simulations.outcome import FAILED, PASSED, VACUOUS, Outcome
from simulations.world_calls_spy import watching_calls
from simulations.world_client import PORT, TOKEN, Client
from simulations.world_disk import Platter
from simulations.world_history import History
from simulations.world_judge import Judge, broken
from simulations.world_machine import Machine
from simulations.world_network import Fabric
from simulations.world_plan import KIB, WorldPlan
from simulations.world_ports import MachineClock
from simulations.world_programs import Program, programs
from simulations.world_quick import quick_starts
from simulations.world_rot import ROT_LOAD_SECONDS, Rot
from simulations.world_rows_spy import watching_rows
from simulations.world_spy import small_logs, watching
from simulations.world_store import SETTINGS, Bucket
from simulations.world_stories import END_SECONDS
from simulations.world_trace import Trace

READY_SECONDS = 60.0
"""After the faults, a node is ready within this (W-09)."""

ANSWERED_SECONDS = 120.0
"""After the faults, every request has ended within this (V-09)."""

PEER_PORT = 9100

SECRET = "what the machines of a world share"

STRANGE_SECRET = "what the machines of another world share"

RESTARTS = ("crash", "power_off", "power_cut", "stop", "both", "two_failovers", "rolling", "lose_files")
"""Faults whose amount is the time until a machine is back."""

STOPPED_SECONDS = 90.0
"""An orderly stop of an idle node takes no longer (W-10)."""


def run_world(plan: WorldPlan) -> Outcome:
    """One run from its plan."""
    return run_world_told(plan, is_told=False)[0]


def run_world_told(plan: WorldPlan, *, is_told: bool = True) -> tuple[Outcome, World]:
    """One run, with the world it ended in for whoever wants to look; its trace has lines when ``is_told``."""
    start = time.perf_counter()
    mirror = Path(tempfile.mkdtemp(prefix="arc-world-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    world = World(plan, mirror, is_told=is_told)
    try:
        clock.run(plan.seed, world.run)
    finally:
        shutil.rmtree(mirror, ignore_errors=True)
    verdict, killer, told = PASSED, "", ""
    if world.violation is not None:
        verdict, killer, told = FAILED, world.violation.killer, str(world.violation)
    elif not world.history.completed:
        verdict, told = VACUOUS, "no client was ever answered"
    outcome = Outcome(
        scenario=plan.scenario,
        seed=plan.seed,
        verdict=verdict,
        killer=killer,
        violation=told,
        digest=world.trace.digest,
        simulated_seconds=round(world.seconds, 6),
        events=world.trace.events,
        elections=len(world.ghost.leaders),
        commits=world.ghost.applied_to,
        operations=world.history.completed,
        faults=dict(sorted(world.faults.items())),
        probes=dict(sorted(world.trace.probes.items())),
        node=world.trace.who,
        wall_seconds=time.perf_counter() - start,
    )
    return outcome, world


class World:
    """Machines, a network and clients; made for one run."""

    def __init__(self, plan: WorldPlan, mirror: Path, *, is_told: bool) -> None:
        self.plan = plan
        self.trace = Trace(is_told=is_told)
        self.history = History()
        self.violation: Violation | None = None
        self.faults: Counter[str] = Counter()
        self.seconds = 0.0
        self.client_names = tuple(f"c{number + 1}" for number in range(plan.clients))
        self.machines: tuple[Machine, ...] = ()
        self.longest_restart = 2.0 + max((fault.amount for fault in plan.faults if fault.kind in RESTARTS), default=0.0)
        self._mirror = mirror
        self._scope = trio.CancelScope()
        self.ghost = Ghost()
        self.bucket = Bucket(stream(plan.seed, "store"), self.trace) if plan.has_store else None
        self.swaps = Swaps(
            self._disks_with,
            lambda: self.faults["wipe"] + self.faults["lose_files"],
            self.trace.probe,
            has_store=plan.has_store,
        )
        self.rot = Rot(self._taking_part, self.newest, self.trace.note, has_store=plan.has_store)
        self.leases = Leases(self.bucket.bodies if self.bucket else None, self.swaps, self.trace.probe)
        self.rows = Rows(self.newest)
        self.members: dict[str, None] = {}
        """Names of machines that take part now, or are on their way in."""
        self.leaving: dict[str, None] = {}
        """Those of them that were told to leave, and may have done so in part."""
        self.strangers: list[Machine] = []
        self._stories = 0
        self._is_over = False
        self._programs: list[Program] = []
        self._servers: dict[str, int] = {}
        self._orders = 0

    def __repr__(self) -> str:
        return f"<World {self.plan.scenario} seed={self.plan.seed} {self.violation or 'sound'}>"

    async def run(self, tasks: Tasks) -> None:
        """The whole run; what was found is in ``violation`` afterwards."""
        self.tasks = tasks
        self.fabric = Fabric(self.plan.network, stream(self.plan.seed, "network"), self.trace)
        plan, who = self.plan, tasks.current
        self.machines = tuple(self._machine(number) for number in range(plan.size + plan.spares))
        self.members = dict.fromkeys(machine.name for machine in self.machines[: plan.size])
        try:
            with (
                self._scope,
                quick_starts(),
                small_logs(plan.log),
                watching(self.ghost, who, self.leases, self.rows),
                watching_rows(self.rows, who, self.leases, fail=self.fail),
                watching_calls(who, fail=self.fail),
            ):
                async with trio.open_nursery() as self._nursery:
                    await self._story()
                    self._nursery.cancel_scope.cancel()
        except* Violation as group:
            self._keep(group)
        self.seconds = trio.current_time()
        self.trace.note("world", "end", *(machine.lives for machine in self.machines))

    def _disks_with(self, file: FileEntry) -> int:
        bodies = (machine.platter.files.get(f"{DATA}/{file.path}") for machine in self.machines)
        return sum(body is not None and len(body) == file.size_bytes for body in bodies)

    # ---- what machines, faults and clients use

    def fail(self, violation: Violation) -> None:
        """A property is broken: the run ends."""
        if self.violation is None:
            self.violation = violation
            self._end()

    def spawn(self, what: Callable[[], Awaitable[None]]) -> None:
        """Run something beside everything else."""
        self._nursery.start_soon(what)

    def later(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        """Do something after a while, unless the faults have ended by then."""
        self._faults_nursery.start_soon(world_faults.sleep_then, seconds, what)

    def order(self, machine: Machine, path: str) -> None:
        """An operator asks a node for something."""
        operator = self.operator()

        async def order() -> None:
            await operator.order(machine.name, path)
            await operator.close()

        self.spawn(order)

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        """Let a story go on until it is over."""

        async def told() -> None:
            self._stories += 1
            await story()
            self._stories -= 1

        self.spawn(told)

    def operator(self) -> Client:
        """Somebody who gives orders."""
        self._orders += 1
        return self._client(f"operator{self._orders}")

    def wiped(self, machine: Machine) -> None:
        """Its disk is empty now: its next node knows nothing, and founds nothing."""
        self.ghost.wiped(machine.name)
        self.rows.wiped(machine.name)
        self.trace.note(machine.name, "wiped")
        if self.plan.founding == "join":
            cluster = replace(machine.config.cluster, join=True)
            machine.config = replace(machine.config, cluster=cluster)

    def stranger(self) -> Machine:
        """One more machine, which is off and whose node has another secret."""
        stranger = self._machine(len(self.machines) + len(self.strangers), is_stranger=True)
        self.strangers.append(stranger)
        self.spawn(stranger.live)
        return stranger

    def gone(self, machine: Machine) -> None:
        """It was killed just now, or its disk stands still."""
        if not self._is_over:
            self.leases.lost(machine.name)

    def started(self, machine: Machine) -> None:
        """Its node says that it is ready."""
        if machine in self.strangers:
            self.fail(Violation("W-14", "who does not know the secret was let in", machine))

    def newest(self) -> Catalog | None:
        """The newest catalog that anybody has applied."""
        return self.leases.newest

    def leader(self) -> Machine | None:
        """Who leads; of several that believe it, the one with the highest term."""
        leading = [machine for machine in self.machines if machine.process and self.ghost.leads(machine.name)]
        return max(leading, key=lambda machine: self.ghost.terms[machine.name], default=None)

    def writer(self) -> Machine | None:
        """Who holds the writer lease."""
        return self.holder(WRITER)

    def holder(self, name: str) -> Machine | None:
        """Who holds a lease in the newest catalog that anybody has applied."""
        newest = self.newest()
        lease = newest.leases.get(name) if newest is not None else None
        return next((machine for machine in self.machines if lease and machine.name == lease.holder), None)

    def server(self, client: str) -> str:
        """Where a client believes that its requests are taken."""
        first = self.client_names.index(client) if client in self.client_names else 0
        return self.machines[self._servers.setdefault(client, first) % len(self.machines)].name

    def elsewhere(self, client: str, hint: str) -> None:
        """The server did not take a request: try the one it names, or the next."""
        named = [number for number, machine in enumerate(self.machines) if machine.name == hint]
        self._servers[client] = named[0] if named else self._servers.get(client, 0) + 1

    def client(self, name: str, plan: WorldPlan, history: History) -> Client:
        """Somebody who uses the database, with a history of its own."""
        connect = partial(self.fabric.connect, name)
        return Client(name, plan, connect, self, history, self.trace, stream(plan.seed, f"client/{name}"))

    def judge(self, name: str, history: History) -> Judge:
        """Somebody who compares it with what nodes show."""
        return Judge(
            self.client(name, self.plan, history),
            history,
            self.ghost,
            self.trace,
            names=lambda: [machine.name for machine in self._taking_part()],
            until=self.until,
            election_seconds=self.machines[0].config.cluster.election_timeout_seconds,
        )

    def wall_clocks(self) -> list[int]:
        """Of machines that take part, in µs since 1970."""
        return [machine.clock.wall_us() for machine in self._taking_part()]

    # ---- the story

    async def _story(self) -> None:
        for machine in self.machines:
            self.spawn(machine.live)
        judge = self.judge("judge", self.history)
        await self._gather(judge)
        if any(fault.kind == "rot" for fault in self.plan.faults):
            self.spawn(self.rot.watch)
        clients = [self._client(name) for name in self.client_names]
        self._programs = programs(self)
        working: list[Client | Program] = [*clients, *self._programs]
        for each in working:
            self.spawn(each.run)
        await self._let_faults_happen()
        await self.until("V-01", "nobody leads after the faults", self._leaderless_seconds(), self.leader)
        await self.until("W-12", "stories never end", 2 * END_SECONDS, lambda: not self._stories)
        await self.until("W-09", "a node is not ready after the faults", READY_SECONDS, self._all_ready)
        await self.rot.end(ROT_LOAD_SECONDS)
        self._is_over = True
        if self.plan.takeover_seconds_max:
            self.leases.check_takeovers(self.plan.takeover_seconds_max)
        for each in working:
            each.stop = True
        await self.until("V-09", "requests were never answered", ANSWERED_SECONDS, lambda: self._under_way() == 0)
        rot_seconds = self.rot.seconds(self.plan.work_seconds)
        await self.until("W-20", "a copy that rotted is not found", rot_seconds, self.rot.is_over)
        await judge.level()
        self.rot.forget()
        await self._judge(judge)
        for machine in self.machines:
            machine.want(False)
            machine.order_stop()
        await self.until(
            "W-10", "a node did not stop", STOPPED_SECONDS, lambda: not any(m.process for m in self.machines)
        )
        for machine in self._taking_part():
            machine.want(True)
        await self.until("W-09", "a node is not ready after a stop", READY_SECONDS, self._all_ready)
        await self._judge(judge)
        self.rot.check()
        await judge.client.close()
        for machine in self.machines:
            machine.want(False)
            machine.kill(0.0)
        await self.until("V-10", "a node did not die", 5.0, lambda: not any(m.process for m in self.machines))

    async def _judge(self, judge: Judge) -> None:
        """What clients wrote, then what programs had done with it."""
        await judge.judge()
        for program in self._programs:
            await program.judge([machine.name for machine in self._taking_part()])
            self.trace.note("world", "judged", type(program).__name__)

    async def _gather(self, judge: Judge) -> None:
        """The first machine has founded a cluster, and the others are taken in one after another; or all founded it."""
        first, *others = self._taking_part()
        await self.until("W-09", "the first node is not ready", READY_SECONDS, lambda: first.is_ready)
        for machine in others if self.plan.founding == "join" else ():
            asked = partial(judge.client.add_member, f"{machine.name}:{PEER_PORT}")
            await judge.certainly(f"taking in {machine.name}", asked)
        await self.until("W-09", "a node is not ready", READY_SECONDS, self._all_ready)

    async def _let_faults_happen(self) -> None:
        begun = trio.current_time()
        async with trio.open_nursery() as self._faults_nursery:
            for fault in self.plan.faults:
                await trio.sleep_until(begun + fault.at)
                self.faults[fault.kind] += 1
                world_faults.happen(self, fault)
            await trio.sleep_until(begun + self.plan.seconds)
            self._faults_nursery.cancel_scope.cancel()
        world_faults.end(self)

    async def until(self, killer: str, what: str, seconds: float, is_so: Callable[[], object]) -> None:
        """Wait for something. Raises Violation when it does not come in time."""
        deadline = trio.current_time() + seconds
        while not is_so():
            if trio.current_time() >= deadline:
                broken(killer, what, *self.machines, f"{self._under_way()} requests under way")
            await trio.sleep(0.1)

    def _under_way(self) -> int:
        return self.history.under_way + sum(program.history.under_way for program in self._programs)

    def _leaderless_seconds(self) -> float:
        """How long it may take until somebody leads: ten elections, and the time in which dead processes come back."""
        return 10 * self.machines[0].config.cluster.election_timeout_seconds + self.longest_restart

    def _all_ready(self) -> bool:
        return all(machine.is_ready for machine in self._taking_part())

    def _taking_part(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.name in self.members]

    def _keep(self, group: BaseExceptionGroup[Violation]) -> None:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup):
            leaf = leaf.exceptions[0]
        assert isinstance(leaf, Violation)
        if self.violation is None:
            self.violation = leaf

    def _end(self) -> None:
        """Nothing may be left that a frozen or shielded task keeps alive."""
        for machine in (*self.machines, *self.strangers):
            machine.want(False)
            machine.kill(0.0)
        self._scope.cancel()

    # ---- parts

    def _machine(self, number: int, *, is_stranger: bool = False) -> Machine:
        plan, name = self.plan, f"n{number + 1}"
        disk = Platter(name, plan.capacity_bytes, stream(plan.seed, f"disk/{name}"), self.trace, self._mirror / name)
        rate = plan.clocks[number] if number < len(plan.clocks) else 1.0
        clocks = MachineClock(rate, 0.0, stream(plan.seed, f"clock/{name}"))
        flags: dict[str, object] = {
            "node.id": name,
            "server.port": PORT,
            "auth.bootstrap_token": TOKEN,
            "query.threads": 1,
            "wal.segment_bytes": 64 * KIB,
            "storage.reserve_bytes": 256 * KIB,
        }
        if plan.size > 1:
            is_founding_together = plan.founding == "seeds" or is_stranger
            seeds = tuple(f"n{nth + 1}:{PEER_PORT}" for nth in range(plan.size))
            flags |= {
                "node.role": plan.role(number),
                "cluster.enabled": True,
                "cluster.shared_secret": STRANGE_SECRET if is_stranger else SECRET,
                "cluster.peer_host": name,
                "cluster.peer_port": PEER_PORT,
                "cluster.advertise": f"{name}:{PEER_PORT}",
                "cluster.join": number > 0 and not is_founding_together,
                "cluster.seeds": seeds if is_founding_together else (),
                "cluster.bootstrap_expect": plan.size if is_founding_together and number < plan.size else 0,
                "server.advertise": name,
            }
        if self.bucket is not None:
            flags |= SETTINGS
        flags |= {f"{section}.{key}": value for section, keys in plan.config.items() for key, value in keys.items()}
        config = load(environment={}, flags=flags).config
        return Machine(self, name, config, disk, clocks, is_wanted=number < plan.size)

    def _client(self, name: str) -> Client:
        return self.client(name, self.plan, self.history)
