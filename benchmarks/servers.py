"""The programs that are compared: ours and the peers', each pinned to one core on a fresh folder, with the same care.

A peer that is not installed gives no rows, and the table says so.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from benchmarks.measure import Run

TOKEN = "benchmark-token-0123456789-0123456789"
START_SECONDS = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A server under load. Subclasses say how it is started and which path takes line protocol."""

    name = ""
    auth = ""
    lines_path = "/write?db=bench"
    ready_path = "/ready"

    def __init__(self, run: Run, folder: Path, *, pinned: bool = True) -> None:
        self.run = run
        self.folder = folder
        self.port = free_port()
        self._pinned = pinned
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def variables(self) -> Mapping[str, str]:
        """Environment on top of ours."""
        return {}

    def prepare(self, http: httpx.Client) -> None:
        """What must exist before the load."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers. Raises RuntimeError with the log."""
        pin = ["taskset", "-c", str(self.run.server_cpu)] if self._pinned else []
        with (self.folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*pin, *self.command()], env={**os.environ, **self.variables()}, stdout=log, stderr=log, cwd=self.folder
            )
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url, timeout=5) as http:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    if http.get(self.ready_path).status_code in (200, 204):
                        self.prepare(http)
                        return
                except httpx.TransportError:
                    pass
                time.sleep(0.02)
        raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'log.txt').read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL; fine for a peer, and for us the point."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the running process (taskset replaces itself)."""
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_bytes(self) -> int:
        """Resident memory."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


class Arc(Process):
    """This project, with its defaults: authentication on, every 204 after the disk has it."""

    name = "arc"
    auth = f"Bearer {TOKEN}"
    module = "arc"

    def __init__(
        self, run: Run, folder: Path, *, pinned: bool = True, settings: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(run, folder, pinned=pinned)
        self._settings = dict(settings or {})

    def command(self) -> list[str]:
        """`python -m arc serve`."""
        data = str(self.folder / "data")
        return [sys.executable, "-m", self.module, "serve", "--data-dir", data, "--port", str(self.port)]

    def variables(self) -> Mapping[str, str]:
        """The token, and settings where a benchmark needs one; it says so in its note."""
        made = {f"ARC_{name.replace('.', '_')}".upper(): str(value) for name, value in self._settings.items()}
        return {"ARC_AUTH_BOOTSTRAP_TOKEN": TOKEN, "PYTHONPATH": str(Path(__file__).parents[1]), **made}

    def settle(self) -> None:
        """Wait until the start's own work is over: at the first start on a machine the kernels are compiled."""
        deadline = time.monotonic() + START_SECONDS
        last = self.cpu_seconds()
        while time.monotonic() < deadline:
            time.sleep(2)
            now = self.cpu_seconds()
            if now - last < 0.05:
                return
            last = now

    def client(self, timeout: float = 120) -> httpx.Client:
        """HTTP with the token."""
        return httpx.Client(base_url=self.url, headers={"authorization": self.auth}, timeout=timeout)


class ArcWithoutLog(Arc):
    """The same server with a log that forgets: what the WAL costs is the difference. Exists in this folder only."""

    name = "arc, no WAL"
    module = "benchmarks.without_log"


class VictoriaMetrics(Process):
    """Debian's ``victoria-metrics``; it has no write-ahead log and acknowledges from memory."""

    name = "VictoriaMetrics"
    program = "victoria-metrics"
    ready_path = "/health"

    def command(self) -> list[str]:
        """Single node, nothing logged."""
        return [
            self.program, f"-storageDataPath={self.folder}/data", f"-httpListenAddr=127.0.0.1:{self.port}",
            "-retentionPeriod=100y", "-loggerLevel=ERROR",
        ]  # fmt: skip


class InfluxDB(Process):
    """Debian's ``influxdb`` 1.6; it syncs its log for every write, as we do."""

    name = "InfluxDB"
    program = "influxd"
    ready_path = "/ping"

    def command(self) -> list[str]:
        """Defaults, but no limit on series and nothing logged."""
        config = self.folder / "influx.conf"
        config.write_text(
            f'reporting-disabled = true\nbind-address = "127.0.0.1:{free_port()}"\n'
            f'[meta]\n dir = "{self.folder}/meta"\n'
            f'[data]\n dir = "{self.folder}/data"\n wal-dir = "{self.folder}/wal"\n'
            " max-series-per-database = 0\n max-values-per-tag = 0\n"
            f'[http]\n bind-address = "127.0.0.1:{self.port}"\n log-enabled = false\n'
            '[monitor]\n store-enabled = false\n[logging]\n level = "warn"\n'
        )
        return [self.program, "-config", str(config)]

    def prepare(self, http: httpx.Client) -> None:
        """Its database."""
        http.post("/query", data={"q": "CREATE DATABASE bench"}).raise_for_status()


def version_of(peer: type[Process]) -> str | None:
    """The peer's version; None when it is not installed."""
    program = getattr(peer, "program", "")
    if not program or shutil.which(program) is None:
        return None
    # Debian builds VictoriaMetrics without its version, so the package is asked as well.
    commands = ([program, "version"], [program, "-version"], ["dpkg-query", "-W", "-f=${Version}", program])
    for command in commands:
        if shutil.which(command[0]) and (command[1] != "version" or program == "influxd"):
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
            found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
            if found and not done.returncode:
                return found[0]
    return "unknown version"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
