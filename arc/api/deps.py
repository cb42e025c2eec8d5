"""What the API needs of the rest of the node, as Protocols; `arc/node.py` passes the objects that fit.

The API decides nothing about data: it reads a request, asks one of these, and puts the answer on the wire.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from arc.api.config import AuthConfig, ServerConfig
    from arc.api.forward import Forwarder
    from arc.api.principal import Principal
    from arc.backup.service import BackupService
    from arc.catalog.cluster import ClusterFacts
    from arc.catalog.commands import Command
    from arc.catalog.fsm import Catalog
    from arc.catalog.leases import Lease
    from arc.catalog.results import Result
    from arc.cluster.outlook import Outlook
    from arc.compaction.retention_runner import Outcome
    from arc.continuous.runner import Executed
    from arc.deletion.config import DeleteConfig
    from arc.deletion.orders import Order
    from arc.deletion.orders import Outcome as Deleted
    from arc.ids import Position
    from arc.ingest.columns import Request
    from arc.ingest.requests import WriteRequest, Written
    from arc.ports import Clock, Rng, Workers
    from arc.query.answer import Answer
    from arc.query.registry import RunningQuery
    from arc.raft.node import Counts
    from arc.raft.status import Status
    from arc.raft.types import Peer
    from arc.telemetry import Log, RingSink


class Ingest(Protocol):
    """The write path: `arc.ingest.intake.Intake`."""

    async def write(self, request: WriteRequest) -> Written:
        """Store a decoded request durably. Runs in the intake's own task, so that a cancelled caller changes nothing.

        Raises InvalidRequest (every row refused; ``refused`` tells why), Overloaded, Unavailable, OutcomeUnknown.
        """
        ...

    def reserve(self, size_bytes: int) -> AbstractContextManager[None]:
        """Count bytes of a request that is being read and parsed against the memory budget. Raises Overloaded."""
        ...


class Queries(Protocol):
    """The query path: `arc.query.service.QueryService`."""

    def open(
        self,
        sql: str,
        *,
        database: str | None,
        database_explicit: bool,
        timeout_seconds: float | None = None,
        principal: Principal | None,
        remote_addr: str | None,
    ) -> AbstractAsyncContextManager[Answer]:
        """Run one read-only statement. Entering raises InvalidRequest, NotFound, Overloaded, TimedOut, Conflict.

        Leaving, for whatever reason, interrupts the engine and frees what it held.
        """
        ...

    async def estimate(
        self,
        sql: str,
        *,
        database: str | None,
        database_explicit: bool,
        timeout_seconds: float | None = None,
        principal: Principal | None,
        remote_addr: str | None,
    ) -> int:
        """Rows the statement would return. Raises as `open` does."""
        ...

    def running(self) -> Sequence[RunningQuery]:
        """Queries under way, oldest first."""
        ...

    def recent(self) -> Sequence[RunningQuery]:
        """Finished queries that are still remembered, newest first."""
        ...

    def find(self, query_id: str) -> RunningQuery:
        """A running or remembered query. Raises NotFound."""
        ...

    def cancel(self, query_id: str) -> None:
        """Interrupt a running query. Raises NotFound, Conflict (finished already)."""
        ...


class Proposer(Protocol):
    """The way to change the catalog."""

    async def propose(self, command: Command) -> Result:
        """Have the command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class Consensus(Protocol):
    """What this node knows of the cluster's agreement, and what its leader can be told: `arc.raft.node.RaftNode`."""

    def status(self) -> Status:
        """One look at the core."""
        ...

    def counts(self) -> Counts:
        """Counters since the start."""
        ...

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership to ``target``, or to whoever holds most; who got it. Raises Unavailable, InvalidRequest."""
        ...

    async def snapshot(self) -> int:
        """Write a snapshot of the catalog here and now; the index it covers. Raises Unavailable, Overloaded."""
        ...


class Members(Protocol):
    """Who takes part: `arc.cluster.membership.Membership`."""

    async def add(self, address: str, *, as_learner: bool) -> tuple[Peer, int]:
        """Take in the node that listens at ``address``; who it is, and the index of the configuration that has it.

        Raises Unavailable, Conflict, InvalidRequest, OutcomeUnknown.
        """
        ...

    async def remove(self, name: str) -> int:
        """Let go of a node; the index of the last entry that did so.

        Raises NotFound, Unavailable, Conflict, OutcomeUnknown.
        """
        ...


class Observation(Protocol):
    """Something that this node saw of another one. Never agreed on."""

    @property
    def sequence(self) -> int:
        """Grows by one with each observation since the start of this process, from 1."""
        ...

    @property
    def at_us(self) -> int:
        """By the wall clock of this node."""
        ...

    @property
    def node(self) -> str:
        """Who was seen."""
        ...

    @property
    def kind(self) -> str:
        """A stable name, as `node_unhealthy`."""
        ...

    @property
    def words(self) -> str:
        """The same for people."""
        ...


class ClusterView(Protocol):
    """The cluster as this node sees it, and what its operator can ask of it: `arc.cluster.operations.Operations`.

    Looking never waits and never fails. Every order raises NotLeading or Unavailable where it cannot be carried out
    here and now, Conflict where it contradicts what stands, NotFound for a node that is not known, and OutcomeUnknown.
    """

    def look(self) -> Outlook:
        """Everything that is known now, at one moment."""
        ...

    def observed(self) -> Sequence[Observation]:
        """What was seen of other nodes: the last ones, oldest first, bounded."""
        ...

    def health_checker(self) -> Mapping[str, object]:
        """Its settings: running, check_interval_ms, check_timeout_ms, unhealthy_threshold."""
        ...

    async def remove(self, name: str, *, force: bool) -> None:
        """Let go of a node; of one that lives only if nothing goes with it, or by ``force``."""
        ...

    async def drain(self, name: str) -> None:
        """Give the node nothing new and take its leases and leadership; it stays a member."""
        ...

    async def undrain(self, name: str) -> None:
        """Give the node work again."""
        ...

    async def failover(self, lease: str, target: str | None, *, reason: str) -> Lease:
        """Hand a lease over in order, to ``target`` or to the best candidate; nothing acknowledged is lost."""
        ...

    async def promote(self, name: str, *, reason: str) -> Lease:
        """Make a node the writer though it may lack acknowledged rows. The catalog remembers it."""
        ...

    async def assign_compactor(self, name: str) -> tuple[Lease, float]:
        """Give the compactor's lease to a node; how many seconds it is then kept from being taken away again."""
        ...

    async def converge_voters(self, *, dry_run: bool, allow_single_voter: bool) -> Mapping[str, object]:
        """Make the voters those that the rule of roles wants; what was or would be done, for JSON."""
        ...

    async def transfer_leadership(self, target: str | None) -> Peer:
        """Hand leadership to ``target``, or to whoever holds most; who got it."""
        ...

    async def found(self) -> ClusterFacts:
        """Found the cluster with this node as its first member."""
        ...

    async def leave(self) -> None:
        """Hand over what this node holds, and be no member any more."""
        ...


