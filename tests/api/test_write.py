"""What a writer is told: 204 for everything stored, 400 with the refused lines, 503 for later; nothing in between."""

from __future__ import annotations

import gzip

import msgpack
import pyarrow as pa
import pytest
import trio
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.api.config import ServerConfig
from arc.api.decoding import INLINE_BYTES_MAX
from arc.errors import OutcomeUnknown, Overloaded, TooLarge, Unavailable
from arc.ingest.columns import Kind
from arc.ingest.keys import KeyReused
from tests.api.fakes import START_US, WRITER, World

INFLUX = ("/write", "/api/v2/write")
LINES = (*INFLUX, "/api/v1/write/line-protocol")
ROW = msgpack.packb({"m": "cpu", "columns": {"time": [1], "v": [1.5]}})


def mangled(seed: bytes, place: int, patch: bytes) -> bytes:
    place %= len(seed) + 1
    return seed[:place] + patch + seed[place + len(patch) :]


def arrow_body(metadata: dict[str, str]) -> bytes:
    schema = pa.schema([("time", pa.timestamp("us")), ("host", pa.utf8()), ("v", pa.float64())], metadata=metadata)
    batch = pa.record_batch([pa.array([1], pa.timestamp("us")), ["a"], [1.5]], schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(batch)
    body: bytes = sink.getvalue().to_pybytes()
    return body


@pytest.mark.parametrize("path", LINES)
async def test_a_stored_write_is_an_empty_204_with_its_position(path: str) -> None:
    async with World().client(WRITER) as client:
        answer = await client.post(path, content=b"cpu,host=a v=1 1\ncpu v=2 2\n")
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["x-arc-position"] == "1.1"
    assert "content-type" not in answer.headers


@pytest.mark.parametrize("path", LINES)
async def test_a_partial_write_names_every_refused_line_and_stores_the_others(path: str) -> None:
    world = World()
    async with world.client(WRITER) as client:
        answer = await client.post(path, content=b"cpu v=1 1\nbad\ncpu v=2 2\nworse,\n")
    body = answer.json()
    assert answer.status_code == 400
    assert body["code"] == "partial_write"
    assert body["error"] == body["message"]
    assert body["error"].startswith("partial write: unable to parse 'bad': ")
    assert body["error"].endswith("dropped=2")
    assert (body["written"], body["refused_total"]) == (2, 2)
    assert [(one["line"], one["text"]) for one in body["refused"]] == [(2, "bad"), (4, "worse,")]
    assert answer.headers["x-arc-position"] == "1.1"
    assert ("x-influxdb-error" in answer.headers) == (path in INFLUX)
    assert world.ingest.requests[0].decoded.rows == 2


async def test_a_long_list_of_refused_lines_says_that_it_is_cut() -> None:
    async with World().client(WRITER) as client:
        body = (await client.post("/write", content=b"cpu v=1 1\n" + b"bad\n" * 250)).json()
    assert (len(body["refused"]), body["refused_total"]) == (100, 250)


@pytest.mark.parametrize("path", LINES)
async def test_a_request_without_a_good_line_stores_nothing(path: str) -> None:
    world = World()
    async with world.client(WRITER) as client:
        answer = await client.post(path, content=b"bad\n")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "unable to parse 'bad'" in answer.json()["error"]
    assert world.ingest.requests == []


async def test_strict_stores_nothing_unless_all_is_good() -> None:
    world = World()
    async with world.client(WRITER) as client:
        assert (await client.post("/write?strict=true", content=b"cpu v=1 1\nbad\n")).status_code == 400
        assert world.ingest.requests == []
        assert (await client.post("/write?strict=true", content=b"cpu v=1 1\n")).status_code == 204
        assert (await client.post("/write?strict=false", content=b"cpu v=1 1\nbad\n")).json()["written"] == 1
        assert (await client.post("/write?strict=perhaps", content=b"cpu v=1 1\n")).status_code == 400


@pytest.mark.parametrize("body", [b"", b"\n\n", b"# only a comment\n", gzip.compress(b"", mtime=0)])
async def test_nothing_to_store_is_fine_for_influxdb_clients_only(body: bytes) -> None:
    async with World().client(WRITER) as client:
        assert [(await client.post(path, content=body)).status_code for path in LINES] == [204, 204, 400]


@pytest.mark.parametrize("path", ["/api/v1/write/msgpack", "/api/v1/write/arrow"])
async def test_an_empty_binary_body_is_a_mistake(path: str) -> None:
    async with World().client(WRITER) as client:
        answer = await client.post(path, content=b"")
    assert (answer.status_code, answer.json()["code"]) == (400, "empty")


@pytest.mark.parametrize(
    ("path", "header", "database"),
    [
        ("/write", None, "default"),
        ("/write?db=a", None, "a"),
        ("/write?db=a", "b", "b"),
        ("/api/v2/write?bucket=a&org=o", None, "a"),
        ("/api/v2/write?bucket=a/autogen", None, "a"),
        ("/api/v2/write?bucket=a", "b", "b"),
        ("/api/v1/write/line-protocol?db=a", None, "a"),
        ("/api/v1/write/line-protocol", "b", "b"),
    ],
)
async def test_the_header_beats_the_parameter_beats_the_default(path: str, header: str | None, database: str) -> None:
    world = World()
    async with world.client(WRITER) as client:
        headers = {} if header is None else {"x-arc-database": header}
        assert (await client.post(path, content=b"cpu v=1 1\n", headers=headers)).status_code == 204
    assert world.ingest.requests[0].database == database


@pytest.mark.parametrize("name", ["1a", "a b", "../x", "a" * 65, "system", "a/b"])
async def test_a_bad_database_name_is_refused_before_the_body_counts(name: str) -> None:
    world = World()
    async with world.client(WRITER) as client:
        answer = await client.post("/write", params={"db": name}, content=b"cpu v=1 1\n")
    assert answer.status_code == 400
    assert "database name" in answer.json()["error"]


@pytest.mark.parametrize(
    ("precision", "us"), [("", 2), ("ns", 2), ("n", 2), ("us", 2000), ("u", 2000), ("µ", 2000), ("ms", 2_000_000),
                          ("s", 2_000_000_000), ("m", 120_000_000_000), ("h", 7_200_000_000_000)],
)  # fmt: skip
async def test_every_spelling_of_a_precision_is_taken(precision: str, us: int) -> None:
    world = World()
    async with world.client(WRITER) as client:
        params = {"precision": precision} if precision else {}
        assert (await client.post("/write", params=params, content=b"cpu v=1 2000\n")).status_code == 204
        assert (await client.post("/write?precision=fortnight", content=b"cpu v=1 2\n")).status_code == 400
    assert world.ingest.requests[0].decoded.batches[0].time.to_pylist() == [us]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lambda body: body])
