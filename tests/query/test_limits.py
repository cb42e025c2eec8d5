"""What ends a query early, and what is left behind: nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

import duckdb
import pytest
import trio

from arc.errors import ArcError, Conflict, InvalidRequest, NotFound, Overloaded, TimedOut, Unavailable
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.results_json import JsonEncoder
from arc.query.service import QueryService
from arc.storage.files import FileEntry
from tests.query.conftest import Store, fetch, make_service, rows, until

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
STREAM = "SELECT range AS n FROM range(10000000000)"


def statuses(service: QueryService) -> list[str]:
    return [done.status for done in service.recent()]


async def test_a_query_over_its_time_is_interrupted(service: QueryService) -> None:
    with trio.fail_after(10), pytest.raises(TimedOut, match="timed out"):
        async with service.open(ENDLESS, timeout_seconds=0.2):
            raise AssertionError
    assert statuses(service) == ["timed_out"]


async def test_the_time_also_covers_reading(service: QueryService) -> None:
    with trio.fail_after(10), pytest.raises(TimedOut):
        async with service.open(STREAM, timeout_seconds=0.3) as answer:
            async for _ in answer.batches():
                pass
    assert statuses(service) == ["timed_out"]


async def test_a_caller_cannot_ask_for_more_time_than_is_configured(store: Store, engine: Engine) -> None:
    service = make_service(store, engine, QueryConfig(timeout_seconds=0.2))
    with trio.fail_after(10), pytest.raises(TimedOut):
        async with service.open(ENDLESS, timeout_seconds=1000):
            raise AssertionError


async def test_cancel_interrupts_a_running_query(service: QueryService, nursery: trio.Nursery) -> None:
    failed = trio.Event()

    async def run() -> None:
        with pytest.raises(Conflict) as caught:
            async with service.open(ENDLESS):
                raise AssertionError
        assert caught.value.code == "query_cancelled"
        failed.set()

    nursery.start_soon(run)
    with trio.fail_after(10):
        await until(lambda: bool(service.running()))
        (running,) = service.running()
        service.cancel(running.id)
        await failed.wait()
    assert statuses(service) == ["cancelled"]
    with pytest.raises(Conflict):
        service.cancel(running.id)
    with pytest.raises(NotFound):
        service.cancel("nobody")


async def test_a_client_that_hangs_up_stops_its_query(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", u="float")
    store.file("default", "cpu", [0], u=[1.0])
    with trio.fail_after(10):
        with trio.move_on_after(0.2) as scope:
            async with service.open(f"SELECT ({ENDLESS}) FROM cpu"):
                raise AssertionError
        assert scope.cancelled_caught
    assert statuses(service) == ["disconnected"]
    assert store.pins.held == {}


async def test_hanging_up_in_mid_stream_frees_everything(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", u="float")
    store.file("default", "cpu", [0], u=[1.0])
    with trio.CancelScope() as scope:
        async with service.open("SELECT range FROM cpu, range(100000000)") as answer:
            assert store.pins.held
            async for _ in answer.encoded(JsonEncoder()):
                scope.cancel()
    assert store.pins.held == {}
    assert service.running() == ()
    assert await rows(service, "SELECT 1") == [(1,)]


async def test_leaving_early_is_no_failure(service: QueryService) -> None:
    async with service.open(STREAM) as answer:
        await answer.batches().__anext__()
    assert statuses(service) == ["completed"]


async def test_a_failure_before_the_first_row_has_its_own_error(service: QueryService) -> None:
    with pytest.raises(InvalidRequest, match="boom") as caught:
        async with service.open("SELECT error('boom')"):
            raise AssertionError
    assert caught.value.code == "bad_query"
    (done,) = service.recent()
    assert done.status == "failed" and "boom" in str(done.error)


async def test_a_failure_in_mid_stream_raises_and_never_ends_the_document(service: QueryService) -> None:
    sql = "SELECT CASE WHEN range > 5000000 THEN error('boom') ELSE range END FROM range(10000000)"
    received = b""
    with pytest.raises(InvalidRequest, match="boom"):
        async with service.open(sql) as answer:
            async for chunk in answer.encoded(JsonEncoder()):
                received += chunk
    assert received.startswith(b'{"columns":')
    assert b'"success":true' not in received and not received.endswith(b"}")
    assert statuses(service) == ["failed"]


async def test_a_query_that_needs_too_much_memory_fails_alone(store: Store) -> None:
    engine = Engine(
        QueryConfig(threads=2, memory_limit_bytes=64 << 20), roots=[str(store.root)], native_path=store.native_path
    )
    service = make_service(store, engine)
    with pytest.raises(Overloaded) as caught:
        await fetch(service, "SELECT list(range) FROM range(100000000)")
    assert caught.value.code == "query_memory"
    assert await rows(service, "SELECT 1") == [(1,)]
    engine.close()


async def test_queries_wait_for_a_place_and_one_too_many_is_refused(store: Store, engine: Engine) -> None:
    service = make_service(store, engine, QueryConfig(max_concurrent=1, queue_max=1, queue_seconds=60))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(service.open("SELECT 1"))
        async with trio.open_nursery() as nursery:
            done: list[object] = []

            async def waiter() -> None:
                done.append(await rows(service, "SELECT 2"))

            nursery.start_soon(waiter)
            await until(lambda: [query.status for query in service.running()] == ["running", "queued"])
            with pytest.raises(Overloaded) as caught:
                await rows(service, "SELECT 3")
            assert caught.value.code == "too_many_queries"
            assert service.statistics().queued == 1
            await stack.aclose()
    assert done == [[(2,)]]
    assert service.statistics().rejected_total == 1


async def test_the_wait_for_a_place_is_bounded(store: Store, engine: Engine) -> None:
    service = make_service(store, engine, QueryConfig(max_concurrent=1, queue_seconds=0.05))
    async with service.open("SHOW DATABASES"):
        with pytest.raises(Overloaded):
            await rows(service, "SELECT 2")


async def test_a_query_cancelled_in_the_queue_never_runs(store: Store, engine: Engine) -> None:
    service = make_service(store, engine, QueryConfig(max_concurrent=1))
    async with service.open("SELECT 1"), trio.open_nursery() as nursery:

        async def waiter() -> None:
            with pytest.raises(Conflict):
                await rows(service, "SELECT 2")

        nursery.start_soon(waiter)
        await until(lambda: len(service.running()) == 2)
        service.cancel(service.running()[1].id)
    assert sorted(statuses(service)) == ["cancelled", "completed"]
    assert await rows(service, "SELECT 3") == [(3,)]


async def test_a_missing_file_is_named_by_no_path(store: Store, service: QueryService) -> None:
    store.measurement("default", "cpu", u="float")
    entry = store.file("default", "cpu", [0], u=[1.0])
    store.lose(entry)
    with pytest.raises(Unavailable) as caught:
        await rows(service, "SELECT * FROM cpu")
    assert caught.value.code == "file_unreadable"
    assert str(store.root) not in caught.value.message


def cut_in_half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def without_its_footer(body: bytes) -> bytes:
    length = int.from_bytes(body[-8:-4], "little")
    return body[: -8 - length] + b"\xff" * length + body[-8:]


def without_its_mark(body: bytes) -> bytes:
    return body[:-4] + b"PORK"


def empty(body: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("spoil", [cut_in_half, without_its_footer, without_its_mark, empty])
async def test_a_file_that_is_no_parquet_any_more_is_the_nodes_trouble_and_suspected(
    spoil: Callable[[bytes], bytes], store: Store, engine: Engine
) -> None:
    """World seed 700016: it was a bug of ours (500) or a mistake of the user's (400), by what DuckDB stumbled over."""
    store.measurement("default", "cpu", u="float")
    entry, other = store.file("default", "cpu", [0], u=[1.0]), store.file("default", "cpu", [9], u=[2.0])
    suspected: list[FileEntry] = []
    service = make_service(store, engine, suspect=suspected.extend)
    with pytest.raises(InvalidRequest):
        await rows(service, "SELECT host::INTEGER FROM cpu")
    assert suspected == [], "that is the user's own mistake"
    store.spoil(entry, spoil)
    with pytest.raises(Unavailable) as caught:
        await rows(service, "SELECT u FROM cpu")
    assert caught.value.code == "file_unreadable"
    assert suspected == [entry, other]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nothing FROM cpu",
        "SELECT cpu.nothing FROM cpu",
        "SELECT nofunction(u) FROM cpu",
        "SELECT u FROM cpu GROUP BY host",
        "SELECT host::INTEGER FROM cpu",
        "SELECT sum(host) FROM cpu",
        "SELECT u + FROM cpu",
        "SELECT * FROM cpu JOIN cpu USING (host)",
        "SELECT other.u FROM cpu",
    ],
)
async def test_a_users_mistake_is_told_in_the_users_words(store: Store, service: QueryService, sql: str) -> None:
    store.measurement("default", "cpu", host="tag", u="float")
    store.file("default", "cpu", [0], host=["a"], u=[1.0])
    store.buffered("default", "cpu", [1], host=["b"], u=[1.0])
    with pytest.raises(InvalidRequest) as caught:
        await rows(service, sql)
    assert caught.value.code == "bad_query"
    for internal in (str(store.root), "arc_", "read_parquet", "LINE 1"):
        assert internal not in caught.value.message


