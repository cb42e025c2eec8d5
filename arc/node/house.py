"""Every part of a node, built in order and handed its neighbours; no decisions.

A part that has to do with other nodes is here whether there are others or not: a node alone is a cluster of one. What
needs a peer port is absent without one, and only that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from arc.api.app import Api
from arc.api.deps import Deps
from arc.api.forward import Forwarder
from arc.backup.service import BackupService
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.bridge import CompactionBridge
from arc.cluster.consensus import Consensus
from arc.cluster.coordinator import Coordinator, licensed
from arc.cluster.failover import compactor_policy, writer_policy
from arc.cluster.failover_managers import (
    CompactorFailoverManager,
    LeaseManager,
    WriterFailoverManager,
)
from arc.cluster.manifest_calls import ManifestCalls
from arc.cluster.operations import LifeOrders, Operations
from arc.cluster.router import Router
from arc.cluster.whereabouts import Heard
from arc.compaction.retention_runner import RetentionRunner
from arc.compaction.runner import Compactor
from arc.continuous.names import open_files
from arc.continuous.runner import ContinuousRunner
from arc.deletion.service import KIND as DELETE
from arc.duties import CompactorDuty
from arc.ids import Epoch
from arc.node.backups import build_backups
from arc.node.copies import Copies
from arc.node.deleting import build_deletions
from arc.node.farewell import KIND as FAREWELL
from arc.node.ground import Ground
from arc.node.handover import KIND as HAND_OVER
from arc.node.handover import HandOvers
from arc.node.merging import KIND as COMPACTION
from arc.node.merging import Merging
from arc.node.neighbourhood import Neighbourhood
from arc.node.orders import Convergence, lags
from arc.node.results import ResultRows
from arc.node.rows import Rows
from arc.node.statistics import collect
from arc.raft.types import Peer
from arc.replication.fetch import KIND as FETCH
from arc.replication.fetch import SEVERAL_KIND as FETCH_SEVERAL
from arc.replication.offers import KIND as TAKE
from arc.storage.files import FileEntry
from arc.wire.channels import Channel
from arc.wire.facts import PeerFacts
from arc.wire.http import Connect, HttpClient, over_tls


class House:
    """The parts, in three storeys: rows, then what is near, then leases and doors."""

    def __init__(self, ground: Ground, consensus: Consensus) -> None:
        self.ground = ground
        self.consensus = consensus
        self.node = ground.node
        self.is_alone = consensus.transport is None
        self.rows = Rows(ground, consensus)
        self.near = Neighbourhood(ground, consensus, self.rows)
        self._build_leases()
        self._build_doors()

    def __repr__(self) -> str:
        return f"<House {self.node} {self.near.readiness!r} {self.rows.writer!r}>"

    def _build_leases(self) -> None:
        """Who holds what, and how it moves."""
        ground, config, ports, log = self.ground, self.ground.config, self.ground.ports, self.ground.log
        calls = self.consensus.calls
        self.hand_overs = HandOvers(
            self.node, self.rows.writer, self.near.held_epoch, calls.call if calls is not None else None, log
        )
        failover = licensed(config.failover, ground.licence)
        self.writer_failover = WriterFailoverManager(
            policy=writer_policy(failover, config.health),
            registry=self.near.registry,
            feed=ground.feed,
            propose=self.consensus.proposals,
            leadership=self.consensus.raft,
            clock=ports.clock,
            log=log,
            hand_over=self.hand_overs,
        )
        self.compactor_failover = CompactorFailoverManager(
            policy=compactor_policy(failover, config.health),
            registry=self.near.registry,
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
            self.near.registry.all,
            self.near.registry.local,
            rng=ports.rng,
            clock=ports.clock,
            holders_share_keys=True,
        )
        puller = self.rows.puller
        copies = Copies(puller.statistics, self.near.readiness.behind) if puller is not None else None
        compactor = compactor_policy(licensed(config.failover, ground.licence), config.health)
        self.operations = Operations(
            registry=self.near.registry,
            checker=self.near.checker,
            managers=self.managers,
            raft=raft,
            members=consensus.members,
            propose=consensus.proposals,
            life=LifeOrders(
                found=Convergence.found_already(lambda: ground.fsm.catalog),
                leave=self._leave,
                converge=Convergence(self.near.autopilot, raft, lambda: ground.fsm.catalog),
            ),
            catalog=lambda: ground.fsm.catalog,
            clock=ports.clock,
            licence=ground.licence,
            compactor_kept_seconds=compactor.kept_seconds,
            lags=lambda: lags(self.rows.writer.statistics()),
            router=lambda: self.router.stats(),
            catch_up=copies.catch_up_status if copies is not None else lambda: None,
            under_replicated=lambda living: self.rows.tally.under_replicated(living, ports.clock.wall_us()),
            copies_wanted=config.replication.factor,
            behind=self.near.readiness.behind,
            only_there=self._only_there,
        )
        self.coordinator = Coordinator(
            config=config.cluster,
            licence=ground.licence,
            registry=self.near.registry,
            checker=self.near.checker,
            managers=self.managers,
            raft=raft,
            members=consensus.members,
            feed=ground.feed,
            manifest=ManifestCalls(consensus.proposals, lambda: ground.fsm.catalog, self.node),
            operations=self.operations,
            refuses_writes=self.near.readiness.refuses_writes,
            clock=ports.clock,
            log=log,
            router=self.router,
            replication=copies,
        )
        self.retention = RetentionRunner(
            config.retention,
            consensus.proposals,
            lambda: ground.fsm.catalog,
            self.near.registry.earliest_us,
            node=self.node,
            clock=ports.clock,
            log=log,
        )
        self.backups: BackupService = build_backups(ground, consensus.proposals, self.rows)
        calls = consensus.calls
        self.compaction = CompactorDuty(self.node, ground.feed, self._compactor, log)
        self.merging = Merging(self.node, self.compaction, calls.call if calls is not None else None)
        self.deletions = build_deletions(ground, consensus, self.rows)
        self.continuous = ContinuousRunner(
            config.continuous,
            propose=consensus.proposals,
            catalog=lambda: ground.fsm.catalog,
            queries=self.rows.queries,
            results=ResultRows(
                lambda: ground.fsm.catalog,
                consensus.proposals,
                node=self.node,
                ports=ports,
                shelf=self.rows.shelf,
            ),
            files=self.rows.keeper,
            copies=self.rows.spreading,
            node=self.node,
            clock=ports.clock,
            now_us=self.near.registry.earliest_us,
            rng=ports.rng,
            log=log,
        )
        self.forwarder: Forwarder | None = None
        if not self.is_alone:
            self.forwarder = Forwarder(
                node=self.node,
                router=self.router,
                client=HttpClient(self._dial(), ports.clock),
                rng=ports.rng,
                log=log,
                wait_change=self.near.wait_sight,
                lacks_files=self.rows.lacks_files,
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
                ingest=self.rows.writer,
                decoders=self.rows.formats,
                queries=self.rows.queries,
                proposer=consensus.proposals,
                raft=raft,
                members=consensus.members,
                cluster=None if self.is_alone else self.operations,
                forward=self.forwarder,
                read_index=None if self.is_alone else raft.read,
                node=self.near.readiness,
                retention=self.retention,
                backups=self.backups,
                compaction=self.merging,
                deletions=self.deletions,
                continuous=self.continuous,
                catalog=lambda: ground.fsm.catalog,
                statistics=lambda: collect(self),
                version=ground.version,
                materialised_bytes_max=config.query.materialised_bytes_max,
            )
        )

    # ------------------------------------------------------------------------------------------- what others tell it

    @property
    def channels(self) -> Mapping[Channel, Callable[[Peer, bytes], None]]:
        """See `cluster.consensus.Neighbours`."""
        assert self.near.heartbeats is not None
        return {
            Channel.WAL: lambda peer, payload: self.rows.replication.receive(peer.name, payload),
            Channel.HEARTBEAT: self.near.heartbeats.receive,
        }

    @property
    def answerers(self) -> Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]]:
        """See `cluster.consensus.Neighbours`."""
        admission, assembly, farewells = self.near.admission, self.near.assembly, self.near.farewells
        taker = self.rows.taker
        assert admission is not None and assembly is not None and farewells is not None and taker is not None

        return {
            **admission.answerers,
            **assembly.answerers,
            HAND_OVER: self.hand_overs.answer,
            DELETE: self.deletions.answer,
            FETCH: lambda peer, question: self.rows.file_server.answer(question),
            FETCH_SEVERAL: lambda peer, question: self.rows.file_server.answer_several(question),
            FAREWELL: lambda peer, question: farewells.answer(question),
            TAKE: lambda peer, question: taker.answer(peer.name, question),
            COMPACTION: self.merging.answer,
        }

    def describe(self) -> PeerFacts:
        """See `cluster.consensus.Neighbours`."""
        return self.ground.facts

    def told_of(self, name: str) -> Heard | None:
        """See `cluster.consensus.Neighbours`."""
        return self.near.joiner.told_of(name) if self.near.joiner is not None else None

    def connected(self, peer: Peer, facts: PeerFacts) -> None:
        """See `cluster.consensus.Neighbours`."""
        self.rows.replication.peer_up(peer.name)

    def unreachable(self, peer: Peer) -> None:
        """See `cluster.consensus.Neighbours`."""
        self.rows.replication.peer_down(peer.name)
        self.near.checker.session_broke(peer.name)

    def _dial(self) -> Connect:
        """How the HTTP ports of other nodes are reached: as clients reach this one."""
        connect, certificates = self.ground.ports.network.connect_tcp, self.ground.certificates
        return connect if certificates is None else over_tls(connect, lambda: certificates.client)

    def _compactor(self, epoch: Epoch) -> Compactor:
        """The one of this epoch."""
        ground, rows, proposals = self.ground, self.rows, self.consensus.proposals

        async def doubt(entry: FileEntry, reason: str) -> None:
            await rows.scrubber.read(entry)

        return Compactor(
            config=ground.config.compaction,
            node=self.node,
            epoch=epoch,
            ports=ground.ports,
            catalog=lambda: ground.fsm.catalog,
            swap=CompactionBridge(proposals, lambda: ground.fsm.catalog, epoch, node=self.node, log=ground.log),
            copies=rows.spreading,
            fetch=rows.awaiting,
            files=rows.keeper,
            doubt=doubt,
            reserve_bytes=ground.config.storage.reserve_bytes,
            log=ground.log,
            shelf=rows.shelf,
            leaves=open_files,
        )

    async def _only_there(self, name: str) -> tuple[int, str]:
        assert self.near.farewells is not None, "a node alone has no such page"
        return await self.near.farewells(name)

    async def _leave(self) -> None:
        assert self.near.leaving is not None, "a node alone has no such page"
        await self.near.leaving.leave()
