"""How exactly one cluster comes out of several empty nodes (P-25). Pure; `joining` carries it out.

Every waiting node shows itself to every seed and sees who else waits. The node at the first seed (by text) is the
*coordinator*. When it has seen ``expect`` waiting nodes of the same configuration, among them those at all seeds (or,
if fewer are expected than there are seeds, only such), it draws up a plan: a new UUID and these nodes as the first
voters. It writes the plan down and asks each of them for its promise. When all have promised, it writes down that the
plan came true. Every founder that hears of this from anybody begins with the same voters; everybody else joins.

Rules, each of them kept by what is on disk before anybody hears of it:

1. A folder promises to follow one coordinator *incarnation*, for ever; of that one only plans with higher numbers.
2. A coordinator draws up a plan only while none of its plans came true, and it promises it itself.
3. A plan comes true only when every one of its founders has promised *this* plan, and it is the coordinator's newest.
4. Founders include those who answer at ``min(expect, seeds)`` of the seeds, which is a majority by configuration, and
   promise only to a coordinator with the same seeds.
5. A node joins a cluster only if it has promised nothing, or if its coordinator's newer plan came true without it.

Two clusters can never come out of this. By one coordinator incarnation: only its newest plan comes true (3), and after
that there is no newer one (2). By two: the founders of both include majorities of the same seeds (4), so both include
those who answer at some seed, and what answered there has promised to both. One folder cannot (1), so that folder was
emptied in between, and so was the folder at *every* seed that both had: all of them when as many nodes are expected as
there are seeds. Whoever lost those has lost the first cluster. Messages that are lost, doubled, late or cut off by a
partition, and crashes between any two steps, do not enter the argument: a promise is asked for again until it is known,
and it is idempotent.

What it takes is that one address leads to one node. A name behind which any node may answer, as the only seed, makes
whoever answers there coordinator; list the nodes one by one. (The known way of counting who is there and letting the
first found, as Consul's and Nomad's bootstrap-expect do, has no promises: a node that was emptied, or servers that saw
different counts, can found a second time.)

It waits for ever when the coordinator's folder is lost after promises were given: nobody can know whether the plan
came true. The reason says so, and an operator who knows that it did not empties the folders that promised. ``arc
cluster init`` founds with a node that has promised nothing, and refuses any other for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from arc.catalog.roles import NodeRole
from arc.cluster.identity import Founder, Founding, Identity
from arc.cluster.sights import Bootstrap, Sight
from arc.errors import Conflict
from arc.quorum import majority
from arc.raft.types import Peer

FRESH_SECONDS = 5.0
"""How long who was seen counts as there: several looks may be lost."""

SIGHTS_MAX = 128
"""Waiting nodes that are remembered; the one not seen for longest is forgotten."""


# ---------------------------------------------------------------------------------------------------- what may be done


@dataclass(frozen=True, slots=True)
class Begin:
    """The plan came true: write it down, begin with its voters."""

    founding: Founding


@dataclass(frozen=True, slots=True)
class Join:
    """There is a cluster already."""

    uuid: str


@dataclass(frozen=True, slots=True)
class DrawUp:
    """Write down a plan with these founders as the ``plan``-th; its UUID is still to be drawn."""

    plan: int
    founders: tuple[Founder, ...]


@dataclass(frozen=True, slots=True)
class AskPromises:
    """Ask these for their promise to follow the plan."""

    founding: Founding
    founders: tuple[Founder, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done but look again; why, for people."""

    reason: str


Deed: TypeAlias = Begin | Join | DrawUp | AskPromises | Wait


