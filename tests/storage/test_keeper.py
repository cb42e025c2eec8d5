"""The manifest is right and the disk follows it: nothing of the manifest goes, nothing else stays for ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DAMAGED, DATA, QUARANTINE, REMOVE_FILES_MAX, FileKeeper, drift, leftover
from arc.storage.paths import epoch_of, file_path
from tests.catalog.facts import file
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk

GRACE = 60.0


class Place:
    """A keeper with its disk; files hold their own names."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.clock = ManualClock()
        config = StorageConfig(delete_grace_seconds=GRACE, orphan_grace_seconds=3600)
        self.keeper = FileKeeper(self.disk, InlineWorkers(), self.clock, config)

    def put(self, *paths: str, folder: str = DATA) -> None:
        for path in paths:
            self.disk.make_dirs(f"{folder}/{path}".rpartition("/")[0])
            self.disk.write_durable(f"{folder}/{path}", path.encode())

    async def with_files(self, *names: str) -> list[FileEntry]:
        entries = [entry_of(name) for name in names]
        self.put(*(entry.path for entry in entries))
        await self.keeper.look(entries)
        return entries

    def due(self, agreed: Sequence[str] = ()) -> list[str]:
        return self.keeper.due_to_go(lambda path: path in agreed)


def entry_of(name: str) -> FileEntry:
    entry = file(name)
    return replace(entry, size_bytes=len(entry.path))


def test_drift_is_the_difference_both_ways() -> None:
    entries = [entry_of(name) for name in ("a", "b", "c")]
    there = {entries[0].path: entries[0].size_bytes, entries[1].path: 1, "x": 5}
    found = drift(entries, there)
    assert (found.missing, found.wrong_size, found.unknown) == ((entries[2].path,), (entries[1].path,), ("x",))


@pytest.mark.parametrize(
    ("path", "is_left"),
    [
        ("db/m/2026/01/01/00/0000000005-00000000000001-n1.parquet", True),
        ("db/m/2026/01/01/00/0000000007-00000000000001-n1.parquet", False),  # of a reign that lasts
        ("db/m/2026/01/01/00/0000000007-00000000000001-n1.compacted-2.parquet", False),
        ("db/m/2026/01/01/00/.0000000005-00000000000001-n1.parquet.tmp", False),  # is being written
        ("known", False),
        ("anything.parquet", True),
        ("notes.txt", True),
    ],
)
def test_what_is_left_over_is_in_no_manifest_and_of_no_reign(path: str, is_left: bool) -> None:
    assert leftover([path], lambda each: each == "known", [7]) == ([path] if is_left else [])


def test_a_name_tells_its_epoch() -> None:
    assert epoch_of(file_path("db", "m", 5, node="n-1.parquet", epoch=12, sequence=3)) == 12
    assert [epoch_of(path) for path in ("", "a", "1-2.parquet", "x-2-n.parquet", "1-2-n.tmp")] == [None] * 5


async def test_a_file_that_left_goes_after_the_grace_and_the_last_query() -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    place.keeper.pin([entry.path])
    place.keeper.pin([entry.path])
    place.keeper.left([entry.path])
    assert not place.keeper.is_here(entry.path) and place.disk.exists(f"{DATA}/{entry.path}")
    place.clock.advance(10 * GRACE)
    place.keeper.unpin([entry.path])
    assert place.due() == [], "a query reads it"
    place.keeper.unpin([entry.path])
    place.clock.advance(GRACE - 1)
    assert place.due() == [], "the grace begins when the last query ends"
    place.clock.advance(1)
    assert place.due() == [entry.path]
    await place.keeper.unlink(place.due())
    assert place.disk.walk(DATA) == [] and not place.keeper.is_anything_leaving
    assert place.keeper.statistics().unlinked_total == 1


async def test_an_unlink_that_fails_stays_due() -> None:
    place = Place()
    entries = await place.with_files("a", "b")
    place.keeper.left(entry.path for entry in entries)
    place.clock.advance(GRACE)
    remove, calls = place.disk.remove, list[str]()

    def failing(path: str) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise OSError("no")
        remove(path)

    place.disk.remove = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no"):
        await place.keeper.unlink(place.due())
    assert place.due() == [entries[1].path]


async def test_what_the_manifest_has_is_never_due_and_is_asked_for_again() -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    place.keeper.left([entry.path])
    place.clock.advance(GRACE)
    assert place.due([entry.path]) == []
    assert place.keeper.lost == (entry.path,) and not place.keeper.is_anything_leaving


