"""Nodes without the cost of a cold start: one process has imported all that ``arc serve`` needs, and forks for each.

What a node imports and compiles costs more than two seconds of processor, and the end-to-end tests start some hundreds
of them; it was more than half of all that they cost. The fork is a process like any other: of its own folder,
environment, standard streams and pid, killed and stopped by signals. What it cannot have is what the loader of a new
program does (``LD_PRELOAD``, a command in front), so `Server` starts those cold, and so do the tests of ``arc serve``,
of the demo and of the command line.

The two sides talk over one pair of sockets: a request is JSON with three descriptors (standard output, error, and a
pipe), and the pipe tells the pid, and later the exit code.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

REQUEST_BYTES_MAX = 128 * 1024
"""Arguments and environment of one start; a request that is longer is refused by the socket."""

ANSWER_SECONDS = 60.0
"""How long the first request waits for the imports, on a loaded machine."""

ROOT = Path(__file__).parents[2]


class Forked:
    """A process that was started by `start`, with the part of `subprocess.Popen` that a test needs."""

    returncode: int | None = None
    """The exit code once it is known, negative for the signal that ended it."""

    _handle = -1

    def __init__(self, told: IO[bytes]) -> None:
        self._told = told
        self.pid = self._next(ANSWER_SECONDS)
        with suppress(ProcessLookupError):  # it has ended already, which the pipe tells
            self._handle = os.pidfd_open(self.pid)

    def __repr__(self) -> str:
        return f"<Forked pid={self.pid} returncode={self.returncode}>"

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float = ANSWER_SECONDS) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._next(timeout)
            self._told.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None and self._handle >= 0:
            with suppress(ProcessLookupError):  # it ends just now
                signal.pidfd_send_signal(self._handle, number)

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)

    def _next(self, timeout: float) -> int:
        """The next number that the pipe tells. Raises subprocess.TimeoutExpired, EOFError."""
        readable, _, _ = select.select([self._told], [], [], timeout)
        if not readable:
            raise subprocess.TimeoutExpired("arc", timeout)
        line = self._told.readline()
        if not line:
            raise EOFError("the process that starts nodes has ended; what it wrote is above")
        return int(line)


def start(
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> Forked:
    """Run ``arc`` with these arguments in a process of its own; its standard input is empty."""
    told, tells = os.pipe()
    request = json.dumps({"arguments": list(arguments), "cwd": str(cwd), "env": dict(env)}).encode()
    try:
        socket.send_fds(_line(), [request], [stdout.fileno(), stderr.fileno(), tells])
    finally:
        os.close(tells)
    return Forked(os.fdopen(told, "rb", buffering=0))


@cache
def _line() -> socket.socket:
    """To the process that forks. It ends when this one does, because nobody has the other end then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # Newer Pythons warn of a fork beside threads: the only other one here is Arrow's allocator's, made for that.
        quiet = ["-W", "ignore:This process:DeprecationWarning"]
        command = [sys.executable, *quiet, "-m", "tests.e2e.warm", str(theirs.fileno())]
        # Whoever forks should have no second thread; numpy's library would start one for each core.
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    return ours


def serve(line: socket.socket) -> None:
    """Fork for every request until the other end is closed."""
    import_all()
    gc.collect()
    gc.freeze()
    running: dict[int, tuple[int, int]] = {}
    """Handle of a process → its pid, and the pipe of whoever asked for it."""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not line:
                    selector.unregister(key.fd)
                    _reap(key.fd, *running.pop(key.fd))
                    continue
                request, fds, _, _ = socket.recv_fds(line, REQUEST_BYTES_MAX, 3)
                if not request:
                    return
                stdout, stderr, tells = fds
                pid = _fork(request, stdout, stderr)
                handle = os.pidfd_open(pid)
                running[handle] = pid, tells
                selector.register(handle, selectors.EVENT_READ)
                _tell(tells, pid)


def _fork(request: bytes, stdout: int, stderr: int) -> int:
    """Start a process and close its streams here; its pid."""
    pid = os.fork()
    if pid == 0:
        _become(json.loads(request), stdout, stderr)
    os.close(stdout)
    os.close(stderr)
    return pid


def _reap(handle: int, pid: int, tells: int) -> None:
    """Tell how a process ended."""
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    _tell(tells, os.waitstatus_to_exitcode(status))
    os.close(tells)


def _tell(pipe: int, number: int) -> None:
    with suppress(BrokenPipeError):  # whoever asked has ended, and nobody wants to know any more
        os.write(pipe, f"{number}\n".encode())


def import_all() -> None:
    """All that ``arc serve`` imports, at once or later; compile its kernels where numba is installed, or load them.

    `make test` does this once before the tests: else every process that they start would compile for half a minute.
    """
    import arc.cli.main
    import arc.node  # noqa: F401 - the fork needs it
    from arc.cli.serve import _leave_pandas_out
    from arc.ingest.formats import Formats
    from arc.query import results_json, results_msgpack

    _leave_pandas_out()  # before the first array, as there
    Formats().warm()
    results_json.warm()
    results_msgpack.warm()


def _become(request: Mapping[str, object], stdout: int, stderr: int) -> None:
    """In the fork: have what `subprocess.Popen` would have given, run the command, and never return."""
    code = 1
    try:
        for number, fd in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
            os.dup2(fd, number)
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with suppress(OSError):  # the one that listed them is closed already
                    os.close(int(name))
        os.chdir(str(request["cwd"]))
        os.environ.clear()
        os.environ.update(request["env"])  # type: ignore[call-overload]  # it was a mapping when it was sent
        sys.argv = ["arc", *request["arguments"]]  # type: ignore[misc]
        random.seed()
        from arc.cli.main import main

        code = main()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as line:
        serve(line)