@pytest.mark.parametrize("explain", ["EXPLAIN", "EXPLAIN ANALYZE"])
async def test_a_plan_shows_no_path_and_no_internal_name(store: Store, service: QueryService, explain: str) -> None:
    store.measurement("default", "cpu", host="tag", u="float")
    store.file("default", "cpu", [0], host=["a"], u=[1.0])
    store.buffered("default", "cpu", [1], host=["b"], u=[1.0])
    table = await fetch(service, f"{explain} SELECT * FROM cpu WHERE u > 0")
    assert table.schema.names == ["explain_key", "explain_value"]
    plan = str(table.to_pylist())
    assert "PARQUET" in plan.upper()
    assert str(store.root) not in plan and "arc_0" not in plan


async def test_an_engine_that_met_a_bug_of_its_own_is_replaced(
    service: QueryService, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = engine.cursor()

    class Failing:
        def cursor(self) -> Failing:
            return self

        def sql(self, text: str) -> None:
            raise duckdb.InternalException("INTERNAL Error: database has been invalidated")

        def close(self) -> None:
            pass

        def interrupt(self) -> None:
            pass

    monkeypatch.setattr(engine, "_duckdb", Failing())
    with pytest.raises(ArcError, match="engine failed") as caught:
        await rows(service, "SELECT 1")
    assert caught.value.code == "engine_failed" and not isinstance(caught.value, InvalidRequest)
    assert await rows(service, "SELECT 1") == [(1,)]
    broken.close()
