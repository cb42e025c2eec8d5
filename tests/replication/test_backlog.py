"""What is wanted stays wanted until it is dropped, and is handed out newest first, never twice at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.replication.backlog import BATCH_BYTES_MAX, BATCH_FILES_MAX, SMALL_BYTES, Backlog
from arc.storage.files import FileEntry
from tests.catalog.facts import file


def entry(name: str, *, hour: int = 0, size: int = SMALL_BYTES + 1, origin: str = "n1") -> FileEntry:
    return replace(file(name, hour=hour), size_bytes=size, origin=origin)


def by_origin(one: FileEntry) -> list[str]:
    return [one.origin, "n9"]


def names(entries: list[FileEntry]) -> list[str]:
    return [one.path.rpartition("/")[2].removesuffix(".parquet") for one in entries]


def backlog(*entries: FileEntry) -> Backlog:
    found = Backlog()
    for one in entries:
        found.add(one)
    return found


def test_the_newest_comes_first_and_a_large_one_alone() -> None:
    wanted = backlog(entry("a", hour=1), entry("c", hour=3), entry("b", hour=2))
    assert [names(wanted.take(0, by_origin)) for _ in range(4)] == [["c"], ["b"], ["a"], []]


def test_small_ones_of_the_same_holders_come_together_and_the_others_later() -> None:
    wanted = backlog(
        entry("a", hour=9, size=10),
        entry("b", hour=8, size=10, origin="n2"),
        entry("c", hour=7),
        entry("d", hour=6, size=10),
        entry("e", hour=5, size=10, origin="n2"),
    )
    assert [names(wanted.take(0, by_origin)) for _ in range(4)] == [["a", "d"], ["b", "e"], ["c"], []]


def test_a_batch_is_bounded_in_files_and_in_bytes() -> None:
    many = backlog(*(entry(f"{number:04}", size=1) for number in range(BATCH_FILES_MAX + 1)))
    assert [len(many.take(0, by_origin)) for _ in range(2)] == [BATCH_FILES_MAX, 1]
    heavy = backlog(*(entry(f"{number:04}", size=SMALL_BYTES) for number in range(40)))
    assert len(heavy.take(0, by_origin)) == BATCH_BYTES_MAX // SMALL_BYTES


def test_what_failed_waits_for_its_time_and_can_be_hurried() -> None:
    wanted = backlog(entry("a"), entry("b", hour=1))
    (second,), (first,) = wanted.take(0, by_origin), wanted.take(0, by_origin)
    wanted.give_back(first, 10.0)
    wanted.give_back(second, 5.0)
    assert wanted.next_due() == 5.0
    assert wanted.take(4.9, by_origin) == []
    assert wanted.take(5.0, by_origin) == [second]
    wanted.hurry(first.path)
    assert wanted.take(5.0, by_origin) == [first]
    assert wanted.next_due() is None


@pytest.mark.parametrize("how", ["done", "give_back"])
def test_another_hash_under_the_same_path_takes_the_place_of_the_one_under_way(how: str) -> None:
    old = entry("a")
    new = replace(old, sha256="7" * 64)
    wanted = backlog(old)
    assert wanted.take(0, by_origin) == [old]
    wanted.add(new)
    assert wanted.take(0, by_origin) == [], "one of a path at a time"
    if how == "done":
        wanted.done(old)
    else:
        wanted.give_back(old, 100.0)
    assert wanted.take(0, by_origin) == [new]


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["add", "drop", "take", "done", "back", "hurry", "wait"]), st.integers(0, 5)), max_size=80
)


@given(ACTIONS)
def test_whatever_happens_nothing_wanted_is_lost_and_nothing_is_under_way_twice(actions: list[tuple[str, int]]) -> None:
    pool = [entry(f"{n}", hour=n, size=10 if n % 2 else SMALL_BYTES + 1) for n in range(6)]
    wanted, mine, busy, now = Backlog(), dict[str, FileEntry](), dict[str, FileEntry](), 0.0
    for what, number in actions:
        one = pool[number]
        if what == "add":
            wanted.add(one)
            mine[one.path] = one
        elif what == "drop":
            wanted.drop(one.path)
            mine.pop(one.path, None)
        elif what == "take":
            for taken in wanted.take(now, by_origin):
                assert taken.path in mine and taken.path not in busy
                busy[taken.path] = taken
        elif what in ("done", "back") and one.path in busy:
            del busy[one.path]
            if what == "done":
                wanted.done(one)
                mine.pop(one.path, None)
            else:
                wanted.give_back(one, now + 1)
        elif what == "hurry":
            wanted.hurry(one.path)
        elif what == "wait":
            now += 0.5
        assert {each.path for each in wanted} == mine.keys()
        assert wanted.under_way == len(busy)
    for one in busy.values():
        wanted.give_back(one, now)
    found = set[str]()
    while batch := wanted.take(now + 10, by_origin):
        found.update(each.path for each in batch)
    assert found == mine.keys()


def test_what_else_is_told_of_a_file_does_not_make_it_another() -> None:
    """Its identity is path and hash (DURABILITY 7); who holds it, for one, changes while it comes."""
    old = entry("a")
    new = replace(old, created_us=old.created_us + 1)
    wanted = backlog(old)
    assert wanted.take(0, by_origin) == [old]
    wanted.add(new)
    wanted.give_back(old, 5.0)
    assert wanted.take(4.0, by_origin) == []
    assert wanted.take(5.0, by_origin) == [new]
    wanted.done(old)
    assert not wanted and wanted.take(9.0, by_origin) == []
