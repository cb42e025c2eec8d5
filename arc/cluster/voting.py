"""Who votes: one rule, and what the leader does next to bring the members there (P-23, P-24). Pure.

The rule. Standalones and writers vote, readers and compactors only while there are fewer than three of those; as many
as make an odd number, at most seven. An even number would tolerate no more than the odd one below it: of two nodes one
votes, and the other one follows until a third comes. Among those who could, whoever votes already goes on voting.

A voter that has been silent for long gives its vote to somebody who is there; it stays a member without one, and gets
it back by the same rule when it answers again. Without a replacement its vote is taken only if the rest then tolerate
more, so three voters never become fewer because one of them died, and every configuration that is asked for has a
majority that answers now.

Described and member are one thing: whoever is described (`arc.catalog.nodes`) and no member is taken in as a learner,
whoever is said to be leaving and is no member is forgotten, and what is left of another incarnation goes.

`plan` says the one thing to do next; `autopilot` does it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from arc.catalog.facts import Catalog
from arc.catalog.nodes import NodeRecord
from arc.catalog.roles import NodeRole, NodeState, valid_role
from arc.quorum import majority
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import MEMBERS_MAX, members
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Peer, Role

VOTERS_WANTED = 3
"""The fewest voters that tolerate a failure: below, readers and compactors help out."""

VOTERS_MAX = 7
"""More slow every commit down and tolerate failures that nobody plans for."""

SILENT_NOW = 1e-9
"""Seconds: who is silent since this moment does not answer, either."""

LAG_ENTRIES_MAX = 1000
"""A learner that is further behind is not asked to vote yet."""


class ChangeVoters(NamedTuple):
    """One change of the configuration."""

    changes: tuple[Change, ...]
    reason: str


class HandOver(NamedTuple):
    """The leader should not vote: another one leads first."""

    target: Peer
    reason: str


class Forget(NamedTuple):
    """Nothing is left of a node but its description."""

    record: NodeRecord
    reason: str


Action: TypeAlias = ChangeVoters | HandOver | Forget


class Silence(NamedTuple):
    """Since when members have been silent, in seconds before now; 0 for those that answer. Kept by the leader."""

    seconds: Mapping[Peer, float]
    dead_seconds: float

    def is_dead(self, peer: Peer) -> bool:
        """Whether it has been silent for so long that its vote should go."""
        return self.seconds.get(peer, 0.0) >= self.dead_seconds

    def answers(self, peer: Peer) -> bool:
        """Whether it was heard within the last election timeout."""
        return self.seconds.get(peer, 0.0) <= 0.0


def plan(status: Status, catalog: Catalog, silence: Silence) -> list[Action]:
    """What the leader should do next: nothing, or one thing.

    ``status`` is this node's; nothing is planned on another one than the leader, nor while a change is under way.
    """
    current = status.configuration
    is_busy = current.is_joint or status.configuration_index > status.commit or status.catching_up
    if status.role is not Role.LEADER or is_busy or status.transfer_to is not None:
        return []
    for find in (_drained, _strays, _forgotten, _newcomers, _voters):
        found = find(status, catalog, silence)
        if found is not None:
            return [found]
    return []


def stand_ins(status: Status, catalog: Catalog, leaving: Collection[Peer]) -> tuple[Change, ...]:
    """Who is to vote in the place of ``leaving``, by the same entry of the log that takes their votes.

    Between two entries the cluster would tolerate less than before and after: of three voters one leaves, and while two
    are left none may fail. Nobody where nobody is able, and then the votes of those who go are just gone.
    """
    current = status.configuration
    voters = tuple(peer for peer in current.voters if peer not in leaving)
    if len(voters) == len(current.voters):
        return ()
    silence = Silence({each.peer: SILENT_NOW for each in status.followers if not each.is_active}, float("inf"))
    rest = current._replace(voters=voters, learners=tuple(peer for peer in current.learners if peer not in leaving))
    coming = sorted(set(_wanted(status._replace(configuration=rest), catalog, silence)).difference(voters))
    if not _holds((*voters, *coming), silence):
        return ()
    return tuple(Change(ChangeKind.VOTER, peer) for peer in coming)


def rule(status: Status, catalog: Catalog) -> str:
    """The rule as it applies now, in words, for status."""
    ingest = sorted(name for name, node in catalog.nodes.items() if _role(node).capabilities.can_coordinate)
    voters = sorted(peer.name for peer in status.configuration.voters)
    helping = [name for name in voters if name not in ingest and name in catalog.nodes]
    parts = [f"{len(voters)} of {len(members(status.configuration))} members vote: {', '.join(voters)}"]
    if helping:
        parts.append(
            f"standalones and writers are fewer than {VOTERS_WANTED} ({len(ingest)}), so {', '.join(helping)} "
            f"{'votes' if len(helping) == 1 else 'vote'}, too"
        )
    else:
        parts.append("standalones and writers vote, readers and compactors only while those are fewer than three")
    if len(voters) == 1 and len(members(status.configuration)) == 2:
        parts.append("two voters would stop when either does, so one votes until a third node comes")
    elif len(voters) % 2 == 0:
        parts.append("an even number tolerates no more failures than one less")
    return "; ".join(parts)


# -------------------------------------------------------------------------------------------------------------- pieces


def _drained(status: Status, catalog: Catalog, silence: Silence) -> Action | None:
    """The leader is leaving: another voter leads, whoever asked for it and wherever; one that is to stay a voter, or it
    would hand over in its turn.
    """
    if not _is_leaving(status.me, catalog):
        return None
    heirs = _heirs(status, catalog, silence, _wanted(status, catalog, silence))
    return HandOver(heirs[0], f"{status.me.name} is leaving, and leads no more") if heirs else None


def _heirs(status: Status, catalog: Catalog, silence: Silence, wanted: Iterable[Peer]) -> list[Peer]:
    """Voters that answer, are to stay voters, are described as they are and not leaving themselves."""

    def may_lead(peer: Peer) -> bool:
        record = catalog.nodes.get(peer.name)
        return record is not None and record.incarnation == peer.incarnation and record.state != NodeState.LEAVING

    voters = status.configuration.voters
    return [
        peer for peer in wanted if peer != status.me and peer in voters and silence.answers(peer) and may_lead(peer)
    ]


def _is_leaving(peer: Peer, catalog: Catalog) -> bool:
    record = catalog.nodes.get(peer.name)
    return record is not None and record.state == NodeState.LEAVING


def _strays(status: Status, catalog: Catalog, silence: Silence) -> Action | None:
    """A member whose name now belongs to another incarnation, or a silent learner that nobody describes."""
    current = status.configuration
    for peer in members(current):
        record = catalog.nodes.get(peer.name)
        is_replaced = record is not None and record.incarnation != peer.incarnation
        is_left_over = record is None and peer not in current.voters and silence.is_dead(peer)
        if peer == status.me or not (is_replaced or is_left_over):
            continue
        rest = tuple(voter for voter in current.voters if voter != peer)
        if not _holds(rest, silence):
            continue
        why = f"is incarnation {record.incarnation} now" if record is not None else "is described by nobody"
        return ChangeVoters((Change(ChangeKind.REMOVE, peer),), f"{peer} goes: {peer.name} {why}")
    return None


def _newcomers(status: Status, catalog: Catalog, silence: Silence) -> Action | None:
    """Somebody is described and no member."""
    known = {peer.name for peer in members(status.configuration)}
    if len(members(status.configuration)) >= MEMBERS_MAX:
        return None
    for name, record in sorted(catalog.nodes.items()):
        if name not in known and record.address and record.state != NodeState.LEAVING:
            peer = Peer(record.name, record.incarnation)
            return ChangeVoters((Change(ChangeKind.LEARNER, peer),), f"{name} is described and no member")
    return None


def _forgotten(status: Status, catalog: Catalog, silence: Silence) -> Action | None:
    """Somebody left and was not forgotten."""
    known = {peer.name for peer in members(status.configuration)}
    for name, record in sorted(catalog.nodes.items()):
        if name not in known and record.state == NodeState.LEAVING:
            return Forget(record, f"{name} has left")
    return None


def _voters(status: Status, catalog: Catalog, silence: Silence) -> Action | None:
    """The voters are not those that should be."""
    current = status.configuration
    wanted = _wanted(status, catalog, silence)
    if set(wanted) == set(current.voters) or not _holds(wanted, silence):
        return None
    coming = sorted(set(wanted).difference(current.voters))
    going = sorted(set(current.voters).difference(wanted))
    reason = "; ".join(
        [f"{peer.name} is to vote" for peer in coming]
        + [f"{peer.name} is {'silent' if silence.is_dead(peer) else 'not'} to vote" for peer in going]
    ).replace("is silent to vote", "is silent and votes no more")
    if status.me in going:
        able = [peer for peer in wanted if peer in current.voters and silence.answers(peer)]
        heirs = _heirs(status, catalog, silence, wanted) or able
        if heirs:
            return HandOver(heirs[0], reason)
        going.remove(status.me)  # Nobody could lead yet: first of all somebody else votes.
        if not coming:
            return None
    if not _holds({*current.voters, *coming}.difference(going), silence):
        return None
    changes = [Change(ChangeKind.VOTER, peer) for peer in coming] + [Change(ChangeKind.LEARNER, peer) for peer in going]
    return ChangeVoters(tuple(changes), reason)


def _wanted(status: Status, catalog: Catalog, silence: Silence) -> tuple[Peer, ...]:
    """Who should vote: as many as tolerate most further failures, and of those as many as can be."""
    ranked = _ranked(status, catalog, silence)
    sizes = range(1, min(len(ranked), VOTERS_MAX) + 1, 2)
    if not sizes:
        return status.configuration.voters

    def tolerated(size: int) -> int:
        alive = sum(not silence.is_dead(peer) for peer in ranked[:size])
        return alive - majority(size)

    size = max(sizes, key=lambda each: (tolerated(each), each))
    return tuple(sorted(ranked[:size]))


def _ranked(status: Status, catalog: Catalog, silence: Silence) -> list[Peer]:
    """Those who may vote, in the order in which they are chosen."""
    voters = status.configuration.voters
    able = {each.peer for each in status.followers if _keeps_up(each, status)}
    ingest: list[Peer] = []
    others: list[Peer] = []
    for peer in members(status.configuration):
        record = catalog.nodes.get(peer.name)
        is_described = record is not None and record.incarnation == peer.incarnation
        if peer in voters:
            may = True
        else:
            may = is_described and record is not None and record.state != NodeState.LEAVING and peer in able
            may = may and silence.answers(peer)
        if may:
            # Who says nothing of itself yet (a founder that has just started) votes as it did.
            is_ingest = record is None or _role(record).capabilities.can_coordinate
            (ingest if is_ingest else others).append(peer)

    def order(peer: Peer) -> tuple[bool, ...]:
        # Members are sorted, so that names decide among equals.
        record = catalog.nodes.get(peer.name)
        # Of three voters two go on while one is away; the only one gives its vote and its office away before it goes.
        gives_way = record is not None and record.state == NodeState.LEAVING and len(voters) < VOTERS_WANTED
        is_later = peer in others and _helps_later(catalog, peer)
        is_new, is_silent = peer not in voters, not silence.answers(peer)
        return (silence.is_dead(peer), gives_way, peer in others, is_new, peer != status.me, is_later, is_silent)

    living = sum(not silence.is_dead(peer) for peer in ingest)
    helpers = sorted(others, key=order)[: max(VOTERS_WANTED - living, 0)]
    return sorted(ingest + helpers, key=order)


def _keeps_up(follower: FollowerStatus, status: Status) -> bool:
    return follower.pace == "replicate" and status.last_index - follower.match <= LAG_ENTRIES_MAX


def _helps_later(catalog: Catalog, peer: Peer) -> bool:
    record = catalog.nodes.get(peer.name)
    return record is None or _role(record) is not NodeRole.READER


def _holds(voters: Iterable[Peer], silence: Silence) -> bool:
    """Whether a majority of these answers now."""
    named = tuple(voters)
    return bool(named) and sum(map(silence.answers, named)) >= majority(len(named))


def _role(record: NodeRecord) -> NodeRole:
    return NodeRole(record.role) if valid_role(record.role) else NodeRole.READER
