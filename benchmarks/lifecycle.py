"""What the life of data costs while it goes on: one percent of a measurement deleted, a catalog of a million files
changed, asked and written down, and small writes beside a merge.

``python -m benchmarks --only delete catalog while-compacting``
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import httpx

from benchmarks import lifecycle_catalog as million
from benchmarks import lifecycle_delete as hundredth
from benchmarks.measure import Row, Run, figure
from benchmarks.payloads import START_NS, wide_table
from benchmarks.queries import fill
from benchmarks.servers import Arc

FLUSHES = 24
FLUSH_ROWS = 100_000
DAY_NS = 86_400_000_000_000
WRITES_PER_SECOND = 100
WRITE_LINES = 10
MERGE_SECONDS_MAX = 60.0


def delete(run: Run) -> list[Row]:
    """Write every file again without the rows that go."""
    found = _child(run, "lifecycle_delete", str(run.folder))
    ours, theirs = (sum(found[name]) for name in ("our_bytes", "their_bytes"))
    rows = hundredth.FILES * hundredth.FILE_ROWS
    return [
        Row(
            name=f"delete of 1 % of {rows:,} rows × 8 columns, {hundredth.FILES} files, all of them touched",
            ours=figure("s", found["ours"]),
            peer_name="pyarrow: read, filter, write, sha256; 1 thread",
            peer=figure("s", found["theirs"]),
            at_most=1.3,
            note=f"both zstd; ours takes SQL, and checks the hash of each source; {ours / theirs:.2f}× pyarrow's bytes",
        )
    ]


def catalog(run: Run) -> list[Row]:
    """One step each, as the event loop or the snapshot's worker feels it. No peer: the targets are times."""
    found = _child(run, "lifecycle_catalog")
    title = f"catalog of {million.FILES:,} files"
    shape = f"{million.MEASUREMENTS} measurements, {million.DAYS} days; processor time, no peer"
    return [
        Row(
            name=f"{title}: register {million.NEW_FILES:,} more of one day",
            ours=figure("ms", found["today"]),
            at_most=20.0,
            note=shape,
        ),
        Row(
            name=f"{title}: register {million.NEW_FILES:,} more, each in a day of its own",
            ours=figure("ms", found["scattered"]),
            at_most=20.0,
            note=shape,
        ),
        Row(
            name=f"{title}: prune for {million.PRUNED_HOURS} hours of one measurement",
            ours=figure("ms", found["pruned"]),
            at_most=10.0,
            note=f"{shape}; {found['files'][0]:,.0f} files are left",
        ),
        Row(
            name=f"{title}: longest step of writing a snapshot",
            ours=figure("ms", found["step"]),
            at_most=50.0,
            note=f"{shape}; {found['chunks'][0]:,.0f} chunks take {figure('s', found['snapshot'])}",
        ),
    ]


def _child(run: Run, module: str, *arguments: str) -> dict[str, list[float]]:
    """In a process of its own, pinned: thread pools and garbage are per process."""
    command = [sys.executable, "-m", f"benchmarks.{module}", str(run.repetitions), *arguments]
    pinned = ["taskset", "-c", str(run.server_cpu), *command]
    done = subprocess.run(pinned, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def while_compacting(run: Run) -> list[Row]:
    """Small writes at a steady pace, alone and beside a merge; each round merges a day that no other has."""
    settings = {
        "compaction.enabled": "false", "compaction.hourly_min_age_seconds": "0s", "ingest.memory_bytes": "2GiB",
    }  # fmt: skip
    alone, beside, merged = [], [], []
    with Arc(run, run.folder / "server", pinned=False, settings=settings) as server, server.client() as http_client:
        pace(server, lambda done: done >= run.warm_seconds)
        for day in range(run.repetitions):
            for number in range(FLUSHES):
                start_ns = START_NS + day * DAY_NS + number * DAY_NS // FLUSHES
                fill(http_client, wide_table(FLUSH_ROWS, start_ns=start_ns))
                http_client.post("/api/v1/write/line-protocol/flush").raise_for_status()
            server.settle()
            quiet = pace(server, lambda done: done >= run.seconds)
            busy, rows, seconds = _beside_a_merge(server, http_client)
            alone.append(percentile(quiet, 99))
            beside.append(percentile(busy, 99))
            merged.append(rows / seconds / 1e6)
            run.say(
                f"    alone p50 {percentile(quiet, 50):.1f}, p99 {alone[-1]:.1f} ms; beside {rows:,} rows merged in"
                f" {seconds:.1f} s p50 {percentile(busy, 50):.1f}, p99 {beside[-1]:.1f} ms"
            )
    return [
        Row(
            name=f"write of {WRITE_LINES} lines, p99, while {FLUSHES} files of {FLUSH_ROWS:,} rows are merged",
            ours=figure("ms", beside),
            peer_name="nothing else",
            peer=figure("ms", alone),
            at_most=1.5,
            note=f"{WRITES_PER_SECOND} requests/s, from when each was due; merged {figure('M rows/s', merged)}",
        )
    ]


def _beside_a_merge(server: Arc, http_client: httpx.Client) -> tuple[list[float], int, float]:
    """Latencies until what was triggered has ended; the rows it merged, and the seconds it took."""

    def totals() -> tuple[bool, int, int]:
        answer = http_client.get("/api/v1/compaction/stats").raise_for_status().json()
        return answer["cycle_running"], answer["total_rows_merged"], answer["total_jobs_failed"]

    _, rows_before, failed_before = totals()
    over, took = threading.Event(), 0.0

    def watch() -> None:
        nonlocal took
        while totals()[0] and time.perf_counter() - began < MERGE_SECONDS_MAX:
            time.sleep(0.1)
        took = time.perf_counter() - began
        over.set()

    began = time.perf_counter()
    http_client.post("/api/v1/compaction/trigger", params={"tier": "daily"}).raise_for_status()
    watcher = threading.Thread(target=watch)
    watcher.start()
    latencies = pace(server, lambda _: over.is_set())
    watcher.join()
    is_running, rows, failed = totals()
    if is_running or rows - rows_before < FLUSHES * FLUSH_ROWS or failed > failed_before:
        raise RuntimeError(f"merged {rows - rows_before:,} rows in {took:.0f} s, {failed - failed_before} jobs failed")
    return latencies, rows - rows_before, took


def pace(server: Arc, is_over: Callable[[float], bool]) -> list[float]:
    """Milliseconds from when each request was due to its answer, so one that is held up delays those behind it, too.
    ``is_over`` is asked with the seconds so far. Raises RuntimeError when one is refused.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    found: list[float] = []
    began = time.perf_counter()
    while not is_over(len(found) / WRITES_PER_SECOND):
        due = began + len(found) / WRITES_PER_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        now_ns = time.time_ns()
        body = "\n".join(f"small,host=h{n} usage={n}.5,idle={len(found)}i {now_ns}" for n in range(WRITE_LINES))
        connection.request("POST", "/write?db=small", body, {"authorization": server.auth})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 204:
            raise RuntimeError(f"a write was answered {answer.status}: {told[:500]!r}")
        found.append((time.perf_counter() - due) * 1000)
    connection.close()
    return found


def percentile(latencies: list[float], percent: int) -> float:
    """Of at least one."""
    return sorted(latencies)[len(latencies) * percent // 100]
