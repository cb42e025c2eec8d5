"""One look at the cluster from one node: agreed facts and what was heard, put together at one moment, and what follows.

Pure: everything here is read from the value, so a status page, a metric and a warning can never contradict each other.
What this node cannot know (a follower does not know who answers the leader) is taken from the health it sees itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Protocol

from arc.catalog.cluster import ClusterFacts
from arc.catalog.insync import InSync
from arc.catalog.leases import History, Lease, LeaseChange, Leases
from arc.catalog.roles import NodeState
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.failover import Decision
from arc.cluster.views import NodeView
from arc.license import License
from arc.quorum import majority
from arc.raft.membership import halves, is_voter
from arc.raft.status import Status
from arc.raft.types import Peer, Role

SILENT = (NodeState.UNHEALTHY, NodeState.DEAD, NodeState.UNKNOWN)
"""States of a node that nobody should count on."""


class FollowerLag(Protocol):
    """How far one node's copy of the rows is behind the writer's log; known to the writer."""

    @property
    def name(self) -> str:
        """The node."""
        ...

    @property
    def records(self) -> int:
        """Records that the writer has on disk and the node has not."""
        ...

    @property
    def seconds(self) -> float:
        """Age of the oldest of them; 0 when it lacks none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Quorum:
    """Who must answer for anything to be agreed on. ``spare`` is how many more voters may fail; below 0: too many did.

    During a change of members both majorities are needed, and the numbers are those of the scarcer half.
    """

    voters: int
    needed: int
    answering: int
    silent: tuple[str, ...]

    @property
    def spare(self) -> int:
        """Voters that may still fail."""
        return self.answering - self.needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Everything that is known at ``now_us``. ``nodes`` are sorted by name and contain ``me``."""

    me: str
    now_us: int
    identity: ClusterFacts | None
    nodes: tuple[NodeView, ...]
    consensus: Status | None
    leader_since_us: int | None
    leases: Leases
    history: History
    in_sync: InSync | None
    lags: Mapping[str, FollowerLag]
    plans: Mapping[str, Decision]
    licence: License
    behind: str | None
    """Why this node may not know all that was agreed on."""
    is_running: bool = True
    """Whether the parts that watch and decide run."""
    router: Mapping[str, object] | None = None
    """What the router says of itself; None where nothing is routed."""
    catch_up: Mapping[str, object] | None = None
    """How far this node is with files that it lacks; None where it fetches none."""
    files_under_replicated: int = 0
    """Files of which fewer than ``copies_wanted`` living nodes have a copy."""
    copies_wanted: int = 1
    clock_ahead_seconds: float = 0.0
    """How far this node's clock is ahead of what was told by others that have all left; see `Memories.clocks_us`."""

    def node(self, name: str | None) -> NodeView | None:
        """The node of this name."""
        return next((view for view in self.nodes if view.name == name), None)

    @property
    def local(self) -> NodeView | None:
        """This node."""
        return self.node(self.me)

    @property
    def leader(self) -> Peer | None:
        """Who leads, as far as this node knows."""
        return self.consensus.leader if self.consensus is not None else None

    @property
    def writer(self) -> Lease | None:
        """The writer lease."""
        return self.leases.get(WRITER)

    @property
    def compactor(self) -> Lease | None:
        """The compactor lease."""
        return self.leases.get(COMPACTOR)

    def grant(self, lease: str) -> LeaseChange | None:
        """The grant by which the lease is held now, if the history still has it."""
        held = self.leases.get(lease)
        epoch = held.epoch if held is not None else 0
        return next((change for change in self.history if (change.lease, change.epoch) == (lease, epoch)), None)

    @property
    def cores(self) -> int:
        """Of all nodes together."""
        return sum(view.cores for view in self.nodes)

    def answers(self, name: str | None) -> bool:
        """Whether a node can be counted on, as far as this one can see."""
        view = self.node(name)
        return view is not None and (view.is_local or view.state not in SILENT)


