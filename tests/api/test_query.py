"""Statements in, results out in four formats, and every way a query can fail."""

from __future__ import annotations

import gzip
import io

import msgpack
import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.api.query import measurement_sql
from arc.api.results import HELD_BYTES_MAX, choose_encoding
from arc.errors import Conflict, InvalidRequest, NotFound, Overloaded, TimedOut, Unavailable
from tests.api.fakes import READER, FakeAnswers, World

SQL = {"sql": "SELECT 1", "limit": 5, "format": "json"}
PATHS = ("/api/v1/query", "/api/v1/query/msgpack", "/api/v1/query/arrow", "/api/v1/query/csv")


async def test_json_has_arcs_keys_and_ignores_those_it_does_not_know() -> None:
    world = World()
    async with world.client(READER) as client:
        answer = await client.post("/api/v1/query", json=SQL)
    body = answer.json()
    assert answer.status_code == 200
    assert body["success"] is True
    assert body["columns"] == ["n", "host"]
    assert body["data"] == [[0, "server-01"], [1, "server-01"], [2, "server-01"]]
    assert body["row_count"] == 3
    assert {"execution_time_ms", "timestamp"} <= body.keys()
    assert answer.headers["x-arc-query-id"] == "q1"
    assert int(answer.headers["content-length"]) == len(answer.content)
    asked = world.deps.queries.asked[0]  # type: ignore[attr-defined]
    assert asked["sql"] == "SELECT 1"
    assert (asked["database"], asked["database_explicit"]) == (None, False)


async def test_the_database_header_reaches_the_query() -> None:
    world = World()
    async with world.client(READER) as client:
        await client.post("/api/v1/query", json=SQL, headers={"x-arc-database": "plant"})
    asked = world.deps.queries.asked[0]  # type: ignore[attr-defined]
    assert (asked["database"], asked["database_explicit"]) == ("plant", True)
    assert asked["principal"].name == "reader"


async def test_csv_is_given_on_its_own_path_or_when_only_that_is_accepted() -> None:
    async with World().client(READER) as client:
        one = await client.post("/api/v1/query/csv", json=SQL)
        other = await client.post("/api/v1/query", json=SQL, headers={"accept": "text/csv"})
    assert one.text == other.text == '"n","host"\n0,"server-01"\n1,"server-01"\n2,"server-01"\n'
    assert one.headers["content-type"] == "text/csv; charset=utf-8"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-arc-min-position": "3.100"}, 200),
        ({"x-arc-min-position": "3.101"}, 503),
        ({"x-arc-min-index": "10"}, 200),
        ({"x-arc-min-index": "11"}, 503),
        ({"x-arc-min-position": "x"}, 400),
        ({"x-arc-min-index": "-1"}, 400),
    ],
)
async def test_a_query_sees_at_least_what_its_caller_has_seen(headers: dict[str, str], status: int) -> None:
    async with World().client(READER) as client:
        for path in PATHS:
            answer = await client.post(path, json=SQL, headers=headers)
            assert answer.status_code == status
            assert ("retry-after" in answer.headers) == (status == 503)


async def test_msgpack_and_arrow_are_whole() -> None:
    async with World().client(READER) as client:
        packed = msgpack.unpackb((await client.post("/api/v1/query/msgpack", json=SQL)).content)
        answer = await client.post("/api/v1/query/arrow", json=SQL)
    assert packed["data"] == [[0, 1, 2], ["server-01"] * 3]
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert pa.ipc.open_stream(answer.content).read_all().num_rows == 3


async def test_arrow_options_are_checked() -> None:
    async with World().client(READER) as client:
        for headers, status in (
            ({"x-arc-arrow-compression": "zstd"}, 200),
            ({"x-arc-arrow-compression": "lz4", "x-arc-arrow-dictionary": "1"}, 200),
            ({"x-arc-arrow-compression": "gzip"}, 400),
            ({"x-arc-arrow-dictionary": "maybe"}, 400),
        ):
            answer = await client.post("/api/v1/query/arrow", json=SQL, headers=headers)
            assert answer.status_code == status, headers
            if status == 200:
                assert pa.ipc.open_stream(answer.content).read_all()["host"].to_pylist() == ["server-01"] * 3


