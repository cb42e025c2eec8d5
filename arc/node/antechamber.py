"""A new node before it belongs to a cluster: it listens for its peers and for its operator until it does.

Nothing of the database is open yet: who votes in an empty log is what is being found out. When it is known it stands in
the node's folder, everything here is closed, and the node begins to live; whoever called in between calls again.
"""

from __future__ import annotations

from functools import partial

import trio

from arc.api.server import serve
from arc.api.waiting import WaitingApi
from arc.catalog.roles import NodeRole
from arc.cluster.calls import Calls
from arc.cluster.config import ClusterConfig
from arc.cluster.gathering import Assembly
from arc.cluster.identityfile import IdentityFile
from arc.cluster.peerport import listening, peer_security
from arc.cluster.transport import PeerTransport
from arc.config import Config
from arc.ports import Ports
from arc.raft.messages import Message
from arc.security.tls import Certificates
from arc.telemetry import Log
from arc.wire.channels import Channel
from arc.wire.facts import ClusterIdentity, PeerFacts


def must_wait(identity: IdentityFile, cluster: ClusterConfig) -> bool:
    """Whether a cluster has to be found, or founded with others, first.

    Who waits to be added by a member founds nothing and has nobody to ask: consensus with an empty log is all it needs.
    """
    return cluster.enabled and identity.current.is_waiting and not cluster.join


async def wait_for_cluster(
    config: Config,
    ports: Ports,
    identity: IdentityFile,
    facts: PeerFacts,
    role: NodeRole,
    http: Certificates | None,
    log: Log,
) -> None:
    """Return when the folder says which cluster this node belongs to. ``http`` are the loaded certificates of its HTTP
    port. Raises DiskFailed, OSError: a port is taken.
    """

    async def ask(where: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        return await calls.ask(where, kind, question, timeout_seconds=timeout_seconds)

    async def found() -> str:
        return (await assembly.init()).uuid

    assembly = Assembly(
        identity,
        config.cluster.bootstrap,
        role,
        address=lambda: str(transport.address),
        has_log=lambda: False,
        ask=ask,
        clock=ports.clock,
        rng=ports.rng,
        log=log,
    )
    calls = Calls(assembly.answerers, log)
    security, certificates = await peer_security(ports, config.cluster, log)
    transport = PeerTransport(
        identity.current.peer,
        network=ports.network,
        rng=ports.rng,
        clock=ports.clock,
        log=log,
        security=security,
        identity=lambda: ClusterIdentity(config.cluster.name, identity.current.cluster_uuid),
        address_of=lambda name: None,
        describe=lambda: facts,
        channels={Channel.CALL: calls.receive},
        connected=lambda peer, its: None,
        unreachable=calls.unreachable,
        receive=_not_yet,
        answer=calls.answer,
    )
    api = WaitingApi(version=facts.version, auth=config.auth, reason=assembly.not_ready, found=found)
    async with (
        listening(ports, config.cluster, certificates, transport, calls, log),
        trio.open_nursery() as nursery,
    ):
        await nursery.start(partial(serve, api, config.server, certificates=http, ports=ports, log=log))
        await assembly.run()
        nursery.cancel_scope.cancel()
    log.info("cluster_found", cluster=identity.current.cluster_uuid, founded=identity.current.founding is not None)


def _not_yet(message: Message) -> None:
    """Others have founded the cluster with this node already; what they send is sent again."""
