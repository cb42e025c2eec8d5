"""Requests as programs send them that cannot be installed here: what goes over the wire, and what they need in the
answer.

The shapes are those of the clients' public sources and of runs against a stub: Telegraf's three outputs, Grafana's
data source, arcli, arc-mcp, the VS Code extension, Superset's dialects, Launchpad, the OpenTelemetry exporter,
Redpanda Connect, the influx shell, curl. A row is data; `test_recorded` sends it to a real node as raw as it stands
here.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
import msgpack
import pyarrow as pa
import zstandard

from tests.e2e.harness import TOKEN

Check = Callable[[httpx.Response], None]

DATABASE = "recorded"
START_MS = 1_767_225_600_000

BEARER = {"authorization": f"Bearer {TOKEN}"}
INFLUX2 = {"authorization": f"Token {TOKEN}"}
BASIC = {"authorization": "Basic " + base64.b64encode(f"telegraf:{TOKEN}".encode()).decode()}
API_KEY = {"x-api-key": TOKEN}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
TEXT = {"content-type": "text/plain; charset=utf-8"}
MSGPACK = {"content-type": "application/msgpack"}
GZIP = {"content-encoding": "gzip"}
TELEGRAF = {"user-agent": "Telegraf/1.32.0 Go/1.23.0"}
ARC_DB = {"x-arc-database": DATABASE}


def _anything(answer: httpx.Response) -> None:
    """The status alone matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request and what its sender needs. ``is_chunked`` sends the body without a length, as Go's clients do."""

    sender: str
    name: str
    method: str = "POST"
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_chunked: bool = False
    status: int = 200
    check: Check = _anything


def keys(*names: str, **exact: object) -> Check:
    """The answer is a JSON object with these keys, and with these values."""

    def check(answer: httpx.Response) -> None:
        document = answer.json()
        missing = {*names, *exact} - set(document)
        assert not missing, f"no {missing} in {document}"
        wrong = {name: document[name] for name, value in exact.items() if document[name] != value}
        assert not wrong, f"{wrong} instead of {exact}"

    return check


def texts(*names: str) -> Check:
    """The answer is a JSON object in which these are texts, none of them empty."""

    def check(answer: httpx.Response) -> None:
        document = answer.json()
        for name in names:
            assert isinstance(document[name], str) and document[name], f"{name} in {document}"

    return check


def error_with(text: str) -> Check:
    """A failure that every client can read: ``error`` and ``message`` are one sentence, ``code`` is there."""

    def check(answer: httpx.Response) -> None:
        document = answer.json()
        assert document["error"] == document["message"] and document["success"] is False, document
        assert text in document["error"], document
        assert document["code"], document

    return check


def data(rows: list[list[object]], columns: list[str] | None = None) -> Check:
    """The answer is Arc's envelope with these rows."""

    def check(answer: httpx.Response) -> None:
        document = answer.json()
        for name in ("success", "columns", "data", "row_count", "execution_time_ms", "timestamp"):
            assert name in document, f"no {name} in {document}"
        assert document["success"] is True
        assert document["data"] == rows, document["data"]
        assert document["row_count"] == len(rows)
        if columns is not None:
            assert document["columns"] == columns, document["columns"]

    return check


def column_has(index: int, value: object) -> Check:
    """One of the rows of the envelope has the value in this column."""

    def check(answer: httpx.Response) -> None:
        found = [row[index] for row in answer.json()["data"]]
        assert value in found, found

    return check


def every(*checks: Check) -> Check:
    """All of them."""

    def check(answer: httpx.Response) -> None:
        for each in checks:
            each(answer)

    return check


_GO_ARROW_READS = (
    pa.types.is_string,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_timestamp,
)


