"""Somebody who lets data live and die while the nemesis is at work: rows deleted by a condition, rows that grow too
old, a continuous query; and what must be there of all that at the end, on every node.

One thread does one thing after the other, and each until it is known to be done, so what must be there is exact.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import httpx

from tests.e2e.harness import Server
from tests.e2e.nemesis.clients import DATABASE
from tests.e2e.nemesis.history import Lived

KEPT, OLD, SOURCE, WINDOWS = "kept", "old", "source", "windows"
BATCH_ROWS = 20
OLD_US = 1_577_836_800_000_000
"""2020-01-01: long over for a policy of a month."""
BASE_US = 1_767_225_600_000_000
WINDOW_SECONDS = 10
PAUSE_SECONDS = 0.3
AGAIN_SECONDS = 0.2
ANSWER_SECONDS = 10.0
GIVE_UP_SECONDS = 180.0
SETTLE_SECONDS = 180.0
QUERY = (
    f"SELECT time_bucket(INTERVAL '{WINDOW_SECONDS} seconds', time) AS time, count(*) AS n, sum(id) AS s FROM {SOURCE} "
    "WHERE time >= {start_time} AND time < {end_time} GROUP BY 1"
)


class Lifecycle:
    """Begun when the cluster is whole; `end` when all is made good."""

    def __init__(self, servers: Mapping[str, Server], *, seed: int) -> None:
        self._servers = servers
        self._chance = random.Random(seed)
        self._names = sorted(servers)
        self._at = 0
        self._number = 0
        self._kept: set[int] = set()
        self._source: dict[int, list[int]] = {}
        """Numbers by the window that they are in."""
        self._ending = threading.Event()
        self._give_up = float("inf")
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)
        self.lived = Lived()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> Lived:
        """Finish what was begun, then look at every node."""
        self._give_up = time.monotonic() + GIVE_UP_SECONDS
        self._ending.set()
        self._thread.join(GIVE_UP_SECONDS + ANSWER_SECONDS)
        if self._thread.is_alive():
            self.lived.wrong = self.lived.wrong or "it did not come to its end"
        if not self.lived.wrong:
            self.lived.wrong = self._look()
        return self.lived

    def _run(self) -> None:
        try:
            self._set_up()
            while not self._ending.wait(PAUSE_SECONDS):
                self._write()
                if self._chance.random() < 0.3:
                    self._delete()
        except Exception as error:
            self.lived.wrong = f"{type(error).__name__}: {error}"

    def _set_up(self) -> None:
        self._until_done("/write", f"{OLD} id=0i {OLD_US}000\n{SOURCE} id=0i {BASE_US}000", key="first")
        self.lived.old_rows += 1
        wish = {"name": "month", "database": DATABASE, "measurement": OLD, "retention_days": 30}
        self._until_done("/api/v1/retention", wish, fine=(201, 400, 409))
        query = {
            "name": "counts", "database": DATABASE, "source_measurement": SOURCE, "destination_measurement": WINDOWS,
            "query": QUERY, "interval": f"{WINDOW_SECONDS}s", "lateness": "20m",
        }  # fmt: skip
        self._until_done("/api/v1/continuous_queries", query, fine=(201, 400, 409))

    def _write(self) -> None:
        first, self._number = self._number + 1, self._number + BATCH_ROWS
        numbers = range(first, first + BATCH_ROWS)
        now_us = time.time_ns() // 1000
        lines = [f"{KEPT},zone=z{n % 3} id={n}i {BASE_US + n * 1_000_000}000" for n in numbers]
        lines += [f"{OLD} id={n}i {OLD_US + n * 60_000_000}000" for n in numbers]
        lines += [f"{SOURCE} id={n}i {now_us + n}000" for n in numbers]
        self._until_done("/write", "\n".join(lines), key=f"life-{first}")
        self._kept.update(numbers)
        for n in numbers:
            window = (now_us + n) // 1_000_000 // WINDOW_SECONDS * WINDOW_SECONDS
            self._source.setdefault(window, []).append(n)
        self.lived.rows_written += len(numbers)
        self.lived.old_rows += len(numbers)

    def _delete(self) -> None:
        first = self._chance.randrange(1, self._number + 1)
        end = first + self._chance.choice((1, 7, 40))
        wish = {
            "database": DATABASE, "measurement": KEPT, "where": f"id >= {first} AND id < {end}",
            "dry_run": False, "confirm": True,
        }  # fmt: skip
        self._until_done("/api/v1/delete", wish, fine=(200,))
        gone = self._kept.intersection(range(first, end))
        self._kept -= gone
        self.lived.deletes += 1
        self.lived.rows_deleted += len(gone)

    def _until_done(
        self, path: str, body: str | Mapping[str, object], *, key: str = "", fine: Sequence[int] = (204,)
    ) -> None:
        """Ask one node after the other, in vain or not, until one says that it is done. Raises RuntimeError."""
        said = ""
        while time.monotonic() < self._give_up:
            server = self._servers[self._names[self._at % len(self._names)]]
            try:
                if isinstance(body, str):
                    answer = server.http.post(
                        path, params={"db": DATABASE}, content=body, headers={"idempotency-key": key},
                        timeout=ANSWER_SECONDS,
                    )  # fmt: skip
                else:
                    answer = server.http.post(path, json=body, timeout=ANSWER_SECONDS)
                if answer.status_code in fine:
                    return
                said = f"{answer.status_code} {answer.text[:300]}"
                if answer.status_code not in (404, 408, 409, 429, 502, 503, 504, 508):
                    raise RuntimeError(f"{path} was answered {said}")
            except httpx.TransportError as error:
                said = repr(error)
            self._at += 1
            time.sleep(AGAIN_SECONDS)
        raise RuntimeError(f"{path} was not done in time: {said}")

    # ------------------------------------------------------------------------------------------------------- the end

    def _look(self) -> str:
        """What is not as it must be on some node, asked until nothing is, or the time is over."""
        until = int(time.time()) // WINDOW_SECONDS * WINDOW_SECONDS - WINDOW_SECONDS
        wanted = sorted([window, len(found), sum(found)] for window, found in self._source.items() if window < until)
        self.lived.windows = len(wanted)
        expected: Mapping[str, tuple[str, list[list[int]]]] = {
            KEPT: (f"SELECT id, count(*) FROM {KEPT} GROUP BY 1 ORDER BY 1", [[n, 1] for n in sorted(self._kept)]),
            OLD: (f"SELECT count(*) FROM {OLD}", [[0]]),
            WINDOWS: (
                f"SELECT epoch(time)::BIGINT, n::BIGINT, s::BIGINT FROM {WINDOWS} "
                f"WHERE epoch(time) < {until} ORDER BY 1",
                wanted,
            ),
        }
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            found = [words for name in self._names for words in self._differences(name, expected)]
            if not found or time.monotonic() > deadline:
                return "; ".join(found[:3])
            time.sleep(1.0)

    def _differences(self, name: str, expected: Mapping[str, tuple[str, list[list[int]]]]) -> list[str]:
        http: Callable[..., httpx.Response] = self._servers[name].http.post
        wrong = []
        try:
            http("/api/v1/write/line-protocol/flush", timeout=ANSWER_SECONDS)
            for what, (sql, rows) in expected.items():
                answer = http(
                    "/api/v1/query", json={"sql": sql}, headers={"x-arc-database": DATABASE}, timeout=ANSWER_SECONDS
                )
                if answer.status_code != 200:
                    wrong.append(f"{name}: {what}: {answer.status_code} {answer.text[:200]}")
                    continue
                there = answer.json()["data"]
                if there != rows:
                    more = [row for row in there if row not in rows][:3]
                    less = [row for row in rows if row not in there][:3]
                    wrong.append(f"{name}: {what}: {len(there)} rows, not {len(rows)}; too many {more}, lacking {less}")
        except httpx.TransportError as error:
            wrong.append(f"{name}: {error!r}")
        return wrong
