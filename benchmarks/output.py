"""Rows out: a million rows of four columns from files over HTTP, in every format, read and thrown away."""

from __future__ import annotations

import json
import socket
import time

from benchmarks.measure import Row, Run, figure
from benchmarks.payloads import START_NS, wide_table
from benchmarks.queries import fill
from benchmarks.servers import Arc

ROWS = 1_000_000
SQL = "SELECT time, hostname, usage_user, usage_irq FROM bench.cpu"
TARGETS = {
    "arrow": ("/api/v1/query/arrow", 10.0),
    "json": ("/api/v1/query", 5.0),
    "msgpack": ("/api/v1/query/msgpack", 8.0),
}


def rows_out(run: Run) -> list[Row]:
    """Both cores: DuckDB scans on one while the other encodes and sends; this process only reads."""
    found: dict[str, list[float]] = {name: [] for name in TARGETS}
    sizes: dict[str, int] = {}
    with Arc(run, run.folder / "server", pinned=False, settings={"ingest.memory_bytes": "2GiB"}) as server:
        with server.client() as http:
            fill(http, wide_table(ROWS, 4_000, START_NS))
            http.post("/api/v1/write/line-protocol/flush").raise_for_status()
        for repetition in range(run.repetitions + 1):
            for name, (path, _) in TARGETS.items():
                seconds, sizes[name] = read_all(server, path)
                if repetition:  # the first one warms files and kernels
                    found[name].append(ROWS / seconds / 1e6)
    return [
        Row(
            name=f"1 M rows × 4 columns out over HTTP, {name}",
            ours=figure("M rows/s", found[name]),
            at_least=target,
            note=f"{sizes[name] / 1e6:.0f} MB a result",
        )
        for name, (_, target) in TARGETS.items()
    ]


def read_all(server: Arc, path: str, sql: str = SQL) -> tuple[float, int]:
    """Seconds from the request to the last byte, and how many bytes came. Raises RuntimeError when it is not a 200."""
    body = json.dumps({"sql": sql}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: {server.auth}\r\nContent-Type: application/json\r\n"
    head += f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        began = time.perf_counter()
        connection.sendall(head.encode() + body)
        got = connection.recv_into(buffer)
        if not buffer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(bytes(buffer[:got]).decode(errors="replace"))
        total = got
        while got:
            got = connection.recv_into(buffer)
            total += got
        return time.perf_counter() - began, total
