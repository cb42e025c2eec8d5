"""The cluster as numbers, under the names that dashboards of this family know (ecosystem 5.3).

The trees below are made from the same `Outlook` as the status page. What a part counts itself (forwarded proposals,
routed requests, peers, the WAL) is in the tree of the node's own statistics and not repeated here. Two counters are
made of what is seen when somebody scrapes: leaders that changed, and grants of leases, which the catalog numbers, so
none is missed or counted twice while fewer than its history holds happen between two scrapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from arc.api.deps import Consensus, Deps
from arc.catalog.leases import History, LeaseChange
from arc.catalog.values import LEASES
from arc.cluster.outlook import (
    Outlook,
    entries_behind,
    failures_tolerated,
    quorum_of,
    records_behind,
)
from arc.cluster.troubles import Verdict, troubles, verdict_of
from arc.raft.types import Peer, Role
from arc.telemetry import Sample, flatten


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftNumbers:
    """``arc_raft_…``. ``peer_lag_entries`` is known to the leader."""

    has_leader: bool
    is_leader: bool
    term: int
    leader_changes_total: int
    commit_index: int
    applied_index: int
    last_index: int
    snapshot_index: int
    proposals_pending: int
    has_space: bool
    is_damaged: bool
    peer_lag_entries: Mapping[str, int] = field(metadata={"label": "peer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNumbers:
    """``arc_cluster_…``. ``degraded`` has a 1 for every reason that stands; ``verdict`` is 0 healthy, 1 degraded, 2
    unavailable.
    """

    nodes: Mapping[str, Mapping[str, int]] = field(metadata={"label": "role,state"})
    peer_last_contact_seconds: Mapping[str, float] = field(metadata={"label": "peer"})
    peer_catalog_lag_entries: Mapping[str, int] = field(metadata={"label": "peer"})
    peer_clock_offset_seconds: Mapping[str, float] = field(metadata={"label": "peer"})
    disk_free_bytes: Mapping[str, int] = field(metadata={"label": "node"})
    lease_epoch: Mapping[str, int] = field(metadata={"label": "lease"})
    lease_held: Mapping[str, bool] = field(metadata={"label": "lease"})
    lease_held_seconds: Mapping[str, float] = field(metadata={"label": "lease"})
    in_sync_nodes: int
    is_in_sync: bool
    voters: int
    voters_answering: int
    failures_tolerated: int
    verdict: int
    degraded: Mapping[str, bool] = field(metadata={"label": "code"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationNumbers:
    """``arc_replication_…``: rows that the writer has on disk and a node has not, files with too few copies."""

    files_missing: int | None
    """Files of the manifest that this node should hold and has not; None where it fetches none."""
    lag_entries: Mapping[str, int] = field(metadata={"label": "peer"})
    lag_seconds: Mapping[str, float] = field(metadata={"label": "peer"})
    files_under_replicated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverNumbers:
    """``arc_failover_total``: grants since this process began, by why they came. All are there from the first scrape
    on, as 0: the first increase of a series that was not there is one that no alarm sees.
    """

    total: Mapping[str, Mapping[str, int]] = field(metadata={"label": "lease,reason"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleNumbers:
    """``arc_role_holder``: 1 for who holds a lease, and for who leads."""

    holder: Mapping[str, Mapping[str, int]] = field(metadata={"label": "role,node"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterTree:
    """Everything; parts that this node does not have are None."""

    raft: RaftNumbers | None
    cluster: ClusterNumbers | None
    replication: ReplicationNumbers | None
    failover: FailoverNumbers | None
    role: RoleNumbers | None


class ClusterMetrics:
    """Makes the tree for each scrape, and remembers what was counted in earlier ones."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._leader: tuple[int, Peer] | None = None
        self._leader_changes = 0
        self._tally: LeaseTally | None = None

    def samples(self) -> list[Sample]:
        """All of them now."""
        build = Sample(name="arc_build_info", value=1, labels={"version": self._deps.version}, kind="info")
        return [build, *flatten(self.tree())]

    def tree(self) -> ClusterTree:
        """The numbers now."""
        raft = self._raft(self._deps.raft) if self._deps.raft is not None else None
        if self._deps.cluster is None:
            return ClusterTree(raft=raft, cluster=None, replication=None, failover=None, role=None)
        outlook = self._deps.cluster.look()
        if self._tally is None:
            self._tally = LeaseTally(outlook.history)
        return ClusterTree(
            raft=raft,
            cluster=cluster_numbers(outlook),
            replication=_replication(outlook),
            failover=FailoverNumbers(total=self._tally.count(outlook.history)),
            role=_roles(outlook),
        )

    def _raft(self, consensus: Consensus) -> RaftNumbers:
        status = consensus.status()
        leader = (status.term, status.leader) if status.leader is not None else None
        if leader is not None and leader != self._leader:
            self._leader_changes += self._leader is not None
            self._leader = leader
        return RaftNumbers(
            has_leader=status.leader is not None,
            is_leader=status.role is Role.LEADER,
            term=status.term,
            leader_changes_total=self._leader_changes,
            commit_index=status.commit,
            applied_index=status.applied,
            last_index=status.last_index,
            snapshot_index=status.snapshot_index,
            proposals_pending=status.uncommitted,
            has_space=status.has_space,
            is_damaged=status.is_damaged,
            peer_lag_entries={each.peer.name: max(0, status.last_index - each.match) for each in status.followers},
        )


