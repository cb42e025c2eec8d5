"""Everything a node counts, as one tree: metrics, status pages and gates read the same numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arc.api.forward import ForwardStatistics
from arc.backup.service import BackupStatistics
from arc.catalog.cells import FileStats
from arc.cluster.admission import AdmissionStatistics
from arc.cluster.autopilot import AutopilotStatistics
from arc.cluster.calls import CallsStatistics
from arc.cluster.failover_managers import (
    FailoverStatistics,
)
from arc.cluster.feed import FeedStatistics
from arc.cluster.health import HealthStatistics
from arc.cluster.heartbeat import HeartbeatStatistics
from arc.cluster.proposals import ProposalsStatistics
from arc.cluster.registrar import RegistrarStatistics
from arc.cluster.registry import RegistryStatistics
from arc.cluster.transport import TransportStatistics
from arc.compaction.reports import CompactionStatistics
from arc.compaction.retention_runner import RetentionStatistics
from arc.continuous.runner import ContinuousStatistics
from arc.deletion.service import DeletionStatistics
from arc.duties import ReplicationStatistics
from arc.ingest.buffer import BufferStatistics
from arc.ingest.flush import FlushStatistics
from arc.ingest.intake import IntakeStatistics
from arc.ingest.memory import MemoryStatistics
from arc.ingest.rescue import RescueStatistics
from arc.query.registry import QueryStatistics
from arc.replication.announcing import AnnouncerStatistics
from arc.replication.antientropy import AntiEntropyStatistics
from arc.replication.keeper import InSyncStatistics
from arc.replication.puller import PullerStatistics
from arc.replication.sender import SenderStatistics
from arc.replication.shelving import ShelvingStatistics
from arc.replication.taking import TakerStatistics
from arc.security.tls import Certificates
from arc.storage.keeper import KeeperStatistics
from arc.storage.wal.log import WalStatistics
from arc.telemetry import Distribution, LogStatistics

if TYPE_CHECKING:
    from arc.node.house import House


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftTimes:
    """Of consensus, under its own names: ``arc_raft_…``. Its places and counters are `arc.api.cluster_metrics`'.

    ``proposals_failed_total`` got no result on this node; ``fsync_duration_seconds`` is of its log, a group each.
    """

    proposals_failed_total: int
    fsync_duration_seconds: Distribution
    snapshot_duration_seconds: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverTimes:
    """``arc_failover_duration_seconds``: see `cluster.failover_managers.LeaseManager.durations`."""

    duration_seconds: Mapping[str, Distribution] = field(metadata={"label": "lease"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsStatistics:
    """``arc_tls_cert_expiry_seconds``: what is left of the certificates in use, below 0 when they are over. Nothing
    where a port speaks no TLS.
    """

    cert_expiry_seconds: Mapping[str, float] = field(metadata={"label": "port"})
    cert_reloads_total: Mapping[str, int] = field(metadata={"label": "port"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """Everything this node counts. Parts that are not open, or that a node alone has none of, are absent."""

    ingest: IntakeStatistics | None
    buffer: BufferStatistics | None
    memory: MemoryStatistics | None
    wal: WalStatistics | None
    flush: FlushStatistics | None
    rescue: RescueStatistics | None
    registrar: RegistrarStatistics | None
    replication: ReplicationStatistics | None
    sender: SenderStatistics | None
    in_sync: InSyncStatistics | None
    files: PullerStatistics | None
    taken: TakerStatistics | None
    holders: AnnouncerStatistics | None
    shared: ShelvingStatistics | None
    antientropy: AntiEntropyStatistics
    retention: RetentionStatistics
    deletion: DeletionStatistics
    backup: BackupStatistics
    compaction: CompactionStatistics | None
    continuous: ContinuousStatistics
    query: QueryStatistics
    catalog: ProposalsStatistics
    raft: RaftTimes
    peers: TransportStatistics | None
    calls: CallsStatistics | None
    nodes: RegistryStatistics
    health: HealthStatistics
    heartbeats: HeartbeatStatistics | None
    writer_failover: FailoverStatistics
    compactor_failover: FailoverStatistics
    failover: FailoverTimes
    admission: AdmissionStatistics | None
    autopilot: AutopilotStatistics | None
    forwarding: ForwardStatistics | None
    feed: FeedStatistics
    manifest: FileStats
    storage: KeeperStatistics
    tls: TlsStatistics
    log: LogStatistics


def collect(house: House) -> NodeStatistics:
    """As of now."""
    rows, near = house.rows, house.near
    path = rows.writer.statistics()
    reign = path.reign if path is not None else None
    compactor = house.compaction.compactor
    transport, calls = house.consensus.transport, house.consensus.calls
    proposals, durations = house.consensus.proposals.statistics(), house.consensus.raft.durations()
    return NodeStatistics(
        ingest=reign.ingest if reign is not None else None,
        buffer=path.buffer if path is not None else None,
        memory=path.memory if path is not None else None,
        wal=path.wal if path is not None else None,
        flush=reign.flush if reign is not None else None,
        rescue=reign.rescue if reign is not None else None,
        registrar=reign.registrar if reign is not None else None,
        replication=path.replication if path is not None else None,
        sender=reign.sender if reign is not None else None,
        in_sync=reign.in_sync if reign is not None else None,
        files=rows.puller.statistics() if rows.puller is not None else None,
        taken=rows.taker.statistics() if rows.taker is not None else None,
        holders=rows.announcer.statistics() if rows.announcer is not None else None,
        shared=rows.shelving.statistics() if rows.shelving is not None else None,
        antientropy=rows.antientropy.statistics(),
        retention=house.retention.statistics(),
        deletion=house.deletions.statistics(),
        backup=house.backups.statistics(),
        compaction=compactor.statistics() if compactor is not None else None,
        continuous=house.continuous.statistics(),
        query=rows.queries.statistics(),
        catalog=proposals,
        raft=RaftTimes(
            proposals_failed_total=proposals.failed_total,
            fsync_duration_seconds=durations.write_seconds,
            snapshot_duration_seconds=durations.snapshot_seconds,
        ),
        peers=transport.statistics() if transport is not None else None,
        calls=calls.statistics() if calls is not None else None,
        nodes=near.registry.statistics(),
        health=near.checker.statistics(),
        heartbeats=near.heartbeats.statistics() if near.heartbeats is not None else None,
        writer_failover=house.writer_failover.statistics(),
        compactor_failover=house.compactor_failover.statistics(),
        failover=FailoverTimes(
            duration_seconds={lease: manager.durations() for lease, manager in house.managers.items()}
        ),
        admission=near.admission.statistics() if near.admission is not None else None,
        autopilot=near.autopilot.statistics() if near.autopilot is not None else None,
        forwarding=house.forwarder.statistics() if house.forwarder is not None else None,
        feed=house.ground.feed.statistics(),
        manifest=house.ground.fsm.catalog.totals(),
        storage=rows.keeper.statistics(),
        tls=tls_statistics(near.certificates, house.ground.ports.clock.wall_us()),
        log=house.ground.log.statistics(),
    )


def tls_statistics(certificates: Mapping[str, Certificates], now_us: int) -> TlsStatistics:
    """By port."""
    return TlsStatistics(
        cert_expiry_seconds={port: (each.expires_us - now_us) / 1e6 for port, each in certificates.items()},
        cert_reloads_total={port: each.reloads_total for port, each in certificates.items()},
    )
