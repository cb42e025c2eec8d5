"""Names, pieces, and orders as bytes."""

from __future__ import annotations

from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.cells import parse_path
from arc.compaction.names import chain_of, merged_path, tier_of
from arc.deletion import plan
from arc.deletion.config import DeleteConfig
from arc.deletion.names import rewritten_path
from arc.deletion.orders import (
    DeleteOrder,
    DropOrder,
    Outcome,
    pack_order,
    pack_outcome,
    unpack_order,
    unpack_outcome,
)
from arc.errors import InvalidRequest
from arc.ingest.rescue import is_flushed
from arc.storage.paths import epoch_of, file_path
from tests.catalog import facts
from tests.catalog.facts import declare, do, ready, register

FLUSHED = file_path("db", "cpu", 0, node="n1", epoch=3, sequence=8)
MERGED = merged_path("db", "cpu", 0, epoch=4, job=9, node="n@1", tier="daily", part=7)


@pytest.mark.parametrize(("source", "tier"), [(FLUSHED, ""), (MERGED, "daily")])
def test_a_file_without_rows_keeps_its_place_and_its_tier_and_is_a_chain_of_its_own(source: str, tier: str) -> None:
    once = rewritten_path(source, epoch=12, job=5, node="n 1")
    twice = rewritten_path(once, epoch=12, job=6, node="n 1")
    for path in (once, twice):
        assert path.rpartition("/")[0] == source.rpartition("/")[0]
        assert (epoch_of(path), tier_of(path)) == (12, tier)
        assert parse_path(path) == parse_path(source)
    assert len({source, once, twice}) == 3
    assert len({chain_of(path)[0] for path in (source, once, twice)}) == 3


def test_a_file_without_rows_is_never_taken_for_one_that_the_log_can_give_again() -> None:
    """Rescue would bring the deleted rows back."""
    flushed = replace(facts.file("x", first=8, last=8, database="db"), path=FLUSHED, origin="n1", epoch=3)
    assert is_flushed(flushed)
    assert not is_flushed(replace(flushed, path=rewritten_path(FLUSHED, epoch=3, job=8, node="n1")))


def test_files_of_records_behind_the_order_and_outside_its_time_are_left_alone() -> None:
    machine = ready()
    files = [
        facts.file(name, first=first, last=last, hour=hour)
        for name, first, last, hour in (("a", 1, 2, 0), ("b", 3, 9, 1), ("c", 10, 10, 1), ("imported", 0, 0, 2))
    ]
    do(machine, declare())
    do(machine, register(*files, mark=10))

    def names(**bounds: int | None) -> list[str]:
        wanted = {"low_us": None, "high_us": None, **bounds}
        found = plan.covered(machine.catalog, "metrics", "cpu", through=5, clean=(), **wanted)
        return [file.path.rpartition("/")[2].partition(".")[0] for file in found]

    assert names() == ["a", "b", "imported"]
    assert names(low_us=3_600_000_000) == ["b", "imported"]
    assert names(high_us=3_599_999_999) == ["a"]


@given(st.lists(st.integers(1, plan.BYTES_PER_ENTRY * 2), max_size=100))
def test_pieces_are_all_files_in_order_and_each_is_bounded(sizes: list[int]) -> None:
    files = [replace(facts.file(str(n)), size_bytes=size) for n, size in enumerate(sizes)]
    pieces = list(plan.pieces(files))
    assert [file for piece in pieces for file in piece] == files
    for piece in pieces:
        assert 1 <= len(piece) <= plan.FILES_PER_ENTRY
        assert len(piece) == 1 or sum(file.size_bytes for file in piece) <= plan.BYTES_PER_ENTRY


texts = st.text(max_size=20)
orders = st.builds(
    DeleteOrder, database=texts, measurement=texts, where=texts, is_dry=st.booleans(), is_confirmed=st.booleans()
) | st.builds(DropOrder, database=texts, measurement=st.none() | texts)
outcomes = st.builds(
    Outcome,
    rows=st.integers(0, 1 << 60),
    files=st.integers(0, 9),
    rewritten=st.integers(0, 9),
    paths=st.lists(texts, max_size=3).map(tuple),
    milliseconds=st.floats(0, 1e9),
    index=st.integers(0, 1 << 60),
)


@given(orders, outcomes)
def test_orders_and_outcomes_survive_the_way(order: DeleteOrder | DropOrder, outcome: Outcome) -> None:
    assert unpack_order(pack_order(order)) == order
    assert unpack_outcome(pack_outcome(outcome)) == outcome


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", cbor2.dumps(7), cbor2.dumps([]), cbor2.dumps(["drop"]), cbor2.dumps(["drop", "a", "b", "c"]),
        cbor2.dumps(["drop", None, None]), cbor2.dumps(["drop", "a", 7]), cbor2.dumps(["burn", "a", "b"]),
        cbor2.dumps(["delete", "a", "b", "c", 1, True]), cbor2.dumps(["delete", "a", "b", None, True, True]),
    ],
)  # fmt: skip
def test_what_is_no_order_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        unpack_order(data)


@pytest.mark.parametrize("name", ["confirmation_threshold", "max_rows_per_delete"])
def test_a_limit_is_not_negative(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        DeleteConfig(**{name: -1})  # type: ignore[arg-type]
