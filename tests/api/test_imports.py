"""Files in, rows counted, buffers flushed; what went wrong half-way is told with the rows that are safe."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arc.api.config import ServerConfig
from arc.api.heads import Head
from arc.api.imports import SLICE_ROWS
from arc.api.multipart import extract_file, file_boundary
from arc.errors import InvalidRequest, Overloaded, Unavailable
from tests.api.fakes import World

CSV = b"time,host,v\n1700000000,a,1.5\n1700003600,b,2.5\n"
INTO = {"db": "plant", "measurement": "cpu"}


def parquet(rows: int = 2) -> bytes:
    table = pa.table({"time": pa.array(range(rows), pa.timestamp("us")), "v": pa.array([1.5] * rows)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    body: bytes = sink.getvalue().to_pybytes()
    return body


@pytest.mark.parametrize("as_form", [True, False])
async def test_a_csv_file_is_stored_and_flushed(as_form: bool) -> None:
    world = World()
    async with world.client() as client:
        what = {"files": {"file": ("x.csv", CSV)}} if as_form else {"content": gzip.compress(CSV)}
        answer = await client.post("/api/v1/import/csv", params=INTO | {"tags": "host"}, **what)
    assert answer.status_code == 200
    result = answer.json()["result"]
    assert answer.json()["status"] == "ok"
    assert answer.headers["x-arc-position"] == "1.1", "a query may ask for what it has to have seen"
    assert result["duration_ms"] >= 0
    del result["duration_ms"]
    assert result == {
        "database": "plant", "measurement": "cpu", "rows_imported": 2, "partitions_created": 2,
        "time_range_min": "2023-11-14T22:13:20.000Z", "time_range_max": "2023-11-14T23:13:20.000Z",
        "columns": ["time", "host", "v"],
    }  # fmt: skip
    assert world.node.flushes == 1
    assert [column.kind.value for column in world.ingest.requests[0].decoded.batches[0].columns] == ["tag", "float"]


async def test_a_long_file_is_stored_in_slices_each_with_its_own_key() -> None:
    world = World()
    async with world.client() as client:
        answer = await client.post(
            "/api/v1/import/parquet", params=INTO, content=parquet(SLICE_ROWS + 5), headers={"idempotency-key": "k"}
        )
    assert answer.json()["result"]["rows_imported"] == SLICE_ROWS + 5
    assert [(r.decoded.rows, r.idempotency_key) for r in world.ingest.requests] == [(SLICE_ROWS, "k#0"), (5, "k#1")]
    lines = world.ingest.requests[1].decoded.batches[0].lines
    assert lines.to_pylist() == [SLICE_ROWS + n for n in range(1, 6)]


async def test_another_file_under_the_same_key_has_another_fingerprint() -> None:
    world = World()
    other = CSV.replace(b"1", b"2")
    sent = [{"files": {"file": ("x.csv", CSV)}}, {"content": gzip.compress(CSV)}, {"content": other}]
    async with world.client() as client:
        for what in sent:
            for extra in ({}, {"tags": "host"}):
                await client.post("/api/v1/import/csv", params=INTO | extra, headers={"idempotency-key": "k"}, **what)
        await client.post("/api/v1/import/csv", params=INTO, content=CSV)
    found = [each.fingerprint for each in world.ingest.requests]
    assert found[0:2] == found[2:4]
    assert len(set(found)) == 5 and found[-1] == 0


async def test_a_file_of_lines_may_keep_one_measurement_only() -> None:
    world = World()
    async with world.client() as client:
        params = {"db": "plant", "precision": "s", "measurement": "cpu"}
        answer = await client.post("/api/v1/import/lp", params=params, content=b"cpu v=1 1\nmem v=1 1\n")
        assert answer.json()["result"]["measurements"] == ["cpu"]
        assert answer.json()["result"]["precision"] == "s"
        both = await client.post("/api/v1/import/lp", params={"db": "plant"}, content=b"cpu v=1 1\nmem v=1 1\n")
        assert both.json()["result"]["measurements"] == ["cpu", "mem"]
        partial = await client.post("/api/v1/import/lp", params={"db": "plant"}, content=b"cpu v=1 1\nbad\n")
        assert (partial.status_code, partial.json()["written"]) == (400, 1)


async def test_a_failure_half_way_tells_how_much_is_safe() -> None:
    world = World()
    stored = world.ingest.write

    async def fails_second(request: object) -> object:
        if world.ingest.requests:
            raise Unavailable("the node is stopping")
        return await stored(request)  # type: ignore[arg-type]

    world.ingest.write = fails_second  # type: ignore[method-assign, assignment]
    async with world.client() as client:
        answer = await client.post("/api/v1/import/parquet", params=INTO, content=parquet(SLICE_ROWS + 5))
    assert (answer.status_code, answer.headers["x-arc-code"]) == (503, "outcome_unknown"), "another try would double it"
    assert f"({SLICE_ROWS} of {SLICE_ROWS + 5} rows of the file were stored before)" in answer.json()["error"]


async def test_rows_that_are_stored_are_no_less_stored_when_they_cannot_be_flushed_now() -> None:
    """That was answered as if nothing had happened, and so a node that had passed the file on sent it again."""
    world = World()

    async def flush() -> None:
        raise Unavailable("not everything was flushed: the writer lease went elsewhere, and the rest with it")

    world.node.flush_all = flush  # type: ignore[method-assign]
    async with world.client() as client:
        answer = await client.post("/api/v1/import/csv", params=INTO, content=CSV)
    assert answer.status_code == 200 and answer.json()["result"]["rows_imported"] == 2
    assert len(world.ingest.requests) == 1


async def test_a_file_of_which_nothing_is_stored_may_be_sent_again() -> None:
    world = World()
    world.ingest.error = Unavailable("the node is stopping")
    async with world.client() as client:
        answer = await client.post("/api/v1/import/csv", params=INTO, content=CSV)
    assert (answer.status_code, answer.headers["x-arc-code"]) == (503, "unavailable")


async def test_full_memory_makes_an_import_flush_and_go_on() -> None:
    world = World()
    world.ingest.error = Overloaded("full")

    async def flush() -> None:
        world.node.flushes += 1
        world.ingest.error = None

    world.node.flush_all = flush  # type: ignore[method-assign]
    async with world.client() as client:
        assert (await client.post("/api/v1/import/csv", params=INTO, content=CSV)).status_code == 200
    assert world.node.flushes == 2


@pytest.mark.parametrize(
    ("path", "params", "body", "status"),
    [
        ("csv", {"measurement": "cpu"}, CSV, 400),
        ("csv", {"db": "plant"}, CSV, 400),
        ("csv", {"db": "1", "measurement": "cpu"}, CSV, 400),
        ("csv", {"db": "plant", "measurement": "a/b"}, CSV, 400),
        ("csv", INTO, b"", 400),
        ("csv", INTO | {"time_column": "when"}, CSV, 400),
        ("csv", INTO | {"skip_rows": "-1"}, CSV, 400),
        ("csv", INTO | {"delimiter": ";;"}, CSV, 400),
        ("csv", INTO, b"time,v\n1,2,3\n", 422),
        ("parquet", INTO, b"PAR1 but not really", 422),
        ("lp", {"db": "plant"}, b"# nothing\n", 400),
        ("lp", {"db": "plant", "precision": "x"}, b"cpu v=1\n", 400),
    ],
)
async def test_a_bad_import_stores_nothing(path: str, params: dict[str, str], body: bytes, status: int) -> None:
    world = World()
    async with world.client() as client:
        answer = await client.post(f"/api/v1/import/{path}", params=params, content=body)
    assert answer.status_code == status, answer.text
    assert world.ingest.requests == []


async def test_a_file_over_the_limit_is_413() -> None:
    world = World(server=ServerConfig(max_import_bytes=100))
    async with world.client() as client:
        assert (await client.post("/api/v1/import/csv", params=INTO, content=b"x" * 101)).status_code == 413
        bomb = gzip.compress(b"x" * 10_000)
        assert (await client.post("/api/v1/import/csv", params=INTO, content=bomb)).status_code == 413
        assert (await client.post("/api/v1/import/csv", params=INTO, files={"file": b"x" * 101})).status_code == 413


async def test_imports_are_counted() -> None:
    world = World()
    async with world.client() as client:
        await client.post("/api/v1/import/csv", params=INTO, content=CSV)
        await client.post("/api/v1/import/csv", params=INTO, content=b"")
        stats = (await client.get("/api/v1/import/stats")).json()["stats"]
    assert stats == {"total_requests": 2, "total_records": 2, "total_errors": 1}


def form(*parts: tuple[str, bytes]) -> bytes:
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{n}"; filename="f"\r\n\r\n'.encode() + c + b"\r\n"
        for n, c in parts
    ]
    return b"".join(lines) + b"--b--\r\n"


def test_the_file_is_found_among_other_fields_and_kept_byte_for_byte() -> None:
    content = b"\r\n--c\x00\xff\r\n" * 3
    assert extract_file(form(("note", b"x"), ("file", content), ("more", b"y")), b"b") == content


@pytest.mark.parametrize("body", [b"", b"garbage", form(("other", b"x")), form(("file", b"x"))[:-10], b"--b\r\n\r\n"])
def test_a_broken_form_is_a_mistake(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        extract_file(body, b"b")


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; boundary="a b"', b"a b"),
        ("text/csv", None),
        ("", None),
    ],
)
def test_a_form_is_told_by_its_content_type(content_type: str, boundary: bytes | None) -> None:
    head = Head("POST", "/", b"", {b"content-type": content_type.encode()}, "")
    assert file_boundary(head) == boundary
