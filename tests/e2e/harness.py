"""A real node in a real process on a temporary folder: started, killed, stopped and asked over HTTP as anybody would.

Nothing here sleeps for a guessed time: waiting means asking again until a deadline, and a deadline that passes fails
with what the process wrote. Standard error goes to a file in the folder, so it survives the process.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import cast

import httpx

from tests.e2e import warm

TOKEN = "e2e-bootstrap-token-0123456789abcdef"
"""The first admin token of every node under test; at least 32 characters, or the node refuses it."""

START_SECONDS = 60.0
"""A cold start on a loaded two-core machine, kernels compiled on the way."""

STOP_SECONDS = 60.0
STDERR_SHOWN_CHARS = 6000
POLL_SECONDS = 0.02

REPOSITORY = Path(__file__).parents[2]


class ServerDied(AssertionError):
    """The process ended while somebody waited for it; the text has its exit code and what it wrote."""


class Server:
    """One node process. ``settings`` are ``section.key`` → text, handed over as ``ARC_*`` variables. With ``trust`` it
    is asked over HTTPS and its certificate is checked with that.

    >>> with Server(folder) as node:
    ...     node.write("cpu,host=a usage=1.5")
    ...     node.rows("SELECT usage FROM cpu")
    [[1.5]]
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, object] | None = None,
        variables: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        data_dir: Path | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        self.data_dir = folder / "data" if data_dir is None else data_dir
        self.port = free_port()
        self.starts = 0
        self._settings = dict(settings or {})
        self._variables = dict(variables or {})
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | warm.Forked | None = None
        self.trust = trust
        self.http = self.client(timeout=60)
        folder.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else f"pid={self._process.pid}"
        return f"<Server {self.url} {state} starts={self.starts}>"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill9()
        self.http.close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"{'http' if self.trust is None else 'https'}://127.0.0.1:{self.port}"

    def client(self, *, timeout: float) -> httpx.Client:
        """A client of one's own, with the token of all nodes."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        verify = True if self.trust is None else self.trust
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, verify=verify)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def is_started(self) -> bool:
        """Whether a process was started and not ended by us; it may have ended by itself."""
        return self._process is not None

    def change(self, settings: Mapping[str, object]) -> None:
        """Settings that the next start has, besides those it had."""
        self._settings |= settings

    @property
    def stderr_path(self) -> Path:
        """What the last start wrote to standard error."""
        return self.folder / f"stderr-{self.starts}.txt"

    def stderr(self) -> str:
        """All that the last start wrote."""
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def start(self, *, wait: bool = True) -> Server:
        """Start the process; with ``wait``, until it takes writes and answers queries."""
        assert self._process is None, "already running"
        self.starts += 1
        arguments = ["serve", "--data-dir", str(self.data_dir), "--host", "127.0.0.1", "--port", str(self.port)]
        env = environment(self._settings, self._variables)
        is_for_the_loader = bool(self._prefix) or any(name.startswith("LD_") for name in self._variables)
        with self.stderr_path.open("wb") as stderr, (self.folder / f"stdout-{self.starts}.txt").open("wb") as stdout:
            if is_for_the_loader:
                command = [*self._prefix, sys.executable, "-m", "arc", *arguments]
                self._process = subprocess.Popen(
                    command, cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
                )
            else:
                self._process = warm.start(arguments, cwd=self.folder, env=env, stdout=stdout, stderr=stderr)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Ask ``/ready`` until it says yes. Raises ServerDied, AssertionError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                if self.http.get("/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(POLL_SECONDS)
        self.kill9()
        raise AssertionError(f"not ready after {seconds} s\n{self._told()}")

    def check_alive(self) -> None:
        """Raise ServerDied when the process has ended."""
        assert self._process is not None, "not started"
        code = self._process.poll()
        if code is not None:
            self._process = None
            raise ServerDied(f"the node ended by itself with {code}\n{self._told()}")

    def kill9(self) -> None:
        """End the process as a power cut of its host would, as far as a process can: nothing of it runs any more."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that runs now."""
        assert self._process is not None, "not started"
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to stop in order. Raises AssertionError when it does not, or ends with anything but 0."""
        assert self._process is not None, "not started"
        self._process.send_signal(signal.SIGTERM)
        assert self.wait_end() == 0, self._told()

    def wait_end(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until the process ends by itself; the exit code."""
        assert self._process is not None, "not started"
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"still running after {seconds} s\n{self._told()}") from None
        self._process = None
        return code

    def restart(self) -> None:
        """An orderly stop and a start on the same data."""
        self.terminate()
        self.start()

    def write(self, lines: str | bytes, *, db: str = "default", expect: int = 204, **parameters: str) -> httpx.Response:
        """Line protocol in; asserts the status."""
        body = lines.encode() if isinstance(lines, str) else lines
        answer = self.http.post("/api/v1/write/line-protocol", params={"db": db, **parameters}, content=body)
        assert answer.status_code == expect, f"{answer.status_code} {answer.text}\n{self._told()}"
        return answer

    def rows(self, sql: str, *, db: str = "") -> list[list[object]]:
        """The rows of a query. Raises AssertionError with the server's message when it fails."""
        headers = {"x-arc-database": db} if db else {}
        answer = self.http.post("/api/v1/query", json={"sql": sql}, headers=headers)
        assert answer.status_code == 200, f"{sql}: {answer.status_code} {answer.text}\n{self._told()}"
        return cast("list[list[object]]", answer.json()["data"])

    def one(self, sql: str, *, db: str = "") -> object:
        """The only value of the only row."""
        ((value,),) = self.rows(sql, db=db)
        return value

    def _told(self) -> str:
        text = self.stderr()
        return f"--- the end of {self.stderr_path.name} ---\n{text[-STDERR_SHOWN_CHARS:]}"


def environment(settings: Mapping[str, object], variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without its own ``ARC_*``, and with the settings as ``ARC_<SECTION>_<KEY>``."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("ARC_")}
    found["ARC_AUTH_BOOTSTRAP_TOKEN"] = TOKEN
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), found.get("PYTHONPATH"))))
    found["NO_COLOR"] = "1"
    found |= {f"ARC_{name.replace('.', '_')}".upper(): str(value) for name, value in settings.items()}
    return found | dict(variables or {})


def free_port() -> int:
    """A port that was free a moment ago, and that nobody was told of before."""
    with ExitStack() as held:
        while True:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = cast("int", probe.getsockname()[1])
            if port not in _told_ports:
                _told_ports.add(port)
                return port


_told_ports: set[int] = set()


def run_arc(
    *arguments: str,
    settings: Mapping[str, object] | None = None,
    variables: Mapping[str, str] | None = None,
    seconds: float = STOP_SECONDS,
) -> subprocess.CompletedProcess[str]:
    """One ``arc`` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "arc", *arguments],
        env=environment(settings or {}, variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