def arrow(**columns: list[object]) -> Check:
    """An Arrow stream with these columns, of the primitive types that Grafana's reader (Go Arrow 14) understands."""

    def check(answer: httpx.Response) -> None:
        assert answer.headers["content-type"].startswith("application/vnd.apache.arrow.stream"), answer.headers
        with pa.ipc.open_stream(answer.content) as stream:
            table = stream.read_all()
        for part in table.schema:
            assert any(reads(part.type) for reads in _GO_ARROW_READS), f"{part} would be shown as text"
        for name, values in columns.items():
            assert table.column(name).to_pylist() == values, table.column(name)

    return check


def show_has(index: int, value: object) -> Check:
    """An Arrow stream that has the value in this column."""

    def check(answer: httpx.Response) -> None:
        with pa.ipc.open_stream(answer.content) as stream:
            assert value in stream.read_all().column(index).to_pylist()

    return check


def header(name: str, text: str = "") -> Check:
    """The answer has the header, with the text in it."""

    def check(answer: httpx.Response) -> None:
        assert text in answer.headers[name], answer.headers

    return check


def sql(text: str, **extra: object) -> bytes:
    """The body of a query."""
    return json.dumps({"sql": text, **extra}).encode()


def _line(measurement: str, second: int, value: float) -> bytes:
    return f"{measurement},host=a usage={value} {START_MS // 1000 + second}000000000\n".encode()


def _map(measurement: str, **columns: list[object]) -> dict[str, object]:
    times: list[object] = [START_MS + n for n in range(len(next(iter(columns.values()))))]
    return {"m": measurement, "columns": {"time": times, **columns}}


TELEGRAF_ROWS = (
    Recorded(
        sender="telegraf influxdb",
        name="makes its database",
        path="/query",
        headers={**BASIC, **FORM, **TELEGRAF},
        body=b"q=" + quote('CREATE DATABASE "recorded"').encode(),
        check=keys("results"),
    ),
    Recorded(
        sender="telegraf influxdb",
        name="writes gzip in chunks",
        path=f"/write?db={DATABASE}&rp=&consistency=any",
        headers={**BASIC, **TEXT, **GZIP, **TELEGRAF},
        body=gzip.compress(_line("t1", 0, 1.5)),
        is_chunked=True,
        status=204,
    ),
    Recorded(
        sender="telegraf influxdb",
        name="drops a batch it cannot repair",
        path=f"/write?db={DATABASE}",
        headers={**BASIC, **TEXT, **TELEGRAF},
        body=b"t1,host=a usage=\n" + _line("t1", 1, 2.5),
        status=400,
        check=every(
            error_with("partial write"), error_with("unable to parse"), header("x-influxdb-error", "partial write")
        ),
    ),
    Recorded(
        sender="telegraf influxdb",
        name="reads back",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql("SELECT usage FROM t1 ORDER BY time"),
        check=data([[1.5], [2.5]]),
    ),
    Recorded(
        sender="telegraf influxdb_v2",
        name="writes",
        path=f"/api/v2/write?bucket={DATABASE}&org=any&precision=ns",
        headers={**INFLUX2, **TEXT, **GZIP, **TELEGRAF},
        body=gzip.compress(_line("t2", 0, 1.5)),
        status=204,
    ),
    Recorded(
        sender="telegraf influxdb_v2",
        name="keeps its batch on 401",
        path=f"/api/v2/write?bucket={DATABASE}&org=any",
        headers={"authorization": "Token " + "x" * 40, **TEXT},
        body=_line("t2", 0, 1.5),
        status=401,
        check=error_with(""),
    ),
    Recorded(
        sender="telegraf arc",
        name="writes one measurement",
        path="/api/v1/write/msgpack",
        headers={**API_KEY, **ARC_DB, **MSGPACK, **GZIP, **TELEGRAF},
        status=204,
        body=gzip.compress(msgpack.packb(_map("t3", host=["a", "b"], usage=[1.5, None], n=[None, 7]))),
    ),
    Recorded(
        sender="telegraf arc",
        name="writes several measurements",
        path="/api/v1/write/msgpack",
        status=204,
        headers={**API_KEY, **ARC_DB, **MSGPACK, **TELEGRAF},
        body=msgpack.packb([_map("t3", host=["c"], usage=[2.5]), _map("t4", host=["a"], up=[True])]),
    ),
    Recorded(
        sender="telegraf arc",
        name="its milliseconds are understood",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql("SELECT epoch_ms(time), host, usage, n FROM t3 ORDER BY time, host"),
        check=data([[START_MS, "a", 1.5, None], [START_MS, "c", 2.5, None], [START_MS + 1, "b", None, 7]]),
    ),
)

