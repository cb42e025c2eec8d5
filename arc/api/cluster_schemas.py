"""What `/openapi.json` says of the cluster's pages. Clients may meet more keys than are listed here."""

from __future__ import annotations

from arc.api.routes import Answer, Schema
from arc.api.schemas import BOOLEAN, INTEGER, NUMBER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.catalog.roles import NodeRole, NodeState

_ROLE: Schema = {"type": "string", "enum": [role.value for role in NodeRole]}
_STATE: Schema = {"type": "string", "enum": [state.value for state in NodeState]}

ALONE = obj({"enabled": {"type": "boolean", "const": False}, "mode": STRING, "reason": STRING})

_STATS = obj(
    {
        "cpu_usage": NUMBER, "memory_usage": NUMBER, "ingest_rate": NUMBER, "query_rate": NUMBER,
        "storage_used": INTEGER, "connections": INTEGER, "active_queries": INTEGER, "compaction_jobs": INTEGER,
    },
    {"applied_index": INTEGER, "durable_sequence": INTEGER, "admitted_sequence": INTEGER, "disk_free_bytes": INTEGER,
     "certificate_expires_us": INTEGER, "clock_us": INTEGER, "disk_stalled_seconds": NUMBER},
)  # fmt: skip

_NODE: dict[str, Schema] = {
    "id": STRING, "name": STRING, "role": _ROLE, "state": _STATE, "address": STRING, "api_address": STRING,
    "cluster_name": STRING, "version": STRING, "started_at": TIMESTAMP, "joined_at": TIMESTAMP,
    "last_heartbeat": TIMESTAMP, "failed_checks": INTEGER, "stats": _STATS,
    "writer_state": {"type": "string", "enum": ["primary", "standby", ""]}, "is_active_compactor": BOOLEAN,
    "incarnation": INTEGER, "cores": INTEGER, "is_local": BOOLEAN, "is_leader": BOOLEAN,
    "kind": {"type": "string", "enum": ["voter", "learner", "none"]}, "is_in_sync": BOOLEAN,
    "disk_free_bytes": nullable(INTEGER), "certificate_expires_at": nullable(TIMESTAMP),
    "certificate_left_seconds": nullable(NUMBER), "clock_offset_seconds": nullable(NUMBER),
    "last_contact_seconds": nullable(NUMBER), "entries_behind": nullable(INTEGER),
    "records_behind": nullable(INTEGER), "seconds_behind": nullable(NUMBER),
}  # fmt: skip
NODE = obj(_NODE)

LOCAL = obj(
    {
        **_NODE,
        "capabilities": obj(
            {"can_ingest": BOOLEAN, "can_query": BOOLEAN, "can_compact": BOOLEAN, "can_coordinate": BOOLEAN}
        ),
    }
)
NODES = obj({"nodes": array(NODE), "total": INTEGER})

_TROUBLE = obj({"code": STRING, "severity": STRING, "words": STRING, "next_command": STRING})
_VERDICT: dict[str, Schema] = {
    "state": {"type": "string", "enum": ["healthy", "degraded", "unavailable"]}, "degraded": array(_TROUBLE),
    "failures_tolerated": INTEGER,
    "quorum": obj({"voters": INTEGER, "needed": INTEGER, "answering": INTEGER, "silent": array(STRING),
                   "spare": INTEGER, "spare_in_sync": nullable(INTEGER)}),
}  # fmt: skip

HEALTH = obj({"healthy": INTEGER, "unhealthy": INTEGER, "total": INTEGER, "health_checker": obj({}), **_VERDICT})

_PLAN = obj(
    {
        "verdict": {"type": "string", "enum": ["keep", "wait", "move", "stuck"]}, "reason": STRING,
        "look_again_seconds": nullable(NUMBER),
        "candidates": array(obj({"id": STRING, "is_eligible": BOOLEAN, "reason": STRING})),
    }
)  # fmt: skip

CHANGE: dict[str, Schema] = {
    "lease": STRING, "holder": STRING, "previous": nullable(STRING), "epoch": INTEGER, "reason": STRING,
    "is_clean": BOOLEAN,
}  # fmt: skip

LEASE = obj(
    {
        **CHANGE, "holder": nullable(STRING), "is_clean": nullable(BOOLEAN), "since": TIMESTAMP,
        "held_seconds": nullable(NUMBER), "holder_answers": BOOLEAN, "plan": nullable(_PLAN),
    }
)  # fmt: skip
LEASES_PAGE = obj({"leases": array(LEASE), "total": INTEGER})

STATUS = obj(
    {
        "enabled": BOOLEAN, "mode": STRING, **_VERDICT, "running": BOOLEAN, "made_at": TIMESTAMP,
        "cluster_name": STRING, "cluster_uuid": STRING, "local_node_id": STRING, "local_role": STRING,
        "node_count": INTEGER, "healthy_count": INTEGER, "nodes": array(NODE), "writers": INTEGER,
        "readers": INTEGER, "compactors": INTEGER,
        "raft": obj({"enabled": BOOLEAN}, {"is_leader": BOOLEAN, "leader_addr": STRING, "leader_id": STRING,
                                           "state": STRING, "stats": obj({}), "membership": obj({})}),
        "router": nullable(obj({})),
        "leader": nullable(obj({"id": STRING, "term": INTEGER, "since": TIMESTAMP, "led_seconds": nullable(NUMBER),
                                "address": STRING, "api_address": STRING})),
        "leases": array(LEASE), "active_compactor": obj({"assigned": BOOLEAN, "node_id": STRING}),
        "in_sync": obj({"epoch": INTEGER, "members": array(STRING)}),
        "replication": obj({"followers": array(obj({"id": STRING}))}),
        "replication_catchup_status": nullable(obj({})), "failover": obj({}),
        "license": obj({"valid": BOOLEAN, "tier": STRING, "features": array(STRING)}),
        "total_cores": INTEGER, "max_cores": INTEGER,
    },
    {"cores_remaining": INTEGER},
)  # fmt: skip

FILES = obj(
    {
        "files": array(obj({
            "path": STRING, "sha256": STRING, "size_bytes": INTEGER, "database": STRING, "measurement": STRING,
            "partition_time": TIMESTAMP, "origin_node_id": STRING, "tier": STRING, "created_at": TIMESTAMP,
            "lsn": INTEGER, "rows": INTEGER,
        })),
        "total": INTEGER,
    },
    {"next_cursor": STRING},
)  # fmt: skip

EVENTS = obj(
    {
        "events": array(
            obj({"at": TIMESTAMP, "kind": STRING, "node": STRING, "words": STRING},
                {"index": INTEGER, "sequence": INTEGER, "seen_by": STRING, **CHANGE})
        ),
        "next": STRING,
        "total": INTEGER,
    }
)  # fmt: skip


def cluster_answers(about: str, schema: Schema) -> dict[int, Answer]:
    """A page of the cluster, or the one sentence of a node alone."""
    return {200: json_answer(f"{about} On a node alone: `enabled` is false.", {"anyOf": [schema, ALONE]})}
