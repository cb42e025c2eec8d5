"""How a node is, what it sees of the others, and how nodes come in, vote and go."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from arc.catalog.commands import DescribeNode
from arc.catalog.leases import may_hold
from arc.catalog.values import WRITER
from arc.cluster.admission import Admission
from arc.cluster.autopilot import Autopilot
from arc.cluster.consensus import Consensus
from arc.cluster.gathering import Assembly
from arc.cluster.health import HealthChecker
from arc.cluster.heartbeat import Heartbeats
from arc.cluster.joining import Joiner
from arc.cluster.leaving import Leaving
from arc.cluster.registry import LocalNode, Registry
from arc.errors import Conflict
from arc.license import check_cores
from arc.node.farewell import Farewells
from arc.node.ground import Ground
from arc.node.readiness import Readiness
from arc.node.rows import Rows
from arc.node.vitals import Counts, Vitals
from arc.replication.holdings import Holdings
from arc.wire.channels import Channel

LOOK_SECONDS = 0.5
HEIRLESS_LOOKS = 2
"""Whoever is about to be seen as healthy is waited for so long."""


class Neighbourhood:
    """The parts. Those that need a peer port are None on a node alone."""

    def __init__(self, ground: Ground, consensus: Consensus, rows: Rows) -> None:
        self._ground = ground
        self._consensus = consensus
        self._rows = rows
        self._build_sight()
        self._build_membership()

    def __repr__(self) -> str:
        return f"<Neighbourhood {self.readiness!r} {self.registry!r}>"

    def _build_sight(self) -> None:
        ground, ports, raft = self._ground, self._ground.ports, self._consensus.raft
        found = {"http": ground.certificates, "peer": self._consensus.certificates}
        self.certificates = {port: each for port, each in found.items() if each is not None}
        self.readiness = Readiness(
            self._rows.writer,
            ground.feed.wait_index,
            role=ground.role,
            membership=lambda: self.joiner.not_ready() if self.joiner is not None else None,
            holds=lambda: self.held_epoch() > 0,
            forwards=self._consensus.transport is not None,
        )
        self.vitals = Vitals(self._counts, lambda: ground.fsm.catalog.totals().bytes, ports.clock, ports.workers)
        transport = self._consensus.transport
        self.registry = Registry(
            feed=ground.feed,
            local=LocalNode(
                name=self._ground.node,
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
        ground, raft, calls = self._ground, self._consensus.raft, self._consensus.calls
        self.admission: Admission | None = None
        self.assembly: Assembly | None = None
        self.joiner: Joiner | None = None
        self.leaving: Leaving | None = None
        self.holdings: Holdings | None = None
        self.farewells: Farewells | None = None
        self.autopilot: Autopilot | None = None
        if calls is None:
            return
        cluster, ports, identity, log = ground.config.cluster, ground.ports, ground.identity, ground.log
        self.admission = Admission(
            cluster.name,
            identity,
            raft,
            self._consensus.members,
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
            ground.node, self._rows.reachable, lambda: ground.fsm.catalog, self._rows.is_only_copy, log
        )
        self.farewells = Farewells(self.holdings.only_here, calls.call)
        self.leaving = Leaving(
            identity,
            raft,
            self._consensus.proposals,
            lambda: ground.fsm.catalog,
            self._wait_leases_gone,
            self.holdings.wait_held_elsewhere,
            call=calls.call,
            log=log,
        )
        self.autopilot = Autopilot(
            raft,
            self._consensus.members,
            self._consensus.proposals,
            lambda: ground.fsm.catalog,
            clock=ports.clock,
            log=log,
            dead_voter_seconds=cluster.dead_voter_seconds,
        )

    # ---------------------------------------------------------------------------------------------------------- facts

    def description(self) -> DescribeNode:
        """What the catalog is told of this node."""
        identity, facts = self._ground.identity.current, self._ground.facts
        return DescribeNode(
            name=self._ground.node,
            incarnation=identity.incarnation,
            address=self._address(),
            role=facts.role,
            api_address=facts.api_address,
            version=facts.version,
            cores=facts.cores,
            at_us=self._ground.ports.clock.wall_us(),
        )

    def held_epoch(self) -> int:
        """Epoch of the writer lease if this node holds it, else 0."""
        lease = self._ground.fsm.catalog.leases.get(WRITER)
        return lease.epoch if lease is not None and lease.holder == self._ground.node else 0

    def _counts(self) -> Counts:
        queries, path = self._rows.queries.statistics(), self._rows.writer
        return Counts(
            rows_total=self._rows.buffer.statistics().records_written_total,
            queries_total=queries.started_total,
            active_queries=queries.running,
            applied_index=self._ground.fsm.catalog.index,
            durable_sequence=path.durable_sequence,
            admitted_sequence=path.admitted_sequence,
            refuses_writes=self.readiness.refuses_writes() or "",
            refuses_queries=self.readiness.refuses_queries() or "",
            disk_free_bytes=path.doors.free_bytes,
            disk_stalled_seconds=path.doors.stalled_seconds,
            certificate_expires_us=min((each.expires_us for each in self.certificates.values()), default=0),
        )

    def _address(self) -> str:
        transport = self._consensus.transport
        return str(transport.address) if transport is not None else ""

    def _check_cores(self, cores: int) -> None:
        check_cores(self._ground.licence, (), self._ground.node, cores)

    async def _wait_leases_gone(self) -> None:
        """Return when this node holds no lease. Raises Conflict: nobody is left who could take one."""
        me, feed = self._ground.node, self._ground.feed
        with feed.subscribe() as changes:
            for looks in itertools.count():
                held = [lease.name for lease in feed.catalog.leases.values() if lease.holder == me]
                if not held:
                    return
                others = [view for view in self.registry.healthy() if not view.is_local]
                if looks >= HEIRLESS_LOOKS and not any(may_hold(lease, view.role) for lease in held for view in others):
                    raise Conflict(
                        f"nobody else can hold the lease of the {' and the '.join(held)}", code="leases_held"
                    )
                with trio.move_on_after(LOOK_SECONDS):
                    await changes.receive()

    async def wait_sight(self) -> None:
        """Return when what is known of the nodes may have changed."""
        with self._ground.feed.subscribe() as changes, self.registry.events().subscribe() as notices:
            async with trio.open_nursery() as nursery:

                async def first(wait: Callable[[], Awaitable[object]]) -> None:
                    with suppress(StopAsyncIteration):
                        await wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(first, changes.receive)
                nursery.start_soon(first, notices.__anext__)