GRAFANA = {**BEARER, **JSON, "x-arc-database": DATABASE}
RANGE = "time >= '2026-01-01T00:00:00Z' AND time < '2026-01-01T01:00:00Z'"
GRAFANA_ROWS = (
    Recorded(
        sender="grafana",
        name="save and test",
        path="/api/v1/query/arrow",
        headers={**GRAFANA, "x-arc-database": "default"},
        body=sql("SHOW DATABASES"),
        check=every(arrow(), show_has(0, DATABASE)),
    ),
    Recorded(
        sender="grafana",
        name="lists tables",
        path="/api/v1/query/arrow",
        headers=GRAFANA,
        body=sql("SHOW TABLES"),
        check=every(arrow(), show_has(1, "t1")),
    ),
    Recorded(
        sender="grafana",
        name="a panel",
        path="/api/v1/query/arrow",
        headers=GRAFANA,
        body=sql(
            "SELECT to_timestamp((epoch_ns(time) // 1000000000 // 60) * 60) AS time, avg(usage) AS usage FROM t1 "
            f"WHERE {RANGE} GROUP BY 1 ORDER BY 1"
        ),
        check=arrow(usage=[2.0]),
    ),
    Recorded(
        sender="grafana",
        name="sums and texts are primitive",
        path="/api/v1/query/arrow",
        headers=GRAFANA,
        body=sql("SELECT host, sum(n) AS total, count(*) AS rows FROM t3 GROUP BY host ORDER BY host"),
        check=arrow(host=["a", "b", "c"], total=[None, 7, None], rows=[1, 1, 1]),
    ),
    Recorded(
        sender="grafana",
        name="shows an error",
        path="/api/v1/query/arrow",
        headers=GRAFANA,
        body=sql("SELECT nope FROM t1"),
        status=400,
        check=error_with("nope"),
    ),
)

