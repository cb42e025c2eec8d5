"""``python -m tests.e2e.day``: a day of metrics written in minutes, merged live while every node is asked and lost.

Three real nodes. Clients write one row per host and step, hour after hour, through any node, with idempotency keys.
Files are merged as soon as two are worth it. Meanwhile each node is asked again and again how many rows there are and
how many different ones: never fewer than it has said before, never more than were sent, never one twice. Whoever writes
and whoever merges are killed with -9 on the way, and started again. At the end every node has every row once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from tests.e2e.cluster import Cluster, wait_until
from tests.e2e.harness import TOKEN, Server

START_NS = 1_767_225_600_000_000_000
DAY_SECONDS = 86_400
DATABASE = "day"
SETTINGS = {
    "node.role": "standalone",
    "ingest.flush_age_seconds": "3s",
    "ingest.flush_rows": 50_000,
    "storage.delete_grace_seconds": "5s",
    "compaction.hourly_min_age_seconds": "0s",
    "compaction.hourly_min_files": 2,
    "compaction.daily_min_age_seconds": "0s",
    "compaction.daily_min_files": 4,
    "compaction.late_min_files": 3,
    "compaction.poll_seconds": "1s",
    "compaction.memory_bytes": "128MiB",
    "failover.compactor_patience_seconds": "2s",
    "failover.compactor_cooldown_seconds": "5s",
}
COUNTS = "SELECT count(*), count(DISTINCT number), coalesce(sum(number), 0) FROM day.cpu"
AGAIN_SECONDS = 0.1
DOWN_SECONDS = 2.0


@dataclass(kw_only=True)
class Report:
    """What was seen. ``wrong`` is empty when everything was kept."""

    rows: int = 0
    seconds: float = 0.0
    queries: int = 0
    refused_queries: int = 0
    kills: list[str] = field(default_factory=list)
    merges: int = 0
    files_merged: int = 0
    files_left: int = 0
    longest_gap_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


class Day:
    """One run: ``steps`` of a day, ``hosts`` rows in each."""

    def __init__(self, cluster: Cluster, *, hosts: int, steps: int, tell: Callable[[str], None]) -> None:
        self.cluster, self.hosts, self.steps, self.tell = cluster, hosts, steps, tell
        self.report = Report()
        self._servers = list(cluster.nodes.values())
        self._sent = self._acked = 0
        self._is_over = False
        self._lock = threading.Lock()

    def run(self) -> Report:
        """Write the day, hurt the cluster, count."""
        began = time.monotonic()
        askers = [threading.Thread(target=self._ask, args=(server,)) for server in self._servers]
        writer = threading.Thread(target=self._write)
        for thread in (*askers, writer):
            thread.start()
        for share, lease in ((0.2, "writer"), (0.4, "compactor"), (0.6, "writer"), (0.8, "compactor")):
            while self._acked < share * self.steps * self.hosts and writer.is_alive():
                time.sleep(AGAIN_SECONDS)
            if writer.is_alive():
                self._kill(lease)
        writer.join()
        self.report.seconds = time.monotonic() - began
        self._is_over = True
        for thread in askers:
            thread.join()
        self._finish()
        return self.report

    def _write(self) -> None:
        """Batches of some steps; each is sent, under one key, until a node says that it is stored."""
        per_batch = max(1, 2000 // self.hosts)
        turn, last = 0, time.monotonic()
        for first in range(0, self.steps, per_batch):
            steps = range(first, min(first + per_batch, self.steps))
            body = "\n".join(self._line(step, host) for step in steps for host in range(self.hosts))
            self._sent += len(steps) * self.hosts
            while True:
                server = self._servers[turn % len(self._servers)]
                try:
                    answer = httpx.post(
                        f"{server.url}/write",
                        params={"db": DATABASE},
                        content=body,
                        headers={"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": f"day-{first}"},
                        timeout=10,
                    )
                    if answer.status_code == 204:
                        break
                    if answer.status_code not in (429, 503):
                        self._wrong(f"a write was answered {answer.status_code}: {answer.text[:200]}")
                        return
                except httpx.TransportError:
                    pass
                turn += 1
                time.sleep(AGAIN_SECONDS)
            self._acked += len(steps) * self.hosts
            now = time.monotonic()
            self.report.longest_gap_seconds = max(self.report.longest_gap_seconds, now - last)
            last = now
        self.report.rows = self._acked

    def _line(self, step: int, host: int) -> str:
        at = START_NS + step * (DAY_SECONDS * 1_000_000_000 // self.steps)
        number = step * self.hosts + host
        return f"cpu,host=h{host:03},zone=z{host % 4} number={number}i,usage={number % 997 / 10} {at}"

    def _ask(self, server: Server) -> None:
        """Until it is over."""
        most = 0
        while not self._is_over:
            try:
                found = self._counts(server)
            except (httpx.TransportError, AssertionError, RuntimeError):
                found = None
            if found is None:
                self.report.refused_queries += 1
                time.sleep(AGAIN_SECONDS)
                continue
            rows, different, _ = found
            self.report.queries += 1
            if rows != different:
                self._wrong(f"{server}: {rows} rows, {different} different ones")
            if rows < most:
                self._wrong(f"{server}: {rows} rows after {most}")
            if rows > self._sent:
                self._wrong(f"{server}: {rows} rows of {self._sent} that were sent")
            most = max(most, rows)
            time.sleep(AGAIN_SECONDS)

    def _counts(self, server: Server) -> list[int] | None:
        """None: it does not answer this now."""
        answer = httpx.post(
            f"{server.url}/api/v1/query",
            json={"sql": COUNTS},
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
        )
        if answer.status_code != 200:
            return None
        found: list[int] = answer.json()["data"][0]
        return found

    def _kill(self, lease: str) -> None:
        name = wait_until(f"somebody holds the {lease} lease", lambda: self._holder(lease))
        server = self.cluster.nodes[name]
        self.report.kills.append(f"{lease} {name}")
        self.tell(f"{self._acked:,} rows are acknowledged; {name}, which holds the {lease} lease, is killed")
        server.kill9()
        time.sleep(DOWN_SECONDS)
        server.start(wait=False)
        self.cluster.wait_whole()

    def _holder(self, lease: str) -> str:
        for name in self.cluster.nodes:
            for each in self.cluster.document(name).get("leases", []):  # type: ignore[attr-defined]
                if each.get("lease") == lease and each.get("holder"):
                    return str(each["holder"])
        return ""

    def _finish(self) -> None:
        wanted = [self._acked, self._acked, self._acked * (self._acked - 1) // 2]
        for server in self._servers:
            seen: list[object] = []

            def same(server: Server = server, seen: list[object] = seen) -> bool:
                try:
                    seen[:] = [self._counts(server)]
                except httpx.TransportError:
                    seen[:] = ["no answer"]
                return seen == [wanted]

            try:
                wait_until("a node has every row", same)
            except AssertionError:
                self._wrong(f"{server} has {seen}, not {wanted}")
        logs = [path.read_text(errors="replace") for server in self._servers for path in server.folder.glob("std*.txt")]
        self.report.merges = sum(log.count("files_merged") for log in logs)
        left = [path for path in self._servers[0].data_dir.glob("data/**/*.parquet")]
        self.report.files_left = len(left)
        if not self.report.merges:
            self._wrong("nothing was merged")

    def _wrong(self, words: str) -> None:
        with self._lock:
            if words not in self.report.wrong:
                self.report.wrong.append(words)
                self.tell(f"WRONG: {words}")


def run(folder: Path, *, hosts: int, steps: int, tell: Callable[[str], None]) -> Report:
    """Three nodes below a folder, and a day for them."""
    with Cluster(folder, settings=SETTINGS) as cluster:
        cluster.start()
        return Day(cluster, hosts=hosts, steps=steps, tell=tell).run()


def main() -> int:
    """Exit code 0: every row was there, once, whenever anybody asked."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.day", description=__doc__)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--steps", type=int, default=8640, help="of a day, each a row for every host")
    parser.add_argument("--json", action="store_true")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="arc-day-") as folder:
        report = run(
            Path(folder), hosts=wishes.hosts, steps=wishes.steps, tell=lambda text: print(text, file=sys.stderr)
        )
    if wishes.json:
        print(json.dumps(asdict(report)))
    else:
        print(f"{report.rows:,} rows of a day in {report.seconds:.0f} s; killed: {', '.join(report.kills)}")
        print(f"{report.merges} merges; {report.files_left} files are left on the first node")
        print(f"{report.queries} counts on all nodes, {report.refused_queries} refused or not answered")
        print(f"longest time without an acknowledgement: {report.longest_gap_seconds:.1f} s")
        print("CLEAN" if not report.wrong else "NOT CLEAN: " + "; ".join(report.wrong))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
