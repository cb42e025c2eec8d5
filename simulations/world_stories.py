"""Faults that take more than a moment: what operators order, nodes that come and go, and losses that follow each other.

Some are cut short when the faults end. The others go on until they are over: a node that was drained is taken back, one
that was wiped is removed and joins again; one that does not come to its end is a failure of its own (W-12).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import trio

from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.catalog.values import WRITER
from simulations.chance import Stream
from simulations.checkers.violation import Violation
from simulations.checkers.world_agreement import Ghost
from simulations.plan import Fault
from simulations.world_client import Client
from simulations.world_machine import Machine
from simulations.world_network import Fabric
from simulations.world_plan import WorldPlan
from simulations.world_trace import Trace

LOOK_SECONDS = 0.2
END_SECONDS = 120.0
"""A story is over so long after the last fault."""

BETWEEN_SECONDS = 20.0
"""How long is waited for one step, while other faults may prevent it, before a story goes on without."""

ALIVE_MIN = 3
"""Nobody is wiped, and nobody leaves, where fewer take part: the rest could not go on."""


class World(Protocol):
    """What stories change."""

    plan: WorldPlan
    trace: Trace
    fabric: Fabric
    ghost: Ghost
    machines: tuple[Machine, ...]
    members: dict[str, None]
    leaving: dict[str, None]

    def operator(self) -> Client:
        """Somebody who gives orders."""
        ...

    def leader(self) -> Machine | None:
        """Who leads."""
        ...

    def holder(self, name: str) -> Machine | None:
        """Who holds a lease."""
        ...

    def writer(self) -> Machine | None:
        """Who holds the writer lease."""
        ...

    def newest(self) -> Catalog | None:
        """The newest catalog that anybody has applied."""
        ...

    def wiped(self, machine: Machine) -> None:
        """Its disk is empty now."""
        ...

    def stranger(self) -> Machine:
        """One more machine, which is off and whose node has another secret."""
        ...

    def fail(self, violation: Violation) -> None:
        """A property is broken: the run ends."""
        ...


async def failover(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """The writer lease is handed over in order; to a node of that name, if it is one."""
    wish = {"lease": WRITER, "reason": "a simulated operator wants it"}
    target = fault.targets[0] if fault.targets and fault.targets[0] in world.members else ""
    await _ask_leader(world, "/api/v1/cluster/failover", wish | ({"target": target} if target else {}), tries=1)


async def drain(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A node gets nothing new for a while."""
    path = f"/api/v1/cluster/nodes/{machine.name}"
    await _ask_leader(world, f"{path}/drain", {}, tries=1)
    await trio.sleep(fault.amount)

    def is_back() -> bool:
        catalog = world.newest()
        known = catalog.nodes.get(machine.name) if catalog is not None else None
        return known is None or known.state != NodeState.LEAVING

    await _until_ordered(world, f"{machine.name} is never taken back", f"{path}/undrain", {}, is_back)


