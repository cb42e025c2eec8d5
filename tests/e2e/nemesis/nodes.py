"""The nodes of a run: real processes behind links that can be cut, on disks that can hang, and one that can be filled.

The small disk is a file system in memory where mounting is allowed. Elsewhere a full disk is played by a start with a
reserve that no disk has (``storage.reserve_bytes``): the node then refuses writes as on a disk that is nearly full.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import httpx
import psutil

from tests.e2e import breaking
from tests.e2e.cluster import Document, holder_of, leader_of
from tests.e2e.harness import POLL_SECONDS, Server, ServerDied, free_port
from tests.e2e.links import Links
from tests.e2e.nemesis.history import Trouble

SECRET = "what the nodes under the nemesis share"
DISK_MIB = 192
LEFT_BYTES = 64 << 10
"""Room that a full disk still has: less than any reserve, and not quite nothing."""
RESERVE = "6MiB"
NEVER_FREE = str(1 << 60)
SMALL = {
    "ingest.flush_rows": 2000,
    "ingest.flush_age_seconds": "5s",
    "wal.segment_bytes": "1MiB",
    "wal.group_bytes": "256KiB",
    "wal.max_bytes": "16MiB",
    "storage.reserve_bytes": RESERVE,
    "storage.delete_grace_seconds": "5s",
    "compaction.hourly_min_age_seconds": "2s",
    "compaction.daily_min_age_seconds": "0s",
    "compaction.daily_min_files": 3,
    "compaction.late_min_files": 3,
    "compaction.poll_seconds": "1s",
    "compaction.target_file_bytes": "1MiB",
    "compaction.memory_bytes": "64MiB",
    "retention.every_seconds": "5s",
    "delete.enabled": "true",
    "continuous.delay_seconds": "1s",
    "continuous.late_check_seconds": "3s",
}
"""So that faults fall into flushes, registrations, the recycling of segments and merges of files."""
BROKEN = "broken"
"""The file in a node's folder that breaks its disk."""
LOOK_SECONDS = 2.0
STOP_SECONDS = 150.0
"""An orderly stop lets requests end for 30 s and moves rows to files; a loaded machine is no reason to fail."""


