"""The second phase of a run: faults stop for a core that holds a quorum, and then things must go well in time.

V-01 a leader within 10 election timeouts; V-02 a write and a linearizable read within 20 more; V-03 all of the core
equal; V-04 no joint configuration left; V-05 learners can be promoted; V-06 logs are as short as they should be; V-07
the same leader from then on; V-08 damaged nodes are whole again; V-09 every request was answered; V-10 nothing is left
over. Times are simulated: too slow is a failure and not a timeout of the test. (Reference, 5.3.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.quorum import majority
from arc.raft.config import Config
from arc.raft.effects import Committed
from arc.raft.events import Change, ChangeKind, ChangeMembers
from arc.raft.types import Peer
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.history import Operation
from simulations.machine import READ, WRITE
from simulations.workload import PROBER, Client

if TYPE_CHECKING:
    from simulations.cores import Cores
    from simulations.host import Host

TAKES_VOTERS = frozenset({"change", "rot", "wipe", "restore"})
"""After these a quorum drawn from all nodes need not be one."""

LATE_MAX = 40
"""Entries that may be applied at once, beyond the period of snapshots."""


def second_phase(world: Cores) -> None:
    """Heal, and look. Raises Violation."""
    heal(world)
    settle(world)
    timeout = world.config.election_timeout_seconds
    shields = [(each.is_pre_vote, each.is_check_quorum, each.is_sticky) for each in _configs(world)]
    mild = 1.0 if all(map(all, shields)) else 3.0
    v01_leader(world, 10 * timeout * mild)
    v02_progress(world, 20 * timeout * mild)
    v03_equal(world, 10 * timeout * mild)
    v05_promoted(world, 10 * timeout * mild)
    v06_compacted(world, 10 * timeout * mild)
    if world.plan.calm_seconds:
        if mild > 1.0:
            v07_last_word(world, 10 * timeout)
        v07_calm(world, world.plan.calm_seconds)
    v09_answered(world)


def heal(world: Cores) -> None:
    """End all faults for the core; without a partial core, that is everybody."""
    plan = world.plan
    world.is_closing = True
    world.guided = 0.0
    for host in list(world.hosts.values()):
        host.fuse = 0
        host.remount()
    world.fabric.calm()
    chance = stream(plan.seed, "heal")
    core = list(world.peers)
    if plan.is_core_partial and not any(fault.kind in TAKES_VOTERS for fault in plan.faults):
        chance.shuffle(core)
        core = core[: chance.randint(majority(len(core)), len(core))]
    world.core_peers = tuple(sorted(core))
    rest = [peer for peer in world.peers if peer not in world.core_peers]
    world.fabric.cut(rest, world.core_peers)
    world.note("heal", *world.core_peers)
    for peer in world.core_peers:
        host = world.hosts[peer]
        host.disk.slow, host.disk.stalled_until, host.disk.is_failing = 1.0, 0.0, False
        if host.core is None:
            host.start()
        if host.disk.is_full or not host.state.has_space:
            world.space_again(host, None)


def settle(world: Cores) -> None:
    """Let end what began before: pauses, stalls, and syncs that were slow."""
    hosts = [world.hosts[peer] for peer in world.core_peers]
    world.run_until(max([world.now, *[max(host.paused_until, host.sync_until) for host in hosts]]) + 0.01)


def _configs(world: Cores) -> list[Config]:
    """Those of the core, which differ while versions are rolled out."""
    return [world.hosts[peer].config for peer in world.core_peers]


def _leader(world: Cores) -> Host | None:
    best = None
    for peer in world.core_peers:
        host = world.hosts[peer]
        if host.core is not None and host.state.leading is not None and (not best or host.state.term > best.state.term):
            best = host
    return best


def v01_leader(world: Cores, seconds: float) -> None:
    """V-01: a leader of the core that has committed something of its term.

    Before that it may have to bring a quorum all that it misses, with the smallest windows entry by entry (seed
    613271). That takes as long as the log is long; so a leader is late when it does not get on with it any more.
    """

    def is_done() -> bool:
        leader = _leader(world)
        return leader is not None and leader.state.commit >= leader.state.leading.term_start

    world.run_until(world.now + seconds, is_done)
    while not is_done():
        before = _brought(world)
        if before[0]:
            world.run_until(world.now + seconds / 10, is_done)
        after = _brought(world)
        if not is_done() and (before[0] != after[0] or before[1] >= after[1]):
            raise Violation("V-01", "no leader in time", *[world.hosts[peer] for peer in world.core_peers])


def _brought(world: Cores) -> tuple[int, int]:
    """The term of whoever leads, and how many entries its followers hold for certain."""
    leader = _leader(world)
    if leader is None:
        return (0, 0)
    return (leader.state.term, sum(each.match for each in leader.state.leading.progress.values()))


def v02_progress(world: Cores, seconds: float) -> None:
    """V-02: a write and a linearizable read complete."""
    prober = world.clients[PROBER] = Client(world, PROBER)
    for kind, value in ((WRITE, "last"), (READ, "-")):
        leader = _leader(world)
        prober.leader = leader.peer if leader is not None else None
        prober.serial += 1
        operation = Operation(PROBER, prober.serial, kind, "k0", value, "-", world.now)
        while not operation.is_complete:
            if world.now >= operation.called + seconds:
                raise Violation("V-02", f"{operation} does not complete", *world.hosts.values())
            if prober.operation is None:
                prober.serial += 1
                called = operation.called
                operation = Operation(PROBER, prober.serial, kind, "k0", f"{value}{prober.serial}", "-", world.now)
                prober.ask(operation)
                operation.called = called if operation.called > called else operation.called
            world.run_until(world.now + 0.05, lambda: operation.is_complete)  # noqa: B023


def v03_equal(world: Cores, seconds: float) -> None:
    """V-03, V-04: members of the core agree on everything, and no change of membership hangs.

    Who came late to a long log may have to apply it entry by entry (seed 749815): it is late when it does not get on.
    """

    def members() -> tuple[Peer, ...]:
        leader = _leader(world)
        if leader is None:
            return ()
        current = leader.state.history.current
        return tuple(peer for peer in (*current.voters, *current.learners) if peer in world.core_peers)

    def is_done() -> bool:
        leader, peers = _leader(world), members()
        if leader is None or leader.state.history.current.is_joint or leader.state.leading.catch_up is not None:
            return False
        hosts = [world.hosts[peer] for peer in peers]
        goal = leader.state.log.last_index
        return all(
            host.core is not None and host.state.commit == goal == host.state.applied and not host.state.is_damaged
            for host in hosts
        )

    def applied() -> int:
        return sum(world.hosts[peer].state.applied for peer in members() if world.hosts[peer].core is not None)

    world.run_until(world.now + seconds, is_done)
    while not is_done():
        before = applied()
        world.run_until(world.now + seconds / 10, is_done)
        if applied() <= before:
            break
    leader = _leader(world)
    if not is_done() or leader is None:
        joint = leader is not None and leader.state.history.current.is_joint
        hosts = [world.hosts[peer] for peer in members()]
        if not joint and any(host.core is not None and host.state.is_damaged for host in hosts):
            raise Violation("V-08", "a damaged node is not made whole in time", *hosts)
        raise Violation("V-04" if joint else "V-03", "the core does not agree in time", *world.hosts.values())
    image = leader.machine.dump()
    for peer in members():
        if world.hosts[peer].machine.dump() != image:
            raise Violation("I-24", "state machines differ", peer, leader.peer)


def v05_promoted(world: Cores, seconds: float) -> None:
    """V-05: a learner that holds everything becomes a voter when that is asked for."""
    leader = _leader(world)
    assert leader is not None
    learners = [peer for peer in leader.state.history.current.learners if peer in world.core_peers]
    if not learners or not leader.state.has_space:
        return
    current, newcomer = leader.state.history.current, learners[0]
    twins = [peer for peer in current.voters if peer.name == newcomer.name]  # The incarnation before.
    promotion = (Change(ChangeKind.VOTER, newcomer), *(Change(ChangeKind.REMOVE, peer) for peer in twins))
    end, request = world.now + seconds, ""
    while world.now < end:
        leader = _leader(world)
        result = world.admin_results.get(request)
        if isinstance(result, Committed):
            world.probes["learner_promoted_at_rest"] += 1
            v03_equal(world, seconds)
            return
        if leader is not None and (not request or result is not None or request not in leader.outstanding):
            request = world.ask_admin(leader, lambda name: ChangeMembers(name, promotion))
        world.run_until(world.now + 0.1)
    raise Violation("V-05", "a caught-up learner is not promoted in time", learners[0], *world.hosts.values())


def _is_long(host: Host) -> bool:
    """Whether more is kept behind the newest snapshot than the configuration says."""
    newest = host.state.snapshot
    kept = max(host.config.trailing_entries, host.config.trailing_entries_max)
    return newest is not None and host.state.log.boundary_index < newest.index - kept


def v06_compacted(world: Cores, seconds: float) -> None:
    """V-06: no transfer hangs, and soon no more is kept behind the newest snapshot than the configuration says."""

    def stuck() -> list[object]:
        leader = _leader(world)
        followers = leader.state.leading.progress.values() if leader is not None else ()
        return [each for each in followers if each.transfer is not None and each.peer in world.core_peers]

    world.run_until(world.now + seconds, lambda: not stuck())
    if stuck():
        raise Violation("V-06", "a snapshot is still on its way to who has everything", stuck(), *world.hosts.values())

    def long() -> list[object]:
        hosts = [world.hosts[peer] for peer in world.core_peers]
        return [host for host in hosts if host.core is not None and _is_long(host)]

    # For a follower that was being rebuilt and fell silent more is kept until it is known to be silent.
    world.run_until(world.now + seconds, lambda: not long())
    if long():
        raise Violation("V-06", "more of the log is kept than the configuration says", *long())
    every = world.plan.snapshot_every

    def late() -> list[object]:
        hosts = [world.hosts[peer] for peer in world.core_peers]
        known = [host for host in hosts if host.core is not None and host.state.snapshot is not None]
        return [host for host in known if host.state.applied - host.state.snapshot.index > 2 * every + LATE_MAX]

    if every:  # Who came back late has just applied much, and is writing it down.
        world.run_until(world.now + seconds, lambda: not late())
        if late():
            raise Violation("V-06", "no snapshot is taken any more", late(), every)


def v07_last_word(world: Cores, seconds: float) -> None:
    """V-07 where not all of PreVote, CheckQuorum and the shield are on: a grace, and a bound instead of silence.

    A node that was removed while it was away does not know it, and one that is not shielded from may be deposed by it:
    section 4.2.3 of the dissertation says so, and says that the shield is the remedy (PreVote alone is not, for the
    removed one's log may be good enough for those who miss the removal). So with all three protections the leader that
    is there when faults end stays. Without, whoever is no member any more may ask for votes, but only until somebody
    tells it (M-17), which the first refusal does: within this grace, once for each such node, and then never again.
    """
    before, strangers = world.elections, 0
    leader = _leader(world)
    if leader is not None:
        current = leader.state.history.current
        known = (*current.voters, *current.outgoing)
        strangers = sum(host.core is not None and peer not in known for peer, host in world.hosts.items())
    world.run_until(world.now + seconds)
    if world.elections - before > 2 * strangers + 1:
        raise Violation("V-07", "more elections than removed nodes explain", world.elections - before, strangers)
    v01_leader(world, seconds)


def v07_calm(world: Cores, seconds: float) -> None:
    """V-07: from here on the same leader in the same term."""
    leader = _leader(world)
    assert leader is not None
    term, elections = leader.state.term, world.elections
    world.run_until(world.now + seconds)
    if leader.core is None or leader.state.leading is None or leader.state.term != term:
        raise Violation("V-07", "leadership changes without a fault", term, elections, *world.hosts.values())


def v09_answered(world: Cores) -> None:
    """V-09, V-10: whatever was asked of a node that still lives was answered; no counter is left above zero."""
    world.run_until(world.now + world.config.read_timeout_seconds + 1.0)
    leader = _leader(world)
    for peer in world.core_peers:
        host = world.hosts[peer]
        if host.core is None:
            continue
        left = [request for request in host.outstanding if not _may_wait(request)]
        if left and host is leader:
            raise Violation("V-09", "requests without an answer", peer, left, host)
        if host.state.has_space and host is leader and host.core.status().uncommitted_bytes:
            raise Violation("V-10", "bytes are counted that nobody waits for", host)


def _may_wait(request: object) -> bool:
    """An operator's change that cannot be completed waits for its own deadline."""
    return isinstance(request, str)