@pytest.mark.parametrize("rows", [100, 100_000], ids=["short", "long"])
@pytest.mark.parametrize("accepted", ["zstd", "gzip", "gzip, zstd;q=0", "identity"])
async def test_a_result_is_compressed_as_the_client_accepts(rows: int, accepted: str) -> None:
    world = World()
    world.replace(queries=FakeAnswers(rows=rows, batches=3))
    async with world.client(READER) as client:
        request = client.build_request("POST", "/api/v1/query/csv", json=SQL, headers={"accept-encoding": accepted})
        answer = await client.send(request, stream=True)
        raw = b"".join([part async for part in answer.aiter_raw()])
    match answer.headers.get("content-encoding"):
        case "zstd":
            assert accepted == "zstd"
            plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw)).read()
        case "gzip":
            assert accepted.startswith("gzip")
            plain = gzip.decompress(raw)
        case _:
            assert accepted == "identity"
            plain = raw
    assert plain.count(b"\n") == rows * 3 + 1
    assert answer.headers["vary"] == "Accept-Encoding"
    assert (len(plain) > HELD_BYTES_MAX) == ("content-length" not in answer.headers)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [("", None), ("gzip", "gzip"), ("x-gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd"),
     ("zstd;q=0, gzip;q=0.5", "gzip"),
     ("ZSTD ; q=0.1", "zstd"), ("gzip;q=0", None), ("br", None), ("gzip;q=0.000", None)],
)  # fmt: skip
def test_an_encoding_is_chosen_by_what_is_accepted(accepted: str, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidRequest("no", code="bad_query"), 400, "bad_query"),
        (NotFound("no such table", code="unknown_table"), 404, "unknown_table"),
        (Overloaded("queue", code="too_many_queries"), 503, "too_many_queries"),
        (TimedOut("Query timed out", code="query_timeout"), 504, "query_timeout"),
        (Conflict("cancelled", code="query_cancelled"), 409, "query_cancelled"),
        (RuntimeError("secret detail"), 500, "internal"),
        (ExceptionGroup("g", [ExceptionGroup("h", [InvalidRequest("no", code="bad_query")])]), 400, "bad_query"),
        (ExceptionGroup("g", [InvalidRequest("no"), ValueError("secret detail")]), 500, "internal"),
    ],
)
@pytest.mark.parametrize("path", [*PATHS, "/api/v1/query/estimate"])
async def test_every_failure_has_its_status_and_shows_nothing_of_the_inside(
    path: str, error: Exception, status: int, code: str
) -> None:
    world = World()
    world.replace(queries=FakeAnswers(error=error))
    async with world.client(READER) as client:
        answer = await client.post(path, json=SQL)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert (body["success"], body["error"]) == (False, body["message"])
    assert "secret" not in answer.text
    if status == 500:
        (event,) = world.logged("request_failed")
        assert str(event["incident"]) in body["error"]
        assert "secret detail" in str(event["reason"])
        assert event["frames"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"{}", b'{"sql":""}', b'{"sql":1}', b'{"sql":null}', b"\xff"]
)
@pytest.mark.parametrize("path", [*PATHS, "/api/v1/query/estimate"])
async def test_a_body_that_is_no_statement_is_a_mistake(path: str, body: bytes) -> None:
    async with World().client(READER) as client:
        assert (await client.post(path, content=body)).status_code == 400


async def test_a_node_that_is_not_ready_says_when_to_come_back() -> None:
    world = World()
    world.node.query_reason = "catching up"
    async with world.client(READER) as client:
        for path in (*PATHS, "/api/v1/query/estimate"):
            answer = await client.post(path, json=SQL)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert "catching up" in answer.json()["error"]


