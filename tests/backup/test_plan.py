"""The decisions of a restore, each on its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.backup import document, plan
from arc.catalog.commands import WRITER, RegisterFiles
from arc.catalog.policies import Policy
from arc.errors import Conflict
from arc.ids import NodeId
from arc.storage.files import FileEntry
from arc.storage.keeper import leftover
from tests.backup.parts import Node
from tests.catalog.facts import file
from tests.fakes import MemoryDisk

ID = "backup-20260101-000000-0000abcd"


def made(*files: FileEntry) -> tuple[Node, document.Document]:
    """A node with an empty measurement, and a backup of another one with these files."""
    node = Node(MemoryDisk())
    whole = document.compose(node.catalog, backup_id=ID, created_us=9, version="1", reused=False)
    node.declare(database="metrics")
    return node, replace(whole, files=files)


def placed(node: Node, ledger: plan.Ledger, batch: tuple[FileEntry, ...]) -> list[FileEntry]:
    epoch = node.catalog.lease_epoch(WRITER)
    return [plan.placed(each, ledger, node=NodeId("n1"), epoch=epoch, now_us=7) for each in batch]


def test_a_batch_has_happened_by_any_of_three_signs() -> None:
    """The ledger, the number that the catalog remembers, or its files: whichever is left."""
    one, two = file("a", hour=1, sha256="1" * 64), file("b", hour=2, sha256="2" * 64)
    node, whole = made(one, two)
    ledger = plan.begin(node.catalog, whole, 5)
    before = node.catalog
    assert not plan.has_happened(before, ledger, 0, (one,))
    assert plan.has_happened(before, replace(ledger, batches_done=1), 0, (one,))
    assert not plan.has_happened(before, replace(ledger, batches_done=1), 1, (two,))
    epoch = node.catalog.lease_epoch(WRITER)
    entries = placed(node, ledger, (one,))
    node.do(plan.registration(ledger, 0, entries, epoch=epoch, index=before.index))
    by_number = replace(node.catalog, manifest=before.manifest)
    assert plan.has_happened(by_number, ledger, 0, (one,)) and not plan.has_happened(by_number, ledger, 1, (two,))
    by_files = replace(node.catalog, sessions=before.sessions)
    assert plan.has_happened(by_files, ledger, 0, (one,)) and not plan.has_happened(by_files, ledger, 1, (two,))
    again = replace(ledger, begun_us=ledger.begun_us + 1)
    assert not plan.has_happened(node.catalog, again, 0, (one,)), "the next restore of this backup is another one"


def test_a_batch_takes_effect_once_whoever_asks_again() -> None:
    one = file("a", hour=1, sha256="1" * 64)
    node, whole = made(one)
    ledger = plan.begin(node.catalog, whole, 5)
    for _ in range(2):
        entries = placed(node, ledger, (one,))
        entry = plan.registration(ledger, 0, entries, epoch=node.catalog.lease_epoch(WRITER), index=node.catalog.index)
        node.do(entry)
        node.start()  # The next epoch, so other paths.
    assert node.catalog.totals().files == 1


def test_of_two_nodes_that_begin_the_same_restore_one_is_refused() -> None:
    node, whole = made()
    first, second = plan.begin(node.catalog, whole, 5), plan.begin(node.catalog, whole, 6)
    node.do(first.command(7))
    assert node.apply(second.command(8)).code == "conflict"
    found = plan.find_ledger(node.catalog, ID)
    assert found == first.set_as(first.command(7))
    assert found is not None and plan.begin(node.catalog, whole, 9) == found


def test_an_unfinished_restore_does_not_stand_in_the_way_of_a_backup_or_of_other_databases() -> None:
    node, whole = made()
    node.do(plan.begin(node.catalog, whole, 5).command(7))
    assert document.compose(node.catalog, backup_id=ID, created_us=9, version="1", reused=False).policies == ()
    other = replace(
        whole,
        databases=(("metrics", 1),),
        measurements=(document.Measurement(database="metrics", name="x", columns=()),),
    )
    with pytest.raises(Conflict, match="other databases did not end"):
        plan.begin(node.catalog, other, 9)


def test_a_new_path_is_taken_for_one_that_is_being_written() -> None:
    """Until it is in the manifest, whoever collects leftovers leaves it alone on the node that holds the lease."""
    one = file("a", hour=1)
    node, whole = made(one)
    [entry] = placed(node, plan.begin(node.catalog, whole, 5), (one,))
    epoch = node.catalog.lease_epoch(WRITER)
    assert leftover([entry.path], lambda path: False, [epoch]) == []
    assert leftover([entry.path], lambda path: False, [epoch + 1]) == [entry.path]
    node.do(RegisterFiles(files=(entry,), epoch=epoch))
    assert entry.path.rpartition("/")[0] == one.path.rpartition("/")[0]


@given(st.lists(st.integers(1, plan.BATCH_BYTES_MAX * 2), max_size=1200))
def test_batches_are_bounded_and_leave_nothing_out(sizes: list[int]) -> None:
    files = tuple(replace(file(f"f{number:04}"), size_bytes=size) for number, size in enumerate(sizes))
    batches = plan.batches(replace(_EMPTY, files=files))
    assert [each for batch in batches for each in batch] == sorted(files, key=lambda each: each.path)
    for batch in batches:
        assert 1 <= len(batch) <= plan.BATCH_FILES_MAX
        assert len(batch) == 1 or sum(each.size_bytes for each in batch) <= plan.BATCH_BYTES_MAX


_EMPTY = made()[1]


def test_policies_are_chosen_by_the_database_that_they_name() -> None:
    named = [
        Policy("retention", "1", '{"database": "metrics"}', 1),
        Policy("retention", "2", '{"database": "lab"}', 1),
        Policy("other", "3", "[1]", 1),
    ]
    whole = replace(_EMPTY, policies=tuple(named), databases=(("lab", 1), ("metrics", 1)))
    assert [each.name for each in plan.chosen(whole, ["metrics"]).policies] == ["1"]
    assert plan.chosen(whole, []) is whole
