"""The HTTP API under nonsense: documented requests by schemathesis, others by Hypothesis, against a real process.

What must hold for any bytes whatever: an answer comes, it is no 500, and memory stays bounded. About a minute in CI;
``make fuzz`` sets HYPOTHESIS_PROFILE=long and takes minutes.
"""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgpack
import pyarrow as pa
import pytest
import schemathesis
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.harness import TOKEN, Server

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
DOCUMENTED_EXAMPLES = 100 if IS_LONG else 5
"""For each of some fifty endpoints."""
WRITE_EXAMPLES = 20_000 if IS_LONG else 1_000
QUERY_EXAMPLES = 5_000 if IS_LONG else 500
MEMORY_GROWTH_BYTES_MAX = 600 << 20
"""The budgets of the settings below, kernels that are compiled on the way, and room for the allocator."""

BOUNDED = {
    "server.max_body_bytes": "8MiB",
    "server.max_decompressed_bytes": "32MiB",
    "server.max_decompressed_lines_bytes": "32MiB",
    "ingest.memory_bytes": "128MiB",
    "query.memory_limit_bytes": "256MiB",
    "query.timeout_seconds": "5s",
    "auth.failed_per_minute": "1000000",
}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node with small budgets; at the end it must be alive, sane, and still stop in order."""
    with Server(tmp_path_factory.mktemp("fuzz"), settings=BOUNDED) as server:
        server.write("seed,host=a v=1")
        before = rss_bytes(server.pid)
        yield server
        server.check_alive()
        grown = rss_bytes(server.pid) - before
        assert grown < MEMORY_GROWTH_BYTES_MAX, f"grew by {grown >> 20} MiB"
        assert server.one("SELECT count(*) FROM seed") == 1
        server.terminate()
        assert "request_failed" not in server.stderr(), server.stderr()[-4000:]


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def acceptable(answer: httpx.Response, sent: object) -> None:
    """Anything but an inner error. 503 is an honest refusal, 504 an honest timeout."""
    assert answer.status_code < 500 or answer.status_code in (503, 504), (
        f"{answer.status_code} {answer.text} for {sent!r}"
    )


@schemathesis.serializer("application/msgpack", "application/vnd.apache.arrow.stream", "application/octet-stream")
def as_it_is(context: object, value: object) -> bytes:
    """Bodies that are bytes go out as bytes; what they mean is fuzzed below."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else getattr(value, "data", b"")


def keep_own_token(case: schemathesis.Case) -> None:
    """Token 1 is the one these requests are made with: a DELETE of it would end the test and not the server."""
    if "/auth/tokens/{id}" in case.path and str(case.path_parameters.get("id")) == "1":
        case.path_parameters["id"] = 2


def wait_for_little(case: schemathesis.Case) -> None:
    """A well-formed position of the far future is waited for, seconds each time: rightly, but not in every example."""
    for name, near in (("x-arc-min-index", "1"), ("x-arc-min-position", "1.1")):
        if re.fullmatch(r"[0-9.]+", str(case.headers.get(name, ""))) and not IS_LONG:
            case.headers[name] = near