async def test_what_the_gate_before_queries_turns_away_is_counted_by_reason() -> None:
    """Ecosystem 5.3; a mistake, or a queue that is full, is no matter of the gate."""
    world = World()

    async def nobody_confirms() -> int:
        raise Unavailable("nobody leads")

    answers = FakeAnswers()
    world.replace(read_index=nobody_confirms, queries=answers)
    async with world.client(READER) as client:
        for headers in ({"x-arc-min-index": "11"}, {"x-arc-min-index": "10"}, {"x-arc-consistency": "strong"}):
            await client.post("/api/v1/query", json=SQL, headers=headers)
        answers.error = Overloaded("queue", code="too_many_queries")
        await client.post("/api/v1/query", json=SQL)
        answers.error = Unavailable("not here yet", code="files_missing")
        for path in ("/api/v1/query", "/api/v1/query/estimate"):
            await client.post(path, json=SQL)
        found = world.api.statistics().query_gate.rejections_total
        world.node.query_reason = "catching up"
        await client.post("/api/v1/query", json=SQL)
    assert found == {"files_missing": 2, "not_confirmed": 1, "not_ready": 0, "not_seen": 1}
    assert world.api.statistics().query_gate.rejections_total["not_ready"] == 1


@pytest.mark.parametrize(
    ("rows", "level"),
    [(10_000, "none"), (10_001, "low"), (100_001, "medium"), (1_000_000, "medium"), (1_000_001, "high")],
)
async def test_an_estimate_warns_of_large_results(rows: int, level: str) -> None:
    world = World()
    world.replace(queries=FakeAnswers(rows=rows))
    async with world.client(READER) as client:
        body = (await client.post("/api/v1/query/estimate", json=SQL)).json()
    assert (body["success"], body["estimated_rows"], body["warning_level"]) == (True, rows, level)


async def test_a_measurement_is_queried_without_sql() -> None:
    world = World()
    async with world.client(READER) as client:
        answer = await client.get("/api/v1/query/cpu?database=plant&limit=5&order_by=host, time desc&where=v > 1")
        assert answer.json()["row_count"] == 3
        assert (await client.get("/api/v1/query/cpu?limit=1000001")).status_code == 400
        assert (await client.get("/api/v1/query/cpu?order_by=1;drop")).status_code == 400
        assert (await client.get("/api/v1/query/a/b")).status_code == 404
    asked = world.deps.queries.asked[0]  # type: ignore[attr-defined]
    assert asked["sql"] == (
        'SELECT * FROM "plant"."cpu" WHERE (\nv > 1\n) ORDER BY "host" ASC, "time" DESC LIMIT 5 OFFSET 0'
    )


@settings(max_examples=200)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_no_name_escapes_its_quotes(database: str, measurement: str) -> None:
    sql = measurement_sql(database=database, measurement=measurement, where="", order_by="time", limit=1, offset=0)
    inside = sql.removeprefix("SELECT * FROM ").removesuffix(' ORDER BY "time" ASC LIMIT 1 OFFSET 0')
    assert inside.replace('""', "").count('"') % 2 == 0
    assert inside == f'"{database.replace(chr(34), chr(34) * 2)}"."{measurement.replace(chr(34), chr(34) * 2)}"'


async def test_queries_can_be_listed_and_stopped() -> None:
    world = World()
    async with world.client() as client:
        for path in ("/api/v1/queries", "/api/v1/queries/", "/api/v1/queries/active"):
            body = (await client.get(path)).json()
            assert [(one["id"], one["status"]) for one in body["queries"]] == [("q1", "running")]
        assert (await client.get("/api/v1/queries/history")).json()["queries"][0]["id"] == "q0"
        assert (await client.get("/api/v1/queries/q1")).json()["query"]["sql"] == "SELECT 1"
        assert (await client.delete("/api/v1/queries/q1")).status_code == 200
        assert (await client.delete("/api/v1/queries/q0")).status_code == 409
        assert (await client.delete("/api/v1/queries/nope")).status_code == 404
    assert world.deps.queries.cancelled == ["q1"]  # type: ignore[attr-defined]