ARCLI = {**BEARER, "user-agent": "arcli/26.09.5 (linux/amd64)"}
ARCLI_ROWS = (
    Recorded(
        sender="arcli",
        name="ping",
        method="GET",
        path="/health",
        headers=ARCLI,
        check=texts("status", "time", "uptime"),
    ),
    Recorded(
        sender="arcli",
        name="asks for a feature that is not there",
        method="GET",
        path="/api/v1/no-such-feature",
        headers=ARCLI,
        status=404,
        check=error_with("Cannot GET /api/v1/no-such-feature"),
    ),
    Recorded(
        sender="arcli",
        name="verifies its token",
        method="GET",
        path="/api/v1/auth/verify",
        headers=ARCLI,
        check=keys("permissions", "token_info", valid=True),
    ),
    Recorded(
        sender="arcli",
        name="a wrong token",
        method="GET",
        path="/api/v1/auth/verify",
        headers={"authorization": "Bearer nothing"},
        status=401,
        check=keys("error", valid=False),
    ),
    Recorded(
        sender="arcli",
        name="makes a database",
        path="/api/v1/databases",
        headers={**ARCLI, **JSON},
        body=b'{"name":"arcli"}',
        status=201,
        check=keys("created_at", name="arcli", measurement_count=0),
    ),
    Recorded(
        sender="arcli",
        name="makes it again",
        path="/api/v1/databases",
        headers={**ARCLI, **JSON},
        body=b'{"name":"arcli"}',
        status=409,
        check=error_with("arcli"),
    ),
    Recorded(
        sender="arcli",
        name="streams line protocol",
        path="/api/v1/write/line-protocol?precision=s",
        headers={**ARCLI, "x-arc-database": "arcli", **TEXT},
        is_chunked=True,
        status=204,
        body="\n".join(f"a,host=h{n % 9} v={n} {START_MS // 1000 + n}" for n in range(2000)).encode(),
    ),
    Recorded(
        sender="arcli",
        name="queries",
        path="/api/v1/query",
        headers={**ARCLI, **JSON, "x-arc-database": "arcli"},
        body=sql("SELECT count(*) AS n, min(time), max(time) FROM a"),
        check=data([[2000, "2026-01-01T00:00:00Z", "2026-01-01T00:33:19Z"]]),
    ),
    Recorded(
        sender="arcli",
        name="lists databases",
        method="GET",
        path="/api/v1/databases",
        headers=ARCLI,
        check=keys("databases", "count"),
    ),
    Recorded(
        sender="arcli",
        name="with a slash",
        method="GET",
        path="/api/v1/databases/",
        headers=ARCLI,
        check=keys("databases", "count"),
    ),
    Recorded(
        sender="arcli",
        name="one database",
        method="GET",
        path="/api/v1/databases/arcli",
        headers=ARCLI,
        check=keys(name="arcli", measurement_count=1),
    ),
    Recorded(
        sender="arcli",
        name="its measurements",
        method="GET",
        path="/api/v1/databases/arcli/measurements",
        headers=ARCLI,
        check=keys("measurements", database="arcli", count=1),
    ),
    Recorded(
        sender="arcli",
        name="cluster of a standalone node",
        method="GET",
        path="/api/v1/cluster",
        headers=ARCLI,
        check=every(keys(enabled=False, mode="standalone"), texts("reason")),
    ),
    Recorded(
        sender="arcli",
        name="nodes of a standalone node",
        method="GET",
        path="/api/v1/cluster/nodes",
        headers=ARCLI,
        check=keys(enabled=False, mode="standalone"),
    ),
    Recorded(
        sender="arcli",
        name="logs",
        method="GET",
        path="/api/v1/logs?limit=5&level=info&since_minutes=60",
        headers=ARCLI,
        check=keys("timestamp", "count", "logs", limit=5),
    ),
)

