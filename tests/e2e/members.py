"""Three bare consensus members as real processes, and clients that never stop asking them for something.

The members are `tests.e2e.raftd`. Clients are threads: each proposes one unique key after the other, follows the names
of leaders it is told, gives up on silence, and never asks for the same key twice, so a key may be in the log at most
once. What was acknowledged, and where, is remembered for the audit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

import cbor2

from tests.e2e.framed import ORDER, PUT, Down, Framed
from tests.e2e.harness import POLL_SECONDS, REPOSITORY, free_port

T = TypeVar("T")

SIZE = 3
PATIENCE_SECONDS = 0.5
"""How long a client waits for one answer; a leader that stands still is left after that."""

DEADLINE_SECONDS = 60.0
STDERR_SHOWN_CHARS = 4000


class Members:
    """Three member processes on loopback, with their data below one folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.names = [f"n{number}" for number in range(SIZE)]
        self.ports = {name: free_port() for name in self.names}
        self._peers = ",".join(f"{name}=127.0.0.1:{free_port()}" for name in self.names)
        self._options = options
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Members:
        for name in self.names:
            self.start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._processes):
            self.kill9(name)

    def data(self, name: str) -> Path:
        """The member's folder."""
        return self.folder / name

    def start(self, name: str) -> None:
        """Start the process, without waiting."""
        assert name not in self._processes, f"{name} runs"
        self.data(name).mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.e2e.raftd", "--name", name, "--members", self._peers]
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*command, "--port", str(self.ports[name]), "--folder", str(self.data(name)), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )

    def kill9(self, name: str) -> None:
        """As a power cut of its host, as far as a process can."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()

    def pause(self, name: str) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers."""
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._processes[name].send_signal(signal.SIGCONT)

    def terminate(self, name: str) -> int:
        """An orderly end; the exit code."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            return process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not stop\n{self.told()}") from None

    def status(self, name: str) -> dict[str, object] | None:
        """What the member says; None when it does not answer."""
        try:
            return self._ask(name, Framed.status)
        except Down:
            return None

    def leader(self) -> str | None:
        """The leader of the highest term that anybody who answers is sure of."""
        told = {name: status for name in self.names if (status := self.status(name)) is not None}
        leaders = [(int(str(status["term"])), name) for name, status in told.items() if status["is_leader"]]
        return max(leaders)[1] if leaders else None

    def wait_leader(self) -> str:
        """Until there is one."""
        return self.wait(self.leader, "a leader")

    def wait_all_know(self, *, but: str = "") -> str:
        """Until every running member names the same leader, who is not ``but``."""

        def one_name() -> str | None:
            told = [status["leader"] if (status := self.status(name)) else None for name in sorted(self._processes)]
            return str(told[0]) if told[0] not in (None, but) and told.count(told[0]) == len(told) else None

        return self.wait(one_name, "one leader whom all name")

    def wait_equal(self) -> None:
        """Until all have applied the same entries."""

        def equal() -> bool:
            told = [status for name in self.names if (status := self.status(name)) is not None]
            states = [(status["applied"], status["digest"]) for status in told]
            return len(states) == SIZE and states.count(states[0]) == SIZE

        self.wait(equal, "equal members")

    def wait_applied(self, name: str, index: int) -> None:
        """Until the member has applied so much."""
        self.wait(lambda: int(str((self.status(name) or {"applied": -1})["applied"])) >= index, f"{name} at {index}")

    def wait(self, look: Callable[[], object], what: str) -> str:
        """Ask until the answer is true. Raises AssertionError with the ends of the logs."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            found = look()
            if found:
                return str(found)
            for name, process in self._processes.items():
                assert process.poll() is None, f"{name} ended by itself with {process.returncode}\n{self.told()}"
            time.sleep(POLL_SECONDS)
        raise AssertionError(f"waited {DEADLINE_SECONDS:g} s for {what}\n{self.told()}")

    def order(self, name: str) -> list[tuple[int, bytes]]:
        """Every command the member has applied, as (index, key)."""

        def read(connection: Framed) -> list[tuple[int, bytes]]:
            found: list[tuple[int, bytes]] = []
            while True:
                reply = connection.call(ORDER, b"%d" % len(found), timeout=DEADLINE_SECONDS)
                rows = cbor2.loads(reply.payload or b"")
                if not rows:
                    return found
                found += [(index, key) for index, key in rows]

        return self._ask(name, read)

    def _ask(self, name: str, question: Callable[[Framed], T]) -> T:
        connection = Framed(("127.0.0.1", self.ports[name]), timeout=1.0)
        try:
            return question(connection)
        finally:
            connection.close()

    def told(self) -> str:
        """The ends of the logs."""
        paths = [self.folder / f"{name}.log" for name in self.names]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-STDERR_SHOWN_CHARS:]}" for path in paths)


class Acknowledged(NamedTuple):
    """One proposal that a client was told is done."""

    key: bytes
    index: int  # type: ignore[assignment]
    asked_at: float
    answered_at: float
    """Both in monotonic seconds."""


class Clients:
    """Threads that propose until the context ends."""

    def __init__(self, members: Members, count: int, value_bytes: int = 64) -> None:
        self._members = members
        self._value = b"v" * value_bytes
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: list[Acknowledged] = []
        self.unknown = 0
        """Proposals without an answer: they may be in the log or not."""
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def gap_after(self, moment: float) -> float | None:
        """Seconds from a moment to the first acknowledgement of a proposal begun after it; None: there is none yet."""
        with self._lock:
            recent = self.acknowledged[-1000:]
        return min((each.answered_at - moment for each in recent if each.asked_at > moment), default=None)

    def _run(self, number: int) -> None:
        names = self._members.names
        name, silent, serial = names[number % SIZE], "", 0
        connection: Framed | None = None
        while not self._stop.is_set():
            serial += 1
            key, asked_at = b"%d-%d" % (number, serial), time.monotonic()
            told = ""
            try:
                if connection is None:
                    connection = Framed(("127.0.0.1", self._members.ports[name]), timeout=PATIENCE_SECONDS)
                reply = connection.call(PUT, key, self._value, timeout=PATIENCE_SECONDS)
            except Down:
                self.unknown += 1
                silent = name
            else:
                assert reply.payload is not None
                if reply.ok:
                    done = Acknowledged(key, int(reply.payload), asked_at, time.monotonic())
                    with self._lock:
                        self.acknowledged.append(done)
                    silent = ""
                    continue
                told = reply.payload.decode().partition(" ")[2]
            if connection is not None:
                connection.close()
                connection = None
            if told and told != silent:  # Followers go on naming a leader who is gone until they notice themselves.
                name = told
            else:
                name = names[(names.index(name) + 1) % SIZE]
                self._stop.wait(POLL_SECONDS)
