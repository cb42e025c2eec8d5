"""``arc demo``: real input in one command.

A node of its own on a temporary folder and a free port takes this machine's live metrics as line protocol. In the
middle it is killed with SIGKILL, as by a power cut, and started again; every row that was acknowledged before must be
there after. Then a few queries show what came in, and everything is removed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.asking import Answer, ask
from arc.cli.connect import open_client
from arc.cli.exits import ERROR, Failure
from arc.cli.options import Json, screen_of
from arc.cli.screen import Screen
from arc.cli.sending import Sender

if TYPE_CHECKING:
    import httpx

    from arc.cli.machine import Machine

DATABASE = "demo"
EVERY_SECONDS = 0.5
START_SECONDS = 60.0
STOP_SECONDS = 60.0
LOG_LINES_SHOWN = 30

QUERIES = (
    ("rows per measurement", "counts"),
    (
        "latest use of each core, %",
        "SELECT core, round(last(usage ORDER BY time), 1) AS now, round(avg(usage), 1) AS average,"
        " round(max(usage), 1) AS highest FROM demo.cpu GROUP BY core ORDER BY core",
    ),
    (
        "memory, MiB",
        "SELECT round(avg(used) / 1048576) AS used, round(avg(available) / 1048576) AS available,"
        " round(max(percent), 1) AS highest_percent FROM demo.memory",
    ),
    (
        "per second of the demo",
        "SELECT date_trunc('second', time) AS second, count(*) AS rows, round(avg(usage), 1) AS cpu"
        " FROM demo.cpu GROUP BY 1 ORDER BY 1 DESC LIMIT 5",
    ),
)
"""Title → statement, shown at the end."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A node in a process of its own, which may be killed and started again on the same folder and port."""

    folder: Path
    port: int
    token: str
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
        command = [sys.executable, "-m", "arc", "serve", "--data-dir", str(self.folder / "data")]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--log-format", "json"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARC_")}
        started = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, "ARC_AUTH_BOOTSTRAP_TOKEN": self.token, "PYTHONPATH": _python_path()},
                cwd=self.folder,  # an arc.toml of the reader's own folder is not for this node
                start_new_session=True,  # Ctrl-C is for the demo, which then ends its node in order
            )
        self.starts += 1
        self._wait_ready(started + START_SECONDS)
        return time.monotonic() - started

    def _wait_ready(self, deadline: float) -> None:
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


@dataclass(slots=True)
class Acknowledged:
    """What the node promised to keep: rows per measurement."""

    rows: dict[str, int] = field(default_factory=dict)

    def add(self, lines: list[str]) -> None:
        """Count lines that were answered with 204."""
        for line in lines:
            name = line.partition(",")[0].partition(" ")[0]
            self.rows[name] = self.rows.get(name, 0) + 1


