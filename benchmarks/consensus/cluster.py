"""Three server processes of one kind on loopback: started, killed, asked who leads.

Nobody is pinned to a core: three servers and the load share what there is, for every target alike.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from benchmarks.consensus.client import Request, load
from benchmarks.consensus.grpc import Etcd as EtcdConnection
from benchmarks.consensus.grpc import fields
from benchmarks.servers import free_port
from tests.e2e.framed import GET, PUT, STATUS, Connection, Down, Framed, Reply

REPOSITORY = Path(__file__).parents[2]
NODES = 3
LEADER_SECONDS = 60.0
POLL_SECONDS = 0.01


class Cluster:
    """Three nodes. Subclasses say how one is started and how it is asked."""

    name = ""
    has_linearizable_reads = True
    connections_max = 1
    """Over how many connections the load is spread; for each target what it is fastest with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(NODES)]
        self.peer_ports = [free_port() for _ in range(NODES)]
        self.folders = [folder / f"n{node}" for node in range(NODES)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * NODES

    @classmethod
    def missing(cls) -> str:
        """Why this target cannot be measured here; empty when it can."""
        return ""

    @classmethod
    def version(cls) -> str:
        """Name and version."""
        return cls.name

    def command(self, node: int) -> list[str]:
        """The command line of one node."""
        raise NotImplementedError

    def connect(self, node: int) -> Connection:
        """A connection of a client. Raises Down."""
        return Framed(("127.0.0.1", self.ports[node]))

    def leader(self) -> int | None:
        """Who leads, as far as any node knows. May raise Down."""
        raise NotImplementedError

    def applied(self, node: int) -> int:
        """Index up to which a node has applied. May raise Down."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        for folder in self.folders:
            folder.mkdir(parents=True)
        return self

    def __exit__(self, *_: object) -> None:
        for node in range(NODES):
            self.kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, node: int) -> None:
        """Start one process, without waiting."""
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", "")))}
        with (self.folder / f"n{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(
                self.command(node), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=variables
            )

    def start_all(self) -> float:
        """Start all; seconds until a write is acknowledged."""
        began = time.perf_counter()
        for node in range(NODES):
            self.start(node)
        self.wait_write()
        return time.perf_counter() - began

    def kill(self, node: int) -> None:
        """SIGKILL."""
        process = self.processes[node]
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            self.processes[node] = None

    @property
    def pids(self) -> list[int]:
        """Of the running processes."""
        return [process.pid for process in self.processes if process is not None]

    def wait_leader(self, seconds: float = LEADER_SECONDS) -> int:
        """Who leads. Raises RuntimeError with the end of the logs."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            try:
                found = self.leader()
                if found is not None and self.processes[found] is not None:
                    return found
            except Down:
                pass
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"{self.name}: no leader\n{self.told()}")

    def wait_write(self, seconds: float = LEADER_SECONDS) -> None:
        """Wait until some node acknowledges a write. Raises RuntimeError."""
        deadline = time.perf_counter() + seconds
        attempt = 0
        while time.perf_counter() < deadline:
            for node in range(NODES):
                attempt += 1
                try:
                    connection = self.connect(node)
                except Down:
                    continue
                try:
                    if connection.call(PUT, b"first%d" % attempt, b"v", timeout=0.5).ok:
                        return
                except Down:
                    pass
                finally:
                    connection.close()
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"{self.name}: no write was acknowledged\n{self.told()}")

    def wait_caught_up(self, node: int, target: int, seconds: float = 120.0) -> None:
        """Wait until a node has applied up to ``target``. Raises RuntimeError."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            try:
                if self.applied(node) >= target:
                    return
            except Down:
                pass
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"{self.name}: node {node} did not catch up\n{self.told()}")

    def connections(self, node: int, in_flight: int) -> list[Connection]:
        """As many as this target likes."""
        return [self.connect(node) for _ in range(min(in_flight, self.connections_max))]

    def missing_keys(self, node: int, keys: Sequence[bytes]) -> list[bytes]:
        """Which of these keys a linearizable read does not find (or cannot read)."""
        pending = iter(keys)
        found: set[bytes] = set()

        def request() -> Request | None:
            key = next(pending, None)
            return None if key is None else Request(GET, key, b"")

        def keep(asked: Request, reply: Reply) -> None:
            if reply.payload is not None:
                found.add(asked.key)

        connections = self.connections(node, 32)
        try:
            load(connections, request, in_flight=32, seconds=600, warm_seconds=0, acknowledged=keep)
        finally:
            for connection in connections:
                connection.close()
        return [key for key in keys if key not in found]

    def told(self) -> str:
        """The ends of the logs."""
        paths = [path for node in range(NODES) if (path := self.folder / f"n{node}.log").exists()]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in paths)


class Etcd(Cluster):
    """etcd with its default timers and its default fsync, over gRPC. ``ETCD_BIN`` names another than Debian's."""

    name = "etcd"
    program = os.environ.get("ETCD_BIN", "etcd")

    @classmethod
    def missing(cls) -> str:
        """The package."""
        return "" if shutil.which(cls.program) else "etcd is not installed (Debian: apt install etcd-server)"

    @classmethod
    def version(cls) -> str:
        """As it says."""
        done = subprocess.run([cls.program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        return f"etcd {done.stdout.splitlines()[0].rpartition(' ')[2]}"

    def command(self, node: int) -> list[str]:
        """A static cluster; only the quota is raised, so that long runs do not fill it."""
        client, peer = (f"http://127.0.0.1:{ports[node]}" for ports in (self.ports, self.peer_ports))
        members = ",".join(f"n{other}=http://127.0.0.1:{port}" for other, port in enumerate(self.peer_ports))
        return [
            self.program, "--name", f"n{node}", "--data-dir", str(self.folders[node] / "etcd"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", members, "--initial-cluster-state", "new", "--initial-cluster-token", "bench",
            "--logger", "zap", "--log-level", "error", "--quota-backend-bytes", str(4 << 30),
        ]  # fmt: skip

    def connect(self, node: int) -> Connection:
        """HTTP/2."""
        return EtcdConnection(("127.0.0.1", self.ports[node]))

    def leader(self) -> int | None:
        """Whose own id is the leader's."""
        for node in range(NODES):
            if self.processes[node] is None:
                continue
            try:
                status = self._status(node)
            except Down:
                continue
            header = status[1][0]
            assert isinstance(header, bytes)
            if status.get(4, [0])[0] == fields(header)[2][0]:
                return node
        return None

    def applied(self, node: int) -> int:
        """StatusResponse.raftAppliedIndex, field 7 (rpc.proto)."""
        return int(self._status(node).get(7, [0])[0])

    def _status(self, node: int) -> dict[int, list[int | bytes]]:
        connection = self.connect(node)
        try:
            reply = connection.call(STATUS, timeout=1.0)
        finally:
            connection.close()
        if not reply.ok or not reply.payload:
            raise Down("no status")
        return fields(reply.payload)


class FramedCluster(Cluster):
    """Nodes with our own client port."""

    def status(self, node: int) -> dict[str, object]:
        """What a node says about itself."""
        connection = Framed(("127.0.0.1", self.ports[node]))
        try:
            return connection.status()
        finally:
            connection.close()

    def leader(self) -> int | None:
        """Who says so, in the highest term."""
        best: tuple[int, int] | None = None
        for node in range(NODES):
            if self.processes[node] is None:
                continue
            try:
                status = self.status(node)
            except Down:
                continue
            if status["is_leader"]:
                best = max(best or (-1, -1), (int(str(status["term"])), node))
        return None if best is None else best[1]

    def applied(self, node: int) -> int:
        """As it says."""
        return int(str(self.status(node)["applied"]))


class PySyncObj(FramedCluster):
    """PySyncObj with short timers, batching at every tick, and its journal on disk — which it never syncs."""

    name = "PySyncObj, no fsync"
    python = os.environ.get("PYSYNCOBJ_PYTHON", sys.executable)
    arguments: tuple[str, ...] = ()

    @classmethod
    def missing(cls) -> str:
        """The package, in whichever interpreter was named."""
        return "" if cls._ask() else "pysyncobj is not installed (pip install pysyncobj, or name PYSYNCOBJ_PYTHON)"

    @classmethod
    def version(cls) -> str:
        """Of the package."""
        return f"PySyncObj {cls._ask()}"

    @classmethod
    def _ask(cls) -> str:
        command = [cls.python, "-c", "import pysyncobj; print(pysyncobj.version.VERSION)"]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.strip()

    def command(self, node: int) -> list[str]:
        """The host in `pysyncobj_node`."""
        others = ",".join(f"127.0.0.1:{port}" for other, port in enumerate(self.peer_ports) if other != node)
        return [
            self.python, "-m", "benchmarks.consensus.pysyncobj_node", "--self", f"127.0.0.1:{self.peer_ports[node]}",
            "--others", others, "--port", str(self.ports[node]), "--folder", str(self.folders[node]), *self.arguments,
        ]  # fmt: skip


class PySyncObjSynced(PySyncObj):
    """The same, made durable: one msync per batch before anything of it is sent or answered."""

    name = "PySyncObj, fsync"
    arguments = ("--sync",)


class Floor(FramedCluster):
    """Bare Trio: a leader named at birth, two followers, one append + fdatasync each; no Raft at all."""

    name = "floor"
    has_linearizable_reads = False

    @classmethod
    def version(cls) -> str:
        """Ours to say."""
        return "floor: bare Trio, no Raft"

    def command(self, node: int) -> list[str]:
        """Node 0 leads."""
        peers = ["--peers", ",".join(map(str, self.ports[1:]))] if node == 0 else []
        program = [sys.executable, "-m", "benchmarks.consensus.floor_node"]
        return [*program, "--port", str(self.ports[node]), "--log", str(self.folders[node] / "log"), *peers]

    def leader(self) -> int | None:
        """Node 0, once it answers."""
        self.status(0)
        return 0

    def wait_write(self, seconds: float = LEADER_SECONDS) -> None:
        """Only node 0 takes writes: followers speak another language."""
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            try:
                connection = self.connect(0)
                if connection.call(PUT, b"first", b"v", timeout=0.5).ok:
                    connection.close()
                    return
            except Down:
                time.sleep(POLL_SECONDS)
        raise RuntimeError(f"{self.name}: no write was acknowledged\n{self.told()}")


class ArcRaft(FramedCluster):
    """Ours: bare members with the driver, the log and the transport that a node has, default settings."""

    name = "arc"

    def command(self, node: int) -> list[str]:
        """`tests.e2e.raftd`."""
        members = [f"n{other}=127.0.0.1:{port}" for other, port in enumerate(self.peer_ports)]
        return [
            sys.executable, "-m", "tests.e2e.raftd", "--name", f"n{node}", "--members", ",".join(members),
            "--port", str(self.ports[node]), "--folder", str(self.folders[node]),
        ]  # fmt: skip
