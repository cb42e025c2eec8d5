"""Taking backups, and bringing them back: no row lost, none twice, whatever ends in the middle."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from arc.backup import document, plan
from arc.backup.progress import Progress
from arc.backup.restoring import Order
from arc.backup.taking import Wish
from arc.catalog.commands import (
    COMPACTOR,
    WRITER,
    AssignLease,
    CreateDatabase,
    CreateToken,
    DropDatabase,
    PutPolicy,
    ReplaceFiles,
)
from arc.errors import AlreadyRunning, Conflict, Corrupt, NotFound, Unavailable
from arc.ids import NodeId
from arc.storage.keeper import DATA
from tests.backup.parts import Crashed, Node, ended, unavailable
from tests.fakes import MemoryDisk

ID = "backup-20260101-000000-0000abcd"
SECOND = "backup-20260102-000000-0000abcd"


def progress(operation: str = "backup") -> Progress:
    return Progress(operation=operation, backup_id=ID, started_us=0)


async def take(node: Node, backup_id: str = ID, **wishes: Any) -> Progress:
    found = progress()
    await node.taker.take(Wish(backup_id=backup_id, **wishes), found)
    return found


async def restore(node: Node, **wishes: Any) -> Progress:
    found = progress("restore")
    found.status = await node.restorer.restore(Order(backup_id=ID, **wishes), found)
    return found


def plant(vault: MemoryDisk) -> Node:
    """A node with files of two databases."""
    node = Node(vault)
    node.declare()
    node.declare(measurement="mem")
    node.declare(database="lab")
    for hour in range(5):
        node.add(b"cpu %d" % hour, hour=hour)
    node.add(b"memory", measurement="mem")
    node.add(b"lab", database="lab")
    return node


# ---------------------------------------------------------------------------------------------------------- taking one


async def test_a_backup_comes_back_whole_on_another_cluster() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    node.do(PutPolicy(kind="retention", name="7", body='{"database": "plant"}', at_us=3))
    taken = await take(node)
    assert (taken.total_files, taken.processed_files, taken.reused_files, taken.rows) == (7, 7, 0, 34)
    assert node.flushes == 1
    other = Node(vault, name="n9")
    done = await restore(other)
    assert (done.status, done.processed_files, done.processed_bytes) == ("completed", 7, 34)
    assert other.rows() == node.rows()
    assert other.catalog.databases.keys() == node.catalog.databases.keys()
    assert other.catalog.schema("plant", "cpu").columns == node.catalog.schema("plant", "cpu").columns  # type: ignore[union-attr]
    assert other.catalog.policies["retention", "7"].body == '{"database": "plant"}'
    for entry in other.catalog.all_files():
        assert (entry.origin, entry.first_sequence, entry.last_sequence) == ("n9", 0, 0)
        assert other.keeper.is_here(entry.path)
    assert {e.path for e in other.catalog.all_files()} & {e.path for e in node.catalog.all_files()} == set()
    assert other.disk.walk("restore") == []


async def test_the_second_backup_copies_only_what_is_new() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    before = vault.walk(document.OBJECTS)
    node.add(b"new", hour=9)
    second = await take(node, SECOND)
    assert (second.total_files, second.reused_files, second.reused_bytes) == (8, 7, 34)
    assert len(vault.walk(document.OBJECTS)) == len(before) + 1
    [newest, oldest] = [(await node.service.get(each)).summary for each in (SECOND, ID)]
    assert (newest.backup_type, oldest.backup_type) == ("incremental", "full")


async def test_a_backup_is_of_one_version_whatever_happens_while_it_is_copied() -> None:
    """Merged and unlinked while copying: pinned files stay on the disk, and the document does not know the new one."""
    vault = MemoryDisk()
    node = plant(vault)
    node.do(AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    wanted = node.rows()
    merged: list[str] = []

    def merge(path: str) -> None:
        if merged:
            return
        gone = list(node.catalog.files("plant", "cpu"))
        merged.extend(entry.path for entry in gone)
        command = ReplaceFiles(
            remove=tuple((entry.path, entry.sha256) for entry in gone),
            lease=COMPACTOR,
            epoch=node.catalog.lease_epoch(COMPACTOR),
        )
        node.do(command)
        node.keeper.left(merged)
        node.clock.advance(1e6)
        assert node.keeper.due_to_go(lambda path: node.catalog.file(path) is not None) == []

    vault.on_write = merge
    await take(node)
    vault.on_write = lambda path: None
    assert merged and len(list(node.catalog.files("plant", "cpu"))) == 0
    node.clock.advance(1e6)
    assert sorted(node.keeper.due_to_go(lambda path: False)) == sorted(merged), "pinned for ever"
    other = Node(vault)
    await restore(other)
    assert other.rows() == wanted


async def test_a_file_that_rotted_here_is_named_and_makes_no_backup() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    rotten = next(iter(node.catalog.files("plant", "mem"))).path
    node.disk.flip(f"{DATA}/{rotten}", 2)
    with pytest.raises(Corrupt, match="mem/"):
        await take(node)
    assert vault.walk(document.DOCUMENTS) == [] and vault.walk("drafts") == []
    node.disk.flip(f"{DATA}/{rotten}", 2)
    node.disk.truncate(f"{DATA}/{rotten}", 3)
    with pytest.raises(Corrupt, match="3 of its 6 bytes"):
        await take(node)


async def test_a_backup_that_ends_in_the_middle_is_none_and_its_files_are_used_again() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    writes_before = vault.writes
    await take(node)
    writes = vault.writes - writes_before
    for at in range(writes):
        vault = MemoryDisk()
        node = plant(vault)
        vault.fail_next_write(after=at)
        with pytest.raises(OSError, match="injected"):
            await take(node)
        assert vault.walk(document.DOCUMENTS) == []
        await take(node)
        other = Node(vault)
        await restore(other)
        assert other.rows() == node.rows()


async def test_a_file_that_is_not_here_is_waited_for() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    late = next(iter(node.catalog.files("lab", "cpu")))
    node.keeper.went(late.path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, node)
        await trio.testing.wait_all_tasks_blocked()
        assert vault.walk(document.DOCUMENTS) == []
        node.keeper.came(late.path)
    assert len(vault.walk(document.DOCUMENTS)) == 1


async def test_a_node_that_does_not_write_takes_no_backup() -> None:
    node = plant(MemoryDisk())
    node.on_flush = unavailable
    with pytest.raises(Unavailable):
        await take(node)


async def test_what_rotted_in_the_vault_is_replaced_when_it_is_looked_at() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    vault.flip(document.object_key(next(iter(node.catalog.files("plant", "mem"))).sha256), 0)
    assert (await take(node, SECOND)).reused_files == 7
    assert (await take(node, SECOND, checks_reused=True)).reused_files == 6
    other = Node(vault)
    await restore(other)
    assert other.rows() == node.rows()


# ---------------------------------------------------------------------------------------------------- bringing it back


@pytest.mark.parametrize("answer_is_lost", [False, True])
async def test_a_restore_that_ends_anywhere_goes_on_without_a_row_twice(
    answer_is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends before or after each of its proposals; a new one, under a new epoch, is given the same order."""
    monkeypatch.setattr(plan, "BATCH_FILES_MAX", 2)
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    wanted, proposals = node.rows(), 0
    other = Node(vault)
    await restore(other)
    proposals = other.proposals
    assert proposals > 12
    for at in range(proposals):
        other = Node(vault)
        other.crash_at, other.answer_is_lost = at, answer_is_lost
        with pytest.raises(Crashed):
            await restore(other)
        other.start()
        if at == proposals - 1 and answer_is_lost:
            with pytest.raises(Conflict):  # It was the last word: the restore is over.
                await restore(other)
        else:
            await restore(other)
        assert other.rows() == wanted, at


