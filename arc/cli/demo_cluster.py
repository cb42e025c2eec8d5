"""``arc demo --nodes 3``: a cluster on this machine, rows streaming in, and the node that writes killed with -9.

Three real processes on loopback find each other through their seeds and found a cluster. Numbered rows are written
through all of them. With ``--kill-leader`` the holder of the writer lease dies in the middle; the cluster hands the
lease on by itself, the dead node is started again, and at the end every node is asked for every row: each one that was
acknowledged must be there exactly once. The gap is what the writing client saw: no row acknowledged for so long.

The steps are functions over endpoints, so each is tested with a node that answers what a test says.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from arc.cli.cluster_screen import nodes_of, notes, span
from arc.cli.cluster_steps import (
    HAND_OVER_SECONDS,
    leader_of,
    lease_of,
    reason_of,
    stream,
    verify,
    wait_hand_over,
    wait_whole,
)
from arc.cli.demo_node import Node, ended, free_ports
from arc.cli.demo_report import Report, tell_verdict
from arc.cli.live import Live
from arc.cli.numbered import Load, gap_of, require_progress
from arc.cli.screen import Screen, counted

FORM_SECONDS = 90.0
"""How long a cluster may need to form, or to be whole again, on a busy machine."""
VERIFY_SECONDS = 60.0
"""How long a node that was dead may need until it shows every row."""
LOOK_EVERY_SECONDS = 0.2
ALONE_SECONDS = 1.0
"""How long the load goes on without the dead node."""

Document = Mapping[str, object]


def run_cluster(screen: Screen, folder: Path, *, count: int, seconds: float, kills: bool, keeps: bool) -> bool:
    """Run the whole demo; whether every acknowledged row was found once on every node. Raises Failure."""
    nodes = make_nodes(folder, count)
    with ended(nodes), Live(screen) as live:
        report = story(screen, live, nodes, seconds=seconds, kills=kills)
        if screen.json:
            screen.document(report.document())
        else:
            tell_verdict(screen, report)
        if keeps:
            _keep(screen, nodes)
    # The nodes were ended by `ended`, with -9: a cluster that is taken apart node by node would wait for its quorum.
    return report.is_whole


def make_nodes(folder: Path, count: int) -> list[Node]:
    """Nodes that will find each other. The secret is new, and given to them in their environment only."""
    ports = free_ports(2 * count)
    peers = [f"127.0.0.1:{port}" for port in ports[:count]]
    token, secret = f"demo-{secrets.token_hex(20)}", secrets.token_hex(32)
    found = []
    for at, (peer, port) in enumerate(zip(peers, ports[count:], strict=True), start=1):
        home = folder / f"n{at}"
        home.mkdir()
        settings = {
            "node.id": f"n{at}",
            "node.role": "standalone",
            "cluster.enabled": "true",
            "cluster.name": "demo",
            "cluster.peer_host": "127.0.0.1",
            "cluster.peer_port": peer.rpartition(":")[2],
            "cluster.advertise": peer,
            "cluster.seeds": ",".join(peers),
            "cluster.bootstrap_expect": str(count),
        }
        found.append(
            Node(
                folder=home,
                port=port,
                token=token,
                name=f"n{at}",
                settings=tuple(f"{name}={value}" for name, value in settings.items()),
                environment={"ARC_CLUSTER_SHARED_SECRET": secret},
            )
        )
    return found


def story(screen: Screen, live: Live, nodes: Sequence[Node], *, seconds: float, kills: bool) -> Report:
    """From nothing to a report. Raises Failure when the cluster does not do what it should in time."""
    began, token = time.monotonic(), nodes[0].token
    endpoints = [node.endpoint for node in nodes]
    report = Report(nodes=tuple((node.name, node.endpoint) for node in nodes))
    for node in nodes:
        node.launch()

    def watch() -> None:
        for node in nodes:
            node.require_running()

    document = wait_whole(endpoints, token, len(nodes), time.monotonic() + FORM_SECONDS, live, watch=watch)
    report.degraded = tuple(notes(document))
    live.say(f"{counted(len(nodes), 'node')} formed a cluster after {span(time.monotonic() - began)}")
    _introduce(screen, live, nodes, document)
    with Load(endpoints, token) as load:
        require_progress(load, 0, time.monotonic() + FORM_SECONDS)
        stream(
            live,
            load,
            endpoints,
            token,
            until=time.monotonic() + (seconds / 2 if kills else seconds),
            every_seconds=LOOK_EVERY_SECONDS,
        )
        if kills:
            _kill(live, nodes, load, report)
            stream(live, load, endpoints, token, until=load.started_at + seconds, every_seconds=LOOK_EVERY_SECONDS)
        live.show("ending the load")
        load.stop()
    report.acks, report.retries, report.unknown = load.acks, load.retries, load.unknown
    report.seconds = time.monotonic() - load.started_at
    if report.killed_at is not None:
        report.gap = gap_of(report.acks, report.killed_at, load.started_at)
    for node in nodes:
        live.show(f"counting on {node.name}")
        report.counts.append(verify(node.name, node.endpoint, token, report.acks, time.monotonic() + VERIFY_SECONDS))
    return report


def _kill(live: Live, nodes: Sequence[Node], load: Load, report: Report) -> None:
    token = nodes[0].token
    document = wait_whole([node.endpoint for node in nodes], token, len(nodes), time.monotonic() + FORM_SECONDS, live)
    holder, report.old_epoch = lease_of(document, "writer")
    victim = next(node for node in nodes if node.name == holder)
    report.killed, report.killed_led = victim.name, leader_of(document) == victim.name
    rest = [node.endpoint for node in nodes if node is not victim]
    also = " and leads" if report.killed_led else ""
    live.say(f"kill -9 {victim.name}, which writes{also}; {load.rows:,} rows are acknowledged")
    killed_at, before = time.monotonic(), load.rows
    report.killed_at = killed_at
    victim.kill()
    after = wait_hand_over(rest, token, report.old_epoch, victim.name, killed_at + HAND_OVER_SECONDS, live)
    report.hand_over_seconds = time.monotonic() - killed_at
    report.new_writer, report.new_epoch = lease_of(after, "writer")
    report.new_leader = leader_of(after)
    live.say(
        f"{report.new_writer} holds the writer lease after {span(report.hand_over_seconds)} "
        f"(epoch {report.old_epoch} → {report.new_epoch}): {reason_of(after)}"
    )
    require_progress(load, before, killed_at + HAND_OVER_SECONDS)
    # The load goes on for a moment without the dead node, then with it while it catches up.
    time.sleep(ALONE_SECONDS)
    restarted_at = time.monotonic()
    victim.launch()
    wait_whole([*rest, victim.endpoint], token, len(nodes), restarted_at + FORM_SECONDS, live,
               watch=victim.require_running)  # fmt: skip
    report.restart_seconds = time.monotonic() - restarted_at
    live.say(f"{victim.name} is back after {span(report.restart_seconds)}")


def _introduce(screen: Screen, live: Live, nodes: Sequence[Node], document: Document) -> None:
    holder, leader = lease_of(document, "writer")[0], leader_of(document)
    known = {node.get("id"): node for node in nodes_of(document)}
    for node in nodes:
        roles = [word for word, is_so in (("writes", node.name == holder), ("leads", node.name == leader)) if is_so]
        peer = known.get(node.name, {}).get("address", "")
        live.say(f"  {node.name}  {node.endpoint}  peers at {peer}  {', '.join(roles)}")
    live.say(f"  look: ARC_TOKEN={nodes[0].token} arc cluster watch --endpoint {nodes[0].endpoint}")


def _keep(screen: Screen, nodes: Sequence[Node]) -> None:
    screen.note("the cluster goes on; Ctrl-C ends it and removes its data")
    screen.note(f"export ARC_TOKEN={nodes[0].token} ARC_ENDPOINT={nodes[0].endpoint}")
    try:
        while True:
            time.sleep(1.0)
    except KeyboardInterrupt:
        screen.note("ending the nodes")