@dataclass(slots=True)
class Gathering:
    """What one waiting node has seen since it started. Forgotten with the process; nothing depends on that."""

    bootstrap: Bootstrap
    me: Founder
    role: NodeRole
    _sights: dict[Peer, tuple[float, Sight]] = field(default_factory=dict)
    _at_seed: dict[str, Peer] = field(default_factory=dict)
    _promised: set[tuple[str, Peer]] = field(default_factory=set)

    def show(self, identity: Identity, word: str) -> Sight:
        """This node, as others see it."""
        return Sight(
            self.bootstrap, self.me, self.role, identity.cluster_uuid, identity.founding, identity.promise, word
        )

    def see(self, sight: Sight, now: float, *, at_seed: str | None = None) -> None:
        """A node showed itself, perhaps because it was asked at a seed."""
        peer = sight.me.peer
        if at_seed is not None:
            self._at_seed[at_seed] = peer
        if peer == self.me.peer:
            return
        self._sights[peer] = (now, sight)
        if len(self._sights) > SIGHTS_MAX:
            del self._sights[min(self._sights, key=lambda each: (self._sights[each][0], each))]

    def hear_promise(self, founding: Founding, peer: Peer) -> None:
        """A founder promised to follow this plan."""
        self._promised.add((founding.uuid, peer))

    def decide(self, identity: Identity, now: float) -> Deed:
        """What to do next. Only for an identity that is waiting."""
        assert identity.is_waiting, identity
        fresh = [sight for _, sight in self._fresh(now)]
        if (found := self._found(identity, fresh)) is not None:
            return found
        if not self.bootstrap.seeds:
            return Wait("waits to be added by a member (arc raft add), or for arc cluster init")
        if not self.bootstrap.expect:
            return Wait(f"waits for a cluster to join: none is known at {', '.join(self.bootstrap.seeds)}")
        if identity.promise is not None and identity.promise.coordinator != identity.peer:
            return Wait(
                f"has promised {identity.promise.coordinator.name} to found cluster {identity.promise.uuid} together; "
                "waits to hear from it, or from another founder, that it came true"
            )
        if not self._coordinates():
            return Wait(self._waits_for(fresh))
        return self._coordinate(identity, fresh)

    def waiting(self, now: float) -> list[Sight]:
        """Who else waits and could found with this node, by name."""
        return self._eligible(sight for _, sight in self._fresh(now))

    # ---------------------------------------------------------------------------------------------- a cluster is there

    def _found(self, identity: Identity, fresh: list[Sight]) -> Deed | None:
        """A cluster that somebody belongs to: begun with this node, or to be joined."""
        promise = identity.promise
        told = [sight.founding for sight in fresh if sight.founding is not None]
        for founding in told:
            if founding.has(identity.peer) and founding != promise:
                return Wait(
                    f"cluster {founding.uuid} was founded with this node, whose data folder does not know it: it is "
                    "older than what the node promised; remove the node from the cluster and empty the folder"
                )
        uuids = sorted({sight.uuid for sight in fresh if sight.uuid})
        if promise is not None and promise.uuid in uuids:
            return Begin(promise)
        is_free = promise is None or any(
            founding.coordinator == promise.coordinator and founding.plan > promise.plan for founding in told
        )
        if uuids and not is_free:
            assert promise is not None
            return Wait(
                f"found cluster {uuids[0]}, but has promised {promise.coordinator.name} to found {promise.uuid}; if "
                "that will never be, empty the data folder"
            )
        if len(uuids) > 1:
            return Wait(f"found several clusters at the seeds ({', '.join(uuids)}) and cannot tell which one to join")
        return Join(uuids[0]) if uuids else None

    # ---------------------------------------------------------------------------------------------------- coordinating

    def _coordinates(self) -> bool:
        first = self.bootstrap.coordinates_at
        return self.me.address == first or self._at_seed.get(first) == self.me.peer

    def _coordinate(self, identity: Identity, fresh: list[Sight]) -> Deed:
        plan = identity.promise
        founders = self._choose(self._eligible(fresh))
        if plan is None:
            return DrawUp(1, founders) if founders else Wait(self._waits_for(fresh))
        missing = tuple(
            each
            for each in plan.founders
            if each.peer != identity.peer and (plan.uuid, each.peer) not in self._promised
        )
        if not missing:
            return Begin(plan)
        here = {sight.me for sight in self._eligible(fresh)}
        if here.issuperset(missing):
            return AskPromises(plan, missing)
        if founders:  # Somebody went, or is another incarnation now, and there are enough without.
            return DrawUp(plan.plan + 1, founders)
        gone = ", ".join(each.name for each in missing if each not in here)
        return Wait(f"waits for {gone} to promise to found the cluster together. {self._waits_for(fresh)}")

    def _choose(self, others: list[Sight]) -> tuple[Founder, ...]:
        """As many founders as are expected, and those at the seeds among them; none when that cannot be."""
        at_seeds = set(self._at_seed.values())
        order = sorted(others, key=lambda each: (each.me.peer not in at_seeds, not _may_vote(each.role), each.me))
        chosen = [self.me, *(sight.me for sight in order)][: self.bootstrap.expect]
        seeds_min = min(self.bootstrap.expect, len(self.bootstrap.seeds))
        assert seeds_min >= majority(len(self.bootstrap.seeds)), self.bootstrap
        if len(chosen) < self.bootstrap.expect or self._seeds_of(chosen) < seeds_min:
            return ()
        return tuple(sorted(chosen))

    def _seeds_of(self, chosen: Iterable[Founder]) -> int:
        """At how many seeds one of these answered last."""
        peers = {founder.peer for founder in chosen}
        mine = {self.me.address, *(seed for seed, peer in self._at_seed.items() if peer == self.me.peer)}
        return sum(seed in mine or self._at_seed.get(seed) in peers for seed in self.bootstrap.seeds)

    def _eligible(self, fresh: Iterable[Sight]) -> list[Sight]:
        """Those who wait with the same configuration and have promised nothing to others, one for each name."""
        found = {
            sight.me.name: sight
            for sight in fresh
            if sight.is_waiting
            and sight.bootstrap == self.bootstrap
            and sight.me.name != self.me.name
            and (sight.promise is None or sight.promise.coordinator == self.me.peer)
        }
        return [found[name] for name in sorted(found)]

    def _waits_for(self, fresh: list[Sight]) -> str:
        """Why there is no plan yet."""
        seeds, first = self.bootstrap.seeds, self.bootstrap.coordinates_at
        here = [self.me.name, *(sight.me.name for sight in self._eligible(fresh))]
        parts = [f"waits for {self.bootstrap.expect} nodes to found a cluster: {len(here)} here ({', '.join(here)})"]
        silent = [seed for seed in seeds if seed not in self._at_seed and seed != self.me.address]
        if silent:
            parts.append(f"nobody has answered at {', '.join(silent)}")
        for sight in fresh:
            if sight.is_waiting and sight.bootstrap != self.bootstrap:
                parts.append(f"{sight.me.name} is configured otherwise: {_difference(self.bootstrap, sight.bootstrap)}")
            elif sight.is_waiting and sight.promise is not None and sight.promise.coordinator != self.me.peer:
                parts.append(f"{sight.me.name} has promised to follow {sight.promise.coordinator}")
            elif sight.me.peer == self._at_seed.get(first) and sight.word and not self._coordinates():
                parts.append(f"{sight.me.name}, which coordinates, says: {sight.word}")
        return "; ".join(parts)

    def _fresh(self, now: float) -> Iterator[tuple[Peer, Sight]]:
        """Who was seen lately, the newest incarnation seen last."""
        lately = [(at, peer) for peer, (at, _) in self._sights.items() if now - at <= FRESH_SECONDS]
        for _, peer in sorted(lately):
            yield peer, self._sights[peer][1]


