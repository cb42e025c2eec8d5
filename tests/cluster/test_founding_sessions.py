"""Nodes found a cluster over their real sessions: what `founding` decides crosses `calls`, handshakes and CBOR."""

from __future__ import annotations

import trio
import trio.testing

from arc.catalog.roles import NodeRole
from arc.cluster.calls import Calls
from arc.cluster.gathering import Assembly
from arc.cluster.identityfile import open_identity
from arc.cluster.sights import Bootstrap
from arc.cluster.transport import PeerTransport
from arc.telemetry import Log
from arc.wire.channels import Channel
from arc.wire.door import PeerSecurity
from arc.wire.facts import ClusterIdentity, PeerFacts
from tests.fakes import InlineWorkers, MemoryDisk, MemoryNetwork, SeededRng
from tests.raft.drivers import TrioClock

SEEDS = ("127.0.0.1:9101", "127.0.0.1:9102", "127.0.0.1:9103")


class Node:
    """A node without consensus: what it is before it belongs to a cluster."""

    calls: Calls
    transport: PeerTransport

    def __init__(self, network: MemoryNetwork, number: int, log: Log) -> None:
        rng = SeededRng(number)
        self.port = 9100 + number
        self.identity = open_identity(MemoryDisk(), InlineWorkers(), rng, now_us=1, chosen=f"n{number}", is_alone=False)
        self.assembly = Assembly(
            self.identity,
            Bootstrap(cluster="arc", expect=3, seeds=SEEDS),
            NodeRole.STANDALONE,
            address=lambda: str(self.transport.address),
            has_log=lambda: False,
            ask=lambda *asked, timeout_seconds: self.calls.ask(*asked, timeout_seconds=timeout_seconds),
            clock=TrioClock(),
            rng=rng,
            log=log,
        )
        self.calls = Calls(self.assembly.answerers, log)
        self.transport = PeerTransport(
            self.identity.current.peer,
            network=network,
            rng=rng,
            clock=TrioClock(),
            log=log,
            security=PeerSecurity(secret=b"a secret of the tests", tls=None),
            identity=lambda: ClusterIdentity("arc", self.identity.current.cluster_uuid),
            address_of=lambda name: None,
            describe=PeerFacts,
            channels={Channel.CALL: self.calls.receive},
            connected=lambda peer, facts: None,
            unreachable=self.calls.unreachable,
            receive=lambda message: None,
            answer=self.calls.answer,
        )

    async def run(self) -> None:
        """Until it belongs to a cluster, and on."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.transport.run, "127.0.0.1", self.port)
            await nursery.start(self.calls.run, self.transport)
            await self.assembly.run()


async def test_three_nodes_found_one_cluster_over_sessions_and_a_fourth_finds_it(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    network = MemoryNetwork()
    nodes = [Node(network, number, log) for number in range(1, 5)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.run)
            await trio.sleep(1.5)
        with trio.fail_after(60):
            while any(node.assembly.is_waiting for node in nodes):  # noqa: ASYNC110  # time is simulated
                await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    founders = [node.identity.current.founding for node in nodes]
    assert founders[0] is not None and founders[0] == founders[1] == founders[2]
    assert founders[3] is None
    assert len({node.identity.current.cluster_uuid for node in nodes}) == 1