OTHER_ROWS = (
    Recorded(
        sender="arc-mcp",
        name="columns of a measurement",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql("SELECT * FROM t1 LIMIT 0"),
        check=data([], ["time", "host", "usage"]),
    ),
    Recorded(
        sender="arc-mcp",
        name="describes",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql("DESCRIBE t1"),
        check=every(column_has(0, "time"), column_has(0, "host"), column_has(0, "usage")),
    ),
    Recorded(
        sender="vs code",
        name="databases",
        path="/api/v1/query",
        headers={**BEARER, **JSON},
        body=sql("SHOW DATABASES;"),
        check=column_has(0, DATABASE),
    ),
    Recorded(
        sender="vs code",
        name="tables",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql("SHOW TABLES;"),
        check=column_has(1, "t1"),
    ),
    Recorded(
        sender="vs code",
        name="writes a form that is none",
        path="/api/v1/write/line-protocol",
        headers={**BEARER, **FORM, **ARC_DB},
        body=_line("vs", 0, 1.5),
        status=204,
    ),
    Recorded(
        sender="superset",
        name="extra keys in the body",
        path="/api/v1/query",
        headers={"X-API-Key": TOKEN, **JSON},
        body=sql(f"SELECT usage FROM {DATABASE}.t1 ORDER BY 1 LIMIT 1", limit=1000, format="json"),
        check=data([[1.5]]),
    ),
    Recorded(
        sender="superset",
        name="tables of a schema",
        path="/api/v1/query",
        headers={"X-API-Key": TOKEN, **JSON},
        body=sql(f"SHOW TABLES FROM {DATABASE}"),
        check=every(column_has(0, DATABASE), column_has(1, "t1")),
    ),
    Recorded(
        sender="superset arrow",
        name="tables of a schema",
        path="/api/v1/query/arrow",
        headers={"X-API-Key": TOKEN, **JSON},
        body=sql(f"SHOW TABLES FROM {DATABASE}"),
        check=every(show_has(0, DATABASE), show_has(1, "t1")),
    ),
    Recorded(
        sender="launchpad",
        name="metrics",
        method="GET",
        path="/api/v1/metrics",
        headers=BEARER,
        check=keys("timestamp"),
    ),
    Recorded(
        sender="otel exporter",
        name="one metric",
        path="/api/v1/write/msgpack",
        headers={**BEARER, "X-Arc-Database": DATABASE, **MSGPACK, **GZIP},
        status=204,
        body=gzip.compress(
            msgpack.packb(
                _map(
                    "http_server_duration",
                    **{"value": [0.5, 1.5], "service.name": ["shop", "shop"], "http.route": ["/a", None]},
                )
            )
        ),
    ),
    Recorded(
        sender="otel exporter",
        name="dots in names",
        path="/api/v1/query",
        headers={**BEARER, **JSON, **ARC_DB},
        body=sql('SELECT "service.name", "http.route", value FROM http_server_duration ORDER BY time'),
        check=data([["shop", "/a", 0.5], ["shop", None, 1.5]]),
    ),
    Recorded(
        sender="redpanda connect",
        name="zstd",
        path="/api/v1/write/msgpack",
        headers={**BEARER, **ARC_DB, **MSGPACK},
        body=zstandard.compress(msgpack.packb(_map("panda", n=[1, 2, 3]))),
        status=204,
    ),
    Recorded(
        sender="influx shell",
        name="ping",
        method="GET",
        path="/ping",
        status=204,
        check=every(header("x-influxdb-version", "1.8"), header("x-influxdb-build")),
    ),
    Recorded(
        sender="influx shell",
        name="head ping",
        method="HEAD",
        path="/ping",
        status=204,
        check=header("x-influxdb-version"),
    ),
    Recorded(
        sender="influx shell",
        name="databases",
        path=f"/query?chunked=true&db=&epoch=ns&q={quote('SHOW DATABASES')}",
        headers=BASIC,
        check=keys("results"),
    ),
    Recorded(
        sender="influx shell",
        name="insert",
        path=f"/write?consistency=all&db={DATABASE}&precision=ns&rp=",
        headers={**BASIC, "content-type": ""},
        body=b"shell v=1",
        status=204,
    ),
    Recorded(
        sender="influxdb 1.x",
        name="a body of comments only",
        path=f"/write?db={DATABASE}",
        headers=BASIC,
        body=b"# nothing\n\n",
        status=204,
    ),
    Recorded(
        sender="influxdb 1.x",
        name="a conflict of types",
        path=f"/write?db={DATABASE}",
        headers=BASIC,
        body=b't1,host=a usage="text" 1',
        status=400,
        check=error_with("usage"),
    ),
    Recorded(
        sender="curl",
        name="waits for 100-continue",
        path=f"/write?db={DATABASE}",
        headers={**BASIC, "expect": "100-continue"},
        body=_line("curl", 0, 1.0),
        status=204,
    ),
    Recorded(
        sender="arc",
        name="a token in the URL",
        path=f"/write?db={DATABASE}&u=any&p={TOKEN}",
        body=_line("curl", 1, 1.0),
        status=204,
    ),
    Recorded(
        sender="anybody",
        name="no token",
        path="/api/v1/query",
        headers=JSON,
        body=sql("SELECT 1"),
        status=401,
        check=error_with(""),
    ),
    Recorded(
        sender="anybody",
        name="readiness of writes",
        method="GET",
        path="/ready/write",
        check=keys(status="ready"),
    ),
    Recorded(
        sender="anybody",
        name="readiness of queries",
        method="GET",
        path="/ready/query",
        check=keys(status="ready"),
    ),
    Recorded(
        sender="prometheus", name="scrapes", method="GET", path="/metrics", check=header("content-type", "text/plain")
    ),
)

ROWS = (*TELEGRAF_ROWS, *GRAFANA_ROWS, *ARCLI_ROWS, *OTHER_ROWS)
"""In this order: later rows read what earlier ones wrote."""
