"""What a fault does to a running cluster: one function per kind, in one table.

Whom it hits is settled when it happens (``leader`` is whoever leads then), with chance of its own per fault, so that
leaving out one fault does not change the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from arc.raft import events
from arc.raft.events import Change, ChangeKind
from arc.raft.types import Peer
from simulations.chance import Stream, stream
from simulations.plan import Fault

if TYPE_CHECKING:
    from simulations.cores import Cores
    from simulations.host import Host


def happen(world: Cores, fault: Fault) -> None:
    """Let it happen."""
    chance = stream(world.plan.seed, f"fault/{fault.at!r}/{fault.kind}")
    world.fault(fault.kind)
    world.note(fault.kind, *fault.targets, fault.amount)
    KINDS[fault.kind](world, fault, chance)


def pick(world: Cores, word: str, chance: Stream) -> Host:
    """Who is meant."""
    hosts = [world.hosts[peer] for peer in world.peers]
    leader = world.leader
    if word == "leader" and leader is not None:
        return leader
    if word == "follower":
        hosts = [host for host in hosts if host is not leader] or hosts
    elif word not in ("leader", "random"):
        return next(host for host in hosts if host.peer.name == word)
    return hosts[chance.randrange(len(hosts))]


def _crash(world: Cores, fault: Fault, chance: Stream) -> None:
    host = pick(world, fault.targets[0], chance)
    if host.core is not None:
        host.crash()
        world.restart_later(host, fault.amount)


def _power_cut(world: Cores, fault: Fault, chance: Stream) -> None:
    for peer in world.peers:
        host = world.hosts[peer]
        if host.core is not None:
            host.crash()
            world.restart_later(host, fault.amount * chance.uniform(0.5, 1.5) if fault.amount else 0.0)


def _isolate(world: Cores, fault: Fault, chance: Stream) -> None:
    world.fabric.cut([pick(world, fault.targets[0], chance).peer], world.peers)


def _one_way(world: Cores, fault: Fault, chance: Stream) -> None:
    """``amount`` 0: can be heard and does not hear; 1: hears and is not heard."""
    peer = pick(world, fault.targets[0], chance).peer
    others: list[Peer] = [each for each in world.peers if each != peer]
    if fault.amount:
        world.fabric.cut([peer], others, is_one_way=True)
    else:
        world.fabric.cut(others, [peer], is_one_way=True)


def _partition(world: Cores, fault: Fault, chance: Stream) -> None:
    """Two sides; ``amount`` nodes on the one (0: drawn). ``leader`` as a target puts the leader there."""
    peers = list(world.peers)
    chance.shuffle(peers)
    if fault.targets and world.leader is not None:
        peers.remove(world.leader.peer)
        peers.insert(0, world.leader.peer)
    size = int(fault.amount) or chance.randint(1, max(len(peers) - 1, 1))
    world.fabric.cut(peers[:size], peers[size:])


def _ring(world: Cores, fault: Fault, chance: Stream) -> None:
    """Every node sees a majority, and no two see the same one (Jepsen: majorities ring)."""
    peers = list(world.peers)
    chance.shuffle(peers)
    count, reach = len(peers), (len(peers) // 2 + 1) // 2
    for one in range(count):
        for other in range(count):
            if min((one - other) % count, (other - one) % count) > reach:
                world.fabric.cut([peers[one]], [peers[other]])


def _heal(world: Cores, fault: Fault, chance: Stream) -> None:
    world.fabric.heal()


def _pause(world: Cores, fault: Fault, chance: Stream) -> None:
    host = pick(world, fault.targets[0], chance)
    host.paused_until = world.now + fault.amount


def _slow_disk(world: Cores, fault: Fault, chance: Stream) -> None:
    pick(world, fault.targets[0], chance).disk.slow = fault.amount


def _stall_disk(world: Cores, fault: Fault, chance: Stream) -> None:
    pick(world, fault.targets[0], chance).disk.stalled_until = world.now + fault.amount


def _sync_fails(world: Cores, fault: Fault, chance: Stream) -> None:
    pick(world, fault.targets[0], chance).disk.is_failing = True


def _disk_full(world: Cores, fault: Fault, chance: Stream) -> None:
    """For ``amount`` seconds."""
    host = pick(world, fault.targets[0], chance)
    host.disk.is_full = True
    world.at(world.now + fault.amount, world.space_again, host, None)


def _clock(world: Cores, fault: Fault, chance: Stream) -> None:
    """Jump by ``amount`` seconds."""
    host = pick(world, fault.targets[0], chance)
    host.set_clock(host.rate, fault.amount)


def _loss(world: Cores, fault: Fault, chance: Stream) -> None:
    world.fabric.loss = fault.amount


def _hold(world: Cores, fault: Fault, chance: Stream) -> None:
    """Messages of one kind wait ``amount`` seconds: an adversary's choice."""
    world.fabric.held[fault.targets[0]] = world.now + fault.amount


def _burst(world: Cores, fault: Fault, chance: Stream) -> None:
    """``amount`` commands at once to one node, from clients that do not come back for an answer."""
    host = pick(world, fault.targets[0], chance)
    if host.core is not None:
        world.burst(host, int(fault.amount))


def _transfer(world: Cores, fault: Fault, chance: Stream) -> None:
    leader = world.leader
    if leader is not None:
        target = None if fault.targets[0] == "best" else pick(world, fault.targets[0], chance).peer
        world.ask_admin(leader, lambda request: events.TransferLeadership(request, target))


def _nudge(world: Cores, fault: Fault, chance: Stream) -> None:
    """An operator's impatience, or a broken connection: campaign, unreachable, forget the leader."""
    host = pick(world, fault.targets[0], chance)
    other = world.peers[chance.randrange(len(world.peers))]
    nudges: tuple[events.Event, ...] = (events.Campaign(), events.Unreachable(other), events.ForgetLeader())
    host.step(nudges[int(fault.amount)])


def _change(world: Cores, fault: Fault, chance: Stream) -> None:
    """Membership: pairs of (voter | learner | remove, name); ``amount`` 1 skips the catch-up of new voters."""
    leader = world.leader
    if leader is None:
        return
    words = fault.targets
    changes = tuple(
        Change(ChangeKind[kind.upper()], pick(world, name, chance).peer)
        for kind, name in zip(words[::2], words[1::2], strict=True)
    )
    is_catch_up = fault.amount == 0
    world.ask_admin(leader, lambda request: events.ChangeMembers(request, changes, is_catch_up=is_catch_up))


KINDS: dict[str, Callable[[Cores, Fault, Stream], None]] = {
    "crash": _crash,
    "power_cut": _power_cut,
    "isolate": _isolate,
    "one_way": _one_way,
    "partition": _partition,
    "ring": _ring,
    "heal": _heal,
    "pause": _pause,
    "slow_disk": _slow_disk,
    "stall_disk": _stall_disk,
    "sync_fails": _sync_fails,
    "disk_full": _disk_full,
    "clock": _clock,
    "loss": _loss,
    "hold": _hold,
    "burst": _burst,
    "transfer": _transfer,
    "nudge": _nudge,
    "change": _change,
}