WHYS = ("again", "first", "takeover", "unclean")


class LeaseTally:
    """Counts the grants that came after the first look, by lease and by why."""

    def __init__(self, history: History) -> None:
        self._seen = max((change.epoch for change in history), default=0)
        self._counts = {lease: Counter(dict.fromkeys(WHYS, 0)) for lease in LEASES}

    def count(self, history: History) -> Mapping[str, Mapping[str, int]]:
        """Lease → why → how often so far."""
        for change in history:
            if change.epoch > self._seen:
                self._seen = change.epoch
                self._counts[change.lease][why(change)] += 1
        return {lease: dict(sorted(counts.items())) for lease, counts in sorted(self._counts.items())}


def why(change: LeaseChange) -> str:
    """One of `WHYS`: the reasons of the catalog are sentences, and a label must not be."""
    if not change.is_clean:
        return "unclean"
    if change.previous is None:
        return "first"
    return "again" if change.previous == change.holder else "takeover"


def cluster_numbers(outlook: Outlook) -> ClusterNumbers:
    """The state of the cluster as this node sees it."""
    found, votes = troubles(outlook), quorum_of(outlook)
    nodes: dict[str, Counter[str]] = {}
    for view in outlook.nodes:
        nodes.setdefault(view.role.value, Counter())[view.state.value] += 1
    others = [view for view in outlook.nodes if not view.is_local]
    lags = ((view.name, entries_behind(outlook, view)) for view in others)
    held = outlook.leases.values()
    members = outlook.in_sync.members if outlook.in_sync is not None else ()
    return ClusterNumbers(
        nodes={role: dict(sorted(states.items())) for role, states in sorted(nodes.items())},
        peer_last_contact_seconds={
            view.name: view.heard_seconds_ago for view in others if view.heard_seconds_ago is not None
        },
        peer_catalog_lag_entries={name: lag for name, lag in lags if lag is not None},
        peer_clock_offset_seconds={
            view.name: view.clock_offset_seconds for view in others if view.clock_offset_seconds is not None
        },
        disk_free_bytes={view.name: view.stats.disk_free_bytes for view in outlook.nodes if view.stats.disk_free_bytes},
        lease_epoch={lease.name: lease.epoch for lease in held},
        lease_held={lease.name: lease.holder == outlook.me for lease in held},
        lease_held_seconds={
            lease.name: max(0.0, (outlook.now_us - lease.granted_us) / 1e6) for lease in held if lease.granted_us
        },
        in_sync_nodes=len(members),
        is_in_sync=outlook.me in members,
        voters=votes.voters,
        voters_answering=votes.answering,
        failures_tolerated=failures_tolerated(outlook),
        verdict=list(Verdict).index(verdict_of(found)),
        degraded={trouble.code: True for trouble in found},
    )


def _replication(outlook: Outlook) -> ReplicationNumbers:
    lags = ((view.name, records_behind(outlook, view)) for view in outlook.nodes)
    missing = outlook.catch_up.get("missing") if outlook.catch_up is not None else None
    return ReplicationNumbers(
        files_missing=missing if isinstance(missing, int) else None,
        lag_entries={name: lag for name, lag in lags if lag is not None},
        # Of members only: who was removed is behind for ever, and nobody's concern.
        lag_seconds={view.name: outlook.lags[view.name].seconds for view in outlook.nodes if view.name in outlook.lags},
        files_under_replicated=outlook.files_under_replicated,
    )


def _roles(outlook: Outlook) -> RoleNumbers:
    holder = {lease.name: {str(lease.holder): 1} for _, lease in sorted(outlook.leases.items())}
    if outlook.leader is not None:
        holder["leader"] = {outlook.leader.name: 1}
    return RoleNumbers(holder=holder)
