"""READ FIRST. A node from birth to orderly end: one nursery, every part built here and handed its neighbours. No
decisions.

Order of birth: identity, consensus (its log is replayed), HTTP (answers "not ready" meanwhile), the catalog as the
cluster knows it, lease, WAL and buffer, intake. Order of death: no new writes, HTTP finishes what it has, the buffer
goes to files, the logs are marked as ended. A disk that fails takes the nursery down, and the process with it; what was
acknowledged is on disk by then.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from arc.api.app import Api
from arc.api.deps import Deps
from arc.api.server import serve
from arc.catalog.bootstrap import bootstrap_commands
from arc.catalog.cells import FileStats
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.cluster.calls import CallsStatistics
from arc.cluster.config import consensus_config
from arc.cluster.consensus import Neighbours, running_consensus
from arc.cluster.feed import Feed, FeedStatistics
from arc.cluster.proposals import ProposalsStatistics
from arc.cluster.registrar import RegistrarStatistics
from arc.cluster.transport import TransportStatistics
from arc.config import Config
from arc.duties import ReplicationStatistics, WriterDuty
from arc.errors import Conflict, Corrupt, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import NodeId, Position
from arc.ingest.buffer import Buffer, BufferStatistics
from arc.ingest.flush import FlushStatistics
from arc.ingest.formats import Formats
from arc.ingest.intake import IntakeStatistics
from arc.ingest.memory import MemoryStatistics
from arc.ingest.replay import Progress
from arc.ports import Ports
from arc.query.engine import Engine
from arc.query.registry import QueryStatistics
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker
from arc.raft.types import Peer
from arc.replication.crossing import Replication
from arc.replication.keeper import InSyncStatistics
from arc.replication.sender import SenderStatistics
from arc.security import tokens
from arc.storage.keeper import DATA, Drift, FileKeeper, KeeperStatistics
from arc.storage.wal.log import WalStatistics
from arc.telemetry import Log, LogStatistics, RingSink
from arc.wire.facts import PeerFacts

IDENTITY = "node.json"

SEEN_SECONDS = 5.0
"""How long a query waits to see what its caller has seen. A healthy node needs milliseconds; a client's patience is
longer.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Told once, when the node is ready. ``bootstrap_token`` is the first admin token, if this start made one."""

    host: str
    port: int
    node_id: str
    recovered_rows: int
    bootstrap_token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatistics:
    """Everything this node counts. Parts that are not open yet are absent."""

    ingest: IntakeStatistics | None
    buffer: BufferStatistics | None
    memory: MemoryStatistics | None
    wal: WalStatistics | None
    flush: FlushStatistics | None
    registrar: RegistrarStatistics | None
    replication: ReplicationStatistics | None
    sender: SenderStatistics | None
    in_sync: InSyncStatistics | None
    query: QueryStatistics
    catalog: ProposalsStatistics
    peers: TransportStatistics | None
    calls: CallsStatistics | None
    feed: FeedStatistics
    manifest: FileStats
    storage: KeeperStatistics
    log: LogStatistics


class NodeState:
    """What this node may do now, for readiness checks and the API."""

    def __init__(self, writer: WriterDuty, feed: Feed) -> None:
        self._writer = writer
        self._feed = feed
        self.starting: str | None = "the node is starting"
        self.elsewhere: str | None = None
        """Why neither writes nor queries are for this node, though it takes part in the cluster."""
        self.stopping = False

    def behind(self) -> str | None:
        """Why the catalog here may lack what was agreed on long ago; None once it has caught up after the start."""
        return self.starting

    def refuses_writes(self) -> str | None:
        """Why writes are not taken; None when they are."""
        return self._refuses_all() or self._writer.closed_because

    def refuses_queries(self) -> str | None:
        """Why queries are not answered; None when they are."""
        return self._refuses_all()

    def _refuses_all(self) -> str | None:
        return self.starting or ("the node is stopping" if self.stopping else self.elsewhere)

    async def wait_seen(self, position: Position | None, index: int | None) -> None:
        """Return once queries here see that write and that entry of the catalog. Raises Unavailable when not soon."""
        with trio.move_on_after(SEEN_SECONDS):
            if index is not None:
                await self._feed.wait_index(index)
            if position is not None:
                await self._writer.wait_admitted(position.sequence)
            return
        raise Unavailable(
            f"this node has not seen position {position} or index {index} within {SEEN_SECONDS:g} s",
            code="not_seen_yet",
        )

    async def flush_all(self) -> None:
        """Write every buffered row to files. Raises Unavailable."""
        await self._writer.flush_all()


async def run_node(
    config: Config,
    ports: Ports,
    log: Log,
    ring: RingSink,
    *,
    version: str,
    on_started: Callable[[Started], None],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: trio.Event,
) -> None:
    """Run until ``stop``, then end in order. Raises DiskFailed, Corrupt, InvalidRequest, OSError (the port is
    taken).
    """
    identity = await ports.workers.run(_identity, ports, config)
    node = identity.node
    log = log.bind(node=node)
    log.info("node_starting", version=version, data=ports.disk.native_path(""))
    fsm, feed = ClusterFSM(), Feed()

    def catalog() -> Catalog:
        return fsm.catalog

    def describe() -> PeerFacts:
        return PeerFacts(role=config.node.role, version=version)

    async with (
        running_consensus(
            ports,
            consensus_config(config.cluster),
            config.cluster,
            Peer(node, identity.incarnation),
            is_founder=identity.is_founder,
            fsm=fsm,
            feed=feed,
            log=log,
            neighbours=Neighbours(describe=describe),
        ) as consensus,
        trio.open_nursery() as nursery,
    ):
        proposals = consensus.proposals
        keeper = FileKeeper(ports.disk, ports.workers, ports.clock, config.storage)
        buffer = Buffer()
        writer = WriterDuty(
            ingest=config.ingest,
            wal=config.wal,
            storage=config.storage,
            ports=ports,
            node=node,
            catalog=catalog,
            feed=feed,
            propose=proposals,
            buffer=buffer,
            replication=Replication(),
            post=None,
            is_readable=keeper.is_here,
            stored=keeper.came,
            leader_heard=lambda: 0.0,
            log=log,
        )
        engine = Engine(
            config.query,
            roots=[ports.disk.native_path(DATA)],
            native_path=lambda path: ports.disk.native_path(f"{DATA}/{path}"),
        )
        queries = QueryService(
            config=config.query,
            engine=engine,
            take_snapshot=SnapshotTaker(catalog, buffer.snapshot, keeper),
            ports=ports,
        )
        state = NodeState(writer, feed)
        formats = Formats()

        def statistics() -> NodeStatistics:
            path = writer.statistics()
            reign = path.reign if path is not None else None
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
                query=queries.statistics(),
                catalog=proposals.statistics(),
                peers=consensus.transport.statistics() if consensus.transport is not None else None,
                calls=consensus.calls.statistics() if consensus.calls is not None else None,
                feed=feed.statistics(),
                manifest=catalog().totals(),
                storage=keeper.statistics(),
                log=log.statistics(),
            )

        api = Api(
            Deps(
                server=config.server,
                auth=config.auth,
                clock=ports.clock,
                rng=ports.rng,
                workers=ports.workers,
                log=log.bind(component="http"),
                logs=ring,
                ingest=writer,
                decoders=formats,
                queries=queries,
                proposer=proposals,
                raft=consensus.raft,
                members=consensus.members,
                node=state,
                catalog=catalog,
                statistics=statistics,
                version=version,
                materialised_bytes_max=config.query.materialised_bytes_max,
            )
        )
        http_stop = trio.Event()
        http_stopped = trio.Event()

        async def http(*, task_status: trio.TaskStatus[int]) -> None:
            await serve(api, config.server, ports=ports, log=log, stopping=http_stop, task_status=task_status)
            http_stopped.set()

        port = await nursery.start(http)
        nursery.start_soon(ports.workers.run, formats.warm)
        nursery.start_soon(queries.warm)
        state.starting = "the node waits to hear what the cluster has agreed on"
        token: str | None = None

        async def take_part() -> None:
            nonlocal token
            while True:
                await consensus.catch_up()
                if identity.is_founder and token is None:
                    token = _first_token(config, ports, catalog())
                hashed = tokens.hash_token(token) if token is not None else None
                try:
                    for command in bootstrap_commands(
                        catalog(),
                        node,
                        ports.clock.wall_us(),
                        hashed,
                        described=consensus.describe_me(),
                        is_alone=not consensus.raft.others(),
                    ):
                        (await proposals.propose(command)).unwrap()
                    return
                except (Unavailable, OutcomeUnknown, Conflict) as error:
                    # The leader went, or what was asked in vain was agreed on after all: look again, ask for the rest.
                    log.info("start_repeated", reason=error.message)

        if not await _unless(stop, take_part):
            nursery.cancel_scope.cancel()
            return
        state.starting = "the node is starting"
        lease = catalog().leases["writer"]
        if lease.holder == node:
            _tell_drift(log, await keeper.look(catalog().all_files()))
        else:
            state.elsewhere = f"the rows are on {lease.holder}, which holds the writer lease; ask it"
        recovered = await nursery.start(writer.run, on_progress)
        state.starting = None
        log.info("node_ready", host=config.server.host, port=port, recovered_rows=recovered.rows, epoch=lease.epoch)
        on_started(
            Started(
                host=config.server.host,
                port=port,
                node_id=node,
                recovered_rows=recovered.rows,
                bootstrap_token=token if not config.auth.bootstrap_token else None,
            )
        )
        await stop.wait()
        log.info("node_stopping")
        state.stopping = True
        writer.close("the node is stopping")
        http_stop.set()
        await http_stopped.wait()
        await writer.finish()
        await ports.workers.run(engine.close)
        await consensus.hand_over()
        nursery.cancel_scope.cancel()
    log.info("node_stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this data directory belongs to. A wiped node is another incarnation: it has forgotten what it promised."""

    node: NodeId
    incarnation: int
    is_founder: bool


