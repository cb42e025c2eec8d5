"""Three nodes that find each other through their seeds and found a cluster, in real processes, with or without TLS."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

import httpx
import psutil
import trustme

from tests.e2e.harness import POLL_SECONDS, Server, free_port
from tests.e2e.links import Links

SECRET = "what the nodes of one cluster share"
SIZE = 3
STRANGER = "a stranger"
"""Whoever opened a connection and is not of the cluster: no link with it is ever cut."""
PATIENCE_SECONDS = 90.0
"""For whatever a cluster should get done by itself; a loaded machine is no reason to fail."""

Document = Mapping[str, object]
T = TypeVar("T")


class Cluster:
    """Nodes n1, n2 and n3. ``authority`` signs their certificates: mutual TLS between them, HTTPS for clients.
    ``variables`` are those of the environment of the node that lives in a folder.

    >>> with Cluster(folder) as cluster:
    ...     cluster.start()
    ...     cluster.nodes[cluster.writer()].kill9()
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, object] | None = None,
        variables: Callable[[Path], Mapping[str, str]] = lambda home: {},
        authority: trustme.CA | None = None,
    ) -> None:
        self.links = Links(self._who)
        self.nodes: dict[str, Server] = {}
        for name, place in self._new_places().items():
            own: dict[str, object] = {
                "node.id": name,
                "node.role": "writer",
                "cluster.enabled": "true",
                "cluster.shared_secret": SECRET,
                "cluster.bootstrap_expect": SIZE,
                **place,
                **(settings or {}),
            }
            home = folder / name
            if authority is not None:
                own |= tls_settings(authority, home)
            trust = trust_of(authority) if authority is not None else None
            self.nodes[name] = Server(home, settings=own, variables=variables(home), trust=trust)

    def __repr__(self) -> str:
        return f"<Cluster {list(self.nodes.values())} {self.links!r}>"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as all_of_them:
            all_of_them.enter_context(self.links)
            for node in self.nodes.values():
                all_of_them.push(node)

    def start(self) -> None:
        """Start all and wait until they are a cluster in which everything works."""
        for node in self.nodes.values():
            node.start(wait=False)
        self.wait_whole()

    def move(self) -> None:
        """Give all nodes, none of which runs, other places for their peers, like new machines with the old folders."""
        for name, place in self._new_places().items():
            self.nodes[name].change(place)

    def wait_whole(self) -> None:
        """Return when every node says that all are there, one leads, one writes and every one is in sync."""
        wait_until("the cluster is whole", lambda: all(self._is_whole(name) for name in self.nodes), self._seen)

    def document(self, name: str) -> Document:
        """``GET /api/v1/cluster`` as that node has it; empty while it does not answer."""
        try:
            answer = self.nodes[name].http.get("/api/v1/cluster", timeout=5)
        except httpx.TransportError:
            return {}
        return cast("Document", answer.json()) if answer.status_code == 200 else {}

    def writer(self, *, but: str = "", asked: str = "") -> str:
        """Wait until a node that is asked knows a holder of the writer lease other than ``but``; its name."""
        names = [asked] if asked else [name for name in self.nodes if name != but]

        def known() -> str:
            for name in names:
                holder = holder_of(self.document(name))
                if holder and holder != but:
                    return holder
            return ""

        return wait_until(f"another node than {but or 'nobody'} writes", known, self._seen)

    def leader(self) -> str:
        """Wait until somebody leads, as a node knows it; its name."""

        def known() -> str:
            return next((found for name in self.nodes if (found := leader_of(self.document(name)))), "")

        return wait_until("somebody leads", known, self._seen)

    def others(self, name: str) -> list[str]:
        """All names but this one."""
        return [each for each in self.nodes if each != name]

    def _new_places(self) -> dict[str, dict[str, object]]:
        """Where each node listens for its peers from its next start on, and that this is where to look for them."""
        names = [f"n{number}" for number in range(1, SIZE + 1)]
        ports = {name: free_port() for name in names}
        doors = {name: f"127.0.0.1:{self.links.port_before(name, ports[name])}" for name in names}
        return {
            name: {
                "cluster.peer_port": ports[name],
                "cluster.advertise": doors[name],
                "cluster.seeds": ",".join(doors.values()),
            }
            for name in names
        }

    def _is_whole(self, name: str) -> bool:
        self.nodes[name].check_alive()
        found = self.document(name)
        return (
            found.get("healthy_count") == SIZE
            and bool(leader_of(found))
            and bool(holder_of(found))
            and found.get("state") == "healthy"
        )

    def _seen(self) -> str:
        return "\n".join(
            f"{name}: {self.document(name).get('state')} {self.document(name).get('degraded')}\n{node.stderr()[-2000:]}"
            for name, node in self.nodes.items()
        )

    def _who(self, port: int) -> str:
        """Which node has a connection from this local port; a node that is none of ours is a stranger."""
        for name, node in self.nodes.items():
            try:
                found = psutil.Process(node.pid).net_connections("tcp")
            except (psutil.Error, AssertionError):
                continue
            if any(each.laddr.port == port for each in found if each.laddr):
                return name
        return STRANGER


def tls_settings(authority: trustme.CA, home: Path) -> dict[str, object]:
    """A node's own certificate for both of its ports, and who else is believed."""
    home.mkdir(parents=True, exist_ok=True)
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(home / "key.pem")
    issued.cert_chain_pems[0].write_to_path(home / "cert.pem")
    authority.cert_pem.write_to_path(home / "ca.pem")
    return {
        "cluster.tls_cert_file": home / "cert.pem",
        "cluster.tls_key_file": home / "key.pem",
        "cluster.tls_ca_file": home / "ca.pem",
        "server.tls_cert_file": home / "cert.pem",
        "server.tls_key_file": home / "key.pem",
    }


def trust_of(authority: trustme.CA) -> ssl.SSLContext:
    """What a client checks servers with."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def holder_of(document: Document) -> str:
    """Who holds the writer lease; empty: nobody, as far as that node knows."""
    for lease in cast("list[Mapping[str, object]]", document.get("leases", [])):
        if lease.get("lease") == "writer":
            return str(lease.get("holder") or "")
    return ""


def leader_of(document: Document) -> str:
    """Who leads consensus; empty: nobody, as far as that node knows."""
    leader = cast("Mapping[str, object]", document.get("leader") or {})
    return str(leader.get("id") or "")


def wait_until(what: str, known: Callable[[], T], seen: Callable[[], str] = str) -> T:
    """Ask again until the answer is a yes, and return it; fails with what is seen when it never is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := known():
            return found
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"waited in vain: {what}\n{seen()}")