async def test_one_that_comes_while_it_leaves_is_not_here() -> None:
    place = Place()
    place.keeper.left(["a"])
    place.keeper.came("a")
    assert not place.keeper.is_here("a")


def test_few_are_due_at_once() -> None:
    place = Place()
    place.keeper.left(f"{number}" for number in range(3 * REMOVE_FILES_MAX))
    place.clock.advance(GRACE)
    assert len(place.due()) == REMOVE_FILES_MAX


async def test_who_waits_is_woken_by_every_file_that_comes_goes_or_leaves() -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    changes: list[Callable[[], None]] = [
        lambda: place.keeper.went(entry.path),
        lambda: place.keeper.came(entry.path),
        lambda: place.keeper.left([entry.path]),
    ]
    for change in changes:
        seen, woken = place.keeper.changes, list[int]()
        async with trio.open_nursery() as nursery:

            async def wait(since: int = seen, told: list[int] = woken) -> None:
                told.append(await place.keeper.wait_changed(since))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert woken == []
            change()
        assert woken == [seen + 1]


async def test_a_lost_file_is_told_of_once_and_until_it_comes() -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    place.keeper.went(entry.path)
    place.keeper.went(entry.path)
    place.keeper.went("never here")
    assert list(place.keeper.lost) == [entry.path] and place.keeper.statistics().lost_total == 1
    place.keeper.came(entry.path)
    assert not place.keeper.lost and place.keeper.is_here(entry.path)


async def test_a_bad_copy_is_set_aside_until_a_good_one_has_come_however_long_that_takes() -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    await place.keeper.condemn(entry.path)
    assert not place.keeper.is_here(entry.path) and place.keeper.lost == (entry.path,)
    place.clock.advance(100 * 86_400)
    found = await place.keeper.look([entry])  # the next start
    assert found.missing == (entry.path,) == place.keeper.missing
    assert place.disk.walk(DAMAGED) == [f"{DAMAGED}/{entry.path}"]
    assert place.keeper.statistics().damaged == (entry.path,)
    place.put(entry.path)
    place.keeper.came(entry.path)
    await place.keeper.tidy(lambda path: True)
    assert place.disk.walk(QUARANTINE) == [] and place.keeper.statistics().damaged == ()


async def test_quarantine_is_emptied_after_its_grace() -> None:
    place = Place()
    place.put("x/unknown.parquet")
    assert (await place.keeper.look([])).unknown == ("x/unknown.parquet",)
    assert place.disk.walk(DATA) == [] and len(place.disk.walk(QUARANTINE)) == 1
    await place.keeper.tidy(lambda path: True)
    assert len(place.disk.walk(QUARANTINE)) == 1
    place.clock.advance(3602)
    await place.keeper.tidy(lambda path: True)
    assert place.disk.walk(QUARANTINE) == []


async def test_the_disk_is_listed_in_steps_each_file_once() -> None:
    place = Place()
    wanted = sorted(f"db/m{m}/{hour:02}/{n}" for m in range(3) for hour in range(4) for n in range(5))
    place.put(*wanted)
    folders, found, steps = [""], list[str](), 0
    while folders:
        files, folders = await place.keeper.step(folders, 10)
        assert len(files) <= 10 + 5
        found += files
        steps += 1
    assert sorted(found) == wanted and steps > 5


async def test_copies_that_are_absent_or_short_are_told() -> None:
    place = Place()
    here, gone, short = await place.with_files("a", "b", "c")
    place.disk.remove(f"{DATA}/{gone.path}")
    place.disk.truncate(f"{DATA}/{short.path}", 3)
    assert await place.keeper.check([here, gone, short]) == [gone.path, short.path]


async def test_what_was_written_in_a_reign_that_is_not_over_stays_until_it_is() -> None:
    """Whoever merges counts on copies that others have taken, also after these were started again."""
    place = Place()
    path = "metrics/cpu/1970/01/01/00/0000000007-00000000000001-n9@daily.0000.parquet"
    place.put(path)
    assert (await place.keeper.look([], reigns={7})).unknown == ()
    assert place.disk.exists(f"{DATA}/{path}")
    assert not place.keeper.is_here(path), "nobody has proven it"
    assert (await place.keeper.look([], reigns={8})).unknown == (path,)
