"""A node of a demo: a process of its own, on a folder and a port that last over its deaths."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from arc.cli.connect import open_client
from arc.cli.exits import Failure

START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOG_LINES_SHOWN = 30


@dataclass(slots=True, kw_only=True)
class Node:
    """A node in a process of its own, which may be killed and started again on the same folder and port."""

    folder: Path
    port: int
    token: str
    name: str = ""
    settings: tuple[str, ...] = ()
    """More configuration, as ``section.key=value``: whoever lists processes can read it."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Configuration that nobody else may read."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def endpoint(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it printed, all starts together."""
        return self.folder / "node.log"

    def start(self) -> float:
        """Start it and wait until it is ready; the seconds that took. Raises Failure."""
        started = time.monotonic()
        self.launch()
        self.wait_ready(started + START_SECONDS)
        return time.monotonic() - started

    def launch(self) -> None:
        """Start it and do not wait."""
        command = [sys.executable, "-m", "arc", "serve", "--data-dir", str(self.folder / "data")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--log-format", "json"]
        for setting in self.settings:
            command += ["--set", setting]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARC_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **environment,
                    **self.environment,
                    "ARC_AUTH_BOOTSTRAP_TOKEN": self.token,
                    "PYTHONPATH": _python_path(),
                },
                cwd=self.folder,  # an arc.toml of the reader's own folder is not for this node
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its node in order
            )
        self.starts += 1

    def wait_ready(self, deadline: float) -> None:
        """Return when it says that it is ready. Raises Failure when it ends, or is not by then."""
        import httpx

        assert self.process is not None
        with open_client(self.endpoint, self.token, answer_seconds=5.0) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise self._trouble(f"the node ended with exit code {self.process.returncode}")
                try:
                    if client.get("/ready").status_code == 200:
                        return
                except httpx.TransportError:
                    pass  # not listening yet
                time.sleep(0.05)
        raise self._trouble(f"the node was not ready after {START_SECONDS:.0f} s")

    def require_running(self) -> None:
        """Raises Failure, with the end of its log, when it has ended by itself."""
        if self.process is None or self.process.poll() is not None:
            code = self.process.returncode if self.process is not None else None
            raise self._trouble(f"node {self.name or 'of the demo'} ended with exit code {code}")

    def kill(self) -> None:
        """End it as a power cut would: no handler runs, nothing is flushed."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to end; also when it already has. Raises Failure when it ends badly."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._trouble(f"the node did not stop within {STOP_SECONDS:.0f} s") from None
        if code != 0:
            raise self._trouble(f"the node stopped with exit code {code}")

    def _trouble(self, cause: str) -> Failure:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
        return Failure("\n".join((cause, *lines)), next_step="The lines above are the end of its log.")


@contextmanager
def ended(nodes: Sequence[Node]) -> Iterator[None]:
    """However the demo ends, its nodes end too: SIGTERM is made to unwind as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        for node in nodes:
            if node.process is not None and node.process.poll() is None:
                node.kill()


def _python_path() -> str:
    """The node must be this program also when it runs from a source folder that is not installed."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all held at once, so that none comes twice."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
