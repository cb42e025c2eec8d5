"""A hundred whole nodes under the virtual clock: they find each other, ten are cut off, the cut heals.

Five writers found the cluster, and vote; 95 readers join through them by themselves, all at once. Everything of a node
runs (consensus, sessions with their keys, heartbeats, health checks, leases, HTTP, the query engine), in one process
and on simulated disks and links; nobody writes rows. Two of the ten that are lost are voters. What a node sends is its
own counter of bytes to peers, encrypted frames included.

A cluster takes 64 members (`arc.raft.membership`): that bound is lifted here, and only here. The spies and checkers of
`simulations.world` stay outside. The load of the machine does not change what is found, only how long it takes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import trio

from arc.cluster import voting
from arc.raft import membership
from benchmarks.cluster.nodes import metric
from benchmarks.measure import Row, Run, figure
from simulations import clock
from simulations.chance import stream
from simulations.clock import Tasks
from simulations.world import PEER_PORT, World
from simulations.world_client import PORT, TOKEN
from simulations.world_http import Http, Lost, NotSent
from simulations.world_machine import Machine
from simulations.world_network import Fabric
from simulations.world_plan import WorldPlan

NODES = 100
QUICK_NODES = 20
VOTERS = 5
LOST = 10
LOST_VOTERS = 2
SEED = 1
LOOK_SECONDS = 0.5
REST_SECONDS = 5.0
LIMIT_SECONDS = 300.0
"""Simulated; longer than that counts as never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What one run showed. Seconds are simulated."""

    joined_seconds: float
    lost_seconds: float
    """From the cut until all that are left call all that are left healthy, and nobody else."""
    healed_seconds: float
    voters: int
    reader_bytes: tuple[float, ...]
    """Per second, median over the readers; one value for each stretch at rest."""
    voter_bytes: tuple[float, ...]
    total_bytes: tuple[float, ...]
    wall_seconds: float


class Crowd(World):
    """A world with a story of its own. The first nodes write and vote, the others read."""

    def __init__(self, plan: WorldPlan, mirror: Path, *, say: Callable[[str], None]) -> None:
        super().__init__(plan, mirror, is_told=False)
        self._say = say
        self.found: Found | None = None
        self.trouble = ""

    async def run(self, tasks: Tasks) -> None:
        """Without spies; afterwards ``found`` has what was found, or ``trouble`` why nothing was."""
        self.tasks = tasks
        self.fabric = Fabric(self.plan.network, stream(self.plan.seed, "network"), self.trace)
        self.machines = tuple(self._machine(number) for number in range(self.plan.size))
        began = time.monotonic()
        async with trio.open_nursery() as self._nursery:
            for machine in self.machines:
                self.spawn(machine.live)
            try:
                self.found = await self._found(began)
            except RuntimeError as error:
                self.trouble = str(error)
            self._nursery.cancel_scope.cancel()

    async def _found(self, began: float) -> Found:
        everybody = [machine.name for machine in self.machines]
        joined = await self._wait("join", lambda: self._all_see(everybody, len(everybody)))
        rest = [await self._rest(everybody) for _ in range(2)]
        lost = everybody[VOTERS - LOST_VOTERS : VOTERS - LOST_VOTERS + LOST]
        left = [name for name in everybody if name not in lost]
        self.fabric.cut(lost, left)
        gone = await self._wait("notice", lambda: self._all_see(left, len(left)))
        self.fabric.heal()
        healed = await self._wait("heal", lambda: self._all_see(everybody, len(everybody)))
        rest.append(await self._rest(everybody))
        await self._wait("become level", lambda: self._is_level(everybody))
        return Found(
            joined_seconds=joined,
            lost_seconds=gone,
            healed_seconds=healed,
            voters=health(await self._page(everybody[0], "/api/v1/cluster/health")).voters,
            reader_bytes=tuple(statistics.median(sent[VOTERS:]) for sent in rest),
            voter_bytes=tuple(statistics.median(sent[:VOTERS]) for sent in rest),
            total_bytes=tuple(sum(sent) for sent in rest),
            wall_seconds=time.monotonic() - began,
        )

    async def _wait(self, what: str, is_so: Callable[[], Awaitable[bool]]) -> float:
        began = trio.current_time()
        while not await is_so():
            if trio.current_time() > began + LIMIT_SECONDS:
                raise RuntimeError(f"a crowd did not {what} within {LIMIT_SECONDS:g} simulated seconds")
            await trio.sleep(LOOK_SECONDS)
        self._say(f"    {what}: {trio.current_time() - began:.1f} simulated s")
        return trio.current_time() - began

    async def _all_see(self, names: Sequence[str], healthy: int) -> bool:
        """Whether each of these nodes knows all nodes, and calls so many healthy; stops at the first that does not."""
        for name in names:
            found = health(await self._page(name, "/api/v1/cluster/health"))
            if (found.healthy, found.total) != (healthy, len(self.machines)):
                return False
        return True

    async def _is_level(self, names: Sequence[str]) -> bool:
        """Whether all have applied the same part of the log, and it is not empty."""
        pages = [await self._page(name, "/api/v1/raft/status") for name in names]
        applied = {json.loads(page)["applied"] if page else None for page in pages}
        return len(applied) == 1 and bool(applied.pop())

    async def _rest(self, names: Sequence[str]) -> list[float]:
        """Bytes a second that each node sends to peers while nothing happens."""
        before = [await self._sent(name) for name in names]
        began = trio.current_time()
        await trio.sleep(REST_SECONDS)
        after = [await self._sent(name) for name in names]
        seconds = trio.current_time() - began
        return [(later - earlier) / seconds for earlier, later in zip(before, after, strict=True)]

    async def _sent(self, name: str) -> float:
        return metric(await self._page(name, "/metrics"), "arc_peers_sent_bytes_total")

    async def _page(self, name: str, path: str) -> str:
        """A page of a node; empty when it does not answer."""

        async def connect(host: str, port: int) -> trio.abc.Stream:
            return await self.fabric.connect("watcher", host, port)

        http = Http(connect, self.plan.patience_seconds)
        try:
            answer = await http.ask(name, PORT, "GET", path, headers={"authorization": f"Bearer {TOKEN}"})
        except (NotSent, Lost):
            return ""
        finally:
            await http.close()
        return answer.body.decode() if answer.status == 200 else ""

    def _machine(self, number: int, *, is_stranger: bool = False) -> Machine:
        """Settings of the world, but these nodes find each other by their seeds."""
        machine = super()._machine(number, is_stranger=is_stranger)
        config = machine.config
        cluster = replace(
            config.cluster,
            join=False,
            seeds=tuple(f"n{founder + 1}:{PEER_PORT}" for founder in range(VOTERS)),
            bootstrap_expect=VOTERS if number < VOTERS else 0,
        )
        node = replace(config.node, role="writer" if number < VOTERS else "reader")
        machine.config = replace(config, cluster=cluster, node=node)
        return machine


def hundred(run: Run) -> list[Row]:
    """One run: it is the same every time. A quick one is of fewer nodes, for the cost grows with their square."""
    size = NODES if run.repetitions >= 5 else QUICK_NODES
    run.say(f"    {size} nodes in one process")
    return rows_of(simulate(size, run.say), size)


def simulate(size: int, say: Callable[[str], None]) -> Found:
    """Run it. Raises RuntimeError."""
    mirror = Path(tempfile.mkdtemp(prefix="arc-crowd-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    plan = WorldPlan(scenario="crowd", seed=SEED, size=size, clients=0)
    world = Crowd(plan, mirror, say=say)
    try:
        with patch.object(membership, "MEMBERS_MAX", size), patch.object(voting, "MEMBERS_MAX", size):
            clock.run(plan.seed, world.run)
    finally:
        shutil.rmtree(mirror, ignore_errors=True)
    if world.found is None:
        raise RuntimeError(f"the crowd was ended: {world.trouble or world.violation}")
    return world.found


class Health(NamedTuple):
    """What a node says of all."""

    healthy: int
    total: int
    voters: int


def health(page: str) -> Health:
    """From `/api/v1/cluster/health`; all zero without an answer."""
    if not page:
        return Health(0, 0, 0)
    found = json.loads(page)
    return Health(found["healthy"], found["total"], found["quorum"]["voters"])


def rows_of(found: Found, size: int) -> list[Row]:
    """The rows of one run."""
    title = f"{size} nodes, {found.voters} vote, simulated"
    bound = f"; beyond the {membership.MEMBERS_MAX} that a cluster may have" if size > membership.MEMBERS_MAX else ""
    stretches = " and ".join(f"{total / 1e6:.2f}" for total in found.total_bytes)

    def seconds(name: str, value: float, note: str = "") -> Row:
        return Row(name=f"{title}: {name}", ours=figure("simulated s", [value]), note=note)

    return [
        seconds(
            f"from nothing until each node sees all {size} healthy",
            found.joined_seconds,
            f"whole nodes in one process, {found.wall_seconds:.0f} s of real time for all of this{bound}",
        ),
        seconds(f"{LOST} cut off, {LOST_VOTERS} of them voters: until all others know", found.lost_seconds),
        seconds(f"healed: until each node sees all {size} healthy", found.healed_seconds, "then all logs are level"),
        Row(
            name=f"{title}: a reader sends to peers at rest",
            ours=figure("bytes/s", found.reader_bytes),
            note=f"two stretches before the loss, one after; all nodes together {stretches} MB/s",
        ),
        Row(name=f"{title}: a voter sends to peers at rest", ours=figure("bytes/s", found.voter_bytes)),
    ]