async def test_compression_is_told_by_the_first_bytes(pack: object) -> None:
    world = World()
    async with world.client(WRITER) as client:
        body = pack(b"cpu v=1 1\n")  # type: ignore[operator]
        assert (await client.post("/write", content=body)).status_code == 204
        # A header that lies does no harm.
        assert (await client.post("/write", content=body, headers={"content-encoding": "gzip"})).status_code == 204
        packed = pack(ROW)  # type: ignore[operator]
        assert (await client.post("/api/v1/write/msgpack", content=packed)).status_code == 204
    assert [request.decoded.rows for request in world.ingest.requests] == [1, 1, 1]


async def test_a_bomb_is_refused_at_the_limit_and_its_memory_was_set_aside_before() -> None:
    world = World(server=ServerConfig(max_decompressed_lines_bytes=2_000_000))
    world.ingest.budget = 3_000_000
    async with world.client(WRITER) as client:
        answer = await client.post("/write", content=gzip.compress(b"#" * 50_000_000))
        assert answer.status_code == 413
        assert world.ingest.peak <= 2_000_000 + 100_000
        assert world.ingest.reserved == 0
        world.ingest.budget = 1_000_000
        answer = await client.post("/write", content=gzip.compress(b"#" * 50_000_000))
        assert answer.status_code == 503, "no room for what it may become"


