"""What operators feel: the longest silence of the event loop under heavy work, the way back after kill -9, the cost of
doing nothing."""

from __future__ import annotations

import re
import threading
import time
from datetime import datetime

import httpx

from benchmarks.load import post
from benchmarks.measure import Row, Run, figure
from benchmarks.output import read_all
from benchmarks.payloads import START_NS, simple_lines, wide_table, write_bodies
from benchmarks.queries import fill
from benchmarks.servers import Arc

BIG_BODY_BYTES = 10 << 20
REPLAY_SECONDS = 8.0
IDLE_SECONDS = 15.0


class ArcWithHeartbeat(Arc):
    """The server with a task inside that wants to run every 5 ms and writes down how late it was."""

    module = "benchmarks.with_heartbeat"


def stall(run: Run) -> list[Row]:
    """Bodies of 10 MB in, a million rows out, both without a pause; the heartbeat's lateness is the stall."""
    lines = "\n".join(simple_lines())
    big = (lines * (BIG_BODY_BYTES // len(lines) + 1))[:BIG_BODY_BYTES].rpartition("\n")[0].encode()
    found, worst = [], []
    for _ in range(run.repetitions):
        with ArcWithHeartbeat(
            run, run.folder / "server", pinned=False, settings={"ingest.memory_bytes": "2GiB"}
        ) as server:
            with server.client() as http:
                fill(http, wide_table(1_000_000, 4_000, START_NS))
                http.post("/api/v1/write/line-protocol/flush").raise_for_status()
                http.post("/write", params={"db": "big"}, content=big).raise_for_status()
                read_all(server, "/api/v1/query/arrow")
                http.get("/health")
            (server.folder / "measure").touch()
            writes, reads = _work(server, big, run.seconds * 3)
            late = sorted(float(line) * 1000 for line in (server.folder / "late.txt").read_text().split())
        found.append(late[int(len(late) * 0.999)])
        worst.append(late[-1])
        run.say(
            f"    {len(late)} beats, p50 {late[len(late) // 2]:.1f}, p99 {late[int(len(late) * 0.99)]:.1f},"
            f" p99.9 {found[-1]:.1f}, worst {worst[-1]:.1f} ms; {writes} bodies in, {reads} results out"
        )
    return [
        Row(
            name="stall of the event loop, p99.9, while 10 MB bodies come in and 1 M rows go out",
            ours=figure("ms", found),
            at_most=50.0,
            note=f"a task that wakes every 5 ms; worst {figure('ms', worst)}",
        )
    ]


def _work(server: Arc, big: bytes, seconds: float) -> tuple[int, int]:
    stop = threading.Event()
    counts = [0, 0]

    def write() -> None:
        with server.client() as http:
            while not stop.is_set():
                if http.post("/write", params={"db": "big"}, content=big).status_code == 204:
                    counts[0] += 1

    def read() -> None:
        while not stop.is_set():
            read_all(server, "/api/v1/query" if counts[1] % 2 else "/api/v1/query/arrow")
            counts[1] += 1

    threads = [threading.Thread(target=work) for work in (write, read)]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return counts[0], counts[1]


def replay(run: Run) -> list[Row]:
    """A log that nobody flushed, kill -9, and the time from listening to ready. Direct writes are in no page cache."""
    settings = {
        "ingest.flush_rows": 10**9, "ingest.flush_bytes": "16GiB", "ingest.flush_age_seconds": "1d",
        "ingest.memory_bytes": "6GiB", "wal.max_bytes": "16GiB",
    }  # fmt: skip
    bodies = write_bodies(run.folder / "bodies", "wide-1k")
    found, sizes = [], []
    for _ in range(run.repetitions):
        with Arc(run, run.folder / "server", pinned=False, settings=settings) as server:
            post(run, server.url, "/write?db=bench", bodies, auth=server.auth, seconds=REPLAY_SECONDS)
            with httpx.Client() as http:
                size = _metric(http.get(f"{server.url}/metrics").text, "arc_wal_size_bytes")
            server.kill()
            log = server.folder / "log.txt"
            log.write_text("")
            server.start()
            told = log.read_text()
            seconds = _moment(told, "node_ready") - _moment(told, "http_listening")
            if "recovering" not in told:
                raise RuntimeError(f"no progress was shown:\n{told}")
        found.append(size / seconds / 1e6)
        sizes.append(size / 1e6)
        run.say(f"    {size / 1e6:,.0f} MB in {seconds:.2f} s")
    note = f"{figure('MB', sizes)} of line protocol 10 + 10 in the log, cold"
    return [Row(name="WAL replay after kill -9", ours=figure("MB/s", found), at_least=200.0, note=note)]


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no metric {name}")
    return float(found[1])


def _moment(log: str, event: str) -> float:
    line = next(line for line in log.splitlines() if event in line)
    return datetime.fromisoformat(line.split()[0]).timestamp()


def idle(run: Run) -> list[Row]:
    """After the start has settled: processor and memory of a node that nobody asks anything."""
    with Arc(run, run.folder / "server", pinned=False) as server:
        server.settle()
        before = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        percent = (server.cpu_seconds() - before) / IDLE_SECONDS * 100
        rss = server.rss_bytes() / 1e6
    return [
        Row(name="idle process: processor", ours=figure("% of a core", [percent]), at_most=1.0),
        Row(name="idle process: memory", ours=figure("MB", [rss]), at_most=250.0),
    ]
