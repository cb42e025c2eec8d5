"""Clients that remember what they were told: which rows are stored, which may be, which are not.

Every row has an id of its own, so the question afterwards is exact: is each acknowledged id there once, and no other id
more often than its client may expect. A client here believes the server literally:

* 204: the rows are *stored*;
* no answer, or ``outcome_unknown``: they *may be* stored, at most once;
* any other answer: they are *not* stored.

A client with idempotency keys sends the same batch again until it is told 204, also to the next process.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import msgpack
import pyarrow as pa

from tests.e2e.harness import TOKEN, Server

DATABASE = "crash"
MEASUREMENTS = ("m0", "m1", "m2")
IDS_PER_CLIENT = 1_000_000_000
START_US = 1_767_225_600_000_000
"""2026-01-01; ids are spread over three hours from here, so that every flush makes several files."""
SPREAD_US = 3 * 3600 * 1_000_000
ROWS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One request: its ids by measurement, its path and headers, its body."""

    ids: dict[str, list[int]]
    path: str
    headers: dict[str, str]
    body: bytes

    def all_ids(self) -> Iterable[int]:
        """Of all measurements."""
        return (each for ids in self.ids.values() for each in ids)


class Encode(Protocol):
    """Rows into a request of one format."""

    def __call__(self, client: int, ids: dict[str, list[int]]) -> Batch:
        """The request."""
        ...


def time_us(row_id: int) -> int:
    """The time of a row, from its id alone."""
    return START_US + row_id * 7_919_003 % SPREAD_US


def line_batch(client: int, ids: dict[str, list[int]]) -> Batch:
    """Line protocol; several measurements in one request, which the WAL must keep or drop together."""
    lines = [
        f'{measurement},client=c{client},zone=z{row % 5} id={row}i,value={row / 8},note="n {row}" {time_us(row)}000'
        for measurement, rows in ids.items()
        for row in rows
    ]
    return Batch(ids=ids, path="/write", headers={}, body="\n".join(lines).encode())


def msgpack_batch(client: int, ids: dict[str, list[int]]) -> Batch:
    """MessagePack in the columnar form, one map for each measurement."""
    maps = [
        {
            "m": measurement,
            "columns": {
                "time": [time_us(row) for row in rows],
                "client": [f"c{client}"] * len(rows),
                "zone": [f"z{row % 5}" for row in rows],
                "id": rows,
                "value": [row / 8 for row in rows],
                "note": [f"n {row}" for row in rows],
            },
            "tags": ["client", "zone"],
        }
        for measurement, rows in ids.items()
    ]
    body = msgpack.packb(maps if len(maps) > 1 else maps[0])
    return Batch(ids=ids, path="/api/v1/write/msgpack", headers={}, body=body)