# ----------------------------------------------------------------------- what a folder may say, given what it says


def drawn_up(identity: Identity, plan: Founding) -> Identity:
    """The coordinator's own promise to its new plan. Raises Conflict."""
    assert plan.coordinator == identity.peer and plan.has(identity.peer), plan
    old = identity.promise
    if not identity.is_waiting or (old is not None and (old.coordinator != identity.peer or old.plan >= plan.plan)):
        raise Conflict(f"{identity.peer} cannot draw up plan {plan.plan} any more")
    return replace(identity, promise=plan)


def promised(identity: Identity, plan: Founding, asker: Peer) -> Identity:
    """A founder's promise. Raises Conflict: it belongs to a cluster, or follows somebody else or a newer plan."""
    if plan.coordinator != asker or not plan.has(identity.peer):
        raise Conflict(f"plan {plan.plan} of {plan.coordinator} is not one that {asker} may ask {identity.peer} for")
    old = identity.promise
    if old == plan:
        return identity
    if not identity.is_waiting:
        raise Conflict(f"{identity.node} belongs to a cluster already")
    if old is not None and old.coordinator != asker:
        raise Conflict(f"{identity.node} has promised to follow {old.coordinator}", code="promised")
    if old is not None and old.plan >= plan.plan:
        raise Conflict(f"{identity.node} has promised plan {old.plan}, which is newer than {plan.plan}")
    return replace(identity, promise=plan)


def begun(identity: Identity, founding: Founding) -> Identity:
    """A founder of a plan that came true. Raises Conflict when it has promised another one meanwhile."""
    if identity.founding == founding:
        return identity
    if not identity.is_waiting or identity.promise != founding:
        raise Conflict(f"{identity.node} cannot begin with plan {founding.plan} of {founding.coordinator} any more")
    return replace(identity, founding=founding, cluster_uuid=founding.uuid)


def joinable(identity: Identity, uuid: str) -> Identity:
    """A node that joins this cluster, its promises fulfilled or void: ask only after `Gathering.decide` said so.

    Raises Conflict when it belongs to another one.
    """
    if identity.cluster_uuid == uuid:
        return identity
    if not identity.is_waiting:
        raise Conflict(f"{identity.node} belongs to cluster {identity.cluster_uuid} already")
    return replace(identity, cluster_uuid=uuid, promise=None)


def _may_vote(role: NodeRole) -> bool:
    return role.capabilities.can_coordinate


def _difference(ours: Bootstrap, theirs: Bootstrap) -> str:
    pairs: Mapping[str, tuple[object, object]] = {
        "cluster.name": (ours.cluster, theirs.cluster),
        "cluster.bootstrap_expect": (ours.expect, theirs.expect),
        "cluster.seeds": (", ".join(ours.seeds), ", ".join(theirs.seeds)),
    }
    return "; ".join(f"{key} is {here} here and {there} there" for key, (here, there) in pairs.items() if here != there)
