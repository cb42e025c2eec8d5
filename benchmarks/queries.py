"""Questions: seven in the manner of TSBS over HTTP against bare DuckDB on the very same files, with and without a
buffer on top.

Ours includes HTTP, authentication, parsing, planning from the manifest and the encoding of the answer; DuckDB's is
`sql(...).to_arrow_table()` in this process on a connection that lives on. Both may use every core, and they take
turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import httpx

from benchmarks.measure import Figure, Row, Run, figure
from benchmarks.payloads import START_NS, TAGS, arrow_stream, wide_lines, wide_table
from benchmarks.servers import Arc, InfluxDB, version_of

HOSTS = 4_000
HOURS = 6
ROWS_PER_HOUR = HOSTS * 360
BODY_ROWS = 100_000
BUFFERED_ROWS = 500_000

ONE_HOUR = "time >= '2026-01-01T02:00:00Z' AND time < '2026-01-01T03:00:00Z'"
EIGHT = ", ".join(f"'host_{n * 487}'" for n in range(8))
TEN = ", ".join(
    f"max({name})"
    for name in (
        "usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait",
        "usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice",
    )
)  # fmt: skip

PRUNED = {
    "1 host, 1 hour, max by minute": "SELECT date_trunc('minute', time) AS m, max(usage_user) FROM {cpu} "
    f"WHERE hostname = 'host_1234' AND {ONE_HOUR} GROUP BY m ORDER BY m",
    "8 hosts, 1 hour, max of 10 fields by minute": f"SELECT date_trunc('minute', time) AS m, {TEN} FROM {{cpu}} "
    f"WHERE hostname IN ({EIGHT}) AND {ONE_HOUR} GROUP BY m ORDER BY m",
    "usage over 90, 1 hour, all columns": f"SELECT * FROM {{cpu}} WHERE usage_user > 90 AND {ONE_HOUR}",
}
"""Questions about one hour of six: the manifest leaves the other files out."""

WHOLE = {
    "all hosts by hour, 5 averages": "SELECT date_trunc('hour', time) AS h, hostname, avg(usage_user), "
    "avg(usage_system), avg(usage_idle), avg(usage_nice), avg(usage_iowait) FROM {cpu} GROUP BY h, hostname",
    "last point of every host": "SELECT hostname, max(time), arg_max(usage_user, time) FROM {cpu} GROUP BY hostname",
    "by region": "SELECT region, avg(usage_user), max(usage_irq) FROM {cpu} GROUP BY region",
}
"""Questions that need every file."""

COUNT = "SELECT count(*) FROM {cpu}"


def queries(run: Run) -> list[Row]:
    """The seven, then the freshness of half a million rows that no file has."""
    settings = {"ingest.memory_bytes": "2GiB"}
    with Arc(run, run.folder / "server", pinned=False, settings=settings) as server, server.client() as http:
        for hour in range(HOURS):
            fill(http, wide_table(ROWS_PER_HOUR, HOSTS, START_NS + hour * 3_600_000_000_000))
        http.post("/api/v1/write/line-protocol/flush").raise_for_status()
        files = sorted((server.folder / "data").rglob("*.parquet"))
        run.say(f"    {HOURS * ROWS_PER_HOUR:,} rows in {len(files)} files")
        rows = _against_duckdb(run, http, files)
        before = {name: _time(run, partial(ask, http, sql)) for name, sql in WHOLE.items()}
        fill(http, wide_table(BUFFERED_ROWS, HOSTS, START_NS + HOURS * 3_600_000_000_000))
        after = {name: _time(run, partial(ask, http, sql)) for name, sql in WHOLE.items()}
    for name in WHOLE:
        note = f"{HOURS * ROWS_PER_HOUR:,} rows in files; {BUFFERED_ROWS:,} more rows are answered for as well"
        rows.append(
            Row(name=f"files + {BUFFERED_ROWS:,} buffered rows: {name}", ours=after[name], peer_name="files only",
                peer=before[name], at_most=1.15, note=note)
        )  # fmt: skip
    return rows


def fill(http: httpx.Client, table: object) -> None:
    """Store a table by Arrow streams."""
    for start in range(0, len(table), BODY_ROWS):  # type: ignore[arg-type]
        body = arrow_stream(table.slice(start, BODY_ROWS), "cpu", TAGS)  # type: ignore[attr-defined]
        for _ in range(100):
            answer = http.post("/api/v1/write/arrow", params={"db": "bench"}, content=body)
            if answer.status_code != 503:
                break
            time.sleep(0.2)  # over budget while a flush runs; not a part of what is measured
        answer.raise_for_status()


def ask(http: httpx.Client, sql: str) -> bytes:
    """One query over HTTP, Arrow out."""
    answer = http.post("/api/v1/query/arrow", json={"sql": sql.format(cpu="bench.cpu")})
    if answer.status_code != 200:
        raise RuntimeError(f"{sql}: {answer.text}")
    return answer.content


def _time(run: Run, call: Callable[[], object]) -> Figure:
    call()
    return figure("ms", (_once(call) for _ in range(2 * run.repetitions + 1)))


def _once(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _against_duckdb(run: Run, http: httpx.Client, files: list[Path]) -> list[Row]:
    engine = duckdb.connect()
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute("SET parquet_metadata_cache = true")
    source = "read_parquet([" + ", ".join(f"'{path}'" for path in files) + "], union_by_name = true)"

    def bare(sql: str) -> object:
        return engine.sql(sql.format(cpu=source)).to_arrow_table()

    rows = []
    for name, sql in (PRUNED | WHOLE).items():
        ask(http, sql)
        bare(sql)
        pairs = [(_once(partial(bare, sql)), _once(partial(ask, http, sql))) for _ in range(2 * run.repetitions + 1)]
        rows.append(
            Row(
                name=f"query over files: {name}",
                ours=figure("ms", (ours for _, ours in pairs)),
                peer_name=f"DuckDB {duckdb.__version__} on the same files",
                peer=figure("ms", (theirs for theirs, _ in pairs)),
                at_most=0.8 if name in PRUNED else 1.1,
            )
        )
    rows.append(_count(run, http, bare))
    return rows


def _count(run: Run, http: httpx.Client, bare: Callable[[str], object]) -> Row:
    def executing() -> float:
        answer = http.post("/api/v1/query", json={"sql": COUNT.format(cpu="bench.cpu")})
        answer.raise_for_status()
        return float(answer.json()["execution_time_ms"])

    bare(COUNT)
    executing()
    theirs, inside, whole = [], [], []
    for _ in range(2 * run.repetitions + 1):
        theirs.append(_once(lambda: bare(COUNT)))
        began = time.perf_counter()
        inside.append(executing())
        whole.append((time.perf_counter() - began) * 1000)
    return Row(
        name="count(*) without a filter: times faster",
        ours=figure("per s", (1000 / max(ms, 1e-3) for ms in inside)),
        peer_name="DuckDB",
        peer=figure("per s", (1000 / ms for ms in theirs)),
        at_least=100.0,
        note=f"ours as the server timed it; with HTTP {figure('ms', whole)}",
    )


def one_series(run: Run) -> list[Row]:
    """One host, one hour, over HTTP: the shape that an index answers best."""
    if version_of(InfluxDB) is None:
        run.say("    influxd is not installed: no peer")
    lines = wide_lines()
    bodies = ["\n".join(lines[start : start + 5000]) for start in range(0, len(lines), 5000)]
    influx_ql = (
        "SELECT max(usage_user) FROM cpu WHERE hostname = 'host_1234' AND time >= '2026-01-01T00:00:00Z' "
        "AND time < '2026-01-01T01:00:00Z' GROUP BY time(1m)"
    )
    sql = (
        "SELECT date_trunc('minute', time) AS m, max(usage_user) FROM bench.cpu WHERE hostname = 'host_1234' "
        "AND time >= '2026-01-01T00:00:00Z' AND time < '2026-01-01T01:00:00Z' GROUP BY m ORDER BY m"
    )
    ours: list[float] = []
    theirs: list[float] = []
    with Arc(run, run.folder / "server", pinned=False) as server, server.client() as http:
        for body in bodies:
            http.post("/write", params={"db": "bench"}, content=body).raise_for_status()
        http.post("/api/v1/write/line-protocol/flush").raise_for_status()
        ours = _series(run, lambda: http.post("/api/v1/query", json={"sql": sql}))
    if version_of(InfluxDB) is not None:
        with (
            InfluxDB(run, run.folder / "peer", pinned=False) as peer,
            httpx.Client(base_url=peer.url, timeout=60) as other,
        ):
            for body in bodies:
                other.post("/write", params={"db": "bench"}, content=body).raise_for_status()
            theirs = _series(run, lambda: other.get("/query", params={"db": "bench", "q": influx_ql}))
    note = f"{len(lines):,} rows of {HOSTS:,} hosts, one connection"
    peer_name = f"InfluxDB {version_of(InfluxDB)}: {figure('ms', theirs)}" if theirs else "–"
    return [
        Row(
            name="one series, one hour, over HTTP", ours=figure("ms", ours), peer_name=peer_name, at_most=5.0, note=note
        )
    ]


def _series(run: Run, call: Callable[[], httpx.Response]) -> list[float]:
    for _ in range(20):
        call().raise_for_status()
    return [_once(call) for _ in range(40 * run.repetitions)]
