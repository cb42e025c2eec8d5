"""Files and flush marks: visible together, in the right epoch, never twice, never outside (DURABILITY 5 and 8)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.cells import DAY_US, HOUR_US, parse_path
from arc.catalog.commands import (
    COMPACTOR,
    WRITER,
    AssignLease,
    Command,
    CreateDatabase,
    DescribeNode,
    DropDatabase,
    DropMeasurement,
    FlushMark,
    RegisterFiles,
    ReplaceFiles,
)
from arc.catalog.events import FilesAdded, FilesRemoved, MarksMoved, MeasurementDropped
from arc.catalog.fsm import ClusterFSM
from arc.ids import NodeId
from arc.storage.files import FileEntry
from tests.catalog import facts
from tests.catalog.facts import ask, declare, do, paths, ready, refused, register

file = partial(facts.file, holders=("n1",))
"""As the manifest makes of it: who wrote it holds it. Commands that say so themselves are not believed."""


def test_files_become_visible_and_the_mark_moves_in_one_step() -> None:
    machine = ready()
    new = file("a", first=1, last=10)
    applied = machine.apply(3, register(new, mark=10))
    assert applied.events == (FilesAdded((new,)), MarksMoved((FlushMark("metrics", "cpu", 10),)))
    catalog = machine.catalog
    assert (list(catalog.files("metrics", "cpu")), catalog.mark("metrics", "cpu")) == ([new], 10)
    assert catalog.file(new.path) == new
    stats = catalog.file_stats("metrics", "cpu")
    assert (stats.files, stats.rows, stats.bytes) == (1, 10, 100)


def test_a_mark_may_move_without_files() -> None:
    machine = ready()
    do(machine, register(mark=5))
    assert machine.catalog.mark("metrics", "cpu") == 5


@pytest.mark.parametrize("epoch", [0, 2, 99])
def test_another_epoch_is_refused(epoch: int) -> None:
    """P-16: a deposed writer registers nothing."""
    assert refused(ready(), register(file("a"), epoch=epoch)).code == "stale_epoch"


def test_without_a_lease_nobody_registers() -> None:
    machine = ClusterFSM()
    ask(machine, declare())
    assert refused(machine, register(file("a"), epoch=0)).code == "stale_epoch"


def test_a_mark_never_goes_back_and_never_stands_still() -> None:
    machine = ready()
    do(machine, register(mark=10))
    assert refused(machine, register(mark=9)).code == "backward_mark"
    assert refused(machine, register(mark=10)).code == "already_flushed"


def test_a_flush_that_comes_twice_is_told_so() -> None:
    machine = ready()
    command = register(file("a", first=1, last=10), mark=10)
    do(machine, command)
    assert refused(machine, command).code == "already_flushed"


def test_a_path_is_registered_once() -> None:
    machine = ready()
    do(machine, register(file("a")))
    assert refused(machine, register(file("a"))).code == "duplicate_path"
    assert refused(machine, register(file("a", span_us=(0, 5 * DAY_US)))).code == "duplicate_path", (
        "also in another cell"
    )
    assert refused(machine, register(file("b"), file("b"))).code == "duplicate_path"


@pytest.mark.parametrize(
    ("first", "last", "mark"),
    [
        (11, 21, 20),  # above the new mark: the buffer still shows these rows
        (10, 20, 20),  # record 10 is in files already
        (5, 8, 20),
        (11, 15, None),  # no mark moves, but the records are above it
        (15, 12, 20),
    ],
)
def test_a_file_whose_rows_would_be_seen_twice_is_refused(first: int, last: int, mark: int | None) -> None:
    machine = ready()
    do(machine, register(mark=10))
    result = refused(machine, register(file("a", first=first, last=last), mark=mark))
    assert result.code == "invalid"
    assert "twice" in result.message


def test_one_wrong_file_refuses_the_whole_command() -> None:
    machine = ready()
    refused(machine, register(file("a"), file("b", path="metrics/cpu/1970/01/01/00/../x.parquet")))
    refused(machine, register(file("a"), file("b", measurement="other")))
    refused(machine, register(file("a"), replace(file("b"), rows=0)))
    refused(machine, register(file("a"), replace(file("b"), min_time_us=5, max_time_us=4)))
    refused(machine, register(file("a"), replace(file("b"), sha256="")))
    assert paths(machine.catalog) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../metrics/cpu/1970/01/01/00/a.parquet",
        "metrics/../cpu/1970/01/01/00/a.parquet",
        "metrics/cpu/1970/01/01/00/..parquet",
        "metrics/cpu/1970/01/01/00/.a.parquet",
        "metrics/cpu/1970/01/01/00/a.parquet/b",
        "metrics/cpu/1970/01/01/00//a.parquet",
        "metrics//1970/01/01/00/a.parquet",
        "/metrics/cpu/1970/01/01/00/a.parquet",
        "metrics/cpu/1970/01/01/a.parquet",
        "metrics/cpu/1970/13/01/00/a.parquet",
        "metrics/cpu/1970/02/30/00/a.parquet",
        "metrics/cpu/1970/01/01/24/a.parquet",
        "metrics/cpu/0000/01/01/00/a.parquet",
        "metrics/cpu/1970/01/01/00/a.csv",
        "metrics/cpu/1970/01/01/00/a\x00.parquet",
        "metrics/cpu/1970/01/01/00/a\n.parquet",
        "metrics/cpu/1970/01/01/00/a\\..\\b.parquet",
        "metrics/cpu/1970/01/01/00/a.parquet\n",
        "metrics/mem/1970/01/01/00/a.parquet",
        "other/cpu/1970/01/01/00/a.parquet",
        "metrics/cpu/1970/01/01/00/" + "a" * 1100 + ".parquet",
        "metrics/cpu/\u0661\u0669\u0667\u0660/01/01/00/a.parquet",
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    machine = ready()
    do(machine, declare(measurement="mem"))
    assert refused(machine, register(file("a", path=path))).code == "invalid"


@given(st.text(max_size=60))
def test_any_text_is_a_path_of_six_folders_or_none(text: str) -> None:
    for path in (text, f"metrics/cpu/1970/01/01/00/{text}.parquet", f"{text}/cpu/1970/01/01/00/a.parquet"):
        place = parse_path(path)
        if place is not None:
            assert path.count("/") == 6
            assert not any(part in ("", ".", "..") for part in path.split("/"))


def test_quoted_measurement_names_have_their_own_folder() -> None:
    machine = ready()
    do(machine, declare(measurement="disk io %"))
    new = file("a", measurement="disk io %")
    assert new.path.startswith("metrics/disk%20io%20%25/")
    do(machine, register(new))
    assert machine.catalog.file(new.path) == new


def test_files_of_an_unknown_measurement_are_refused() -> None:
    machine = ready()
    assert refused(machine, register(file("a", measurement="mem"))).code == "not_found"
    assert refused(machine, register(mark=4, measurement="mem")).code == "not_found"


# ---- replacing


def swap(*remove: FileEntry, add: tuple[FileEntry, ...] = (), epoch: int = 1) -> ReplaceFiles:
    return ReplaceFiles(remove=tuple((f.path, f.sha256) for f in remove), add=add, lease=WRITER, epoch=epoch)


def test_files_are_swapped_in_one_step() -> None:
    machine = ready()
    a, b, c = file("a"), file("b"), file("c", rows=20)
    do(machine, register(a, b))
    applied = machine.apply(9, swap(a, b, add=(c,)))
    assert applied.events == (FilesRemoved((a, b)), FilesAdded((c,)))
    assert list(machine.catalog.files("metrics", "cpu")) == [c]
    assert machine.catalog.file_stats("metrics", "cpu").rows == 20


def test_a_source_that_is_gone_or_another_one_refuses_the_swap() -> None:
    machine = ready()
    a, b = file("a"), file("b")
    do(machine, register(a))
    assert refused(machine, swap(a, b)).code == "file_gone"
    assert refused(machine, swap(replace(a, sha256="6" * 64))).code == "file_gone"
    assert refused(machine, swap(a, a)).code == "invalid"
    assert refused(machine, swap(a, add=(a,))).code == "duplicate_path", "a path is never used again"
    assert paths(machine.catalog) == [a.path]


def test_a_lost_lease_refuses_the_swap() -> None:
    """P-22: work that ends under an old token is thrown away."""
    machine = ready()
    a = file("a")
    do(machine, register(a))
    assert refused(machine, swap(a, epoch=2)).code == "stale_epoch"
    by_compactor = ReplaceFiles(remove=((a.path, a.sha256),), lease=COMPACTOR, epoch=1)
    assert refused(machine, by_compactor).code == "stale_epoch"
    epoch = do(machine, AssignLease(lease=COMPACTOR, node=NodeId("n2"), expect_epoch=0)).value
    assert isinstance(epoch, int)
    assert do(machine, replace(by_compactor, epoch=epoch)).ok


def test_a_swap_cannot_bring_in_rows_that_are_still_in_the_buffer() -> None:
    machine = ready()
    do(machine, register(file("a", first=1, last=5), mark=5))
    assert refused(machine, swap(file("a"), add=(file("b", first=1, last=6),))).code == "invalid"
    assert do(machine, swap(file("a"), add=(file("b", first=1, last=5),))).ok


# ---- dropping


def test_a_dropped_database_takes_its_files_along_and_its_records_never_come_back() -> None:
    machine = ready()
    a = file("a", first=1, last=10)
    do(machine, register(a, mark=10))
    applied = machine.apply(20, DropDatabase(name="metrics", up_to=15))
    assert FilesRemoved((a,)) in applied.events
    assert paths(machine.catalog) == []
    do(machine, declare())
    assert machine.catalog.mark("metrics", "cpu") == 15
    assert machine.catalog.mark("metrics", "never seen") == 15, "a buffered row of any measurement is void"
    assert refused(machine, register(mark=15)).code == "already_flushed"
    do(machine, register(mark=16))
    assert machine.catalog.mark("metrics", "cpu") == 16


def test_a_dropped_measurement_takes_its_files_along_and_leaves_its_neighbours_alone() -> None:
    machine = ready()
    do(machine, declare(measurement="disk"))
    a, b = file("a", first=1, last=10), file("b", measurement="disk", first=5, last=7)
    do(machine, register(a, mark=10))
    do(machine, RegisterFiles(files=(b,), flushed=(FlushMark("metrics", "disk", 7),), epoch=1))
    applied = machine.apply(20, DropMeasurement(database="metrics", name="cpu", up_to=15, epoch=1))
    assert applied.events == (
        MeasurementDropped("metrics", "cpu"),
        FilesRemoved((a,)),
        MarksMoved((FlushMark("metrics", "cpu", 15),)),
    )
    assert paths(machine.catalog) == [b.path]
    assert machine.catalog.schema("metrics", "cpu") is None
    assert refused(machine, register(mark=16)).code == "not_found"
    do(machine, declare())
    assert (machine.catalog.mark("metrics", "cpu"), machine.catalog.mark("metrics", "disk")) == (15, 7)
    assert refused(machine, register(file("c", first=12, last=14), mark=14)).code == "backward_mark"
    do(machine, register(file("c", first=16, last=16), mark=16))


@pytest.mark.parametrize(
    "drop",
    [
        DropMeasurement(database="metrics", name="cpu", up_to=15, epoch=2),
        DropDatabase(name="metrics", up_to=15, epoch=2),
    ],
)
def test_only_the_holder_of_the_writer_lease_drops(drop: Command) -> None:
    """He alone knows the last record that was given out: one of a later reign would come back half."""
    machine = ready()
    assert refused(machine, drop).code == "stale_epoch"


def test_what_was_dropped_counts_when_a_log_begins_anew() -> None:
    """A node that has lost its log must not give numbers again that lie below a floor: such rows count as void."""
    machine = ready()
    do(machine, register(file("a", first=1, last=10), mark=10))
    assert machine.catalog.last_marked() == 10
    do(machine, DropDatabase(name="metrics", up_to=15))
    assert machine.catalog.last_marked() == 15


def test_a_floor_stays_also_when_the_database_never_had_files() -> None:
    machine = ready()
    do(machine, CreateDatabase(name="empty", created_us=1))
    do(machine, DropDatabase(name="empty", up_to=7))
    assert machine.catalog.floors() == {"empty": 7}


# ---- looking


def test_a_range_finds_what_overlaps_it_at_both_closed_ends() -> None:
    machine = ready()
    hours = {h: file(f"h{h}", hour=h) for h in (-25, -1, 0, 1, 23, 24, 100)}
    day = file("day", hour=0, span_us=(2 * HOUR_US, 20 * HOUR_US))
    wide = file("wide", hour=0, span_us=(0, 3 * DAY_US))
    do(machine, register(*hours.values(), day, wide))

    def found(low: int | None, high: int | None) -> set[str]:
        return {
            f.path.rsplit("/", 1)[1].split(".")[0] for f in machine.catalog.files_between("metrics", "cpu", low, high)
        }

    assert found(0, HOUR_US - 1) == {"h0", "wide"}
    assert found(HOUR_US - 1, HOUR_US) == {"h0", "h1", "wide"}
    assert found(3 * HOUR_US, 3 * HOUR_US) == {"day", "wide"}
    assert found(None, -1) == {"h-25", "h-1"}
    assert found(24 * HOUR_US, None) == {"h24", "h100", "wide"}
    assert found(None, None) == {*(f"h{h}" for h in hours), "day", "wide"}
    assert found(200 * HOUR_US, 300 * HOUR_US) == set()


spans = st.tuples(st.integers(-3 * DAY_US, 3 * DAY_US), st.integers(0, 2 * DAY_US))


@given(
    st.lists(spans, max_size=30), st.none() | st.integers(-3 * DAY_US, 3 * DAY_US), st.none() | st.integers(0, DAY_US)
)
def test_a_range_finds_exactly_what_a_scan_finds(
    files: list[tuple[int, int]], low: int | None, width: int | None
) -> None:
    machine = ready()
    entries = [
        file(f"f{number}", hour=start // HOUR_US, span_us=(start, start + length))
        for number, (start, length) in enumerate(files)
    ]
    do(machine, register(*entries))
    high = None if width is None else (low or 0) + width
    expected = {
        f.path for f in entries if (low is None or f.max_time_us >= low) and (high is None or f.min_time_us <= high)
    }
    found = [f.path for f in machine.catalog.files_between("metrics", "cpu", low, high)]
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert all(machine.catalog.file(f.path) == f for f in entries)


@pytest.mark.parametrize("count", [1, 3, 30], ids=["one of many", "few of many", "as many again"])
def test_files_of_a_day_stay_ordered_by_path_however_many_come(count: int) -> None:
    machine = ready()
    do(machine, register(*(file(f"{n:03d}") for n in range(100, 400, 10))))
    come = [file(f"{(n * 130 + 5) % 500:03d}") for n in range(count)]
    do(machine, register(*come))
    found = paths(machine.catalog)
    assert found == sorted(found) and len(found) == 30 + count
    assert all(machine.catalog.file(each.path) is not None for each in come)


def test_a_held_version_keeps_its_files() -> None:
    machine = ready()
    a = file("a")
    do(machine, register(a))
    held = machine.catalog
    do(machine, swap(a, add=(file("b"),)))
    assert paths(held) == [a.path]
    assert held.files_between("metrics", "cpu", 0, 1) == [a]


def test_two_marks_for_one_measurement_are_refused() -> None:
    marks = (FlushMark("metrics", "cpu", 3), FlushMark("metrics", "cpu", 4))
    assert refused(ready(), RegisterFiles(files=(), flushed=marks, epoch=1)).code == "invalid"


def test_what_replaces_files_is_held_by_whom_the_command_names_and_who_is_a_member() -> None:
    machine, new = ready(), file("new")
    for name in ("n1", "n2"):
        do(machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1"))
    do(machine, replace(swap(add=(new,)), holders=(NodeId("n3"), NodeId("n2"))))
    found = machine.catalog.file(new.path)
    assert found is not None and found.holders == ("n1", "n2")
