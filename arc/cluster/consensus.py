"""Everything with which one node takes part in agreement, built in order and handed out while it runs.

A node alone has no transport: whatever it would send has no addressee, and that is asserted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from arc.catalog import codec
from arc.catalog.commands import DescribeNode
from arc.catalog.fsm import ClusterFSM
from arc.cluster.calls import Calls
from arc.cluster.config import ClusterConfig, ConsensusConfig, peer_secret
from arc.cluster.feed import Feed
from arc.cluster.machine import CatalogMachine
from arc.cluster.membership import Membership
from arc.cluster.proposals import KIND as PROPOSE
from arc.cluster.proposals import Proposals
from arc.cluster.transport import PeerTransport
from arc.errors import Conflict, Corrupt, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Ports
from arc.raft.messages import Message
from arc.raft.node import RaftNode
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, Peer
from arc.security.tls import Certificates, TlsFiles
from arc.telemetry import Log
from arc.wire.certificates import keep_fresh
from arc.wire.channels import Channel
from arc.wire.door import PeerSecurity
from arc.wire.facts import ClusterIdentity, PeerFacts

AGAIN_SECONDS = 0.1
READ_BYTES = 1 << 20
HAND_OVER_SECONDS = 3.0
"""A transfer takes a round trip and an election; whoever is not there by then is elected without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The running parts; ``transport`` and ``calls`` are None on a node alone."""

    raft: RaftNode
    proposals: Proposals
    members: Membership
    transport: PeerTransport | None
    calls: Calls | None

    async def catch_up(self) -> None:
        """Return when the catalog here holds all that was agreed on before this call, however long that takes."""
        while True:
            try:
                await self.raft.read()
                return
            except (Unavailable, OutcomeUnknown):  # No leader yet, nobody has added this node, or it is about to stop.
                await trio.sleep(AGAIN_SECONDS)

    def describe_me(self) -> DescribeNode | None:
        """What the others must know of this node; None on a node alone."""
        if self.transport is None:
            return None
        me, address = self.raft.me, self.transport.address
        return DescribeNode(name=NodeId(me.name), incarnation=me.incarnation, address=str(address))

    async def hand_over(self) -> None:
        """Before an orderly end: let another node lead, if this one does and another one can."""
        if self.raft.is_leader and self.raft.others():
            with trio.move_on_after(HAND_OVER_SECONDS), suppress(Unavailable):
                await self.raft.transfer()


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What the rest of the node has to do with other nodes, given when consensus starts.

    ``uuid`` is the cluster's identity as known now, empty before there is one; ``describe`` what others are told of
    this node; ``channels`` take what comes in channels besides Raft's and the calls'; ``answerers`` answer questions by
    their kind (`Calls`); ``connected`` hears of every session that begins, ``unreachable`` of every end and every dial
    that failed.
    """

    uuid: Callable[[], str] = lambda: ""
    describe: Callable[[], PeerFacts] = PeerFacts
    channels: Mapping[Channel, Callable[[Peer, bytes], None]] = field(default_factory=dict)
    answerers: Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]] = field(default_factory=dict)
    connected: Callable[[Peer, PeerFacts], None] = lambda peer, facts: None
    unreachable: Callable[[Peer], None] = lambda peer: None


@asynccontextmanager
async def running_consensus(
    ports: Ports,
    config: ConsensusConfig,
    cluster: ClusterConfig,
    me: Peer,
    *,
    is_founder: bool,
    fsm: ClusterFSM,
    feed: Feed,
    log: Log,
    neighbours: Neighbours = Neighbours(),  # frozen, and of one who has none
) -> AsyncIterator[Consensus]:
    """Open the log and take part until the body ends; then a snapshot and a closed log are left.

    ``fsm`` and ``feed`` are changed by consensus from here on; ``is_founder``: an empty log begins with this node as
    the only voter. Raises Corrupt, DiskFailed, Overloaded (disk full), InvalidRequest (members without a peer port),
    OSError (the peer port is taken).
    """
    founders = Configuration(voters=(me,)) if is_founder else Configuration()
    storage = await ports.workers.run(
        lambda: RaftStorage.open(
            ports.disk, config.folder, me=me, founders=founders, segment_bytes=config.segment_bytes
        )
    )
    for finding in storage.findings:
        log.warning("raft_log_finding", component="raft", finding=finding)
    raft = RaftNode(
        me,
        config.raft,
        storage,
        CatalogMachine(fsm, feed),
        ports=ports,
        log=log,
        snapshot_entries=config.snapshot_entries,
    )
    if not cluster.enabled:
        _require_alone(raft)
        proposals = Proposals(raft, fsm, feed, ports.clock, None, rng=ports.rng)
        members = Membership(raft, proposals, lambda: fsm.catalog, _greet_nobody)
        async with trio.open_nursery() as nursery:
            await nursery.start(raft.run, _to_nobody)
            yield Consensus(raft=raft, proposals=proposals, members=members, transport=None, calls=None)
            nursery.cancel_scope.cancel()
        return
    told = await ports.workers.run(_addresses, storage)
    certificates = _certificates(ports, cluster)
    if certificates is not None:
        await ports.workers.run(certificates.load)
    if not cluster.shared_secret:
        log.warning(
            "peer_port_insecure",
            reason="cluster.insecure_dev: everybody knows the secret of this cluster",
            next_step="set cluster.shared_secret on every node and remove insecure_dev",
        )
    security = PeerSecurity(secret=peer_secret(cluster), tls=certificates)
    parts = _connected(
        ports, cluster, me, security, neighbours=neighbours, raft=raft, fsm=fsm, feed=feed, told=told, log=log
    )
    async with trio.open_nursery() as nursery:
        if certificates is not None:
            nursery.start_soon(partial(keep_fresh, certificates, workers=ports.workers, clock=ports.clock, log=log))
        port = await nursery.start(parts.transport.run, cluster.peer_host, cluster.peer_port, cluster.advertise)
        await nursery.start(parts.calls.run, parts.transport)
        await nursery.start(raft.run, parts.transport.send)
        log.info("peer_port_open", host=cluster.peer_host, port=port, advertised=str(parts.transport.address))
        yield Consensus(
            raft=raft,
            proposals=parts.proposals,
            members=parts.members,
            transport=parts.transport,
            calls=parts.calls,
        )
        nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Parts:
    transport: PeerTransport
    calls: Calls
    proposals: Proposals
    members: Membership


