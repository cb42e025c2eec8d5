"""``arc demo``: real input in one command.

A node of its own on a temporary folder and a free port takes this machine's live metrics as line protocol. In the
middle it is killed with SIGKILL, as by a power cut, and started again; every row that was acknowledged before must be
there after. Then a few queries show what came in, and everything is removed.

With ``--nodes 3`` it is a cluster: see `demo_cluster`.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.asking import Answer, ask
from arc.cli.connect import open_client
from arc.cli.demo_cluster import run_cluster
from arc.cli.demo_node import START_SECONDS, Node, ended, free_ports
from arc.cli.exits import ERROR, USAGE, Failure
from arc.cli.options import Json, screen_of
from arc.cli.screen import Screen
from arc.cli.sending import Sender

if TYPE_CHECKING:
    import httpx

    from arc.cli.machine import Machine

DATABASE = "demo"
EVERY_SECONDS = 0.5

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
    port: Annotated[int, typer.Option(help="Port of a single node; 0: a free one.", min=0, max=65535)] = 0,
    seconds: Annotated[float, typer.Option(help="How long to stream rows.", min=1, max=3600)] = 10.0,
    nodes: Annotated[int, typer.Option(help="Nodes; more than one are a cluster.", min=1, max=7)] = 1,
    kill_leader: Annotated[
        bool, typer.Option("--kill-leader", help="Kill -9 the node that writes, under load; measure the gap.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running afterwards, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Stream this machine's own metrics into nodes of its own, and see that no kill -9 loses or doubles a row.

    One node is killed in the middle and started again. With --nodes 3 it is a cluster on this machine; --kill-leader
    kills the node that writes while rows stream in, shows who takes over, and measures how long no row was accepted.
    Exit code 0 when every acknowledged row was found exactly once, 1 otherwise.
    """
    screen = screen_of(context)
    if nodes == 1 and (kill_leader or keep):
        raise Failure("--kill-leader and --keep are for a cluster", next_step="Add --nodes 3.", exit_code=USAGE)
    folder = Path(tempfile.mkdtemp(prefix="arc-demo-"))
    is_evidence = False
    try:
        if nodes > 1:
            whole = run_cluster(screen, folder, count=nodes, seconds=seconds, kills=kill_leader, keeps=keep)
            is_evidence = not whole
        else:
            node = Node(folder=folder, port=port or free_ports(1)[0], token=f"demo-{secrets.token_hex(20)}")
            with ended([node]):
                whole = _run(screen, node, seconds)
    except Failure:
        is_evidence = nodes > 1
        raise
    finally:
        if is_evidence:
            screen.note(f"what the nodes wrote and stored is kept in {folder}")
        else:
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
