"""A network that carries less than clients write: everything takes longer, and nothing else happens.

Real processes, sockets and disks; what leaves the writer goes through a proxy that lets little pass.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.e2e.cluster import Cluster, wait_until

BYTES_PER_SECOND = 1_000_000.0
"""8 Mbit/s, for all that the writer sends to both of the others."""

ROWS = 8_000
"""Of one write, a kilobyte each: eight seconds of the line, for each of the others."""


def body(number: int) -> str:
    """A write of eight megabytes that nothing makes smaller."""
    chance = random.Random(number)
    ids = range(number * ROWS, (number + 1) * ROWS)
    return "\n".join(f'cpu id={each}i,told="{chance.randbytes(500).hex()}" {each + 1}000000000' for each in ids)


def write(cluster: Cluster, name: str, number: int) -> int:
    """Send a write under its key, and tell the status of the answer."""
    answer = cluster.nodes[name].http.post(
        "/api/v1/write/line-protocol",
        params={"db": "default"},
        content=body(number).encode(),
        headers={"idempotency-key": f"narrow-{number}"},
        timeout=60,
    )
    return answer.status_code


def test_a_large_write_comes_through_a_narrow_line_and_the_writer_can_be_lost_behind_it(tmp_path: Path) -> None:
    """The others used to give up in the middle of such a write, over and over, and nothing was written any more; both
    left the in-sync set, and when the writer was lost nobody could take over.
    """
    with Cluster(tmp_path) as cluster:
        cluster.start()
        writer = cluster.writer()
        cluster.links.narrow({writer: BYTES_PER_SECOND})
        began = time.monotonic()
        assert write(cluster, writer, 0) == 204
        took = time.monotonic() - began
        other = cluster.others(writer)[0]
        assert cluster.writer(asked=other) == writer and len(in_sync(cluster, other)) >= 2
        cluster.nodes[writer].kill9()
        cluster.links.narrow({})
        successor = cluster.writer(but=writer)
        wait_until("the write is stored", lambda: write(cluster, successor, 1) == 204)
        cluster.nodes[writer].start(wait=False)
        cluster.wait_whole()
        for node in cluster.nodes.values():
            found = node.rows("SELECT count(*), count(DISTINCT id) FROM cpu", db="default")
            assert found == [[2 * ROWS, 2 * ROWS]]
    print(f"8 MB over 8 Mbit/s to two nodes: 204 after {took:.1f} s, and {successor} took over when {writer} was lost")


def in_sync(cluster: Cluster, name: str) -> list[str]:
    """Who is in sync, as a node has it."""
    found = cluster.document(name).get("in_sync")
    assert isinstance(found, dict)
    return list(found["members"])
