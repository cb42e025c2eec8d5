"""READ FIRST. A node from birth to orderly end: one nursery, in which every part of the house lives. No decisions.

Order of birth: identity, a cluster to belong to (`antechamber`), consensus (its log is replayed), HTTP (answers "not
ready" meanwhile), the catalog as the cluster knows it, the log of rows and whatever a lease obliges. Order of death:
leases and leadership go to others while requests are still served, then no new ones, HTTP finishes what it has, rows
that nobody else looks after go to files, the logs are marked as ended. A disk that fails takes the nursery down, and
the process with it; what was acknowledged is on disk by then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from arc.api.server import http_certificates, serve
from arc.catalog.bootstrap import bootstrap_commands
from arc.catalog.commands import Command, ForgetNode, FoundCluster
from arc.catalog.events import NodeDescribed, NodeForgotten
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.roles import NodeState
from arc.catalog.values import WRITER
from arc.cluster.config import check_role, consensus_config
from arc.cluster.consensus import running_consensus
from arc.cluster.feed import Feed, Subscription
from arc.cluster.identity import Identity
from arc.cluster.identityfile import open_identity
from arc.cluster.joining import announcements
from arc.config import Config
from arc.errors import Conflict, OutcomeUnknown, Unavailable
from arc.ingest.replay import Progress
from arc.license import load_license
from arc.node.antechamber import must_wait, wait_for_cluster
from arc.node.ground import Ground
from arc.node.house import House
from arc.ports import Disk, Ports
from arc.replication.announcing import Announcer
from arc.replication.shelving import Shelving
from arc.security import tokens
from arc.storage.keeper import Drift
from arc.storage.objects import Objects
from arc.telemetry import Log, RingSink
from arc.wire.facts import Address

AGAIN_SECONDS = 0.5
"""Pause before a word that nobody took is said again."""

CHECK_SECONDS = 10.0
"""A start waits so long for a shared store to say that it can be used."""

SAFETY_SECONDS = 5.0
"""How often a node that is known as what it is looks although nothing was told of any node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Told once, when the node is ready. ``bootstrap_token`` is the first admin token, if this start made one."""

    host: str
    port: int
    node_id: str
    recovered_rows: int
    bootstrap_token: str | None


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
    objects: Objects | None = None,
    backup_disk: Disk | None = None,
) -> None:
    """Run until ``stop``, then end in order. ``objects`` is the store that all nodes share (``storage.backend``),
    ``backup_disk`` the one whose root is ``backup.folder``.

    Raises DiskFailed, Corrupt, InvalidRequest, OSError (a port is taken).
    """
    assert (objects is not None) == (config.storage.backend == "s3"), config.storage.backend
    role = check_role(config.node.role, config.cluster)
    licence = await ports.workers.run(load_license, config.license, ports.disk)
    identity = await ports.workers.run(
        lambda: open_identity(
            ports.disk,
            ports.workers,
            ports.rng,
            now_us=ports.clock.wall_us(),
            chosen=config.node.id,
            is_alone=not config.cluster.is_member,
        )
    )
    log = log.bind(node=identity.current.node)
    certificates = http_certificates(config.server, config.cluster.tls_ca_file, ports)
    if certificates is not None:
        await ports.workers.run(certificates.load)
    if objects is not None:
        await _check_store(objects, ports, log)
    log.info("node_starting", version=version, role=role.value, data=ports.disk.native_path(""))
    door: list[int] = []
    ground = Ground(
        config=config,
        ports=ports,
        identity=identity,
        role=role,
        licence=licence,
        fsm=ClusterFSM(),
        feed=Feed(),
        api_address=lambda: str(_reached_at(config, door[0])) if door else "",
        objects=objects,
        certificates=certificates,
        backup_disk=backup_disk,
        version=version,
        ring=ring,
        log=log,
    )
    if must_wait(identity, config.cluster):

        async def wait() -> None:
            await wait_for_cluster(config, ports, identity, ground.facts, role, certificates, log)

        if not await _unless(stop, wait):
            return
    async with (
        running_consensus(
            ports,
            consensus_config(config.cluster),
            config.cluster,
            identity,
            fsm=ground.fsm,
            feed=ground.feed,
            log=log,
            meet=lambda consensus: House(ground, consensus),
        ) as (_, house),
        trio.open_nursery() as nursery,
    ):
        await _live(house, nursery, door, on_started=on_started, on_progress=on_progress, stop=stop)
        nursery.cancel_scope.cancel()
    log.info("node_stopped")


async def _live(
    house: House,
    nursery: trio.Nursery,
    door: list[int],
    *,
    on_started: Callable[[Started], None],
    on_progress: Callable[[Progress], None],
    stop: trio.Event,
) -> None:
    ground, state = house.ground, house.near.readiness
    config, ports, log = ground.config, ground.ports, ground.log
    http_stop, http_stopped = trio.Event(), trio.Event()

    async def http(*, task_status: trio.TaskStatus[int]) -> None:
        await serve(
            house.api,
            config.server,
            certificates=ground.certificates,
            ports=ports,
            log=log,
            stopping=http_stop,
            task_status=task_status,
        )
        http_stopped.set()

    door.append(await nursery.start(http))
    nursery.start_soon(ports.workers.run, house.rows.formats.warm)
    nursery.start_soon(house.rows.queries.warm)
    await _start_neighbourhood(house, nursery)
    state.starting = "the node waits to hear what the cluster has agreed on"
    first_token: list[str] = []

    async def take_part() -> None:
        await _take_part(house, first_token)

    if not await _unless(stop, take_part):
        return
    if house.near.autopilot is not None:
        nursery.start_soon(house.near.autopilot.run)  # Not before this node has said whom it knows no more.
    state.starting = "the node is starting"
    _tell_drift(log, await nursery.start(_look_after_files, house), can_be_brought=house.rows.puller is not None)
    if house.rows.shelving is not None:
        await nursery.start(_shelve, house.rows.shelving, house)
    if house.rows.puller is not None:
        await nursery.start(_pull, house)
    if house.rows.announcer is not None:
        nursery.start_soon(_announce_files, house.rows.announcer, house)  # Not before the disk was looked at.
    if house.rows.taker is not None:
        await nursery.start(house.rows.taker.run)
    recovered = await nursery.start(house.rows.writer.run, on_progress)
    nursery.start_soon(house.compaction.run)
    state.starting = None
    schedules = await nursery.start(_carry_out_schedules, house)  # Not before all rows that were logged can be seen.
    if not house.is_alone:
        nursery.start_soon(_stay_announced, house)
    epoch = ground.fsm.catalog.lease_epoch(WRITER)
    log.info("node_ready", host=config.server.host, port=door[0], recovered_rows=recovered.rows, epoch=epoch)
    shown = first_token[0] if first_token and not config.auth.bootstrap_token else None
    on_started(
        Started(
            host=config.server.host,
            port=door[0],
            node_id=house.node,
            recovered_rows=recovered.rows,
            bootstrap_token=shown,
        )
    )
    await stop.wait()
    log.info("node_stopping")
    schedules.cancel()
    if house.near.leaving is not None:
        await house.near.leaving.stand_down()
    state.stopping = True
    house.rows.writer.close("the node is stopping")
    http_stop.set()
    await http_stopped.wait()
    await house.rows.writer.finish()
    await ports.workers.run(house.rows.engine.close)


async def _start_neighbourhood(house: House, nursery: trio.Nursery) -> None:
    """What watches, decides and passes on; on a node alone it watches itself."""
    await nursery.start(house.coordinator.run)
    await nursery.start(house.hand_overs.run)
    nursery.start_soon(house.retention.run)
    await nursery.start(house.deletions.run)
    nursery.start_soon(house.backups.run)
    if house.near.heartbeats is not None and house.near.joiner is not None:
        await nursery.start(house.near.heartbeats.run)
        nursery.start_soon(house.near.joiner.run)
    if house.forwarder is not None:
        await nursery.start(house.forwarder.run)


async def _carry_out_schedules(house: House, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await house.continuous.run()


async def _look_after_files(house: House, *, task_status: trio.TaskStatus[Drift]) -> None:
    """Compare manifest and disk, report, and go on looking after the files for ever."""
    rows, ground = house.rows, house.ground
    with ground.feed.subscribe() as changes:  # What leaves the manifest from here on is heard of.
        reigns = {lease.epoch for lease in ground.fsm.catalog.leases.values()}
        found = await rows.keeper.look(ground.fsm.catalog.all_files(), reigns)
        async with trio.open_nursery() as nursery:
            await nursery.start(rows.sweeper.run, changes)
            nursery.start_soon(rows.antientropy.run)
            task_status.started(found)


async def _pull(house: House, *, task_status: trio.TaskStatus[None]) -> None:
    assert house.rows.puller is not None
    with house.ground.feed.subscribe() as changes:
        await house.rows.puller.run(changes, task_status=task_status)


async def _shelve(shelving: Shelving, house: House, *, task_status: trio.TaskStatus[None]) -> None:
    with house.ground.feed.subscribe() as changes:
        await shelving.run(changes, task_status=task_status)


async def _check_store(objects: Objects, ports: Ports, log: Log) -> None:
    """Raises InvalidRequest: it can never work as it is set up. One that does not answer now is no reason not to start:
    what was acknowledged is in the log here.
    """
    reason = f"no answer within {CHECK_SECONDS:g} s"
    with trio.move_on_after(CHECK_SECONDS):
        try:
            await ports.workers.run(objects.check, abandon_on_cancel=True)
            return
        except Unavailable as error:
            reason = error.message
    log.warning(
        "shared_store_fails",
        reason=reason,
        effect="nothing is flushed until it answers; rows stay in memory and in the WAL",
    )


async def _announce_files(announcer: Announcer, house: House) -> None:
    with house.ground.feed.subscribe() as changes:
        await announcer.run(changes)


async def _take_part(house: House, first_token: list[str]) -> None:
    """Return when the catalog here is as the cluster knows it, and the cluster knows this node."""
    ground = house.ground
    while True:
        await house.consensus.catch_up()
        try:
            for command in _first_words(house, first_token):
                (await house.consensus.proposals.propose(command)).unwrap()
            return
        except (Unavailable, OutcomeUnknown, Conflict) as error:
            # The leader went, or what was asked in vain was agreed on after all: look again, ask for the rest.
            ground.log.info("start_repeated", reason=error.message)
            await trio.sleep(AGAIN_SECONDS)


def _first_words(house: House, first_token: list[str]) -> list[Command]:
    """What this node has to propose at its start."""
    ground = house.ground
    config, catalog, identity = ground.config, ground.fsm.catalog, ground.identity.current
    founding = identity.founding
    # Of several founders one makes a token up; one that the operator chose is everybody's to propose.
    if not first_token and (config.auth.bootstrap_token or _is_first(identity)):
        first_token += _first_token(config, ground.ports, catalog)
    lease = catalog.leases.get(WRITER)
    now_us = ground.ports.clock.wall_us()
    words = bootstrap_commands(
        catalog,
        house.node,
        now_us,
        tokens.hash_token(first_token[0]) if first_token else None,
        is_alone=not house.consensus.raft.others(),
        founded=FoundCluster(uuid=identity.cluster_uuid, name=config.cluster.name, created_us=now_us)
        if founding is not None
        else None,
        # Taken anew at every start, so that nothing of an earlier run can still be in flight. A first holder, and one
        # in another's place, is chosen by the cluster.
        takes_writer=house.is_alone or (lease is not None and lease.holder == house.node),
        takes_compactor=house.is_alone,
    )
    if house.is_alone:
        return words
    given_up: list[Command] = []
    if not house.consensus.raft.others():
        # Alone among nodes that are described: an operator gave the others up (``arc raft recover``). Nobody may take
        # them in again but by asking to be, nor wait for them.
        others = (record for _, record in sorted(catalog.nodes.items()) if record.name != house.node)
        given_up = [ForgetNode(name=record.name, incarnation=record.incarnation) for record in others]
    return [*announcements(catalog, house.near.description(), NodeState.JOINING), *words, *given_up]


async def _stay_announced(house: House) -> None:
    """Say that this node is healthy once it takes part, and again whenever the cluster knows it otherwise without an
    operator having said so: after it was removed and added, or under a new address.
    """
    ground, assumed = house.ground, NodeState.HEALTHY
    with ground.feed.subscribe() as changes:
        while True:
            is_told = False
            known = ground.fsm.catalog.nodes.get(house.node)
            is_draining = known is not None and known.state == NodeState.LEAVING
            if not is_draining and not house.near.readiness.stopping and house.near.joiner is not None:
                try:
                    if house.near.joiner.not_ready() is None:
                        for command in announcements(ground.fsm.catalog, house.near.description(), assumed):
                            (await house.consensus.proposals.propose(command)).unwrap()
                        is_told = True
                except (Unavailable, OutcomeUnknown, Conflict) as error:
                    ground.log.info("announcement_repeated", reason=error.message)
            with trio.move_on_after(SAFETY_SECONDS if is_told else AGAIN_SECONDS):
                await _nodes_changed(changes)


async def _nodes_changed(changes: Subscription) -> None:
    """Return when something known of the nodes has changed; the catalog may change thousands of times a second."""
    while True:
        change = await changes.receive()
        if any(isinstance(event, NodeDescribed | NodeForgotten) for event in change.events):
            return


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


def _reached_at(config: Config, port: int) -> Address:
    """The HTTP port for clients and other nodes; ``port`` is the one it listens on."""
    if config.server.advertise:
        return Address.read(config.server.advertise, port)
    host = config.server.host
    if host in ("", "0.0.0.0", "::"):
        host = config.cluster.advertise.rpartition(":")[0].strip("[]") or config.cluster.peer_host
    return Address(host, port)


def _is_first(identity: Identity) -> bool:
    return identity.founding is not None and identity.founding.coordinator == identity.peer


def _first_token(config: Config, ports: Ports, catalog: Catalog) -> list[str]:
    """The first admin token, when there is none yet and tokens are asked for."""
    if not config.auth.enabled or catalog.tokens:
        return []
    return [config.auth.bootstrap_token or tokens.generate_token(ports.rng.bytes(32))]


def _tell_drift(log: Log, drift: Drift, *, can_be_brought: bool) -> None:
    for path in (*drift.missing, *drift.wrong_size) if not can_be_brought else ():
        log.error(
            "file_missing",
            path=path,
            effect="queries that need it fail",
            next_step="restore it from a backup; the manifest keeps its place and checksum",
        )
    if can_be_brought and (drift.missing or drift.wrong_size):
        log.info("files_wanted", missing=len(drift.missing), damaged=len(drift.wrong_size))
    if drift.unknown:
        log.warning("orphans_quarantined", files=len(drift.unknown), reason="left over from before a registration")
