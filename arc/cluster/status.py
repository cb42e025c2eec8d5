"""The one status document of a cluster: a pure function of one `arc.cluster.reasons.Look` (P-49).

Nothing here is counted or remembered a second time, so a page, a metric and a gate can not contradict each other.
`ClusterStatus.document` has the keys of Arc in Go, and ours beside them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from arc.catalog.roles import NodeRole
from arc.catalog.values import COMPACTOR, LEASES
from arc.cluster.reasons import Look, Reason, degraded, failures_tolerated
from arc.cluster.views import NodeView
from arc.license import Cores, LicenseState, count_cores
from arc.raft.membership import halves
from arc.raft.types import Role
from arc.telemetry import rfc3339_ms

NEVER = "0001-01-01T00:00:00Z"
"""What the clients of Arc in Go take for never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """Who holds a lease since when and why, and what would happen to it. ``holder`` is empty for nobody."""

    lease: str
    holder: str
    epoch: int
    since_us: int
    reason: str
    previous: str
    is_clean: bool
    plan: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """The document. ``failures_tolerated`` counts nodes, whichever they are, before votes or writes stop."""

    look: Look
    leases: tuple[LeaseStatus, ...]
    in_sync: tuple[str, ...]
    cores: Cores
    reasons: tuple[Reason, ...]
    failures_tolerated: int

    @property
    def next_command(self) -> str:
        """What to do about the worst of it; empty when nothing is wrong."""
        return self.reasons[0].next_command if self.reasons else ""

    def document(self) -> dict[str, object]:
        """The JSON form: first the keys of Arc in Go, then ours."""
        look, roles = self.look, [view.role for view in self.look.nodes]
        local = look.node(look.me)
        return {
            "running": look.is_running,
            "cluster_name": look.cluster_name,
            "local_node_id": look.me,
            "local_role": local.role.value if local is not None else "",
            "node_count": len(look.nodes),
            "healthy_count": sum(view.is_healthy for view in look.nodes),
            "nodes": [node_document(view) for view in look.nodes],
            "writers": roles.count(NodeRole.WRITER),
            "readers": roles.count(NodeRole.READER),
            "compactors": roles.count(NodeRole.COMPACTOR),
            "raft": _raft(look),
            "router": dict(look.router),
            "total_cores": self.cores.total,
            "max_cores": self.cores.maximum,
            **({"cores_remaining": self.cores.remaining} if self.cores.remaining is not None else {}),
            "active_compactor": _active_compactor(look),
            "replication_catchup_status": dict(look.catch_up) if look.catch_up is not None else None,
            "cluster_uuid": look.catalog.cluster.uuid if look.catalog.cluster is not None else "",
            "leases": [{**asdict(lease), "since": _time(lease.since_us)} for lease in self.leases],
            "in_sync": list(self.in_sync),
            "failover": {name: dict(stats) for name, stats in look.failover.items()},
            "license": {
                "valid": look.licence.state(look.now_us) is not LicenseState.EXPIRED,
                "tier": look.licence.tier,
                "features": list(look.licence.features),
            },
            "degraded": [asdict(reason) for reason in self.reasons],
            "failures_tolerated": self.failures_tolerated,
            "next_command": self.next_command,
        }


def cluster_status(look: Look) -> ClusterStatus:
    """Put the document together."""
    in_sync = look.catalog.in_sync
    return ClusterStatus(
        look=look,
        leases=tuple(_lease(look, name) for name in LEASES),
        in_sync=in_sync.members if in_sync is not None else (),
        cores=count_cores(look.licence, look.catalog.nodes.values()),
        reasons=degraded(look),
        failures_tolerated=failures_tolerated(look),
    )


def node_document(view: NodeView) -> dict[str, object]:
    """One node, in the keys of Arc in Go."""
    return {
        "id": view.name,
        "name": view.name,
        "role": view.role.value,
        "state": view.state.value,
        "address": view.address,
        "api_address": view.api_address,
        "version": view.version,
        "last_heartbeat": _time(view.last_heartbeat_us),
        "stats": asdict(view.stats),
        "writer_state": view.writer_state.value,
    }


def _lease(look: Look, name: str) -> LeaseStatus:
    held = look.catalog.leases.get(name)
    epoch = held.epoch if held is not None else 0
    grant = next((each for each in look.catalog.history if (each.lease, each.epoch) == (name, epoch)), None)
    decision = look.decisions.get(name)
    return LeaseStatus(
        lease=name,
        holder=held.holder if held is not None else "",
        epoch=epoch,
        since_us=held.granted_us if held is not None else 0,
        reason=held.reason if held is not None else "",
        previous=grant.previous or "" if grant is not None else "",
        is_clean=grant.is_clean if grant is not None else True,
        plan=f"{decision.verdict}: {decision.reason}" if decision is not None else "",
    )


def _raft(look: Look) -> dict[str, object]:
    status = look.consensus
    leader = look.node(status.leader.name if status.leader is not None else None)
    state = {Role.LEADER: "Leader", Role.FOLLOWER: "Follower"}.get(status.role, "Candidate")
    voters = {peer.name for half in halves(status.configuration) for peer in half}
    stats = {
        "state": state,
        "term": status.term,
        "last_log_index": status.last_index,
        "commit_index": status.commit,
        "applied_index": status.applied,
        "last_snapshot_index": status.snapshot_index,
        "num_peers": max(0, len(status.configuration.voters) - 1),
    }
    return {
        "enabled": True,
        "is_leader": status.role is Role.LEADER,
        "leader_addr": leader.address if leader is not None else "",
        "leader_id": status.leader.name if status.leader is not None else "",
        "state": state,
        "stats": {name: str(value) for name, value in stats.items()},
        "membership": {view.name: "voter" if view.name in voters else "learner" for view in look.nodes},
    }


def _active_compactor(look: Look) -> dict[str, object]:
    held = look.catalog.leases.get(COMPACTOR)
    view = look.node(held.holder if held is not None else None)
    return {
        "assigned": held is not None,
        "node_id": held.holder if held is not None else "",
        "present": view is not None,
        "role": view.role.value if view is not None else "",
        "is_dedicated": view is not None and view.role is NodeRole.COMPACTOR,
    }


def _time(time_us: int) -> str:
    return rfc3339_ms(time_us) if time_us > 0 else NEVER