async def rolling(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """One node after the other is stopped in order and started again."""
    for each in [each for each in world.machines if each.name in world.members]:
        before = each.lives
        each.order_stop(fault.amount)
        await _while(BETWEEN_SECONDS * 3, lambda each=each, before=before: each.lives == before or not each.is_ready)  # type: ignore[misc]


async def two_failovers(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """The writer dies, and as soon as there is another one that dies, too."""
    for _ in range(2):
        writer = world.writer()
        if writer is None:
            return
        writer.kill(fault.amount)
        await _while(BETWEEN_SECONDS, lambda writer=writer: world.writer() is writer)  # type: ignore[misc]
        await trio.sleep(chance.uniform(0.0, 1.5))


async def both(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """Leader and writer die at once, be it one node or two."""
    for each in {id(found): found for found in (world.leader(), world.writer()) if found is not None}.values():
        each.kill(fault.amount)
    await trio.lowlevel.checkpoint()


async def flap(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A node is cut off for a moment, again and again, about as long as it takes to notice."""
    others = [other.name for other in world.machines if other is not machine]
    for _ in range(6):
        world.fabric.cut([machine.name], others)
        await trio.sleep(chance.uniform(0.4, 1.6))
        world.fabric.heal()
        await trio.sleep(chance.uniform(0.2, 1.2))


async def asymmetric(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A node is heard and hears nothing, or hears and is not heard, by all others or by one."""
    others = [other.name for other in world.machines if other is not machine]
    if chance.random() < 0.5:
        others = [chance.choice(others)]
    if chance.random() < 0.5:
        world.fabric.cut([machine.name], others, is_one_way=True)
    else:
        world.fabric.cut(others, [machine.name], is_one_way=True)
    await trio.sleep(fault.amount)
    world.fabric.heal()


async def mute(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """No other node hears it any more; it hears them, and clients hear it."""
    others = [other.name for other in world.machines if other is not machine]
    world.fabric.cut([machine.name], others, is_one_way=True)
    await trio.sleep(fault.amount)
    world.fabric.heal()


async def join(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A new node comes in."""
    spare = next((each for each in world.machines if not each.is_wanted and not each.lives), None)
    if spare is None:
        return
    spare.want(True)
    world.members[spare.name] = None
    await _be_taken_in(world, spare)


async def leave(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A node leaves for good, if it may."""
    if len(world.members) < ALIVE_MIN or machine.name not in world.members:
        return
    operator, name = world.operator(), machine.name
    status = 0
    world.leaving[name] = None
    for _ in range(4):
        status = await operator.order(name, "/api/v1/cluster/leave")
        if status == 200 or _is_out(world, name):
            break
        await trio.sleep(2.0)
    await operator.close()
    if status == 200 or _is_out(world, name):
        world.trace.note("world", "left", name)
        world.members.pop(name, None)
        world.leaving.pop(name, None)
        machine.want(False)
        machine.kill(0.0)
        return
    # It is a member that is draining; its next start puts that right.
    world.trace.probe("leave_refused")
    machine.order_stop(0.2)


async def wipe(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """A disk is lost. The node comes back empty, is let in only after it was removed, and then has everything again."""
    if len(world.members) < ALIVE_MIN or machine.name not in world.members:
        return
    catalog = world.newest()
    if catalog is None or machine.name not in catalog.nodes:
        return
    if world.ghost.is_only_in_sync(machine.name, catalog):
        world.trace.probe("wipe_spared_the_only_one_in_sync")
        return
    if any(not each.is_ready for each in world.machines if each.name in world.members and each is not machine):
        world.trace.probe("wipe_waited_for_better_times")
        return
    if world.leaving:
        # Its vote may be gone already, and then two that vote are left, of which one would lose its disk (seed 300035).
        world.trace.probe("wipe_waited_for_who_leaves")
        return
    if not world.ghost.can_lose(machine.name):
        # Who left has taken a vote along, and nobody was able to vote in its place yet.
        world.trace.probe("wipe_waited_for_who_votes")
        return
    former = catalog.nodes[machine.name].incarnation
    machine.want(False)
    machine.kill(0.0, is_power=True)
    await _while(BETWEEN_SECONDS, lambda: machine.process is not None)
    machine.platter.files.clear()
    machine.platter.folders.clear()
    world.wiped(machine)
    machine.want(True)
    await trio.sleep(fault.amount)
    if machine.is_ready and _incarnation(world, machine.name) == former:
        world.fail(Violation("W-13", "a wiped node is ready before it was removed", machine))
    await _until_ordered(
        world,
        f"{machine.name} is never removed",
        f"/api/v1/cluster/nodes/{machine.name}",
        None,
        lambda: _incarnation(world, machine.name) != former,
        method="DELETE",
    )
    await _be_taken_in(world, machine)


async def wrong_secret(world: World, fault: Fault, chance: Stream, machine: Machine) -> None:
    """Somebody who does not know the secret wants in; see `World.stranger`."""
    stranger = world.stranger()
    stranger.want(True)
    await trio.sleep(fault.amount)
    catalog = world.newest()
    if stranger.is_ready or (catalog is not None and stranger.name in catalog.nodes):
        world.fail(Violation("W-14", "who does not know the secret was let in", stranger))
    stranger.want(False)
    stranger.kill(0.0)


async def _be_taken_in(world: World, machine: Machine) -> None:
    """Wait until a new node is ready; where nobody has seeds, a member is told to add it."""
    operator = world.operator()
    for _ in range(int(END_SECONDS)):
        if machine.name not in world.members:
            await operator.close()
            return  # It was told to leave meanwhile, and counted as gone when it was removed after its wipe.
        leader = world.leader()
        if world.plan.founding == "join" and _is_out(world, machine.name) and leader is not None:
            await operator.add_member(f"{machine.name}:9100", leader.name)
        await trio.sleep(1.0)
        if machine.is_ready:
            await operator.close()
            return
    world.fail(Violation("W-12", "a new node never takes part", machine))


def _incarnation(world: World, name: str) -> int | None:
    """Of the node that the cluster knows by this name. Who comes in again is another one, and may do so at once."""
    catalog = world.newest()
    known = catalog.nodes.get(name) if catalog is not None else None
    return known.incarnation if known is not None else None


def _is_out(world: World, name: str) -> bool:
    catalog = world.newest()
    return catalog is not None and name not in catalog.nodes


async def _ask_leader(
    world: World, path: str, wish: Mapping[str, object] | None, *, tries: int, method: str = "POST"
) -> None:
    operator = world.operator()
    for _ in range(tries):
        leader = world.leader()
        if leader is not None and leader.process is not None:
            await operator.order(leader.name, path, wish, method=method)
    await operator.close()


async def _until_ordered(
    world: World,
    what: str,
    path: str,
    wish: Mapping[str, object] | None,
    is_so: Callable[[], bool],
    *,
    method: str = "POST",
) -> None:
    deadline = trio.current_time() + END_SECONDS
    while not is_so():
        if trio.current_time() > deadline:
            world.fail(Violation("W-12", what, *world.machines))
            return
        await _ask_leader(world, path, wish, tries=1, method=method)
        await trio.sleep(1.0)


async def _while(seconds: float, is_so: Callable[[], bool]) -> None:
    with trio.move_on_after(seconds):
        while is_so():  # noqa: ASYNC110 (a world has no event for everything that a story waits for)
            await trio.sleep(LOOK_SECONDS)


Story = Callable[[World, Fault, Stream, Machine], Awaitable[None]]

BRIEF: Mapping[str, Story] = {
    "failover": failover,
    "rolling": rolling,
    "two_failovers": two_failovers,
    "both": both,
    "flap": flap,
    "asymmetric": asymmetric,
    "mute": mute,
}
"""Cut short when the faults end."""

WHOLE: Mapping[str, Story] = {
    "drain": drain,
    "join": join,
    "leave": leave,
    "wipe": wipe,
    "wrong_secret": wrong_secret,
}
"""They go on until they are over."""