def quorum_of(outlook: Outlook) -> Quorum:
    """The votes, as far as this node can count them."""
    status = outlook.consensus
    if status is None or not status.configuration.voters:
        return Quorum(voters=0, needed=0, answering=0, silent=())
    found = [_half(outlook, status, half) for half in halves(status.configuration)]
    return min(found, key=lambda half: half.spare)


def _half(outlook: Outlook, status: Status, half: tuple[Peer, ...]) -> Quorum:
    silent = tuple(peer.name for peer in half if not _votes(outlook, status, peer))
    return Quorum(
        voters=len(half), needed=majority(len(half)), answering=len(half) - len(silent), silent=tuple(sorted(silent))
    )


def _votes(outlook: Outlook, status: Status, peer: Peer) -> bool:
    """The leader knows who answers it; others see who is well."""
    if peer == status.me:
        return True
    if status.role is Role.LEADER:
        return any(follower.peer == peer and follower.is_active for follower in status.followers)
    view = outlook.node(peer.name)
    return view is not None and view.incarnation == peer.incarnation and view.state not in SILENT


def spare_writers(outlook: Outlook) -> int | None:
    """How many more members of the in-sync set may fail before acknowledged rows are on no running node.

    None before there is such a set; below 0 when none of them answers.
    """
    if outlook.in_sync is None:
        return None
    return sum(outlook.answers(name) for name in outlook.in_sync.members) - 1


def failures_tolerated(outlook: Outlook) -> int:
    """How many more nodes may fail, whichever they are, before something stops: votes or writes."""
    spares = [quorum_of(outlook).spare]
    writers = spare_writers(outlook)
    if writers is not None:
        spares.append(writers)
    return max(0, min(spares))


def kind_of(outlook: Outlook, view: NodeView) -> str:
    """What the node is to consensus: voter, learner, or none."""
    status = outlook.consensus
    peer = Peer(view.name, view.incarnation)
    if status is None:
        return "none"
    if is_voter(status.configuration, peer):
        return "voter"
    learners = (*status.configuration.learners, *status.configuration.learners_next)
    return "learner" if peer in learners else "none"


def entries_behind(outlook: Outlook, view: NodeView) -> int | None:
    """Entries of consensus that are agreed on and not applied on the node, as far as it was heard."""
    status = outlook.consensus
    if status is None:
        return None
    if view.is_local:
        return max(0, status.commit - status.applied)
    follower = next((each for each in status.followers if each.peer == Peer(view.name, view.incarnation)), None)
    if follower is not None:
        return max(0, status.commit - follower.match)
    return max(0, status.commit - view.stats.applied_index) if view.stats.applied_index else None


def certificate_left(outlook: Outlook, view: NodeView) -> float | None:
    """Seconds until the first of a node's certificates is over, below 0 when it is; None when it uses none."""
    expires_us = view.stats.certificate_expires_us
    return (expires_us - outlook.now_us) / 1e6 if expires_us else None


def clock_offsets(outlook: Outlook) -> dict[str, float]:
    """How far each node's clock is ahead of the one in the middle; nodes that say nothing, or are silent, are absent.

    Of two the one behind is taken for right, for want of a third.
    """
    told = {
        view.name: view.clock_offset_seconds
        for view in outlook.nodes
        if view.clock_offset_seconds is not None and view.state not in SILENT
    }
    middle = median_low(told.values()) if told else 0.0
    return {name: offset - middle for name, offset in told.items()}


def records_behind(outlook: Outlook, view: NodeView) -> int | None:
    """Rows' records that the writer has on disk and the node has not; None when that cannot be told."""
    lag = outlook.lags.get(view.name)
    if lag is not None:
        return lag.records
    holder = outlook.node(outlook.writer.holder if outlook.writer is not None else None)
    if holder is None or not view.capabilities.can_query or not holder.stats.durable_sequence:
        return None
    if view.name == holder.name:
        return 0
    return max(0, holder.stats.durable_sequence - view.stats.durable_sequence) if view.stats.durable_sequence else None