class Nodes:
    """All of them. What is done to a node is remembered, so that its end is known to be wanted or not."""

    def __init__(self, folder: Path, names: Sequence[str], *, small: str = "") -> None:
        self.names = tuple(names)
        self.folder = folder
        self.links = Links(self._who)
        self.small = small
        self._held = ExitStack()
        self._mounted: Path | None = None
        ports = {name: free_port() for name in names}
        doors = {name: self.links.port_before(name, ports[name]) for name in names}
        seeds = ",".join(f"127.0.0.1:{door}" for door in doors.values())
        self.servers: dict[str, Server] = {}
        self._paused: set[str] = set()
        self.no_hanging = ""
        """Why disks cannot hang here; empty where they can."""
        try:
            library = breaking.build(folder)
        except breaking.NotBuilt as error:
            library, self.no_hanging = None, str(error)
        for name in names:
            settings: dict[str, object] = {
                "node.id": name,
                "node.role": "standalone",
                "cluster.enabled": "true",
                "cluster.name": "nemesis",
                "cluster.shared_secret": SECRET,
                "cluster.peer_port": ports[name],
                "cluster.advertise": f"127.0.0.1:{doors[name]}",
                "cluster.seeds": seeds,
                "cluster.bootstrap_expect": len(names),
                **SMALL,
            }
            home = folder / name
            data = self._mount(home) if name == small else None
            variables = {"PYTHONFAULTHANDLER": "1"}
            if library is not None:
                variables |= breaking.variables(library, home / BROKEN, data or home / "data")
            self.servers[name] = Server(home, settings=settings, variables=variables, data_dir=data)

    def __repr__(self) -> str:
        return f"<Nodes {list(self.servers.values())} {self.links!r}>"

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held, self.links:
            for server in self.servers.values():
                server.kill9()
                server.http.close()

    @property
    def disk(self) -> str:
        """How a disk is filled here."""
        if not self.small:
            return ""
        if self._mounted is not None:
            return f"a tmpfs of {DISK_MIB} MiB below {self.small}, filled with a file"
        return f"storage.reserve_bytes above what {self.small}'s disk has (mounting is not allowed here)"

    def start(self) -> None:
        """Start all, without waiting."""
        for server in self.servers.values():
            server.start(wait=False)

    def others(self, *names: str) -> tuple[str, ...]:
        """All names but these."""
        return tuple(each for each in self.names if each not in names)

    # ---- what is done to them

    def kill(self, *names: str) -> None:
        """SIGKILL to all of them, before anybody waits for one."""
        for name in names:
            with suppress(ProcessLookupError, AssertionError):
                self.servers[name].signal(signal.SIGKILL)
        for name in names:
            self.servers[name].kill9()
            self._paused.discard(name)

    def launch(self, *names: str) -> None:
        """Start what is down, without waiting."""
        for name in names:
            self.servers[name].start(wait=False)

    def pause(self, *names: str) -> None:
        """SIGSTOP."""
        for name in names:
            self.servers[name].signal(signal.SIGSTOP)
            self._paused.add(name)

    def resume(self, *names: str) -> None:
        """SIGCONT."""
        for name in names:
            self._paused.discard(name)
            self.servers[name].signal(signal.SIGCONT)

    def restart(self, name: str) -> None:
        """SIGTERM, the end waited for, and a start. Raises AssertionError when it does not end well."""
        try:
            self._stop(name)
        finally:
            self.launch(name)

    def _stop(self, name: str) -> None:
        """An orderly end; one that does not come is ended so that the log tells where each thread was."""
        server = self.servers[name]
        process, deadline = psutil.Process(server.pid), time.monotonic() + STOP_SECONDS
        server.signal(signal.SIGTERM)
        while process.status() != psutil.STATUS_ZOMBIE:  # Its exit code is for `wait_end` to fetch.
            if time.monotonic() > deadline:
                server.signal(signal.SIGABRT)
                break
            time.sleep(5 * POLL_SECONDS)
        code = server.wait_end()
        assert code == 0, f"ended with {code}\n{server.stderr()[-5000:]}"

    def hang_disk(self, name: str) -> None:
        """Every write and sync of a node waits from now on."""
        breaking.hang(self.folder / name / BROKEN)

    def free_hung_disks(self) -> None:
        """They go on with what they were told."""
        for name in self.names:
            (self.folder / name / BROKEN).unlink(missing_ok=True)

    def fill_disk(self) -> None:
        """Leave the small disk next to no room."""
        server = self.servers[self.small]
        if self._mounted is None:
            self._restart_with_reserve(NEVER_FREE)
            return
        ballast = self._mounted / "ballast"
        with ballast.open("wb") as file:
            while (free := shutil.disk_usage(self._mounted).free) > LEFT_BYTES:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free - LEFT_BYTES)
                except OSError:
                    break  # the node took the room meanwhile: then it is full
        assert server.data_dir.is_relative_to(self._mounted), server

    def free_disk(self) -> None:
        """Give the room back."""
        if self._mounted is None:
            self._restart_with_reserve(RESERVE)
        else:
            (self._mounted / "ballast").unlink(missing_ok=True)

    def _restart_with_reserve(self, reserve: str) -> None:
        server = self.servers[self.small]
        self._stop(self.small)
        server.change({"storage.reserve_bytes": reserve})
        self.launch(self.small)

    # ---- what they say

    def is_down(self, name: str) -> bool:
        """Whether no process of it is wanted to run."""
        return not self.servers[name].is_started

    def is_paused(self, name: str) -> bool:
        """Whether it was stopped and not woken."""
        return name in self._paused

    def document(self, name: str, http: httpx.Client | None = None) -> Document:
        """``GET /api/v1/cluster`` as that node has it; empty while it does not answer."""
        if self.is_down(name) or self.is_paused(name):
            return {}
        try:
            answer = (http or self.servers[name].http).get("/api/v1/cluster", timeout=LOOK_SECONDS)
        except httpx.TransportError:
            return {}
        if answer.status_code != 200:
            return {}
        found: Document = answer.json()
        return found

    def role(self, word: str) -> str:
        """Which node plays a part now, as the newest epoch or term says; empty: nobody is known to."""
        documents = [found for name in self.names if (found := self.document(name))]
        if word == "leader":
            return max(((term_of(each), leader_of(each)) for each in documents if leader_of(each)), default=(0, ""))[1]
        return max(((epoch_of(each), holder_of(each)) for each in documents if holder_of(each)), default=(0, ""))[1]

    def died(self) -> list[Trouble]:
        """Processes that ended although nobody ended them; they are started again."""
        found = []
        for name in self.names:
            if self.is_down(name):
                continue
            try:
                self.servers[name].check_alive()
            except ServerDied as error:
                found.append(Trouble(kind="a node ended by itself", words=f"{name}: {str(error)[:3000]}"))
                self.launch(name)
        return found

    def lacking(self) -> list[str]:
        """What keeps the cluster from being whole; empty when every node says that all are well."""
        found = []
        for name in self.names:
            if self.is_down(name):
                found.append(f"{name} is down")
                continue
            said = self.document(name)
            if not said:
                found.append(f"{name} does not answer")
            elif said.get("healthy_count") != len(self.names) or said.get("state") != "healthy":
                found.append(f"{name} says {said.get('state')}: {_codes(said)}")
            elif not leader_of(said) or not holder_of(said):
                found.append(f"{name} knows no leader or no writer")
            elif not self._is_ready(name):
                found.append(f"{name} is not ready")
        return found

    def wait_whole(self, seconds: float) -> list[str]:
        """Return when nothing is lacking, or the time is over: what still is."""
        deadline = time.monotonic() + seconds
        while lacking := self.lacking():
            if time.monotonic() > deadline:
                return lacking
            time.sleep(5 * POLL_SECONDS)
        return []

    def tracebacks(self) -> list[Trouble]:
        """Logs in which a mistake of the program shows."""
        return [
            Trouble(kind="a traceback", words=f"{path.relative_to(self.folder)}: {text[text.index(TRACE) :][:3000]}")
            for path in sorted(self.folder.glob("*/std*.txt"))
            if TRACE in (text := path.read_text(errors="replace"))
        ]

    def logged(self, message: str) -> int:
        """How often nodes said this."""
        return sum(path.read_text(errors="replace").count(message) for path in self.folder.glob("*/std*.txt"))

    def _is_ready(self, name: str) -> bool:
        try:
            return self.servers[name].http.get("/ready", timeout=LOOK_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def _mount(self, home: Path) -> Path | None:
        """The data folder on a small file system; None where mounting is not allowed."""
        if shutil.which("mount") is None or os.geteuid() != 0:
            return None
        folder = home / "disk"
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            return None
        self._held.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)
        self._mounted = folder
        return folder / "data"

    def _who(self, port: int) -> str | None:
        """Which node has a connection from this local port."""
        for name, server in self.servers.items():
            try:
                found = psutil.Process(server.pid).net_connections("tcp")
            except (psutil.Error, AssertionError):
                continue
            if any(each.laddr.port == port for each in found if each.laddr):
                return name
        return None


TRACE = "Traceback (most recent call last)"


def epoch_of(document: Document) -> int:
    """Of the writer lease."""
    leases = document.get("leases")
    for lease in leases if isinstance(leases, list) else ():
        if lease.get("lease") == "writer":
            return int(lease.get("epoch") or 0)
    return 0


def term_of(document: Document) -> int:
    """In which the leader that the node knows leads; 0: it knows none."""
    leader = document.get("leader")
    return int(leader.get("term") or 0) if isinstance(leader, dict) else 0


def _codes(document: Document) -> str:
    found = document.get("degraded")
    return ", ".join(str(each.get("code")) for each in found) if isinstance(found, list) else ""