async def test_what_a_compressed_body_grows_to_is_paid_for_before_it_grows() -> None:
    world = World()
    body = gzip.compress(b"cpu v=1 1\n")
    world.ingest.budget = len(body) * 10
    async with world.client(WRITER) as client:
        assert (await client.post("/write", content=body)).status_code == 503
        world.ingest.budget = len(body) * 20
        assert (await client.post("/write", content=body)).status_code == 204


async def test_a_body_that_compresses_unusually_well_is_stored_all_the_same() -> None:
    world = World()
    async with world.client(WRITER) as client:
        body = gzip.compress(b"cpu v=1 1\n" * 20_000)
        assert len(body) * 16 < 200_000
        assert (await client.post("/write", content=body)).status_code == 204
    assert world.ingest.requests[0].decoded.rows == 20_000


async def test_large_bodies_are_decoded_on_a_worker_and_small_ones_are_not() -> None:
    world = World()
    async with world.client(WRITER) as client:
        await client.post("/write", content=b"cpu v=1 1\n")
        assert world.workers.runs == 0
        await client.post("/write", content=b"#" * INLINE_BYTES_MAX + b"\ncpu v=1 1\n")
        assert world.workers.runs == 1


async def test_an_idempotency_key_reaches_the_intake() -> None:
    world = World()
    async with world.client(WRITER) as client:
        await client.post("/write", content=b"cpu v=1 1\n", headers={"idempotency-key": " batch 7 "})
        assert world.ingest.requests[0].idempotency_key == "batch 7"
        for bad in ("", "x" * 256, "\xe9"):
            headers = {"idempotency-key": bad.encode("latin-1")}
            assert (await client.post("/write", content=b"cpu v=1 1\n", headers=headers)).status_code == 400


async def test_a_key_goes_with_a_fingerprint_of_what_was_sent() -> None:
    world = World()
    body = b"cpu v=1 1\n"
    sent = [
        ("/write", body), ("/write", gzip.compress(body)), ("/api/v2/write?bucket=default", body),
        ("/write?precision=s", body), ("/write", b"cpu v=1 2\n"), ("/write", body),
    ]  # fmt: skip
    async with world.client(WRITER) as client:
        for path, content in sent:
            headers = {"idempotency-key": "k"}
            assert (await client.post(path, content=content, headers=headers)).status_code == 204
        await client.post("/write", content=body)
        world.ingest.error = KeyReused("Idempotency-Key 'k' was used for another write")
        answer = await client.post("/write", content=body, headers={"idempotency-key": "k"})
    first, zipped, other_path, seconds, other, again, without = [each.fingerprint for each in world.ingest.requests][:7]
    assert first == zipped == other_path == again != 0
    assert len({first, seconds, other}) == 3
    assert without == 0, "nothing is reckoned for nothing"
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_msgpack_rows_of_any_form_are_taken() -> None:
    world = World()
    async with world.client(WRITER) as client:
        for body in (
            ROW,
            msgpack.packb([{"m": "a", "fields": {"v": 1}}]),
            msgpack.packb({"batch": [{"m": "a", "fields": {"v": 1}}]}),
        ):
            assert (await client.post("/api/v1/write/msgpack", content=body)).status_code == 204
        assert (await client.post("/api/v1/write/msgpack", content=b"\xc1")).status_code == 400