class RetentionOrders(Protocol):
    """Carries out policies: `arc.compaction.retention_runner.RetentionRunner`."""

    @property
    def every_seconds(self) -> float:
        """So long after its last execution a policy is due again; 0: never."""
        ...

    def preview(self, policy_id: int) -> Outcome:
        """What an execution would remove now. Raises NotFound."""
        ...

    async def execute(self, policy_id: int) -> Outcome:
        """Remove what is too old now. Raises NotFound, Conflict, Unavailable, OutcomeUnknown."""
        ...


class DeletionOrders(Protocol):
    """Removes rows, measurements and databases: `arc.deletion.service.Deletions`."""

    @property
    def config(self) -> DeleteConfig:
        """Of this node."""
        ...

    async def execute(self, order: Order) -> Deleted:
        """Carry an order out, wherever the lease is. Raises Forbidden (not enabled), NotFound, InvalidRequest,
        Unavailable, OutcomeUnknown.
        """
        ...


class ContinuousOrders(Protocol):
    """Carries out continuous queries: `arc.continuous.runner.ContinuousRunner`."""

    @property
    def holds_writer(self) -> bool:
        """Whether this node holds the writer lease."""
        ...

    @property
    def is_holder(self) -> bool:
        """Whether this node carries the schedules out now."""
        ...

    def wake(self) -> int:
        """Look at once what is due; how many queries are active."""
        ...

    async def execute(self, query_id: int, start_us: int | None, end_us: int | None) -> Executed:
        """Execute windows now. Raises NotFound, InvalidRequest, Conflict, TooLarge, Unavailable, OutcomeUnknown."""
        ...

    async def preview(self, query_id: int, start_us: int | None, end_us: int | None) -> Executed:
        """What that would write. Raises the same."""
        ...


