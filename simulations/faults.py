"""What a fault does to a running cluster: one function per kind, in one table.

Whom it hits is settled when it happens (``leader`` is whoever leads then), with chance of its own per fault, so that
leaving out one fault does not change the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from arc.errors import Conflict, InvalidRequest
from arc.raft import events
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import target
from arc.raft.types import Peer
from simulations import atlas, damage, probes
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
    _stop(world, host, fault.amount, is_deaf=False)


def _stop(world: Cores, host: Host, seconds: float, *, is_deaf: bool) -> None:
    """Stand still. A second pause makes no first one shorter: what waits for the end of that one, above all what the
    disk has to say, would come after what happens next (seed 764758).
    """
    host.paused_until, host.is_deaf = max(host.paused_until, world.now + seconds), is_deaf
    probes.paused(host)


def _slow_disk(world: Cores, fault: Fault, chance: Stream) -> None:
    pick(world, fault.targets[0], chance).disk.slow = fault.amount


def _stall_disk(world: Cores, fault: Fault, chance: Stream) -> None:
    pick(world, fault.targets[0], chance).disk.stalled_until = world.now + fault.amount


def _sync_fails(world: Cores, fault: Fault, chance: Stream) -> None:
    """``amount`` 1: and what it was for is gone from the cache, too."""
    disk = pick(world, fault.targets[0], chance).disk
    disk.is_failing, disk.is_dropping = True, fault.amount > 0


def _disk_full(world: Cores, fault: Fault, chance: Stream) -> None:
    """For ``amount`` seconds."""
    host = pick(world, fault.targets[0], chance)
    host.disk.is_full = True
    world.at(world.now + fault.amount, world.space_again, host, None)


def _clock(world: Cores, fault: Fault, chance: Stream) -> None:
    """Jump by ``amount`` seconds. Nobody sees a jump back before whose end he does not look at his clock.

    A process would go on believing in its lease, because it stood still (seed 404567) or had nothing to do (611217).
    That is beyond any bound on clocks, and a node reads a clock that is never set. So with leases one that stands still
    is spared, and one that runs looks at once.
    """
    host = pick(world, fault.targets[0], chance)
    if fault.amount < 0 and host.paused_until > world.now:
        world.probes["clock_of_the_stopped_spared"] += 1
        return
    host.set_clock(host.rate, fault.amount)
    if fault.amount < 0 and host.config.is_lease_read:
        host.step(events.Tick())


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
    words = fault.targets
    changes = tuple(
        Change(ChangeKind[kind.upper()], pick(world, name, chance).peer)
        for kind, name in zip(words[::2], words[1::2], strict=True)
    )
    ask_change(world, changes, is_catch_up=fault.amount == 0)


def ask_change(world: Cores, changes: tuple[Change, ...], *, is_catch_up: bool) -> None:
    """Ask the leader for it, unless too many of those who would vote then have lost their disks."""
    leader = world.leader
    if leader is None:
        return
    try:
        goal = target(leader.state.history.current, changes)
    except (Conflict, InvalidRequest):
        goal = None
    if goal is not None and not atlas.is_quorate(world, goal.voters):
        world.probes["change_spared_by_atlas"] += 1
        return

    def make(request: str) -> events.Event:
        world.changes_asked[request] = changes
        return events.ChangeMembers(request, changes, is_catch_up=is_catch_up)

    world.ask_admin(leader, make)


def _rot(world: Cores, fault: Fault, chance: Stream) -> None:
    """A part of the disk becomes unreadable, the newest entry at 1.0; it is found by whoever reads it.

    A second target says what: ``entry``, ``snapshot``, ``misdirected`` (the newest entry is where another one was); a
    third one, ``crash``, that the node crashes, too.
    """
    host = pick(world, fault.targets[0], chance)
    what = fault.targets[1] if len(fault.targets) > 1 else "entry"
    if host.mounted is not host.disk or not atlas.allows_loss(world, host.peer):
        world.probes["rot_spared_by_atlas"] += 1
        return
    if what == "snapshot":
        host.disk.is_snapshot_rotten = host.disk.synced.snapshot not in (None, host.disk.first)
    elif what == "misdirected":
        damage.misdirect(host.disk, fault.amount)
    else:
        damage.rot(host.disk, fault.amount)
    if "crash" in fault.targets and host.core is not None:
        host.crash()
        world.restart_later(host)


def _wipe(world: Cores, fault: Fault, chance: Stream) -> None:
    """A disk is lost with all that was on it."""
    host = pick(world, fault.targets[0], chance)
    if host.mounted is not host.disk or not atlas.allows_loss(world, host.peer):
        world.probes["wipe_spared_by_atlas"] += 1
        return
    world.wipe(host, fault.amount or 0.001)


def _replace(world: Cores, fault: Fault, chance: Stream) -> None:
    """An operator puts those who lost their disks back under their new names; ``amount`` 1 skips the catch-up."""
    leader = world.leader
    if leader is None:
        return
    current = leader.state.history.current
    lost = [peer for peer in (*current.voters, *current.learners) if world.hosts[peer].is_gone]
    found = [each for each in world.peers if each.name in [peer.name for peer in lost]]
    if lost and not current.is_joint:
        removals = tuple(Change(ChangeKind.REMOVE, peer) for peer in lost)
        additions = tuple(Change(ChangeKind.VOTER, peer) for peer in found if peer not in current.voters)
        ask_change(world, (*removals, *additions), is_catch_up=fault.amount == 0)


def _swap(world: Cores, fault: Fault, chance: Stream) -> None:
    """Two nodes get each other's disks; ``amount`` seconds later somebody puts them right."""
    one, other = pick(world, fault.targets[0], chance), pick(world, fault.targets[1], chance)
    if one is other or not (one.mounted is one.disk and other.mounted is other.disk):
        return
    for host in (one, other):
        host.crash()
    one.mounted, other.mounted = other.disk, one.disk
    for host in (one, other):
        world.restart_later(host, 0.05)
        world.at(world.now + max(fault.amount, 0.1), world.remount, host, None)


