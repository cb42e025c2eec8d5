"""The route table: every resource's rows in one tuple, checked to be unambiguous."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from arc.api.audit import AuditLog
from arc.api.auth import Gate
from arc.api.backup import Backups
from arc.api.cluster import Cluster
from arc.api.cluster_events import ClusterEvents
from arc.api.cluster_orders import ClusterOrders
from arc.api.compaction import Compaction
from arc.api.continuous import ContinuousQueries
from arc.api.databases import Databases
from arc.api.delete import Deletes
from arc.api.deps import Deps
from arc.api.export import Export
from arc.api.health import Health
from arc.api.imports import Imports
from arc.api.influx import Influx
from arc.api.measurements import Measurements
from arc.api.memberships import Memberships
from arc.api.metrics import Metrics
from arc.api.observed import ApiStatistics, FormatCounts, QueryGateCounts
from arc.api.openapi import describe, own_route
from arc.api.queries import QueryList
from arc.api.query import Queries
from arc.api.raft import Raft
from arc.api.rbac import Rbac
from arc.api.rbac_roles import Roles
from arc.api.retention import Retention
from arc.api.routes import Route
from arc.api.schedulers import Schedulers
from arc.api.tokens import Tokens
from arc.api.write import Writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """All routes, and the counts that the write routes keep by format, and the gate before queries."""

    routes: tuple[Route, ...]
    formats: Mapping[str, FormatCounts]
    query_gate: QueryGateCounts


def build_table(deps: Deps, *, gate: Gate, api_statistics: Callable[[], ApiStatistics]) -> Table:
    """Make every resource and collect its rows."""
    writes, queries = Writes(deps), Queries(deps)
    document: dict[str, object] = {}
    routes = (
        *Health(deps).routes(),
        own_route(document),
        *Metrics(deps, api_statistics).routes(),
        *writes.routes(),
        *Imports(deps).routes(),
        *queries.routes(),
        *QueryList(deps).routes(),
        *Databases(deps).routes(),
        *Measurements(deps).routes(),
        *Compaction(deps).routes(),
        *Retention(deps).routes(),
        *Deletes(deps).routes(),
        *ContinuousQueries(deps).routes(),
        *Schedulers(deps).routes(),
        *Backups(deps).routes(),
        *Export(deps).routes(),
        *Tokens(deps, gate).routes(),
        *Memberships(deps, gate).routes(),
        *Rbac(deps).routes(),
        *Roles(deps).routes(),
        *AuditLog(deps).routes(),
        *Influx(deps).routes(),
        *Cluster(deps).routes(),
        *ClusterEvents(deps).routes(),
        *ClusterOrders(deps).routes(),
        *Raft(deps).routes(),
    )
    assert len({(row.method, row.path) for row in routes}) == len(routes), "two rows for one endpoint"
    assert len({row.name for row in routes}) == len(routes), "two rows of one name"
    document.update(describe(routes, deps.version))
    return Table(routes=routes, formats=writes.counts, query_gate=queries.gate)