class CompactionOrders(Protocol):
    """Whoever compacts, wherever it is: `arc.node.merging.Merging`. All raise Unavailable and OutcomeUnknown."""

    async def look(self) -> Mapping[str, object]:
        """``holder``, ``settings`` (`arc.compaction.config`), and ``statistics``, ``running``, ``history``: fields as
        in `arc.compaction.reports`.
        """
        ...

    async def candidates(self) -> Mapping[str, object]:
        """``count`` and ``candidates``."""
        ...

    async def trigger(self, tiers: tuple[str, ...], database: str) -> Mapping[str, object]:
        """``holder`` and ``cycle``. Raises AlreadyRunning, InvalidRequest."""
        ...

    async def pause(self) -> Mapping[str, object]:
        """``holder``."""
        ...

    async def resume(self) -> Mapping[str, object]:
        """``holder``."""
        ...

    async def cancel(self) -> Mapping[str, object]:
        """``holder`` and ``done``."""
        ...


class NodeState(Protocol):
    """What this node may do now."""

    def behind(self) -> str | None:
        """Why the catalog here may lack what was agreed on long ago; None once it has caught up after the start."""
        ...

    def not_ready(self) -> str | None:
        """Why no requests should be sent here now; None when this node serves them, itself or by passing them on."""
        ...

    def refuses_writes(self) -> str | None:
        """Why writes are not taken now; None when they are."""
        ...

    def refuses_queries(self) -> str | None:
        """Why queries are not answered now; None when they are."""
        ...

    async def wait_seen(self, position: Position | None, index: int | None, *, is_strong: bool = False) -> None:
        """Return once this node's queries see that write, that entry of the catalog, and with ``is_strong`` all that
        was acknowledged before, on whichever node. Raises Unavailable if not soon.
        """
        ...

    async def flush_all(self) -> None:
        """Write every buffered row to files that queries and other nodes can see. Raises Unavailable."""
        ...


class Decoders(Protocol):
    """Bytes of a write request to columns. Every method is pure and may run on a worker thread.

    All raise InvalidRequest for a body that is not of the format at all; single bad lines come back as ``refused``.
    """

    def inflate(self, body: bytes, limit_bytes: int) -> bytes:
        """Undo gzip or zstd, told by the first bytes. Raises TooLarge, InvalidRequest."""
        ...

    def lines(self, body: bytes, precision: str, now_us: int) -> Request:
        """InfluxDB line protocol."""
        ...

    def msgpack(self, body: bytes, now_us: int) -> Request:
        """MessagePack, all forms."""
        ...

    def arrow(
        self, body: bytes, measurement: str | None, now_us: int, tags: Sequence[str] | None = None
    ) -> tuple[str | None, Request]:
        """One Arrow IPC stream, and the database its metadata names, which the other arguments override."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deps:
    """Everything `build_app` is given."""

    server: ServerConfig
    auth: AuthConfig
    clock: Clock
    rng: Rng
    workers: Workers
    log: Log
    logs: RingSink
    ingest: Ingest
    decoders: Decoders
    queries: Queries
    proposer: Proposer
    node: NodeState
    retention: RetentionOrders
    deletions: DeletionOrders
    continuous: ContinuousOrders
    backups: BackupService
    compaction: CompactionOrders
    catalog: Callable[[], Catalog]
    statistics: Callable[[], object]
    version: str
    raft: Consensus | None = None
    members: Members | None = None
    """None on a node that listens for no others."""
    cluster: ClusterView | None = None
    """None on a node alone."""
    forward: Forwarder | None = None
    """Finds the node for writes and queries; None on a node alone, where everything is answered."""
    read_index: Callable[[], Awaitable[int]] | None = None
    """For strong reads: the index of the catalog that this node holds once it has all that was agreed on before the
    call. Raises Unavailable. None where this node is all there is.
    """
    decode_threads: int = 2
    materialised_bytes_max: int = 512 << 20
