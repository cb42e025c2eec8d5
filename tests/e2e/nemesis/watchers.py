"""Those who only look: one asks each node for counts, one asks what each knows of the cluster. All the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import httpx

from tests.e2e.cluster import holder_of, leader_of
from tests.e2e.harness import Server
from tests.e2e.nemesis.clients import DATABASE, Client
from tests.e2e.nemesis.history import Look, Seen
from tests.e2e.nemesis.nodes import Nodes, epoch_of, term_of

QUERY_SECONDS = 5.0
PAUSE_SECONDS = 0.1
LOOK_EVERY_SECONDS = 0.5
NOT_NOW = frozenset({408, 429, 502, 503, 504, 508})
"""A node may say that it cannot answer now; it may not answer wrongly."""
NOT_YET = frozenset({400, 404})
"""A measurement that a node has not heard of yet."""


class Asker:
    """Asks one node again and again how many rows it has of each client."""

    def __init__(
        self, name: str, servers: Mapping[str, Server], clients: Sequence[Client], now: Callable[[], float]
    ) -> None:
        self._name = name
        self._servers = servers
        self._clients = clients
        self._now = now
        self._ending = threading.Event()
        self.seen: list[Seen] = []
        self.refused = 0
        self.strange: list[str] = []
        self._known: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"asker-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait for it."""
        self._ending.set()
        self._thread.join(2 * QUERY_SECONDS)

    def _run(self) -> None:
        at = 0
        with self._servers[self._name].client(timeout=QUERY_SECONDS) as http:
            while not self._ending.wait(PAUSE_SECONDS):
                at += 1
                try:
                    self._ask(http, self._clients[at % len(self._clients)])
                except httpx.TransportError:
                    self.refused += 1

    def _ask(self, http: httpx.Client, client: Client) -> None:
        began, starts = self._now(), {name: server.starts for name, server in self._servers.items()}
        answer = http.post(
            "/api/v1/query",
            json={"sql": f"SELECT count(id), count(DISTINCT id) FROM {client.name}"},
            headers={"x-arc-database": DATABASE},
        )
        ended, sent = self._now(), client.sent
        by = answer.headers.get("x-arc-served-by", self._name)
        if answer.status_code == 200:
            ((rows, distinct),) = answer.json()["data"]
            self.seen.append(
                Seen(node=by, start=starts.get(by, 0), client=client.name, began=began, ended=ended,
                     rows=rows, distinct=distinct, sent=sent)
            )  # fmt: skip
            self._known.add(client.name)
            return
        self.refused += 1
        is_new = answer.status_code in NOT_YET and client.name not in self._known
        if answer.status_code not in NOT_NOW and not is_new:
            self.strange.append(
                f"query of {client.name} at {began:.2f} s, {self._name}, answered by {by}: "
                f"{answer.status_code} {answer.text[:300]}"
            )


class Looker:
    """Remembers who leads and writes, as each node says."""

    def __init__(self, nodes: Nodes, now: Callable[[], float]) -> None:
        self._nodes = nodes
        self._now = now
        self._ending = threading.Event()
        self.looks: list[Look] = []
        self._threads = [
            threading.Thread(target=self._run, args=(name,), name=f"looker-{name}", daemon=True) for name in nodes.names
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop, and wait for it."""
        self._ending.set()
        for thread in self._threads:
            thread.join(10)

    def _run(self, name: str) -> None:
        with self._nodes.servers[name].client(timeout=QUERY_SECONDS) as http:
            while not self._ending.wait(LOOK_EVERY_SECONDS):
                found = self._nodes.document(name, http)
                self.looks.append(
                    Look(
                        at=self._now(), node=name, answers=bool(found), writer=holder_of(found), epoch=epoch_of(found),
                        leader=leader_of(found), term=term_of(found), state=str(found.get("state", "")),
                    )
                )  # fmt: skip
