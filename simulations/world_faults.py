"""What a fault does to a world of whole nodes: one function per kind, in one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import trio

from arc.catalog.values import LEASES
from arc.storage.keeper import DATA
from simulations import world_stories
from simulations.chance import Stream, stream
from simulations.plan import Fault
from simulations.world_machine import Machine
from simulations.world_rot import Rot
from simulations.world_store import Bucket


class World(world_stories.World, Protocol):
    """What faults change."""

    client_names: tuple[str, ...]
    bucket: Bucket | None
    rot: Rot

    def order(self, machine: Machine, path: str) -> None:
        """An operator asks a node for something."""
        ...

    def gone(self, machine: Machine) -> None:
        """Nothing can be expected of it from now on: if it was the writer, there has to be another one."""
        ...

    def tell(self, story: Callable[[], Awaitable[None]]) -> None:
        """Let a story go on until it is over."""
        ...

    def later(self, seconds: float, what: Callable[[], Awaitable[None]]) -> None:
        """Do something after a while, unless the faults have ended by then."""
        ...


def happen(world: World, fault: Fault) -> None:
    """Let it happen."""
    chance = stream(world.plan.seed, f"fault/{fault.at!r}/{fault.kind}")
    world.trace.note("world", "fault", fault.kind, *fault.targets, fault.amount)
    brief, whole = world_stories.BRIEF.get(fault.kind), world_stories.WHOLE.get(fault.kind)
    if brief is not None:
        world.later(0.0, partial(brief, world, fault, chance, pick(world, fault, chance)))
    elif whole is not None:
        world.tell(partial(whole, world, fault, chance, pick(world, fault, chance)))
    else:
        KINDS[fault.kind](world, fault, chance)


def pick(world: World, fault: Fault, chance: Stream) -> Machine:
    """Who is meant: a name, ``leader``, who holds a lease (``writer``, ``compactor``), or anybody."""
    word = fault.targets[0] if fault.targets else "random"
    meant = world.leader() if word == "leader" else world.holder(word) if word in LEASES else None
    if meant is not None:
        return meant
    named = [machine for machine in world.machines if machine.name == word]
    return named[0] if named else world.machines[chance.randrange(len(world.machines))]


def _crash(world: World, fault: Fault, chance: Stream) -> None:
    pick(world, fault, chance).kill(fault.amount)


def _crash_in_write(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    if machine.process is not None:
        machine.process.session.die_at(int(fault.amount))


def _power_off(world: World, fault: Fault, chance: Stream) -> None:
    pick(world, fault, chance).kill(fault.amount, is_power=True)


def _power_cut(world: World, fault: Fault, chance: Stream) -> None:
    """All machines at once."""
    for machine in world.machines:
        machine.kill(fault.amount * chance.uniform(0.5, 1.5), is_power=True)


def _sync_fails(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    if machine.process is not None:
        machine.process.session.fail_next()


def _disk_full(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    whole = world.plan.capacity_bytes
    machine.platter.capacity = machine.platter.used + chance.choice((0, 8192, 300_000))

    async def free() -> None:
        machine.platter.capacity = whole

    world.later(fault.amount, free)


def _slow_disk(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    if machine.process is not None:
        machine.process.workers.slow = fault.amount


def _stall_disk(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    if machine.process is not None:
        machine.process.workers.stall(fault.amount)
        if 0 < world.plan.takeover_seconds_max < fault.amount:
            world.gone(machine)


def _clock(world: World, fault: Fault, chance: Stream) -> None:
    pick(world, fault, chance).clock.jump(fault.amount)


def _isolate(world: World, fault: Fault, chance: Stream) -> None:
    """From other machines and some clients, both ways or one."""
    machine = pick(world, fault, chance)
    others = [other.name for other in world.machines if other is not machine]
    clients = [name for name in world.client_names if chance.random() < 0.5]
    ways = chance.choice(("both", "both", "in", "out"))
    if ways == "in":
        world.fabric.cut([*others, *clients], [machine.name], is_one_way=True)
    else:
        world.fabric.cut([machine.name], [*others, *clients], is_one_way=ways == "out")

    async def heal() -> None:
        world.fabric.heal()

    world.later(fault.amount, heal)


def _narrow(world: World, fault: Fault, chance: Stream) -> None:
    """So many bytes per second are all that leaves a machine for a while."""
    machine = pick(world, fault, chance)
    world.fabric.narrow(machine.name, fault.amount)

    async def widen() -> None:
        world.fabric.narrow(machine.name, 0.0)

    world.later(chance.uniform(5.0, 15.0), widen)


def _break_streams(world: World, fault: Fault, chance: Stream) -> None:
    world.fabric.break_streams(pick(world, fault, chance).name)


def _pause(world: World, fault: Fault, chance: Stream) -> None:
    machine = pick(world, fault, chance)
    machine.pause()

    async def resume() -> None:
        machine.resume()

    world.later(fault.amount, resume)


def _stop(world: World, fault: Fault, chance: Stream) -> None:
    pick(world, fault, chance).order_stop(fault.amount)


def _snapshot(world: World, fault: Fault, chance: Stream) -> None:
    world.order(pick(world, fault, chance), "/api/v1/raft/snapshot")


def _transfer(world: World, fault: Fault, chance: Stream) -> None:
    world.order(pick(world, fault, chance), "/api/v1/raft/transfer")


def _partition(world: World, fault: Fault, chance: Stream) -> None:
    """Two sides of machines; clients reach both."""
    names = [machine.name for machine in world.machines]
    chance.shuffle(names)
    side = chance.randint(1, max(len(names) - 1, 1))
    world.fabric.cut(names[:side], names[side:])

    async def heal() -> None:
        world.fabric.heal()

    world.later(fault.amount, heal)


def _store_away(world: World, fault: Fault, chance: Stream) -> None:
    """Nobody reaches the store for a while."""
    assert world.bucket is not None, "there is no store in this world"
    world.bucket.away_until = trio.current_time() + fault.amount


def _lose_files(world: World, fault: Fault, chance: Stream) -> None:
    """Machines lose power, and all Parquet files with it; their logs stay."""
    assert world.bucket is not None, "rows of files that are on no disk and in no store would be lost"
    for machine in world.machines if "all" in fault.targets else (pick(world, fault, chance),):
        machine.kill(fault.amount, is_power=True)
        for path in [path for path in machine.platter.files if path.startswith(f"{DATA}/")]:
            del machine.platter.files[path]


def _rot(world: World, fault: Fault, chance: Stream) -> None:
    """Bits flip in a share of the files on a disk."""
    world.trace.probe(
        "files_rotted" if world.rot.strike(pick(world, fault, chance), chance, fault.amount) else "no_rot"
    )


def end(world: World) -> None:
    """No fault lasts any longer."""
    world.trace.note("world", "healed")
    world.fabric.heal()
    if world.bucket is not None:
        world.bucket.calm()
    for machine in world.machines:
        world.fabric.narrow(machine.name, 0.0)
        machine.platter.capacity = max(world.plan.capacity_bytes, machine.platter.used + world.plan.capacity_bytes)
        machine.resume()
        if machine.process is not None:
            machine.process.workers.calm()
            machine.process.session.calm()


async def sleep_then(seconds: float, what: Callable[[], Awaitable[None]]) -> None:
    """For `World.later`."""
    await trio.sleep(seconds)
    await what()


KINDS: dict[str, Callable[[World, Fault, Stream], None]] = {
    "crash": _crash,
    "crash_in_write": _crash_in_write,
    "power_off": _power_off,
    "power_cut": _power_cut,
    "sync_fails": _sync_fails,
    "disk_full": _disk_full,
    "slow_disk": _slow_disk,
    "stall_disk": _stall_disk,
    "clock": _clock,
    "isolate": _isolate,
    "narrow": _narrow,
    "break_streams": _break_streams,
    "pause": _pause,
    "stop": _stop,
    "snapshot": _snapshot,
    "transfer": _transfer,
    "partition": _partition,
    "store_away": _store_away,
    "lose_files": _lose_files,
    "rot": _rot,
}
