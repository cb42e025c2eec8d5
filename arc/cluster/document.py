"""The JSON of the cluster's pages: the keys that clients of Arc in Go read, and ours beside them.

Pure: each function turns an `Outlook`, or a part of it, into one document. Times are RFC 3339; what never happened is
the year 1, because that is what those clients take for never.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from arc.catalog.leases import Lease, LeaseChange
from arc.catalog.roles import NodeRole
from arc.catalog.values import LEASES, WRITER
from arc.cluster.failover import Decision
from arc.cluster.outlook import (
    Outlook,
    certificate_left,
    entries_behind,
    failures_tolerated,
    kind_of,
    quorum_of,
    records_behind,
    spare_writers,
)
from arc.cluster.troubles import troubles, verdict_of
from arc.cluster.views import NodeView
from arc.raft.status import Status
from arc.raft.types import Role
from arc.storage.files import FileEntry
from arc.telemetry import rfc3339_ms

NEVER = "0001-01-01T00:00:00Z"


def status_document(outlook: Outlook) -> dict[str, object]:
    """The whole page of ``GET /api/v1/cluster``."""
    local = outlook.local
    roles = [view.role for view in outlook.nodes]
    return {
        "enabled": True,
        "mode": "cluster",
        **verdict_document(outlook),
        "running": outlook.is_running,
        "made_at": _time(outlook.now_us),
        "cluster_name": outlook.identity.name if outlook.identity is not None else "",
        "cluster_uuid": outlook.identity.uuid if outlook.identity is not None else "",
        "local_node_id": outlook.me,
        "local_role": local.role.value if local is not None else "",
        "node_count": len(outlook.nodes),
        "healthy_count": sum(view.is_healthy for view in outlook.nodes),
        "nodes": [node_document(view, outlook) for view in outlook.nodes],
        "writers": roles.count(NodeRole.WRITER),
        "readers": roles.count(NodeRole.READER),
        "compactors": roles.count(NodeRole.COMPACTOR),
        "raft": raft_document(outlook),
        "router": _own(outlook.router),
        "leader": _leader(outlook),
        "leases": [lease_document(outlook, name) for name in LEASES],
        "active_compactor": _active_compactor(outlook),
        "in_sync": _in_sync(outlook),
        "replication": {
            "followers": [_lag(view, outlook) for view in outlook.nodes],
            "factor": outlook.copies_wanted,
            "files_under_replicated": outlook.files_under_replicated,
        },
        "replication_catchup_status": _own(outlook.catch_up),
        "failover": {name: _plan(plan) for name, plan in outlook.plans.items()},
        "license": _license(outlook),
        **_cores(outlook),
    }


def verdict_document(outlook: Outlook) -> dict[str, object]:
    """How the cluster is and why, for every page that is asked how it is."""
    found = troubles(outlook)
    votes, writers = quorum_of(outlook), spare_writers(outlook)
    return {
        "state": verdict_of(found).value,
        "degraded": [trouble.document() for trouble in found],
        "failures_tolerated": failures_tolerated(outlook),
        "quorum": {
            "voters": votes.voters,
            "needed": votes.needed,
            "answering": votes.answering,
            "silent": list(votes.silent),
            "spare": max(0, votes.spare),
            "spare_in_sync": max(0, writers) if writers is not None else None,
        },
    }


def node_document(view: NodeView, outlook: Outlook) -> dict[str, object]:
    """One node. The keys up to ``is_active_compactor`` are Go's."""
    lag = outlook.lags.get(view.name)
    return {
        "id": view.name,
        "name": view.name,
        "role": view.role.value,
        "state": view.state.value,
        "address": view.address,
        "api_address": view.api_address,
        "cluster_name": outlook.identity.name if outlook.identity is not None else "",
        "version": view.version,
        "started_at": _time(view.started_us),
        "joined_at": _time(view.joined_us),
        "last_heartbeat": _time(view.last_heartbeat_us),
        "last_healthy": _time(view.last_healthy_us),
        "failed_checks": view.failed_checks,
        "stats": asdict(view.stats),
        "writer_state": view.writer_state.value,
        "is_active_compactor": view.is_active_compactor,
        "incarnation": view.incarnation,
        "cores": view.cores,
        "is_local": view.is_local,
        "is_leader": outlook.leader is not None and outlook.leader.name == view.name,
        "kind": kind_of(outlook, view),
        "is_in_sync": outlook.in_sync is not None and view.name in outlook.in_sync.members,
        "last_contact_seconds": view.heard_seconds_ago,
        "disk_free_bytes": view.stats.disk_free_bytes or None,
        "certificate_expires_at": rfc3339_ms(view.stats.certificate_expires_us)
        if view.stats.certificate_expires_us
        else None,
        "certificate_left_seconds": certificate_left(outlook, view),
        "clock_offset_seconds": view.clock_offset_seconds,
        "entries_behind": entries_behind(outlook, view),
        "records_behind": records_behind(outlook, view),
        "seconds_behind": lag.seconds if lag is not None else None,
    }


def local_document(view: NodeView, outlook: Outlook) -> dict[str, object]:
    """This node, with what its role allows."""
    return {**node_document(view, outlook), "capabilities": asdict(view.capabilities), "is_local": True}


def lease_document(outlook: Outlook, name: str) -> dict[str, object]:
    """Who holds a lease since when and why; ``holder`` is null when nobody was ever given it."""
    held, grant = outlook.leases.get(name), outlook.grant(name)
    return {
        "lease": name,
        "holder": held.holder if held is not None else None,
        "epoch": held.epoch if held is not None else 0,
        "since": _time(held.granted_us) if held is not None else NEVER,
        "held_seconds": _held(outlook, held),
        "reason": held.reason if held is not None else "",
        "previous": grant.previous if grant is not None else None,
        "is_clean": grant.is_clean if grant is not None else None,
        "holder_answers": outlook.answers(held.holder) if held is not None else False,
        "plan": _plan(outlook.plans[name]) if name in outlook.plans else None,
    }