def _identity(ports: Ports, config: Config) -> Identity:
    """The name and incarnation of this node: kept since the first start, chosen by the operator or made up. Blocking.

    Raises InvalidRequest when another name is configured than the one the data was written under.
    """
    disk, chosen = ports.disk, config.node.id
    if disk.exists(IDENTITY):
        try:
            found = json.loads(disk.read(IDENTITY))
            # Before there were clusters a node had no incarnation and had always founded its own.
            kept = Identity(
                node=NodeId(found["node_id"]),
                incarnation=int(found.get("incarnation", 1)),
                is_founder=bool(found.get("is_founder", True)),
            )
        except (ValueError, KeyError, AttributeError) as error:
            raise Corrupt("the node's identity cannot be read", path=IDENTITY, offset=0) from error
        if chosen and chosen != kept.node:
            raise InvalidRequest(
                f'node.id = "{chosen}", but this data directory belongs to node "{kept.node}"; '
                "remove node.id from the configuration, or point node.data_dir to an empty folder"
            )
        return kept
    identity = Identity(
        node=NodeId(chosen or f"arc-{ports.rng.bytes(4).hex()}"),
        incarnation=2 + int.from_bytes(ports.rng.bytes(6), "big"),
        is_founder=not (config.cluster.enabled and config.cluster.join),
    )
    facts = {
        "node_id": identity.node,
        "incarnation": identity.incarnation,
        "is_founder": identity.is_founder,
        "created_us": ports.clock.wall_us(),
    }
    disk.write_durable(IDENTITY, json.dumps(facts).encode())
    return identity


async def _unless(stop: trio.Event, wait: Callable[[], Awaitable[None]]) -> bool:
    """Wait for something; False when the node was asked to stop before it came."""
    has_come = False
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            await stop.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        await wait()
        has_come = True
        nursery.cancel_scope.cancel()
    return has_come


def _first_token(config: Config, ports: Ports, catalog: Catalog) -> str | None:
    """The first admin token, when there is none yet and tokens are asked for."""
    if not config.auth.enabled or catalog.tokens:
        return None
    return config.auth.bootstrap_token or tokens.generate_token(ports.rng.bytes(32))


def _tell_drift(log: Log, drift: Drift) -> None:
    for path in (*drift.missing, *drift.wrong_size):
        log.error(
            "file_missing",
            path=path,
            effect="queries that need it fail",
            next_step="restore it from a backup; the manifest keeps its place and checksum",
        )
    if drift.unknown:
        log.warning("orphans_quarantined", files=len(drift.unknown), reason="left over from before a registration")
