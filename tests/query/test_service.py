from __future__ import annotations

import json

import pytest

from arc.errors import InvalidRequest
from arc.query.results_json import JsonEncoder
from arc.query.service import QueryService
from tests.query.conftest import Store, fetch, rows

HOUR = 3_600_000_000


@pytest.fixture
def cpu(store: Store) -> Store:
    store.measurement("default", "cpu", host="tag", u="float", n="integer")
    store.file("default", "cpu", [0, 1], host=["a", "b"], u=[1.5, None], n=[1, 2])
    store.file("default", "cpu", [HOUR], host=["a"], u=[2.5])
    store.buffered("default", "cpu", [2 * HOUR], host=["c"], n=[7])
    return store


async def test_a_query_sees_files_and_buffered_rows_together(cpu: Store, service: QueryService) -> None:
    found = await rows(service, "SELECT host, u, n FROM cpu ORDER BY time")
    assert found == [("a", 1.5, 1), ("b", None, 2), ("a", 2.5, None), ("c", None, 7)]


async def test_columns_come_time_first_then_tags_then_fields(cpu: Store, service: QueryService) -> None:
    assert (await fetch(service, "SELECT * FROM cpu LIMIT 0")).schema.names == ["time", "host", "u", "n"]


async def test_json_has_arcs_keys_and_says_success_last(cpu: Store, service: QueryService) -> None:
    async with service.open("SELECT time, host, u FROM cpu WHERE host = 'a' ORDER BY time") as answer:
        body = b"".join([chunk async for chunk in answer.encoded(JsonEncoder())])
    document = json.loads(body)
    assert list(document) == ["columns", "data", "row_count", "execution_time_ms", "timestamp", "success"]
    assert document["columns"] == ["time", "host", "u"]
    assert document["data"] == [["1970-01-01T00:00:00Z", "a", 1.5], ["1970-01-01T01:00:00Z", "a", 2.5]]
    assert document["row_count"] == 2 and document["success"] is True


async def test_an_unknown_measurement_is_refused_with_the_nearest_name(cpu: Store, service: QueryService) -> None:
    with pytest.raises(InvalidRequest, match="did you mean 'cpu'") as caught:
        await rows(service, "SELECT * FROM cpuu")
    assert caught.value.code == "unknown_table"