async def test_a_restore_whose_disk_fails_anywhere_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same life of the process, so under the same epoch and the same paths."""
    monkeypatch.setattr(plan, "BATCH_FILES_MAX", 2)
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    other = Node(vault)
    before = other.disk.writes
    await restore(other)
    for at in range(other.disk.writes - before):
        other = Node(vault)
        other.disk.fail_next_write(after=at)
        with pytest.raises(OSError, match="injected"):
            await restore(other)
        assert other.disk.walk("restore") == []
        await restore(other)
        assert other.rows() == node.rows(), at


async def test_a_restore_of_other_databases_does_not_take_up_what_another_left() -> None:
    vault = MemoryDisk()
    await take(plant(vault))
    other = Node(vault)
    other.crash_at = 6
    with pytest.raises(Crashed):
        await restore(other)
    other.start()
    with pytest.raises(Conflict, match="other databases"):
        await restore(other, databases=("lab",))
    other.do(DropDatabase(name="lab"))
    await restore(other, databases=("lab",))
    assert [entry.database for entry in other.catalog.all_files()] == ["lab"]


async def test_a_restore_does_not_go_on_over_a_database_that_was_dropped_meanwhile() -> None:
    """Its first batches would be taken for done, and their rows be missing."""
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    other = Node(vault)
    other.crash_at = 8
    with pytest.raises(Crashed):
        await restore(other)
    assert other.catalog.totals().files == 7
    other.start()
    other.do(DropDatabase(name="plant"))
    with pytest.raises(Conflict, match="lab"):
        await restore(other)
    other.do(DropDatabase(name="lab"))
    await restore(other)
    assert other.rows() == node.rows()


async def test_a_batch_whose_files_were_merged_before_the_restore_goes_on_comes_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "BATCH_FILES_MAX", 3)
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    other = Node(vault)
    other.crash_at, other.answer_is_lost = 6, True  # the ledger, 2 databases, 3 measurements, and a batch: its answer
    with pytest.raises(Crashed):
        await restore(other)
    merged = list(other.catalog.all_files())
    assert len(merged) == 3
    other.do(AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    other.do(
        ReplaceFiles(
            remove=tuple((entry.path, entry.sha256) for entry in merged),
            lease=COMPACTOR,
            epoch=other.catalog.lease_epoch(COMPACTOR),
        )
    )
    other.start()
    done = await restore(other)
    assert (done.reused_files, other.catalog.totals().files) == (3, 4)


async def test_a_database_that_exists_is_never_mixed_with_what_comes() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    other = Node(vault)
    other.declare(database="lab", measurement="other")
    other.do(CreateDatabase(name="plant", created_us=1))  # Empty, as every cluster has one from its start.
    with pytest.raises(Conflict, match="lab"):
        await restore(other)
    assert other.catalog.totals().files == 0 and not other.catalog.databases["plant"].measurements
    await restore(other, databases=("plant",))
    assert {entry.database for entry in other.catalog.all_files()} == {"plant"}
    with pytest.raises(Conflict, match="plant"):
        await restore(other, databases=("plant",))
    with pytest.raises(NotFound, match="nowhere"):
        await restore(other, databases=("nowhere",))


async def test_what_was_dropped_can_be_restored_again() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    wanted = node.rows()
    for _ in range(2):
        node.do(DropDatabase(name="plant"))
        node.do(DropDatabase(name="lab"))
        await restore(node)
        assert node.rows() == wanted


@pytest.mark.parametrize("damage", ["flip", "short", "gone"])
async def test_a_damaged_file_is_named_and_nothing_of_it_is_restored(damage: str) -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    entry = next(iter(node.catalog.files("plant", "mem")))
    key = document.object_key(entry.sha256)
    match damage:
        case "flip":
            vault.flip(key, 0)
        case "short":
            vault.truncate(key, 3)
        case _:
            vault.remove(key)
    other = Node(vault)
    with pytest.raises(Corrupt, match="plant/mem/"):
        await restore(other)
    assert other.catalog.totals().files == 0 and other.disk.walk("") == []
    done = await restore(other, skips_damaged=True)
    assert (done.status, done.damaged) == ("incomplete", [entry.path])
    assert other.rows() == sorted(set(node.rows()) - {b"memory"})


async def test_a_restore_after_the_vault_was_mended_goes_on() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    key = document.object_key(next(iter(node.catalog.files("plant", "mem"))).sha256)
    vault.flip(key, 0)
    other = Node(vault)
    with pytest.raises(Corrupt):
        await restore(other)
    vault.flip(key, 0)
    await restore(other)
    assert other.rows() == node.rows()


async def test_no_room_is_told_before_anything_is_changed() -> None:
    vault = MemoryDisk()
    await take(plant(vault))
    other = Node(vault)
    other.disk.free = 1033
    with pytest.raises(Exception, match="1033 are"):
        await restore(other)
    assert not other.catalog.databases
    other.disk.free = 1034
    await restore(other)


async def test_a_restore_runs_where_the_lease_is_and_says_when_it_moved() -> None:
    vault = MemoryDisk()
    await take(plant(vault))
    other = Node(vault)
    elsewhere = AssignLease(
        lease=WRITER, node=NodeId("n2"), expect_epoch=other.catalog.lease_epoch(WRITER), accepts_data_loss=True
    )
    other.before_proposal[6] = lambda: other.do(elsewhere)
    with pytest.raises(Unavailable, match="moved"):
        await restore(other)
    with pytest.raises(Unavailable, match="n2 does"):
        await restore(other)
    assert other.catalog.totals().files == 0


async def test_policies_and_tokens_that_stand_are_kept() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    node.do(PutPolicy(kind="retention", name="7", body='{"old": 1}', at_us=3))
    node.do(PutPolicy(kind="retention", name="8", body='{"old": 1}', at_us=3))
    node.do(CreateToken(name="t", hash="5" * 64, created_us=1))
    node.do(CreateToken(name="u", hash="6" * 64, created_us=1, permissions=("read",)))
    await take(node, with_tokens=True)
    other = Node(vault)
    other.do(PutPolicy(kind="retention", name="7", body='{"new": 1}', at_us=3))
    other.do(CreateToken(name="t", hash="7" * 64, created_us=1))
    done = await restore(other, with_tokens=True)
    assert (done.policies_kept, done.tokens_kept) == (1, 1)
    assert other.catalog.policies["retention", "7"].body == '{"new": 1}'
    assert other.catalog.policies["retention", "8"].body == '{"old": 1}'
    assert {token.name: token.hash[0] for token in other.catalog.tokens.values()} == {"t": "7", "u": "6"}
    assert other.catalog.token_by_name("u").permissions == ("read",)  # type: ignore[union-attr]
    third = Node(vault)
    await restore(third, with_data=False)
    assert not third.catalog.databases and len(third.catalog.policies) == 2 and not third.catalog.tokens


# ---------------------------------------------------------------------------------------------------------- the service


async def test_one_operation_at_a_time_and_its_end_is_told() -> None:
    node = plant(MemoryDisk())
    assert node.service.last is None
    async with node.running() as service:
        backup_id = service.create(Wish(backup_id=""))
        with pytest.raises(AlreadyRunning, match=backup_id):
            service.verify(backup_id)
        with pytest.raises(AlreadyRunning):
            await service.delete(backup_id)
        assert (await ended(service)).status == "completed"
        service.verify(backup_id)
        assert (await ended(service)).processed_files == 7
        service.restore(Order(backup_id=backup_id))
        failed = await ended(service)
        assert (failed.status, failed.code) == ("failed", "exists")
        assert "exists" in (failed.error or "")
    assert service.statistics().operations_total == 3 and service.statistics().failed_total == 1


async def test_verifying_names_every_file_that_is_damaged() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    first, second, *_ = node.catalog.files("plant", "cpu")
    vault.flip(document.object_key(first.sha256), 0)
    vault.remove(document.object_key(second.sha256))
    async with node.running() as service:
        service.verify(ID)
        found = await ended(service)
    assert (found.status, found.code, found.damaged) == ("failed", "corrupt", [first.path, second.path])


async def test_a_backup_goes_with_what_no_other_one_needs() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    node.do(DropDatabase(name="lab"))
    await take(node, SECOND)
    assert await node.service.delete(ID) == 1
    assert [each.backup_id for each in await node.service.all()] == [SECOND]  # type: ignore[union-attr]
    with pytest.raises(NotFound):
        await node.service.delete(ID)
    assert await node.service.delete(SECOND) == 6
    assert vault.walk("") == []


async def test_a_document_that_cannot_be_read_keeps_the_files_and_is_listed_as_damaged() -> None:
    vault = MemoryDisk()
    node = plant(vault)
    await take(node)
    await take(node, SECOND)
    vault.flip(document.document_key(SECOND), 3)
    [damaged, good] = await node.service.all()
    assert isinstance(damaged, Corrupt) and SECOND in str(damaged)
    assert isinstance(good, document.Summary)
    with pytest.raises(Corrupt):
        await node.service.delete(ID)
    assert len(vault.walk(document.OBJECTS)) == 7


async def test_a_mistake_of_ours_ends_the_operation_and_not_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    node = plant(MemoryDisk())

    async def mistake(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(node.taker, "take", mistake)
    async with node.running() as service:
        service.create(Wish(backup_id=ID))
        failed = await ended(service)
        assert (failed.status, failed.code) == ("failed", "internal")


async def test_a_file_is_given_out_in_pieces_and_stays_meanwhile() -> None:
    node = plant(MemoryDisk())
    entry = next(iter(node.catalog.files("plant", "mem")))
    found, pieces = await node.service.open_file(entry.path, entry.sha256)
    assert found == entry and [piece async for piece in pieces] == [b"memory"]
    with pytest.raises(NotFound):
        await node.service.open_file(entry.path, "0" * 64)
    assert node.keeper.statistics().pinned_files == 0
