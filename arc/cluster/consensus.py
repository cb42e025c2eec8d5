"""Everything with which one node takes part in agreement, built in order and handed out while it runs.

A node alone has no transport: whatever it would send has no addressee, and that is asserted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import trio

from arc.catalog.fsm import ClusterFSM
from arc.cluster.calls import Calls
from arc.cluster.config import ClusterConfig, ConsensusConfig
from arc.cluster.feed import Feed
from arc.cluster.identityfile import IdentityFile
from arc.cluster.machine import CatalogMachine
from arc.cluster.membership import Membership
from arc.cluster.peerport import listening, peer_security
from arc.cluster.proposals import KIND as PROPOSE
from arc.cluster.proposals import Proposals
from arc.cluster.transport import PeerTransport
from arc.cluster.whereabouts import Heard, Whereabouts, remembered
from arc.errors import Conflict, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ports import Ports
from arc.raft.messages import Message
from arc.raft.node import RaftNode
from arc.raft.storage import RaftStorage
from arc.raft.types import Entry, Peer
from arc.security.tls import Certificates
from arc.telemetry import Log
from arc.wire.channels import Channel
from arc.wire.door import PeerSecurity
from arc.wire.facts import ClusterIdentity, PeerFacts

AGAIN_SECONDS = 0.1
READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The running parts; ``transport`` and ``calls`` are None on a node alone, ``certificates`` also where the peer
    port speaks no TLS.
    """

    raft: RaftNode
    proposals: Proposals
    members: Membership
    transport: PeerTransport | None
    calls: Calls | None
    certificates: Certificates | None

    async def catch_up(self) -> None:
        """Return when the catalog here holds all that was agreed on before this call, however long that takes."""
        while True:
            try:
                await self.raft.read()
                return
            except (Unavailable, OutcomeUnknown):  # No leader yet, nobody has added this node, or it is about to stop.
                await trio.sleep(AGAIN_SECONDS)


class Neighbours(Protocol):
    """What the rest of the node has to do with other nodes."""

    @property
    def channels(self) -> Mapping[Channel, Callable[[Peer, bytes], None]]:
        """Take what comes in channels besides Raft's and the calls'."""
        ...

    @property
    def answerers(self) -> Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]]:
        """Answer questions by their kind (`Calls`)."""
        ...

    def describe(self) -> PeerFacts:
        """What other nodes are told of this one when they meet."""
        ...

    def told_of(self, name: str) -> Heard | None:
        """Where a node listens by the plan of founding, or as other members say; the catalog may not know it yet."""
        ...

    def connected(self, peer: Peer, facts: PeerFacts) -> None:
        """A session begins."""
        ...

    def unreachable(self, peer: Peer) -> None:
        """A session ended, or could not be had."""
        ...


N = TypeVar("N", bound=Neighbours)


@asynccontextmanager
async def running_consensus(
    ports: Ports,
    config: ConsensusConfig,
    cluster: ClusterConfig,
    identity: IdentityFile,
    *,
    fsm: ClusterFSM,
    feed: Feed,
    log: Log,
    meet: Callable[[Consensus], N],
) -> AsyncIterator[tuple[Consensus, N]]:
    """Open the log and take part until the body ends; then a snapshot and a closed log are left.

    ``fsm`` and ``feed`` are changed by consensus from here on. An empty log begins with the voters that ``identity``
    tells. ``meet`` builds the rest of the node over the parts of consensus, before any of them runs.

    Raises Corrupt, DiskFailed, Overloaded (disk full), InvalidRequest (members without a peer port), OSError (the peer
    port is taken).
    """
    me, founders = identity.current.peer, identity.current.configuration
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
        alone = Consensus(
            raft=raft, proposals=proposals, members=members, transport=None, calls=None, certificates=None
        )
        rest = meet(alone)
        async with trio.open_nursery() as nursery:
            await nursery.start(raft.run, _to_nobody)
            yield alone, rest
            nursery.cancel_scope.cancel()
        return
    heard = await ports.workers.run(_addresses, storage)
    security, certificates = await peer_security(ports, cluster, log)
    parts, rest = _connected(
        ports, cluster, identity, security, certificates, raft=raft, fsm=fsm, feed=feed, heard=heard, log=log, meet=meet
    )
    assert parts.transport is not None and parts.calls is not None
    async with (
        listening(ports, cluster, certificates, parts.transport, parts.calls, log),
        trio.open_nursery() as nursery,
    ):
        await nursery.start(raft.run, parts.transport.send)
        yield parts, rest
        nursery.cancel_scope.cancel()


def _connected(
    ports: Ports,
    cluster: ClusterConfig,
    identity: IdentityFile,
    security: PeerSecurity,
    certificates: Certificates | None,
    *,
    raft: RaftNode,
    fsm: ClusterFSM,
    feed: Feed,
    heard: Mapping[str, Heard],
    log: Log,
    meet: Callable[[Consensus], N],
) -> tuple[Consensus, N]:
    """The parts, which name each other: nothing is sent and nothing comes before all of them are there."""

    async def answer(peer: Peer, question: bytes) -> bytes:
        return await proposals.answer(peer, question)

    def connected(peer: Peer, facts: PeerFacts) -> None:
        rest.connected(peer, facts)

    def unreachable(peer: Peer) -> None:
        raft.unreachable(peer)
        calls.unreachable(peer)
        rest.unreachable(peer)

    async def greet(address: str) -> Peer:
        return (await transport.dial(address)).peer

    def told(name: str) -> Heard | None:
        return rest.told_of(name)

    answerers: dict[str, Callable[[Peer, bytes], Awaitable[bytes]]] = {PROPOSE: answer}
    calls = Calls(answerers, log)
    channels: dict[Channel, Callable[[Peer, bytes], None]] = {Channel.CALL: calls.receive}
    proposals = Proposals(raft, fsm, feed, ports.clock, calls.call, rng=ports.rng)
    transport = PeerTransport(
        identity.current.peer,
        network=ports.network,
        rng=ports.rng,
        clock=ports.clock,
        log=log,
        security=security,
        identity=lambda: ClusterIdentity(cluster.name, identity.current.cluster_uuid),
        address_of=Whereabouts(lambda: fsm.catalog, heard, told).address_of,
        describe=lambda: rest.describe(),
        channels=channels,
        connected=connected,
        unreachable=unreachable,
        receive=raft.receive,
        answer=calls.answer,
    )
    members = Membership(raft, proposals, lambda: fsm.catalog, greet)
    parts = Consensus(
        raft=raft, proposals=proposals, members=members, transport=transport, calls=calls, certificates=certificates
    )
    rest = meet(parts)
    assert PROPOSE not in rest.answerers and Channel.CALL not in rest.channels
    answerers.update(rest.answerers)
    channels.update(rest.channels)
    return parts, rest


def _addresses(storage: RaftStorage) -> dict[str, Heard]:
    """What the log tells of where nodes listen; blocking."""
    return remembered(_entries(storage))


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
