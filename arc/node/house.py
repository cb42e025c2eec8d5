"""Every part of a node, built in order and handed its neighbours; no decisions.

A part that has to do with other nodes is here whether there are others or not: a node alone is a cluster of one. What
needs a peer port is absent without one, and only that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from arc.api.app import Api
from arc.api.deps import Deps
from arc.api.forward import Forwarder, ForwardStatistics
from arc.catalog.cells import FileStats
from arc.catalog.commands import DescribeNode
from arc.catalog.fsm import ClusterFSM
from arc.catalog.roles import NodeRole
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.admission import Admission, AdmissionStatistics
from arc.cluster.autopilot import Autopilot, AutopilotStatistics
from arc.cluster.calls import CallsStatistics
from arc.cluster.consensus import Consensus
from arc.cluster.coordinator import Coordinator, licensed
from arc.cluster.failover import compactor_policy, writer_policy
from arc.cluster.failover_managers import (
    CompactorFailoverManager,
    FailoverStatistics,
    LeaseManager,
    WriterFailoverManager,
)
from arc.cluster.feed import Feed, FeedStatistics
from arc.cluster.gathering import Assembly
from arc.cluster.health import HealthChecker, HealthStatistics
from arc.cluster.heartbeat import Heartbeats, HeartbeatStatistics
from arc.cluster.identityfile import IdentityFile
from arc.cluster.joining import Joiner
from arc.cluster.leaving import Leaving
from arc.cluster.manifest_calls import ManifestCalls
from arc.cluster.operations import LifeOrders, Operations
from arc.cluster.proposals import ProposalsStatistics
from arc.cluster.registrar import RegistrarStatistics
from arc.cluster.registry import LocalNode, Registry, RegistryStatistics
from arc.cluster.router import Router
from arc.cluster.transport import TransportStatistics
from arc.config import Config
from arc.duties import ReplicationStatistics, WriterDuty
from arc.ids import NodeId
from arc.ingest.buffer import Buffer, BufferStatistics
from arc.ingest.flush import FlushStatistics
from arc.ingest.formats import Formats
from arc.ingest.intake import IntakeStatistics
from arc.ingest.memory import MemoryStatistics
from arc.license import License, check_cores
from arc.node.handover import KIND as HAND_OVER
from arc.node.handover import HandOvers
from arc.node.orders import Convergence, lags
from arc.node.readiness import Readiness
from arc.node.vitals import Counts, Vitals
from arc.ports import Ports
from arc.query.engine import Engine
from arc.query.registry import QueryStatistics
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker
from arc.raft.types import Peer
from arc.replication.crossing import Replication
from arc.replication.fetch import KIND as FETCH
from arc.replication.fetch import FileServer
from arc.replication.holdings import KIND as HOLDINGS
from arc.replication.holdings import Holdings
from arc.replication.keeper import InSyncStatistics
from arc.replication.puller import Puller, PullerStatistics
from arc.replication.sender import SenderStatistics
from arc.storage.keeper import DATA, FileKeeper, KeeperStatistics
from arc.storage.wal.log import WalStatistics
from arc.telemetry import Log, LogStatistics, RingSink
from arc.wire.channels import Channel
from arc.wire.facts import PeerFacts
from arc.wire.http import HttpClient


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """Everything this node counts. Parts that are not open, or that a node alone has none of, are absent."""

    ingest: IntakeStatistics | None
    buffer: BufferStatistics | None
    memory: MemoryStatistics | None
    wal: WalStatistics | None
    flush: FlushStatistics | None
    registrar: RegistrarStatistics | None
    replication: ReplicationStatistics | None
    sender: SenderStatistics | None
    in_sync: InSyncStatistics | None
    files: PullerStatistics | None
    query: QueryStatistics
    catalog: ProposalsStatistics
    peers: TransportStatistics | None
    calls: CallsStatistics | None
    nodes: RegistryStatistics
    health: HealthStatistics
    heartbeats: HeartbeatStatistics | None
    writer_failover: FailoverStatistics
    compactor_failover: FailoverStatistics
    admission: AdmissionStatistics | None
    autopilot: AutopilotStatistics | None
    forwarding: ForwardStatistics | None
    feed: FeedStatistics
    manifest: FileStats
    storage: KeeperStatistics
    log: LogStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What a house stands on: given from outside, the same for all its parts."""

    config: Config
    ports: Ports
    identity: IdentityFile
    role: NodeRole
    licence: License
    fsm: ClusterFSM
    feed: Feed
    api_address: Callable[[], str]
    """Where clients reach this node, host:port; empty before it listens."""
    version: str
    ring: RingSink
    log: Log

    @property
    def facts(self) -> PeerFacts:
        """What this node says of itself."""
        return PeerFacts(
            role=self.role.value,
            api_address=self.api_address(),
            version=self.version,
            cores=self.ports.workers.load().cores,
        )


