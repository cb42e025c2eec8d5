"""Three whole nodes in processes of their own, as `arc demo --nodes 3` starts them, with default settings.

The same shape as the other targets of `benchmarks.consensus.cluster`, so that one loop measures them all. Nobody is
pinned to a core.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

import httpx

from arc.cli.cluster_steps import leader_of, lease_of, look_at, verify
from arc.cli.demo_cluster import make_nodes
from arc.cli.demo_node import Node
from arc.cli.numbered import Ack, Count
from benchmarks.cluster.http import Http, Lines
from benchmarks.consensus.cluster import NODES, Cluster
from benchmarks.consensus.cluster import Etcd as EtcdOfOneSession
from tests.e2e.framed import Connection, Down

H = TypeVar("H", bound=Http)

WHOLE_SECONDS = 90.0
VERIFY_SECONDS = 60.0
LOOK_SECONDS = 0.1
COOLDOWN_SECONDS = 5.5
"""A little more than failover.cooldown_seconds: within it a lease that was just moved stays where it is."""

Document = Mapping[str, object]


class Arc(Cluster):
    """Ours. ``settings`` are ``section.key=value`` on top of the defaults."""

    name = "arc"

    def __init__(self, folder: Path, *settings: str) -> None:
        super().__init__(folder)
        self._settings = settings
        self.nodes: list[Node] = []

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.nodes = make_nodes(self.folder, NODES)
        for node in self.nodes:
            node.settings += self._settings
        self.ports = [node.port for node in self.nodes]
        return self

    def start(self, node: int) -> None:
        """Start one process, without waiting."""
        self.nodes[node].launch()
        self.processes[node] = self.nodes[node].process

    def start_all(self) -> float:
        """Start all; seconds until every node says that all are well and in sync."""
        began = time.perf_counter()
        for node in range(NODES):
            self.start(node)
        self.wait_whole()
        return time.perf_counter() - began

    def connect(self, node: int) -> Connection:
        """For writes."""
        return self.open(Lines, node)

    def open(self, kind: type[H], node: int) -> H:
        """A connection. Raises Down."""
        return kind(("127.0.0.1", self.ports[node]), self.nodes[node].token)

    def leader(self) -> int | None:
        """Who leads, as the nodes say that run; None unless they agree."""
        return self._agreed(leader_of)

    def writer(self) -> int | None:
        """Who holds the writer lease, as all say that run."""
        return self._agreed(lambda document: lease_of(document, "writer")[0])

    def wait_whole(self, seconds: float = WHOLE_SECONDS, *, rested: bool = False) -> Document:
        """Until all nodes call the cluster healthy, with all in sync and one leader; ``rested``: and no cooldown runs.

        Raises RuntimeError with the ends of the logs.
        """
        deadline, why = time.perf_counter() + seconds, "no time to look"
        while time.perf_counter() < deadline:
            found = [look_at(node.endpoint, node.token) for node in self.nodes]
            seen = [document for document in found if isinstance(document, dict)]
            why = "; ".join(sorted({missing(each, rested=rested) for each in seen} - {""}))
            if len(seen) == NODES and not why and len({leader_of(each) for each in seen}) == 1:
                return seen[0]
            time.sleep(LOOK_SECONDS)
        raise RuntimeError(f"{self.name} is not whole: {why or 'a node does not answer'}\n{self.told()}")

    def arrange(self, *, writer_leads: bool) -> tuple[int, int]:
        """Have the writer lead, or another node; who writes and who leads. Raises RuntimeError."""
        self.wait_whole(rested=True)
        writer = self._wait(self.writer)
        if (self._wait(self.leader) == writer) != writer_leads:
            self.transfer(writer if writer_leads else (writer + 1) % NODES)
            self.wait_whole()
        return self._wait(self.writer), self._wait(self.leader)

    def transfer(self, to: int) -> None:
        """Move leadership by hand and wait until everybody says so. Raises RuntimeError."""
        deadline = time.perf_counter() + WHOLE_SECONDS
        while self.leader() != to:
            at = self._wait(self.leader)
            if at != to:
                self._post(at, "/api/v1/cluster/transfer-leadership", {"target": self.nodes[to].name})
            time.sleep(LOOK_SECONDS)
            if time.perf_counter() > deadline:
                raise RuntimeError(f"leadership did not move to {self.nodes[to].name}")

    def metric(self, node: int, name: str) -> float:
        """A number of `/metrics`, over all labels. Raises KeyError."""
        url, token = f"{self.nodes[node].endpoint}/metrics", self.nodes[node].token
        return metric(httpx.get(url, headers={"authorization": f"Bearer {token}"}, timeout=10).text, name)

    def verify(self, acks: list[Ack]) -> list[Count]:
        """Ask every node for every acknowledged row, for a while if need be."""
        return [
            verify(node.name, node.endpoint, node.token, acks, time.monotonic() + VERIFY_SECONDS)
            for node in self.nodes
        ]  # fmt: skip

    def told(self) -> str:
        """The ends of the logs."""
        return "\n".join(
            f"--- {node.name}\n{node.log.read_text(errors='replace')[-1500:]}"
            for node in self.nodes
            if node.log.exists()
        )

    def _agreed(self, say: Callable[[Document], str | None]) -> int | None:
        told = set()
        for node, process in zip(self.nodes, self.processes, strict=True):
            if process is not None and isinstance(document := look_at(node.endpoint, node.token), dict):
                told.add(say(document))
        name = told.pop() if len(told) == 1 else None
        return next((at for at, node in enumerate(self.nodes) if node.name == name), None)

    def _wait(self, ask: Callable[[], int | None]) -> int:
        deadline = time.perf_counter() + WHOLE_SECONDS
        while time.perf_counter() < deadline:
            found = ask()
            if found is not None:
                return found
            time.sleep(LOOK_SECONDS)
        raise RuntimeError(f"{self.name}: nodes do not agree\n{self.told()}")

    def _post(self, node: int, path: str, body: Mapping[str, object]) -> None:
        headers = {"authorization": f"Bearer {self.nodes[node].token}"}
        try:
            httpx.post(self.nodes[node].endpoint + path, headers=headers, json=dict(body), timeout=10)
        except httpx.TransportError as error:
            raise Down(str(error)) from error


class Etcd(EtcdOfOneSession):
    """etcd with its default timers, each process in a session of its own as our nodes are.

    Linux gives sessions that compete equal shares of the processor (autogroups): on a busy machine three etcds in the
    session of the load would have a quarter of what three nodes of ours have.
    """

    def start(self, node: int) -> None:
        """Start one process, without waiting."""
        with (self.folder / f"n{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                self.command(node),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )


def missing(document: Document, *, rested: bool = False) -> str:
    """What a node's status lacks for a measurement to begin; empty when nothing."""
    if document.get("state") != "healthy":
        return f"{document.get('state')}: {document.get('degraded')}"
    in_sync = document.get("in_sync")
    members = in_sync.get("members") if isinstance(in_sync, dict) else ()
    if not isinstance(members, list) or len(members) != NODES:
        return f"in sync: {members}"
    leases = document.get("leases")
    for lease in leases if isinstance(leases, list) else ():
        if rested and lease.get("lease") == "writer" and float(lease.get("held_seconds") or 0.0) < COOLDOWN_SECONDS:
            return "the writer lease has just moved"
    return "" if leader_of(document) and lease_of(document, "writer")[0] else "nobody leads or writes"


def metric(text: str, name: str) -> float:
    """A number of a Prometheus page, summed over its labels. Raises KeyError when it is not there."""
    found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)", text, re.MULTILINE)
    if not found:
        raise KeyError(name)
    return sum(map(float, found))