def _backup(world: Cores, fault: Fault, chance: Stream) -> None:
    """Somebody copies a node's folder."""
    host = pick(world, fault.targets[0], chance)
    host.backup = host.disk.backup()


def _restore(world: Cores, fault: Fault, chance: Stream) -> None:
    """A disk is lost, and the copy takes its place; ``amount`` seconds later somebody believes what the node says."""
    host = pick(world, fault.targets[0], chance)
    if host.backup is None or host.mounted is not host.disk or not atlas.allows_loss(world, host.peer):
        return
    host.crash()
    host.mounted = host.backup
    world.restart_later(host, 0.05)
    world.at(world.now + max(fault.amount, 0.1), world.remount, host, None)


def _freeze(world: Cores, fault: Fault, chance: Stream) -> None:
    """A pause in which whatever arrives is lost."""
    host = pick(world, fault.targets[0], chance)
    _stop(world, host, fault.amount, is_deaf=True)


def _drift(world: Cores, fault: Fault, chance: Stream) -> None:
    """A clock goes at another rate from now on."""
    pick(world, fault.targets[0], chance).set_clock(fault.amount, 0.0)


def _fuse(world: Cores, fault: Fault, chance: Stream) -> None:
    """Crash just before the effect ``amount``, counted from now."""
    pick(world, fault.targets[0], chance).fuse = int(fault.amount)


def _hunt(world: Cores, fault: Fault, chance: Stream) -> None:
    """Wait for figure 8, and let the leader crash in it."""
    world.is_hunting = True


def _upgrade(world: Cores, fault: Fault, chance: Stream) -> None:
    """A node is stopped in good order and comes back as another version: switches of ``amount`` are turned over."""
    host, switches = pick(world, fault.targets[0], chance), int(fault.amount)
    config = host.config
    host.config = replace(
        config,
        is_pre_vote=config.is_pre_vote ^ bool(switches & 1),
        is_check_quorum=config.is_check_quorum ^ bool(switches & 2) or config.is_lease_read,
        is_sticky=config.is_sticky ^ bool(switches & 4) or config.is_lease_read,
    )
    host.crash()
    world.restart_later(host, 0.02)


def _topology(world: Cores, fault: Fault, chance: Stream) -> None:
    """Partial connections (OmniPaxos, 2023). First target: ``bridge``, two sides with one node in both; ``star``,
    everybody sees one node only, which does not lead; ``constrained``, the same, and the leader sees nobody; ``chain``.
    """
    peers = list(world.peers)
    chance.shuffle(peers)
    leader = world.leader
    if leader is not None and leader.peer in peers:
        peers.remove(leader.peer)
        peers.append(leader.peer)
    cut, count = world.fabric.cut, len(peers)
    match fault.targets[0]:
        case "bridge":
            half = (count - 1) // 2
            cut(peers[1 : 1 + half], peers[1 + half :])
        case "star" | "constrained":
            for peer in peers[1:]:
                cut([peer], peers[1:])
            if fault.targets[0] == "constrained":
                cut(peers[-1:], peers[:-1])
        case _:
            for place, peer in enumerate(peers):
                cut([peer], peers[place + 2 :])
    world.probes[f"topology_{fault.targets[0]}"] += 1


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
    "rot": _rot,
    "wipe": _wipe,
    "replace": _replace,
    "swap": _swap,
    "backup": _backup,
    "restore": _restore,
    "freeze": _freeze,
    "drift": _drift,
    "fuse": _fuse,
    "hunt": _hunt,
    "upgrade": _upgrade,
    "topology": _topology,
}
