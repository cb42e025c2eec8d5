"""The manifest by Arc's names: one entry per call, under a lease, and files that never change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.commands import COMPACTOR, AssignLease, RegisterFiles, ReplaceFiles
from arc.catalog.values import DeleteSource
from arc.cluster.manifest_calls import ManifestCalls, RegisterFile, page
from arc.errors import CompactionNotAllowed, Conflict, IngestNotAllowed, InvalidRequest, Unavailable
from arc.ids import NodeId
from tests.catalog.facts import declare, do, file, paths, ready
from tests.cluster.test_registrar import Scripted

A, B, C = (file(name) for name in "abc")


def calls(propose: Scripted, node: str = "n1") -> ManifestCalls:
    fsm = propose.fsm
    return ManifestCalls(propose, lambda: fsm.catalog, NodeId(node))


async def test_files_are_registered_replaced_and_deleted_each_in_one_entry() -> None:
    propose = Scripted(ready())
    manifest = calls(propose)
    await manifest.register_file(A)
    await manifest.update_file(A.path, B)
    assert paths(propose.fsm.catalog) == [B.path]
    await manifest.batch_file_ops([RegisterFile(file=C), DeleteSource(path=B.path, reason="retention")])
    held = replace(C, holders=("n1",))  # Whoever wrote a file has it.
    assert manifest.file_manifest() == (held,) and manifest.file_entry(C.path) == held
    await manifest.delete_file(C.path, "retention")
    assert [type(command) for command in propose.commands] == [RegisterFiles, ReplaceFiles, ReplaceFiles, ReplaceFiles]
    assert paths(propose.fsm.catalog) == []


async def test_what_stands_already_and_what_asks_for_nothing_is_no_entry() -> None:
    propose = Scripted(ready())
    manifest = calls(propose)
    await manifest.register_file(A)
    await manifest.register_file(A)
    await manifest.delete_file(B.path, "gone already")
    await manifest.batch_file_ops([])
    assert len(propose.commands) == 1


async def test_a_file_never_changes_under_its_name() -> None:
    propose = Scripted(ready())
    manifest = calls(propose)
    await manifest.register_file(A)
    with pytest.raises(Conflict) as refused:
        await manifest.update_file(A.path, file("a", sha256="6" * 64))
    assert refused.value.code == "immutable_file" and "a name of its own" in refused.value.message
    with pytest.raises(Conflict) as gone:
        await manifest.update_file(C.path, B)
    assert gone.value.code == "file_gone" and paths(propose.fsm.catalog) == [A.path]


async def test_a_batch_with_one_that_cannot_be_changes_nothing() -> None:
    """In Go a half-applied batch could be seen (#447); here it is one version or none."""
    propose = Scripted(ready())
    manifest = calls(propose)
    await manifest.register_file(A)
    with pytest.raises(InvalidRequest):
        await manifest.batch_file_ops(
            [RegisterFile(file=B), RegisterFile(file=file("x", path="metrics/cpu/../x.parquet"))]
        )
    assert paths(propose.fsm.catalog) == [A.path]


async def test_whoever_holds_a_lease_may_and_nobody_else() -> None:
    propose = Scripted(ready())
    do(propose.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n3"), expect_epoch=0))
    await calls(propose, "n3").register_file(A)
    command = propose.commands[-1]
    assert isinstance(command, ReplaceFiles) and (command.lease, command.add) == (COMPACTOR, (A,))
    with pytest.raises(CompactionNotAllowed, match="n2 holds no lease"):
        await calls(propose, "n2").register_file(B)
    with pytest.raises(IngestNotAllowed):
        await calls(Scripted(type(propose.fsm)())).register_file(B)
    assert issubclass(CompactionNotAllowed, Unavailable)


async def test_files_can_be_looked_at_by_database() -> None:
    propose = Scripted(ready())
    do(propose.fsm, declare(database="other"))
    manifest = calls(propose)
    await manifest.register_file(A)
    await manifest.register_file(file("o", database="other"))
    assert [entry.database for entry in manifest.file_manifest_by_database("other")] == ["other"]
    assert manifest.file_manifest_by_database("none") == ()
    assert [entry.path for entry in manifest.file_manifest_paginated(database="metrics").files] == [A.path]


@given(st.lists(st.integers(0, 60), unique=True, max_size=30), st.integers(1, 9))
def test_pages_hold_every_file_once_in_the_order_of_their_paths(hours: list[int], limit: int) -> None:
    files = [file("f", hour=hour) for hour in hours]
    seen: list[str] = []
    cursor = ""
    while True:
        found = page(files, cursor, limit)
        assert len(found.files) <= limit and found.total == len(files)
        seen += [entry.path for entry in found.files]
        if not found.next_cursor:
            break
        cursor = found.next_cursor
    assert seen == sorted(entry.path for entry in files)


@pytest.mark.parametrize("limit", [0, 10_001])
def test_a_page_has_bounds(limit: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        calls(Scripted(ready())).file_manifest_paginated(limit=limit)
    assert refused.value.code == "invalid_limit"