def arrow_batch(client: int, ids: dict[str, list[int]]) -> Batch:
    """One Arrow stream, which has one measurement: the first one takes all rows."""
    measurement, rows = next(iter(ids)), [row for rows in ids.values() for row in rows]
    times = pa.array([time_us(row) for row in rows], pa.timestamp("us", "UTC"))
    columns = {
        "time": times,
        "client": pa.array([f"c{client}"] * len(rows)),
        "zone": pa.array([f"z{row % 5}" for row in rows]),
        "id": pa.array(rows, pa.int64()),
        "value": pa.array([row / 8 for row in rows]),
        "note": pa.array([f"n {row}" for row in rows]),
    }
    table = pa.table(columns).replace_schema_metadata({"arc.tags": "client,zone"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return Batch(
        ids={measurement: rows},
        path="/api/v1/write/arrow",
        headers={"x-arc-measurement": measurement},
        body=sink.getvalue().to_pybytes(),
    )


@dataclass(slots=True, kw_only=True)
class Writer:
    """One client: sends batches one after another until told to stop or until the server is gone."""

    number: int
    encode: Encode
    has_keys: bool
    rng: random.Random
    stored: dict[str, set[int]] = field(default_factory=lambda: {name: set() for name in MEASUREMENTS})
    maybe: set[int] = field(default_factory=set)
    refused: int = 0
    requests: int = 0
    surprises: list[str] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    """Set when this client was told 204."""
    _next_id: int = 1
    _next_key: int = 1
    _open: tuple[str, Batch] | None = None

    def run(self, url: str, stop: threading.Event) -> None:
        """One round of load. Ends when ``stop`` is set or nobody answers."""
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as http:
            while not stop.is_set():
                try:
                    self._one_request(http, stop)
                except httpx.TransportError:
                    return

    def finish(self, url: str) -> None:
        """Send again what was never answered, if this client may."""
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as http:
            while self._open is not None:
                self._send(http, *self._open, threading.Event())

    def _one_request(self, http: httpx.Client, stop: threading.Event) -> None:
        if self._open is None:
            key = f"client-{self.number}-{self._next_key}" if self.has_keys else ""
            self._next_key += 1
            self._open = key, self._make_batch()
        self._send(http, *self._open, stop)

    def _make_batch(self) -> Batch:
        count = self.rng.randint(1, ROWS_MAX)
        names = self.rng.sample(MEASUREMENTS, self.rng.randint(1, len(MEASUREMENTS)))
        ids: dict[str, list[int]] = {name: [] for name in names}
        for _ in range(max(count, len(names))):
            name = names[self._next_id % len(names)]
            ids[name].append(self.number * IDS_PER_CLIENT + self._next_id)
            self._next_id += 1
        return self.encode(self.number, ids)

    def _send(self, http: httpx.Client, key: str, batch: Batch, stop: threading.Event) -> None:
        headers = {"x-arc-database": DATABASE, **batch.headers}
        if key:
            headers["idempotency-key"] = key
        self.requests += 1
        try:
            answer = http.post(batch.path, content=batch.body, headers=headers)
        except httpx.TransportError:
            self._not_known(batch)
            raise
        self._told(answer, batch, stop)

    def _told(self, answer: httpx.Response, batch: Batch, stop: threading.Event) -> None:
        if answer.status_code == 204:
            for measurement, ids in batch.ids.items():
                self.stored[measurement].update(ids)
            self._open = None
            self.told.set()
        elif answer.status_code == 503:
            if answer.json()["code"] == "outcome_unknown":
                self._not_known(batch)
            elif not self.has_keys:
                self.refused += 1
                self._open = None
            stop.wait(0.02)  # a client that is told to wait, waits
        else:
            self.surprises.append(f"{answer.status_code} {answer.text[:300]}")
            self._open = None

    def _not_known(self, batch: Batch) -> None:
        if not self.has_keys:
            self.maybe.update(batch.all_ids())
            self._open = None


@dataclass(slots=True, kw_only=True)
class Watcher:
    """Asks while rows come in: is every row that was acknowledged before I asked here now, and each only once?"""

    writers: Sequence[Writer]
    rng: random.Random
    queries: int = 0
    complaints: list[str] = field(default_factory=list)

    def run(self, url: str, stop: threading.Event) -> None:
        """Ask until told to stop or until nobody answers."""
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=30) as http:
            while not stop.is_set():
                measurement = self.rng.choice(MEASUREMENTS)
                known = sum(len(writer.stored[measurement]) for writer in self.writers)
                try:
                    answer = http.post(
                        "/api/v1/query",
                        json={"sql": f"SELECT count(id), count(DISTINCT id) FROM {measurement}"},
                        headers={"x-arc-database": DATABASE},
                    )
                except httpx.TransportError:
                    return
                self._judge(measurement, known, answer)

    def _judge(self, measurement: str, known: int, answer: httpx.Response) -> None:
        self.queries += 1
        if answer.status_code == 503 or (answer.status_code in (400, 404) and not known):
            return  # overloaded, or nothing of this measurement was ever written
        if answer.status_code != 200:
            self.complaints.append(f"query of {measurement}: {answer.status_code} {answer.text[:300]}")
            return
        ((rows, distinct),) = answer.json()["data"]
        if rows != distinct:
            self.complaints.append(f"{measurement}: {rows - distinct} rows twice among {rows} seen during load")
        if distinct < known:
            self.complaints.append(f"{measurement}: saw {distinct} rows where {known} were acknowledged before")


def run_until_killed(
    url: str, writers: Sequence[Writer], watcher: Watcher, seconds: float, kill: Callable[[], None]
) -> None:
    """Run all at once; ``seconds`` after the first of them was told 204, and in full swing, kill the server."""
    stop = threading.Event()
    for writer in writers:
        writer.told.clear()
    threads = [threading.Thread(target=worker.run, args=(url, stop)) for worker in (*writers, watcher)]
    for thread in threads:
        thread.start()
    writers[0].told.wait(30)
    stop.wait(seconds)
    kill()
    for thread in threads:
        thread.join(60)
    stop.set()
    assert not any(thread.is_alive() for thread in threads), "a client hangs"


def stored_ids(server: Server, measurement: str) -> list[int]:
    """The ids a query finds, doubles and all."""
    answer = server.http.post(
        "/api/v1/query/arrow", json={"sql": f"SELECT id FROM {measurement}"}, headers={"x-arc-database": DATABASE}
    )
    assert answer.status_code == 200, answer.text
    with pa.ipc.open_stream(answer.content) as stream:
        found: list[int] = stream.read_all().column("id").to_pylist()
    return found


def check_exactly_once(server: Server, writers: Sequence[Writer]) -> int:
    """Assert what the clients were told, over everything they ever sent. Returns how many rows were acknowledged."""
    total = 0
    maybe = {row for writer in writers for row in writer.maybe}
    open_ids = {row for writer in writers if writer._open is not None for row in writer._open[1].all_ids()}
    for measurement in MEASUREMENTS:
        acknowledged: set[int] = set().union(*(writer.stored[measurement] for writer in writers))
        if not acknowledged:
            continue
        found = stored_ids(server, measurement)
        distinct = set(found)
        lost = sorted(acknowledged - distinct)
        unexpected = sorted(distinct - acknowledged - maybe - open_ids)
        assert not lost, f"{measurement}: {len(lost)} acknowledged rows are gone, e.g. {lost[:5]}"
        assert len(found) == len(distinct), f"{measurement}: {len(found) - len(distinct)} rows are there twice"
        assert not unexpected, (
            f"{measurement}: {len(unexpected)} rows that were refused are there, e.g. {unexpected[:5]}"
        )
        total += len(acknowledged)
    return total