def demo(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port of the node; 0: a free one.", min=0, max=65535)] = 0,
    seconds: Annotated[float, typer.Option(help="How long to stream metrics.", min=1, max=3600)] = 10.0,
    json: Json = False,
) -> None:
    """Stream this machine's own metrics into a node of its own, kill it in the middle, and query what came in.

    Exit code 0 when every acknowledged row was found after the kill and at the end, 1 otherwise.
    """
    screen = screen_of(context)
    folder = Path(tempfile.mkdtemp(prefix="arc-demo-"))
    node = Node(folder=folder, port=port or _free_port(), token=f"demo-{secrets.token_hex(20)}")
    try:
        with _ended(node):
            whole = _run(screen, node, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not whole:
        raise typer.Exit(ERROR)


def _run(screen: Screen, node: Node, seconds: float) -> bool:
    from arc.cli.machine import Machine

    screen.note(f"starting a node on {node.folder}")
    spent = node.start()
    screen.note(f"ready at {node.endpoint} after {spent:.1f} s; streaming this machine's metrics for {seconds:g} s")
    acknowledged, machine = Acknowledged(), Machine()
    with open_client(node.endpoint, node.token) as client:
        _stream(screen, client, machine, acknowledged, seconds / 2)
        before = count_rows(client, acknowledged)
        screen.note(f"{sum(before.values())} rows are acknowledged. Killing the node now (SIGKILL, no time to flush)")
        node.kill()
        recovery = node.start()
        after = count_rows(client, acknowledged)
        lost = judge(acknowledged.rows, after)
        kept = [
            (name, count, before.get(name, 0), after.get(name, 0)) for name, count in sorted(acknowledged.rows.items())
        ]
        columns = ("measurement", "acknowledged", "before kill -9", "after restart")
        _show(
            screen,
            f"kill -9 and restart: {'no row lost' if not lost else 'ROWS DIFFER'} ({recovery:.1f} s)",
            columns,
            kept,
        )
        _stream(screen, client, machine, acknowledged, seconds / 2)
        final = count_rows(client, acknowledged)
        wrong = {**lost, **judge(acknowledged.rows, final)}
        answers = list(_ask_all(client, final))
    for title, statement, answer in answers:
        _show(screen, title, answer.columns, answer.rows, statement)
    node.stop()
    if screen.json:
        screen.document(
            {
                "success": not wrong,
                "endpoint": node.endpoint,
                "acknowledged": acknowledged.rows,
                "before_kill": before,
                "after_restart": after,
                "at_end": final,
                "restart_seconds": round(recovery, 3),
                "queries": [
                    {"title": title, "sql": statement, "columns": answer.columns, "data": answer.rows}
                    for title, statement, answer in answers
                ],
            }
        )
    return not wrong


def judge(acknowledged: dict[str, int], found: dict[str, int]) -> dict[str, int]:
    """Measurement → rows missing (positive) or too many (negative). Empty: exactly what was promised."""
    names = acknowledged.keys() | found.keys()
    return {name: gap for name in sorted(names) if (gap := acknowledged.get(name, 0) - found.get(name, 0))}


def count_rows(client: httpx.Client, acknowledged: Acknowledged) -> dict[str, int]:
    """Rows that a query sees now, per measurement."""
    found = {}
    for name in sorted(acknowledged.rows):
        found[name] = int(str(ask(client, f"SELECT count(*) FROM {name}", database=DATABASE).rows[0][0]))
    return found


def _stream(screen: Screen, client: httpx.Client, machine: Machine, acknowledged: Acknowledged, seconds: float) -> None:
    sender = Sender(
        client=client,
        path="/api/v1/write/line-protocol",
        headers={"Content-Type": "text/plain; charset=utf-8", "x-arc-database": DATABASE},
        parameters={"strict": "true"},
        give_up_seconds=START_SECONDS,
        tell=screen.note,
    )
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        lines = machine.lines(time.time_ns())
        body = "\n".join(lines).encode()
        outcome = sender.send(lambda body=body: body, f"demo-{secrets.token_hex(8)}")  # type: ignore[misc]
        if outcome.refused:
            first = outcome.refused[0]
            raise Failure(f"the node refused a line: {first.reason}: {first.text}")
        acknowledged.add(lines)
        time.sleep(max(0.0, min(now + EVERY_SECONDS, until) - time.monotonic()))


def _ask_all(client: httpx.Client, counts: dict[str, int]) -> Iterator[tuple[str, str, Answer]]:
    for title, statement in QUERIES:
        sql = statement
        if statement == "counts":
            sql = " UNION ALL ".join(f"SELECT '{name}' AS measurement, count(*) AS rows FROM {name}" for name in counts)
            yield title, f"{sql} ORDER BY rows DESC", ask(client, f"{sql} ORDER BY rows DESC", database=DATABASE)
        else:
            yield title, sql, ask(client, sql, database=None)


def _show(screen: Screen, title: str, columns: object, rows: object, statement: str = "") -> None:
    if screen.json:
        return
    screen.title(title)
    if statement:
        screen.note(statement)
    screen.table(columns, rows)  # type: ignore[arg-type]


@contextmanager
def _ended(node: Node) -> Iterator[None]:
    """However the demo ends, its node ends too: SIGTERM is made to unwind as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if node.process is not None and node.process.poll() is None:
            node.kill()


def _python_path() -> str:
    """The node must be this program also when it runs from a source folder that is not installed."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