def _connected(
    ports: Ports,
    cluster: ClusterConfig,
    me: Peer,
    security: PeerSecurity,
    *,
    neighbours: Neighbours,
    raft: RaftNode,
    fsm: ClusterFSM,
    feed: Feed,
    told: Mapping[str, str],
    log: Log,
) -> _Parts:
    async def answer(peer: Peer, question: bytes) -> bytes:
        return await proposals.answer(peer, question)

    def unreachable(peer: Peer) -> None:
        raft.unreachable(peer)
        calls.unreachable(peer)
        neighbours.unreachable(peer)

    async def greet(address: str) -> Peer:
        return (await transport.dial(address)).peer

    def address_of(name: str) -> str | None:
        node = fsm.catalog.nodes.get(name)
        return node.address if node is not None else told.get(name)

    assert PROPOSE not in neighbours.answerers
    calls = Calls({**neighbours.answerers, PROPOSE: answer}, log)
    proposals = Proposals(raft, fsm, feed, ports.clock, calls.call, rng=ports.rng)
    transport = PeerTransport(
        me,
        network=ports.network,
        rng=ports.rng,
        clock=ports.clock,
        log=log,
        security=security,
        identity=lambda: ClusterIdentity(cluster.name, neighbours.uuid()),
        address_of=address_of,
        describe=neighbours.describe,
        channels={**neighbours.channels, Channel.CALL: calls.receive},
        connected=neighbours.connected,
        unreachable=unreachable,
        receive=raft.receive,
        answer=calls.answer,
    )
    return _Parts(transport, calls, proposals, Membership(raft, proposals, lambda: fsm.catalog, greet))


def _certificates(ports: Ports, cluster: ClusterConfig) -> Certificates | None:
    if not cluster.tls_cert_file:
        return None
    files = TlsFiles(cert=cluster.tls_cert_file, key=cluster.tls_key_file, ca=cluster.tls_ca_file)
    return Certificates(files, ports.disk.read_outside)


def _addresses(storage: RaftStorage) -> dict[str, str]:
    """Where nodes said they listen, in entries that the catalog does not hold yet; blocking.

    After a crash of all nodes the log is there and nobody knows what of it was agreed on. That takes a leader, a leader
    takes votes, and votes take addresses. An entry that was never agreed on does no harm: whoever is dialled says who
    he is.
    """
    found: dict[str, str] = {}
    with suppress(Corrupt):  # What is damaged is repaired later; what stands before it will do.
        for entry in _entries(storage):
            if entry.kind is EntryKind.COMMAND and isinstance(entry.payload, bytes):
                with suppress(ValueError):  # Of a newer version: who applies it will say so.
                    command = codec.decode(entry.payload)
                    if isinstance(command, DescribeNode):
                        found[command.name] = command.address
    return found


def _entries(storage: RaftStorage) -> Iterator[Entry]:
    """All that is stored above the newest snapshot."""
    stored = storage.stored
    index = stored.snapshot.index + 1 if stored.snapshot is not None else 1
    last = stored.entries[-1].index if stored.entries else 0
    while entries := storage.read_entries(index, last, READ_BYTES):
        yield from entries
        index = entries[-1].index + 1


def _require_alone(raft: RaftNode) -> None:
    others = raft.others()
    if others:
        raise InvalidRequest(
            f"this node is a member of a cluster with {', '.join(map(str, others))}, but cluster.enabled is off; "
            "enable it, or leave the others for good with 'arc raft recover'",
            code="cluster_disabled",
        )


async def _greet_nobody(address: str) -> Peer:
    raise Conflict(
        f"this node has no peer port, so it cannot reach {address}; set cluster.enabled = true and restart it",
        code="cluster_disabled",
    )


def _to_nobody(message: Message) -> None:
    raise AssertionError(f"a cluster of one has nobody to send {message!r} to")
