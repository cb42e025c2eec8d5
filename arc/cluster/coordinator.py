"""The cluster side of one node under one name: it runs the parts that watch and decide, and answers what others ask.

It owns no facts. Who holds a lease, which files there are and who is a member is read from the catalog; who is well
from the registry; who leads from consensus. So there is nothing to keep equal (P-18), and an answer here is as old as
the catalog of this node: whoever acts on a lease carries its epoch, which the catalog checks again (P-16).

`run` is its life: parts start in order and end with it. The manifest is behind `manifest`, what operators see and order
behind `operations`; the way a node joins and leaves is `joining` and `leaving`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Protocol

import trio

from arc.catalog.commands import COMPACTOR, WRITER
from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeRole, NodeState, RoleCapabilities
from arc.cluster.config import ClusterConfig
from arc.cluster.document import status_document
from arc.cluster.failover import FailoverConfig
from arc.cluster.failover_managers import LeaseManager
from arc.cluster.feed import Feed, Subscription
from arc.cluster.health import HealthChecker
from arc.cluster.manifest_calls import ManifestCalls
from arc.cluster.operations import Members, Operations, Raft
from arc.cluster.registry import Registry
from arc.cluster.views import NodeView
from arc.errors import (
    AlreadyRunning,
    ClusterNotEnabled,
    CompactionNotAllowed,
    Conflict,
    IngestNotAllowed,
    NodeAlreadyExists,
    NotRunning,
    QueryNotAllowed,
    TooLarge,
    TooManyNodes,
)
from arc.ids import Epoch, NodeId
from arc.license import WRITER_FAILOVER, License, check_clustering, check_cores
from arc.ports import Clock
from arc.raft.types import Peer
from arc.telemetry import Log


class Routing(Protocol):
    """`arc.cluster.router.Router`, as far as it is looked at here."""

    def stats(self) -> Mapping[str, object]:
        """For status pages."""
        ...


class Replication(Protocol):
    """What copies rows and files from node to node, as far as it is looked at here."""

    def is_ready(self) -> bool:
        """Whether this node has what it lacked when it started."""
        ...

    def catch_up_status(self) -> Mapping[str, object] | None:
        """How far it is with that; None when it fetches nothing."""
        ...

    def stats(self) -> Mapping[str, object]:
        """For status pages."""
        ...


class Coordinator:
    """See the module. ``refuses_writes`` says why this node takes no writes now, None when it does."""

    def __init__(
        self,
        *,
        config: ClusterConfig,
        licence: License,
        registry: Registry,
        checker: HealthChecker,
        managers: Mapping[str, LeaseManager],
        raft: Raft,
        members: Members,
        feed: Feed,
        manifest: ManifestCalls,
        operations: Operations,
        refuses_writes: Callable[[], str | None],
        clock: Clock,
        log: Log,
        router: Routing | None = None,
        replication: Replication | None = None,
    ) -> None:
        self.licence = licence
        self.registry = registry
        self.checker = checker
        self.managers = managers
        self.raft = raft
        self.router = router
        self.manifest = manifest
        self.operations = operations
        self._config = config
        self._members = members
        self._feed = feed
        self._refuses_writes = refuses_writes
        self._clock = clock
        self._log = log.bind(component="coordinator")
        self._replication = replication
        self._stopping: trio.Event | None = None
        self._ended = trio.Event()

    def __repr__(self) -> str:
        held = ",".join(lease.name for lease in self._catalog.leases.values() if lease.holder == self.local_node_id)
        return f"<Coordinator {self.local_node_id} {self.role} leader={self.is_leader} holds={held or 'nothing'}>"

    # ------------------------------------------------------------------------------------------------------------ life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch and decide until cancelled, or until `stop`. It may be run again afterwards.

        Raises AlreadyRunning, and LicenseRequired or ClusteringFeatureRequired: a node of a cluster never goes on alone
        because of its licence (P-45).
        """
        if self._stopping is not None:
            raise AlreadyRunning("the coordinator of this node runs already")
        if self._config.enabled:
            check_clustering(self.licence, self._clock.wall_us())
        self._stopping, self._ended = trio.Event(), trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                for run in (
                    self.registry.run,
                    self.checker.run,
                    self.operations.run,
                    *(manager.run for manager in self.managers.values()),
                ):
                    await nursery.start(run)
                self._log.info("coordinator_started", role=self.role, leases=sorted(self.managers))
                task_status.started()
                await self._stopping.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._stopping = None
            self._ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Coordinator]:
        """From the start to the end of the block. Raises as `run`."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.run)
            yield self
            self.stop()

    def stop(self) -> None:
        """Ask `run` to end; fine when it does not run."""
        if self._stopping is not None:
            self._stopping.set()

    async def close(self) -> None:
        """`stop`, and return when everything has ended."""
        if self._stopping is not None:
            self.stop()
            await self._ended.wait()

    @property
    def is_running(self) -> bool:
        """Whether the parts run."""
        return self._stopping is not None

    # -------------------------------------------------------------------------------------------------------- this node

    @property
    def local_node_id(self) -> NodeId:
        """The name of this node."""
        return NodeId(self.raft.me.name)

    @property
    def local_node(self) -> NodeView:
        """This node as it sees itself."""
        return self.registry.local()

    @property
    def role(self) -> NodeRole:
        """What this node is for; it reads as its text."""
        return self.local_node.role

    @property
    def capabilities(self) -> RoleCapabilities:
        """What the role allows."""
        return self.role.capabilities

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows. A node alone is a cluster of one and leads itself."""
        return self.raft.is_leader

    @property
    def leader_addr(self) -> str:
        """Where the leader's peers reach it; empty while nobody is known to lead, or it listens for none."""
        leader = self.raft.leader
        view = self.registry.get(leader.name) if leader is not None else None
        return view.address if view is not None else ""

    def require_ingest(self) -> None:
        """Raise IngestNotAllowed unless the role takes writes."""
        if not self.capabilities.can_ingest:
            raise IngestNotAllowed(f"{self.local_node_id} is a {self.role}, which does not take writes")

    def require_query(self) -> None:
        """Raise QueryNotAllowed unless the role answers queries."""
        if not self.capabilities.can_query:
            raise QueryNotAllowed(f"{self.local_node_id} is a {self.role}, which does not answer queries")

    def require_compaction(self) -> Epoch:
        """The epoch of the compactor lease. Raises CompactionNotAllowed: it is not this node's; its role says
        nothing.
        """
        held = self._catalog.leases.get(COMPACTOR)
        if held is None or held.holder != self.local_node_id:
            holder = held.holder if held is not None else "nobody"
            raise CompactionNotAllowed(f"{holder} holds the compactor lease, not {self.local_node_id}")
        return held.epoch

    # ----------------------------------------------------------------------------------------------------------- leases

    @property
    def is_primary_writer(self) -> bool:
        """Whether this node holds the writer lease: the one question behind every job that only one node may do.

        Not its role, not whether it leads, and the same with failover on and off. Where it is wrong for a moment (the
        lease moved and this node has not heard of it), the epoch of whatever it asks for is refused.
        """
        return self._holds(WRITER)

    def may_accept_ingest(self) -> bool:
        """Whether a write would be taken here now: it holds the lease, and the write path is open."""
        return self.is_primary_writer and self._refuses_writes() is None

    @property
    def is_active_compactor(self) -> bool:
        """Whether this node holds the compactor lease."""
        return self._holds(COMPACTOR)

    @property
    def active_compactor_id(self) -> str:
        """Who holds the compactor lease; empty for nobody."""
        held = self._catalog.leases.get(COMPACTOR)
        return held.holder if held is not None else ""

    @contextmanager
    def subscribe_compactor(self) -> Iterator[CompactorChanges]:
        """Hear when this node becomes the compactor and when it is no more: ``async for is_active in changes``."""
        with self._feed.subscribe() as changes:
            yield CompactorChanges(changes, self.local_node_id, self._catalog)

    # ------------------------------------------------------------------------------------------------ members, via Raft

    async def add_node_via_raft(self, address: str, *, as_learner: bool = True) -> Peer:
        """Take in the node that listens at ``address``; only on the leader.

        Raises NotRunning, ClusterNotEnabled, NodeAlreadyExists (its name belongs to another incarnation), TooManyNodes,
        and whatever else `Membership.add` raises.
        """
        self._require_running()
        self._require_enabled()
        try:
            peer, _ = await self._members.add(address, as_learner=as_learner)
        except Conflict as error:
            if error.code != "other_incarnation":
                raise
            raise NodeAlreadyExists(error.message) from error
        except TooLarge as error:
            raise TooManyNodes(error.message) from error
        return peer

    async def remove_node_via_raft(self, name: str, *, force: bool = False) -> None:
        """Let go of a node in consensus and in the catalog; only on the leader; one that lives only if nothing goes
        with it, or by ``force``. Raises as `Operations.remove`, and NotRunning.
        """
        self._require_running()
        await self.operations.remove(name, force=force)

    async def update_node_state_via_raft(self, name: str, state: NodeState) -> None:
        """Have a state agreed on, asked from any node: joining, healthy or leaving; what is seen is never agreed on.

        Raises as `Operations.set_state`, and NotRunning.
        """
        self._require_running()
        await self.operations.set_state(name, state)

    def check_node(self, name: str, cores: int) -> None:
        """Whether a node may come in with so many cores. Raises TooManyNodes, CoreLimitExceeded."""
        self.registry.require_room(name)
        check_cores(self.licence, self._catalog.nodes.values(), name, cores)

    # ------------------------------------------------------------------------------------------------------ replication

    def replication_ready(self) -> bool:
        """Whether this node has what it lacked when it started; true where nothing is copied."""
        return self._replication is None or self._replication.is_ready()

    def replication_catch_up_status(self) -> Mapping[str, object] | None:
        """How far it is with that; None where nothing is copied."""
        return self._replication.catch_up_status() if self._replication is not None else None

    def replication_stats(self) -> Mapping[str, object]:
        """What was copied."""
        return self._replication.stats() if self._replication is not None else {"enabled": False}

    # ----------------------------------------------------------------------------------------------------------- status

    def status(self) -> dict[str, object]:
        """The one document of the cluster, as JSON takes it: pages, metrics and reasons are made of the same look."""
        return status_document(self.operations.look())

    # ----------------------------------------------------------------------------------------------------------- inside

    @property
    def _catalog(self) -> Catalog:
        return self._feed.catalog

    def _holds(self, lease: str) -> bool:
        held = self._catalog.leases.get(lease)
        return held is not None and held.holder == self.local_node_id

    def _require_running(self) -> None:
        if self._stopping is None:
            raise NotRunning("the coordinator of this node does not run")

    def _require_enabled(self) -> None:
        if not self._config.enabled:
            raise ClusterNotEnabled("this node listens for no others; set cluster.enabled = true and restart it")


class CompactorChanges:
    """Becoming and losing, in turn: never the same twice, and never an old one after a new one.

    A listener that is slow may miss that the lease went and came back; then its epoch is another one, and what it works
    on is refused by the catalog.
    """

    def __init__(self, changes: Subscription, me: NodeId, catalog: Catalog) -> None:
        self._changes = changes
        self._me = me
        self.is_active = self._in(catalog)

    def __aiter__(self) -> CompactorChanges:
        return self

    async def __anext__(self) -> bool:
        """True when this node became the compactor, False when it is no more."""
        while True:
            now = self._in((await self._changes.receive()).catalog)
            if now != self.is_active:
                self.is_active = now
                return now

    def _in(self, catalog: Catalog) -> bool:
        held = catalog.leases.get(COMPACTOR)
        return held is not None and held.holder == self._me


def licensed(config: FailoverConfig, licence: License) -> FailoverConfig:
    """The failover settings that the licence allows: without its feature nobody who falls silent is replaced, while a
    first holder is chosen and orderly hand-overs work.
    """
    return config if licence.allows(WRITER_FAILOVER) else replace(config, enabled=False)
