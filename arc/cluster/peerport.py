"""The peer port of a node: what it proves itself with, and the listening while it is open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from arc.cluster.calls import Calls
from arc.cluster.config import ClusterConfig, peer_secret
from arc.cluster.transport import PeerTransport
from arc.ports import Ports
from arc.security.tls import Certificates, TlsFiles
from arc.telemetry import Log
from arc.wire.certificates import keep_fresh
from arc.wire.door import PeerSecurity


async def peer_security(ports: Ports, cluster: ClusterConfig, log: Log) -> tuple[PeerSecurity, Certificates | None]:
    """Secret and certificates of this node; the latter again, to be kept fresh. Raises InvalidRequest: a certificate
    that cannot be used.
    """
    certificates: Certificates | None = None
    if cluster.tls_cert_file:
        files = TlsFiles(cert=cluster.tls_cert_file, key=cluster.tls_key_file, ca=cluster.tls_ca_file)
        certificates = Certificates(files, ports.disk.read_outside)
        await ports.workers.run(certificates.load)
    if not cluster.shared_secret:
        log.warning(
            "peer_port_insecure",
            reason="cluster.insecure_dev: everybody knows the secret of this cluster",
            next_step="set cluster.shared_secret on every node and remove insecure_dev",
        )
    return PeerSecurity(secret=peer_secret(cluster), tls=certificates), certificates


@asynccontextmanager
async def listening(
    ports: Ports,
    cluster: ClusterConfig,
    certificates: Certificates | None,
    transport: PeerTransport,
    calls: Calls,
    log: Log,
) -> AsyncIterator[None]:
    """Have the port open during the block. Raises OSError: it is taken."""
    async with trio.open_nursery() as nursery:
        if certificates is not None:
            bound = log.bind(port="peer")
            nursery.start_soon(partial(keep_fresh, certificates, workers=ports.workers, clock=ports.clock, log=bound))
        port = await nursery.start(transport.run, cluster.peer_host, cluster.peer_port, cluster.advertise)
        await nursery.start(calls.run, transport)
        log.info("peer_port_open", host=cluster.peer_host, port=port, advertised=str(transport.address))
        yield
        nursery.cancel_scope.cancel()