@pytest.mark.timeout(1800)
def test_fuzz_of_every_documented_endpoint_finds_no_server_error(fuzzed: Server) -> None:
    """Requests made from /openapi.json: right ones, and ones with one thing wrong."""
    document = fuzzed.http.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30, "the document is nearly empty"
    for operation in operations:

        @settings(
            max_examples=DOCUMENTED_EXAMPLES,
            deadline=None,
            derandomize=not IS_LONG,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def documented(case: schemathesis.Case) -> None:
            keep_own_token(case)
            wait_for_little(case)
            where = f"{case.method} {case.formatted_path} {case.query} {case.headers} {case.body!r}"
            answer = case.call(base_url=fuzzed.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
            assert answer.status_code < 500 or answer.status_code in (503, 504), f"{answer.status_code} {where}"
            assert answer.status_code != 401, f"nobody may enter any more: {where}"

        documented()


NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
)
LINES = st.one_of(
    st.binary(max_size=300),
    st.text('ab=, "\\\n#0123456789.ieutf-+\r\t\0é', max_size=200).map(str.encode),
    st.builds(lambda a, b, c: f"{a},t={b} v={c}".encode(), NAMES, NAMES, NAMES),
)
MAPS = st.fixed_dictionaries(
    {},
    optional={
        "m": VALUES, "t": VALUES, "h": VALUES, "u": VALUES,
        "columns": st.dictionaries(NAMES | st.just("time"), st.lists(VALUES, max_size=4) | VALUES, max_size=4),
        "fields": st.dictionaries(NAMES, VALUES, max_size=4) | VALUES,
        "tags": st.dictionaries(NAMES, VALUES, max_size=4) | st.lists(NAMES, max_size=3) | VALUES,
        "batch": st.lists(st.dictionaries(NAMES, VALUES, max_size=2), max_size=3) | VALUES,
    },
)  # fmt: skip
PACKED = st.one_of(st.binary(max_size=300), MAPS.map(msgpack.packb), st.lists(MAPS, max_size=3).map(msgpack.packb))


def stream_of(columns: dict[str, list[object]]) -> bytes:
    """An Arrow stream of these columns, of whatever type Arrow makes of them."""
    length = max((len(values) for values in columns.values()), default=0)
    made = {name: values + [None] * (length - len(values)) for name, values in columns.items()}
    table = pa.table(made)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


COLUMNS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), max_size=4),
    st.lists(st.floats() | st.none(), max_size=4),
    st.lists(st.text(max_size=5) | st.none(), max_size=4),
    st.lists(st.datetimes() | st.none(), max_size=4),
    st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=3),
)
STREAMS = st.one_of(
    st.binary(max_size=300),
    st.dictionaries(NAMES | st.sampled_from(["time", "v", "host"]), COLUMNS, max_size=4).map(stream_of),
)


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body, perhaps with some bytes changed, cut off, or compressed, or all of it."""
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(0, 3))):
        if body:
            body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del body[draw(st.integers(0, len(body))) :]
    wrap = draw(st.sampled_from([bytes, bytes, bytes, gzip.compress, zstandard.compress]))
    wrapped = wrap(bytes(body))
    return wrapped[: draw(st.integers(0, len(wrapped)))] if draw(st.integers(0, 5)) == 0 else wrapped


HEADER_TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(str.strip)
HEADER_NAMES = (
    "content-encoding", "content-type", "x-arc-database", "x-arc-measurement", "idempotency-key", "accept-encoding",
    "x-arc-arrow-compression", "expect", "range", "authorization",
)  # fmt: skip
HEADERS = st.dictionaries(st.sampled_from(HEADER_NAMES), HEADER_TEXT, max_size=3)
PARAMETERS = st.dictionaries(
    st.sampled_from(["db", "bucket", "precision", "strict", "p", "org", "measurement"]), st.text(max_size=8), max_size=3
)
WRITES = st.one_of(
    st.tuples(st.sampled_from(["/write", "/api/v2/write", "/api/v1/write/line-protocol"]), damaged(LINES)),
    st.tuples(st.just("/api/v1/write/msgpack"), damaged(PACKED)),
    st.tuples(st.just("/api/v1/write/arrow"), damaged(STREAMS)),
)


@pytest.mark.timeout(1800)
def test_fuzz_of_writes_finds_no_server_error(fuzzed: Server) -> None:
    """Random and nearly right bodies of every format, under random heads."""

    @settings(max_examples=WRITE_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(write=WRITES, headers=HEADERS, parameters=PARAMETERS)
    def writes(write: tuple[str, bytes], headers: dict[str, str], parameters: dict[str, str]) -> None:
        path, body = write
        try:
            answer = fuzzed.http.post(path, content=body, headers=headers, params=parameters, timeout=30)
        except httpx.RemoteProtocolError as error:
            raise AssertionError(f"no answer ({error}) for {path} {headers} {parameters} {body!r}") from error
        acceptable(answer, (path, headers, parameters, body))

    writes()


SQL_WORDS = r"""
    SELECT FROM WHERE seed v host time count(*) max(v) ( ) , * ; ' " -- /* */ = < > 1 -1 1e400 '2026-01-01' NULL AND OR
    NOT IN BETWEEN LIKE GROUP BY ORDER LIMIT OFFSET UNION ALL JOIN ON AS WITH RECURSIVE t VALUES CASE WHEN THEN END
    interval now() :: INTEGER list [1,2] {'a':1} x -> x+1 SHOW TABLES DATABASES DESCRIBE EXPLAIN $1 ? @ # \ 🙂
    read_csv('/etc/passwd') ATTACH COPY PRAGMA SET
"""
WORDS = st.sampled_from([*SQL_WORDS.split(), "\0", "\n"])
STATEMENTS = st.one_of(st.lists(WORDS, max_size=14).map(" ".join), st.text(max_size=60))


@pytest.mark.timeout(1800)
def test_fuzz_of_queries_finds_no_server_error(fuzzed: Server) -> None:
    """Sentences of SQL's words in any order, in every format."""

    @settings(max_examples=QUERY_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(sql=STATEMENTS, form=st.sampled_from(["", "/arrow", "/msgpack", "/csv", "/estimate"]), headers=HEADERS)
    def queries(sql: str, form: str, headers: dict[str, str]) -> None:
        headers = {name: value for name, value in headers.items() if name != "expect"}
        answer = fuzzed.http.post(f"/api/v1/query{form}", json={"sql": sql}, headers=headers, timeout=30)
        acceptable(answer, (sql, form, headers))

    queries()


@pytest.mark.parametrize("wrap", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_fuzz_bombs_are_refused_within_the_memory_budget(fuzzed: Server, wrap: object) -> None:
    """A hundred megabytes of zeros in a few kilobytes, one after another."""
    assert callable(wrap)
    bomb = wrap(bytes(100 << 20))
    before = rss_bytes(fuzzed.pid)
    for path in ("/write", "/api/v1/write/msgpack", "/api/v1/write/arrow"):
        answer = fuzzed.http.post(path, content=bomb)
        assert answer.status_code in (400, 413, 503), f"{path}: {answer.status_code} {answer.text}"
    assert rss_bytes(fuzzed.pid) - before < 256 << 20