class House:
    """The parts. Those that may be absent are None on a node alone."""

    def __init__(self, ground: Ground, consensus: Consensus) -> None:
        self.ground = ground
        self.consensus = consensus
        self.node = NodeId(ground.identity.current.node)
        self.is_alone = consensus.transport is None
        self._build_data()
        self._build_sight()
        self._build_membership()
        self._build_leases()
        self._build_doors()

    def __repr__(self) -> str:
        return f"<House {self.node} {self.readiness!r} {self.writer!r}>"

    # ------------------------------------------------------------------------------------------------------- building

    def _build_data(self) -> None:
        """Rows and files: the write path, what follows it from elsewhere, the query path."""
        ground, config, ports, log = self.ground, self.ground.config, self.ground.ports, self.ground.log
        self.keeper = FileKeeper(ports.disk, ports.workers, ports.clock, config.storage)
        self.buffer = Buffer()
        self.replication = Replication()
        self.writer = WriterDuty(
            ingest=config.ingest,
            wal=config.wal,
            storage=config.storage,
            ports=ports,
            node=self.node,
            catalog=lambda: ground.fsm.catalog,
            feed=ground.feed,
            propose=self.consensus.proposals,
            buffer=self.buffer,
            replication=self.replication,
            post=None if self.is_alone else self._post_rows,
            is_readable=self.keeper.is_here,
            stored=self.keeper.came,
            leader_heard=self.consensus.raft.silent_seconds,
            log=log,
        )
        self.engine = Engine(
            config.query,
            roots=[ports.disk.native_path(DATA)],
            native_path=lambda path: ports.disk.native_path(f"{DATA}/{path}"),
        )
        self.queries = QueryService(
            config=config.query,
            engine=self.engine,
            take_snapshot=SnapshotTaker(
                lambda: ground.fsm.catalog,
                self.buffer.snapshot,
                self.keeper,
                coverage=self.buffer,
                is_readable=self.keeper.is_here,
            ),
            ports=ports,
        )
        self.formats = Formats()
        self.file_server = FileServer(ports.disk, ports.workers, lambda: ground.fsm.catalog)
        able = ground.role.capabilities
        self.puller: Puller | None = None
        if self.consensus.calls is not None and (able.can_query or able.can_ingest):
            self.puller = Puller(
                me=self.node,
                ask=self.consensus.calls.call,
                others=self._reachable,
                catalog=lambda: ground.fsm.catalog,
                files=self.keeper,
                disk=ports.disk,
                workers=ports.workers,
                clock=ports.clock,
                rng=ports.rng,
                log=log,
            )

    def _build_sight(self) -> None:
        """How this node is, and what it sees of the others."""
        ground, ports, raft = self.ground, self.ground.ports, self.consensus.raft
        self.readiness = Readiness(
            self.writer,
            ground.feed.wait_index,
            role=ground.role,
            membership=lambda: self.joiner.not_ready() if self.joiner is not None else None,
            holds=lambda: self._held_epoch() > 0,
            forwards=not self.is_alone,
        )
        self.vitals = Vitals(self._counts, ports.clock, ports.workers)
        transport = self.consensus.transport
        self.registry = Registry(
            feed=ground.feed,
            local=LocalNode(
                name=self.node,
                incarnation=ground.identity.current.incarnation,
                role=ground.role,
                version=ground.version,
                cores=ports.workers.load().cores,
                started_us=ports.clock.wall_us(),
            ),
            clock=ports.clock,
            config=ground.config.health,
            sessions=transport.sessions if transport is not None else dict,
            voters=raft.voters,
            leader=lambda: raft.leader.name if raft.leader is not None else None,
            local_stats=self.vitals,
        )
        self.checker = HealthChecker(
            registry=self.registry,
            config=ground.config.health,
            clock=ports.clock,
            log=ground.log,
            replaces_writers=ground.config.failover.enabled,
        )
        self.heartbeats: Heartbeats | None = None
        if transport is not None:
            self.heartbeats = Heartbeats(
                registry=self.registry,
                config=ground.config.health,
                post=lambda name, payload: transport.post(name, Channel.HEARTBEAT, payload),
                stats=self.vitals,
                started_us=ports.clock.wall_us(),
                clock=ports.clock,
                log=ground.log,
            )

    def _build_membership(self) -> None:
        """How nodes come in, vote and go."""
        ground, raft, calls = self.ground, self.consensus.raft, self.consensus.calls
        self.admission: Admission | None = None
        self.assembly: Assembly | None = None
        self.joiner: Joiner | None = None
        self.leaving: Leaving | None = None
        self.holdings: Holdings | None = None
        self.autopilot: Autopilot | None = None
        if calls is None:
            return
        cluster, ports, identity, log = ground.config.cluster, ground.ports, ground.identity, ground.log
        self.admission = Admission(
            cluster.name,
            identity,
            raft,
            self.consensus.members,
            lambda: ground.fsm.catalog,
            call=calls.call,
            clock=ports.clock,
            log=log,
            check_cores=self._check_cores,
            replaces_wiped=cluster.replace_wiped,
        )
        self.assembly = Assembly(
            identity,
            cluster.bootstrap,
            ground.role,
            address=self._address,
            has_log=lambda: True,
            ask=calls.ask,
            clock=ports.clock,
            rng=ports.rng,
            log=log,
        )
        self.joiner = Joiner(
            cluster.name,
            cluster.seeds,
            identity,
            raft,
            lambda: ground.fsm.catalog,
            self.description,
            ask=calls.ask,
            rng=ports.rng,
            log=log,
        )
        self.holdings = Holdings(
            self.node, calls.call, self._reachable, lambda: ground.fsm.catalog, self.keeper.is_here, log
        )
        self.leaving = Leaving(
            identity,
            raft,
            self.consensus.proposals,
            lambda: ground.fsm.catalog,
            self._wait_leases_gone,
            self.holdings.wait_held_elsewhere,
            call=calls.call,
            log=log,
        )
        self.autopilot = Autopilot(
            raft,
            self.consensus.members,
            self.consensus.proposals,
            lambda: ground.fsm.catalog,
            clock=ports.clock,
            log=log,
            dead_voter_seconds=cluster.dead_voter_seconds,
        )

    def _build_leases(self) -> None:
        """Who holds what, and how it moves."""
        ground, config, ports, log = self.ground, self.ground.config, self.ground.ports, self.ground.log
        calls = self.consensus.calls
        self.hand_overs = HandOvers(
            self.node, self.writer, self._held_epoch, calls.call if calls is not None else None, log
        )
        failover = licensed(config.failover, ground.licence)
        self.writer_failover = WriterFailoverManager(
            policy=writer_policy(failover, config.health),
            registry=self.registry,
            feed=ground.feed,
            propose=self.consensus.proposals,
            leadership=self.consensus.raft,
            clock=ports.clock,
            log=log,
            hand_over=self.hand_overs,
        )
        self.compactor_failover = CompactorFailoverManager(
            policy=compactor_policy(failover, config.health),
            registry=self.registry,
            feed=ground.feed,
            propose=self.consensus.proposals,
            leadership=self.consensus.raft,
            clock=ports.clock,
            log=log,
        )
        self.managers: Mapping[str, LeaseManager] = {
            WRITER: self.writer_failover,
            COMPACTOR: self.compactor_failover,
        }

    def _build_doors(self) -> None:
        """What clients and operators come in by."""
        ground, config, ports, log = self.ground, self.ground.config, self.ground.ports, self.ground.log
        consensus, raft = self.consensus, self.consensus.raft
        self.router = Router(
            config.routing,
            self.registry.all,
            self.registry.local,
            rng=ports.rng,
            clock=ports.clock,
            holders_share_keys=True,
        )
        self.operations = Operations(
            registry=self.registry,
            checker=self.checker,
            managers=self.managers,
            raft=raft,
            members=consensus.members,
            propose=consensus.proposals,
            life=LifeOrders(
                found=Convergence.found_already(lambda: ground.fsm.catalog),
                leave=self._leave,
                converge=Convergence(self.autopilot, raft, lambda: ground.fsm.catalog),
            ),
            catalog=lambda: ground.fsm.catalog,
            clock=ports.clock,
            licence=ground.licence,
            compactor_kept_seconds=config.failover.compactor_cooldown_seconds,
            lags=lambda: lags(self.writer.statistics()),
            router=lambda: self.router.stats(),
            catch_up=self._catch_up,
        )
        self.coordinator = Coordinator(
            config=config.cluster,
            licence=ground.licence,
            registry=self.registry,
            checker=self.checker,
            managers=self.managers,
            raft=raft,
            members=consensus.members,
            feed=ground.feed,
            manifest=ManifestCalls(consensus.proposals, lambda: ground.fsm.catalog, self.node),
            operations=self.operations,
            refuses_writes=self.readiness.refuses_writes,
            clock=ports.clock,
            log=log,
            router=self.router,
        )
        self.forwarder: Forwarder | None = None
        if not self.is_alone:
            self.forwarder = Forwarder(
                node=self.node,
                router=self.router,
                client=HttpClient(ports.network.connect_tcp, ports.clock),
                rng=ports.rng,
                log=log,
                wait_change=self._wait_sight,
                query_bytes_max=config.server.max_json_bytes,
            )
        self.api = Api(
            Deps(
                server=config.server,
                auth=config.auth,
                clock=ports.clock,
                rng=ports.rng,
                workers=ports.workers,
                log=log.bind(component="http"),
                logs=ground.ring,
                ingest=self.writer,
                decoders=self.formats,
                queries=self.queries,
                proposer=consensus.proposals,
                raft=raft,
                members=consensus.members,
                cluster=None if self.is_alone else self.operations,
                forward=self.forwarder,
                read_index=None if self.is_alone else raft.read,
                node=self.readiness,
                catalog=lambda: ground.fsm.catalog,
                statistics=self.statistics,
                version=ground.version,
                materialised_bytes_max=config.query.materialised_bytes_max,
            )
        )

    # ------------------------------------------------------------------------------------------- what others tell it

    @property
    def channels(self) -> Mapping[Channel, Callable[[Peer, bytes], None]]:
        """See `cluster.consensus.Neighbours`."""
        assert self.heartbeats is not None
        return {
            Channel.WAL: lambda peer, payload: self.replication.receive(peer.name, payload),
            Channel.HEARTBEAT: self.heartbeats.receive,
        }

    @property
    def answerers(self) -> Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]]:
        """See `cluster.consensus.Neighbours`."""
        assert self.admission is not None and self.assembly is not None and self.holdings is not None

        holdings = self.holdings

        async def file(peer: Peer, question: bytes) -> bytes:
            return await self.file_server.answer(question)

        return {
            **self.admission.answerers,
            **self.assembly.answerers,
            HAND_OVER: self.hand_overs.answer,
            FETCH: file,
            HOLDINGS: lambda peer, question: holdings.answer(question),
        }

    def describe(self) -> PeerFacts:
        """See `cluster.consensus.Neighbours`."""
        return self.ground.facts

    def address_of(self, name: str) -> str | None:
        """See `cluster.consensus.Neighbours`."""
        return self.joiner.addresses.get(name) if self.joiner is not None else None

    def connected(self, peer: Peer, facts: PeerFacts) -> None:
        """See `cluster.consensus.Neighbours`."""
        self.replication.peer_up(peer.name)

    def unreachable(self, peer: Peer) -> None:
        """See `cluster.consensus.Neighbours`."""
        self.replication.peer_down(peer.name)
        self.checker.session_broke(peer.name)

    # ---------------------------------------------------------------------------------------------------------- facts

    def description(self) -> DescribeNode:
        """What the catalog is told of this node."""
        identity, facts = self.ground.identity.current, self.ground.facts
        return DescribeNode(
            name=self.node,
            incarnation=identity.incarnation,
            address=self._address(),
            role=facts.role,
            api_address=facts.api_address,
            version=facts.version,
            cores=facts.cores,
            at_us=self.ground.ports.clock.wall_us(),
        )

    def statistics(self) -> NodeStatistics:
        """Numbers of every part."""
        path = self.writer.statistics()
        reign = path.reign if path is not None else None
        transport, calls = self.consensus.transport, self.consensus.calls
        return NodeStatistics(
            ingest=reign.ingest if reign is not None else None,
            buffer=path.buffer if path is not None else None,
            memory=path.memory if path is not None else None,
            wal=path.wal if path is not None else None,
            flush=reign.flush if reign is not None else None,
            registrar=reign.registrar if reign is not None else None,
            replication=path.replication if path is not None else None,
            sender=reign.sender if reign is not None else None,
            in_sync=reign.in_sync if reign is not None else None,
            files=self.puller.statistics() if self.puller is not None else None,
            query=self.queries.statistics(),
            catalog=self.consensus.proposals.statistics(),
            peers=transport.statistics() if transport is not None else None,
            calls=calls.statistics() if calls is not None else None,
            nodes=self.registry.statistics(),
            health=self.checker.statistics(),
            heartbeats=self.heartbeats.statistics() if self.heartbeats is not None else None,
            writer_failover=self.writer_failover.statistics(),
            compactor_failover=self.compactor_failover.statistics(),
            admission=self.admission.statistics() if self.admission is not None else None,
            autopilot=self.autopilot.statistics() if self.autopilot is not None else None,
            forwarding=self.forwarder.statistics() if self.forwarder is not None else None,
            feed=self.ground.feed.statistics(),
            manifest=self.ground.fsm.catalog.totals(),
            storage=self.keeper.statistics(),
            log=self.ground.log.statistics(),
        )

    def _counts(self) -> Counts:
        queries, path = self.queries.statistics(), self.writer
        return Counts(
            rows_total=self.buffer.statistics().records_written_total,
            queries_total=queries.started_total,
            storage_bytes=self.ground.fsm.catalog.totals().bytes,
            active_queries=queries.running,
            applied_index=self.ground.fsm.catalog.index,
            durable_sequence=path.durable_sequence,
            admitted_sequence=path.admitted_sequence,
            refuses_writes=self.readiness.refuses_writes() or "",
            refuses_queries=self.readiness.refuses_queries() or "",
        )

    def _address(self) -> str:
        transport = self.consensus.transport
        return str(transport.address) if transport is not None else ""

    def _held_epoch(self) -> int:
        lease = self.ground.fsm.catalog.leases.get(WRITER)
        return lease.epoch if lease is not None and lease.holder == self.node else 0

    def _reachable(self) -> Sequence[str]:
        transport = self.consensus.transport
        return sorted(transport.sessions()) if transport is not None else ()

    def _post_rows(self, name: str, payload: bytes, *, is_bulk: bool) -> bool:
        transport = self.consensus.transport
        return transport is not None and transport.post(name, Channel.WAL, payload, is_bulk=is_bulk)

    def _check_cores(self, cores: int) -> None:
        check_cores(self.ground.licence, (), self.node, cores)

    def _catch_up(self) -> Mapping[str, object] | None:
        if self.puller is None:
            return None
        found = self.puller.statistics()
        return {
            "pulled": found.pulled_files_total,
            "failed": found.failed_attempts_total,
            "missing": found.missing_files,
            "inflight_count": found.under_way,
        }

    async def _wait_leases_gone(self) -> None:
        with self.ground.feed.subscribe() as changes:
            while any(lease.holder == self.node for lease in self.ground.fsm.catalog.leases.values()):
                await changes.receive()

    async def _wait_sight(self) -> None:
        """Return when what is known of the nodes may have changed."""
        with self.ground.feed.subscribe() as changes, self.registry.events().subscribe() as notices:
            async with trio.open_nursery() as nursery:

                async def first(wait: Callable[[], Awaitable[object]]) -> None:
                    with suppress(StopAsyncIteration):
                        await wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(first, changes.receive)
                nursery.start_soon(first, notices.__anext__)

    async def _leave(self) -> None:
        assert self.leaving is not None, "a node alone has no such page"
        await self.leaving.leave()