def change_document(change: LeaseChange) -> dict[str, object]:
    """One grant of a lease, as orders answer it."""
    return {
        "lease": change.lease,
        "holder": change.holder,
        "previous": change.previous,
        "epoch": change.epoch,
        "reason": change.reason,
        "is_clean": change.is_clean,
    }


def file_document(entry: FileEntry) -> dict[str, object]:
    """One file of the manifest. The keys up to ``lsn`` are Go's."""
    return {
        "path": entry.path,
        "sha256": entry.sha256,
        "size_bytes": entry.size_bytes,
        "database": entry.database,
        "measurement": entry.measurement,
        "partition_time": _time(entry.min_time_us),
        "origin_node_id": entry.origin,
        "tier": "hot",
        "created_at": _time(entry.created_us),
        "lsn": entry.last_sequence,
        "rows": entry.rows,
        "min_time": _time(entry.min_time_us),
        "max_time": _time(entry.max_time_us),
        "epoch": entry.epoch,
        "first_sequence": entry.first_sequence,
        "last_sequence": entry.last_sequence,
        "holders": list(entry.holders),
    }


def raft_document(outlook: Outlook) -> dict[str, object]:
    """Consensus in Go's keys. The values of ``stats`` are texts, as its clients declare them."""
    status, leader = outlook.consensus, outlook.leader
    if status is None:
        return {"enabled": False}
    view = outlook.node(leader.name if leader is not None else None)
    return {
        "enabled": True,
        "is_leader": status.role is Role.LEADER,
        "leader_addr": view.address if view is not None else "",
        "leader_id": leader.name if leader is not None else "",
        "state": _STATES[status.role],
        "stats": _raft_stats(status),
        "membership": {view.name: kind_of(outlook, view) for view in outlook.nodes},
    }


_STATES = {
    Role.FOLLOWER: "Follower",
    Role.PRE_CANDIDATE: "Candidate",
    Role.CANDIDATE: "Candidate",
    Role.LEADER: "Leader",
}


def _raft_stats(status: Status) -> dict[str, str]:
    found = {
        "state": _STATES[status.role],
        "term": status.term,
        "last_log_index": status.last_index,
        "last_log_term": status.last_term,
        "commit_index": status.commit,
        "applied_index": status.applied,
        "last_snapshot_index": status.snapshot_index,
        "latest_configuration_index": status.configuration_index,
        "num_peers": len(status.configuration.voters) - 1,
    }
    return {name: str(value) for name, value in found.items()}


def _leader(outlook: Outlook) -> dict[str, object] | None:
    leader, status = outlook.leader, outlook.consensus
    if leader is None or status is None:
        return None
    since = outlook.leader_since_us
    view = outlook.node(leader.name)
    return {
        "id": leader.name,
        "term": status.term,
        "since": _time(since or 0),
        "led_seconds": max(0.0, (outlook.now_us - since) / 1e6) if since is not None else None,
        "address": view.address if view is not None else "",
        "api_address": view.api_address if view is not None else "",
    }


def _active_compactor(outlook: Outlook) -> dict[str, object]:
    held = outlook.compactor
    view = outlook.node(held.holder if held is not None else None)
    return {
        "assigned": held is not None,
        "node_id": held.holder if held is not None else "",
        "present": view is not None,
        "role": view.role.value if view is not None else "",
        "is_dedicated": view is not None and view.role is NodeRole.COMPACTOR,
    }


def _in_sync(outlook: Outlook) -> dict[str, object]:
    found = outlook.in_sync
    return {"epoch": found.epoch if found is not None else 0, "members": list(found.members) if found else []}


def _lag(view: NodeView, outlook: Outlook) -> dict[str, object]:
    lag = outlook.lags.get(view.name)
    return {
        "id": view.name,
        "is_in_sync": outlook.in_sync is not None and view.name in outlook.in_sync.members,
        "is_writer": outlook.leases.get(WRITER) is not None and outlook.leases[WRITER].holder == view.name,
        "records_behind": records_behind(outlook, view),
        "seconds_behind": lag.seconds if lag is not None else None,
        "durable_sequence": view.stats.durable_sequence,
        "admitted_sequence": view.stats.admitted_sequence,
    }


def _plan(plan: Decision) -> dict[str, object]:
    return {
        "verdict": str(plan.verdict),
        "reason": plan.reason,
        "look_again_seconds": plan.look_again_seconds,
        "candidates": [
            {"id": each.name, "is_eligible": each.is_eligible, "reason": each.reason} for each in plan.candidates
        ],
    }  # fmt: skip


def _license(outlook: Outlook) -> dict[str, object]:
    licence, state = outlook.licence, str(outlook.licence.state(outlook.now_us))
    return {"valid": state != "expired", "state": state, "tier": licence.tier, "features": list(licence.features)}


def _own(part: Mapping[str, object] | None) -> dict[str, object] | None:
    return dict(part) if part is not None else None


def _cores(outlook: Outlook) -> dict[str, object]:
    total, limit = outlook.cores, max(0, outlook.licence.max_cores)
    found: dict[str, object] = {"total_cores": total, "max_cores": limit}
    return {**found, "cores_remaining": max(0, limit - total)} if limit else found


def _held(outlook: Outlook, held: Lease | None) -> float | None:
    return max(0.0, (outlook.now_us - held.granted_us) / 1e6) if held is not None and held.granted_us else None


def _time(time_us: int) -> str:
    return rfc3339_ms(time_us) if time_us > 0 else NEVER