async def test_an_arrow_stream_says_where_it_belongs_and_the_head_beats_it() -> None:
    world = World()
    body = arrow_body({"arc.measurement": "cpu", "arc.database": "plant", "arc.tags": "host"})
    async with world.client(WRITER) as client:
        assert (await client.post("/api/v1/write/arrow", content=body)).status_code == 204
        headers = {"x-arc-database": "other", "x-arc-measurement": "mem", "x-arc-tags": "v"}
        answer = await client.post(
            "/api/v1/write/arrow", content=arrow_body({}), headers=headers | {"x-arc-tags": "host"}
        )
        assert answer.status_code == 204
        assert (await client.post("/api/v1/write/arrow", content=arrow_body({}))).status_code == 400
    first, second = world.ingest.requests
    assert (first.database, first.decoded.batches[0].measurement) == ("plant", "cpu")
    assert (second.database, second.decoded.batches[0].measurement) == ("other", "mem")
    assert {c.name: c.kind for c in second.decoded.batches[0].columns} == {"host": Kind.TAG, "v": Kind.FLOAT}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Overloaded("full", retry_after_seconds=7), 503, "overloaded"),
        (Unavailable("no writer"), 503, "unavailable"),
        (OutcomeUnknown("perhaps"), 503, "outcome_unknown"),
        (TooLarge("record"), 413, "too_large"),
    ],
)
@pytest.mark.parametrize("path", LINES)
async def test_what_the_intake_says_is_what_the_writer_hears(
    path: str, error: Exception, status: int, code: str
) -> None:
    world = World()
    world.ingest.error = error
    async with world.client(WRITER) as client:
        answer = await client.post(path, content=b"cpu v=1 1\n")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("retry-after" in answer.headers) == (status == 503)
    assert world.ingest.reserved == 0


async def test_a_full_memory_budget_refuses_before_reading() -> None:
    world = World()
    world.ingest.budget = 5
    async with world.client(WRITER) as client:
        answer = await client.post("/write", content=b"cpu v=1 1\n")
    assert answer.status_code == 503
    assert world.ingest.requests == []


async def test_the_time_of_rows_without_one_is_the_arrival() -> None:
    world = World()
    async with world.client(WRITER) as client:
        await client.post("/write", content=b"cpu v=1\n")
    assert world.ingest.requests[0].decoded.batches[0].time.to_pylist() == [START_US]


async def test_writes_are_counted_by_format() -> None:
    world = World()
    async with world.client(WRITER) as client:
        await client.post("/write", content=b"cpu v=1 1\nbad\n")
        await client.post("/api/v1/write/msgpack", content=ROW)
    counted = world.api.statistics()
    assert (counted.lineprotocol.requests_total, counted.lineprotocol.records_total) == (1, 1)
    assert (counted.lineprotocol.refused_total, counted.lineprotocol.bytes_total) == (1, 14)
    assert (counted.msgpack.requests_total, counted.msgpack.records_total) == (1, 1)


async def test_a_flush_is_for_admins() -> None:
    world = World()
    async with world.client() as client:
        answer = await client.post("/api/v1/write/line-protocol/flush")
    assert (answer.status_code, answer.json()["status"], world.node.flushes) == (200, "success", 1)


FUZZED = World()
SEEDS = (
    b"cpu,host=a v=1 1\n",
    ROW,
    gzip.compress(ROW),
    arrow_body({"arc.measurement": "cpu"}),
    b"PAR1",
    b"time,v\n1,2\n",
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*LINES, "/api/v1/write/msgpack", "/api/v1/write/arrow", "/api/v1/import/csv?db=a&measurement=b",
                     "/api/v1/import/parquet?db=a&measurement=b", "/api/v1/query"]),
    st.binary(max_size=200) | st.builds(mangled, st.sampled_from(SEEDS), st.integers(0, 400), st.binary(max_size=4)),
)  # fmt: skip
def test_no_body_is_a_bug(path: str, body: bytes) -> None:
    async def send() -> int:
        async with FUZZED.client() as client:
            return (await client.post(path, content=body)).status_code

    assert trio.run(send) in (200, 204, 400, 413, 422)
