"""A journal that is cut and restarted: what was cut never comes back, and a hole never passes for an end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import Corrupt, Overloaded
from arc.journal import Journal, frames, inspect, salvage, verify
from arc.journal.frames import Kind, SegmentHeader
from arc.ports import BLOCK_BYTES
from tests.fakes import MemoryDisk

SEGMENT = 8 * BLOCK_BYTES


def opened(disk: MemoryDisk, *, has_reserve: bool = False) -> Journal:
    return Journal.open(disk, "log", segment_bytes=SEGMENT, has_reserve=has_reserve)


def contents(journal: Journal) -> dict[int, bytes]:
    return {index: bytes(payload) for index, payload in journal.read(journal.first_index)}


def numbered(first: int, last: int, word: bytes = b"old") -> list[bytes]:
    return [b"%s %d" % (word, index) for index in range(first, last + 1)]


def filled(last: int, size: int = 0) -> tuple[MemoryDisk, Journal]:
    """One record a group."""
    disk = MemoryDisk()
    journal = opened(disk)
    for index in range(1, last + 1):
        journal.append([b"old %d" % index + bytes(size)], index)
    return disk, journal


def paths(disk: MemoryDisk) -> list[str]:
    return [path for path in disk.walk("log") if path.endswith(".log")]


# ------------------------------------------------------------------------------------------------- cutting, restarting


@pytest.mark.parametrize("cut", range(1, 31))
def test_a_cut_forgets_a_suffix_over_any_number_of_segments(cut: int) -> None:
    disk, journal = filled(30)
    journal.cut(cut)
    assert contents(journal) == dict(enumerate(numbered(1, cut - 1), 1)) == contents(opened(disk.copy()))
    journal.append(numbered(cut, cut + 2, b"new"), cut)
    assert contents(opened(disk.copy())) == dict(enumerate(numbered(1, cut - 1) + numbered(cut, cut + 2, b"new"), 1))


def test_a_cut_may_bring_the_records_that_replace_and_go_through_a_group() -> None:
    disk = MemoryDisk()
    journal = opened(disk)
    journal.append(numbered(1, 9), 1)
    journal.cut(4, numbered(4, 5, b"new"))
    assert list(contents(opened(disk.copy())).values()) == numbered(1, 3) + numbered(4, 5, b"new")
    assert [index for index, _ in opened(disk.copy()).read(3)] == [3, 4, 5]


def test_a_restart_forgets_all_and_goes_on_anywhere() -> None:
    disk, journal = filled(30)
    journal.restart(1000)
    assert (journal.first_index, journal.next_index, contents(journal)) == (1000, 1000, {})
    assert journal.release(0) > 3, "what was before is room"
    journal.append([b"after"], 1000)
    assert contents(opened(disk.copy())) == {1000: b"after"}


def test_release_keeps_what_a_cut_left_of_old_segments() -> None:
    disk, journal = filled(30)
    journal.cut(12)
    journal.append(numbered(12, 40, b"new"), 12)
    journal.release(10)
    again = opened(disk.copy())
    assert again.first_index <= 10 and contents(again)[11] == b"old 11" and contents(again)[12] == b"new 12"
    journal.release(12)
    assert 5 < journal.first_index <= 12, "a segment of which only cut records are left holds nothing"
    assert contents(opened(disk.copy()))[12] == b"new 12"


def test_recycled_segments_bring_nothing_back_after_cuts() -> None:
    disk, journal = filled(0)
    index = 1
    for turn in range(12):
        for _ in range(9):
            journal.append([b"%d" % turn], index)
            index += 1
        journal.cut(index - 3)
        index -= 3
        journal.release(index - 2)
        assert opened(disk.copy()).next_index == index
    assert any(path.endswith(".spare") for path in disk.walk("log"))


def test_a_torn_cut_was_never_made() -> None:
    for at_byte in (0, 10, 47, BLOCK_BYTES):
        disk, journal = filled(5)
        disk.tear_next_write(at_byte)
        with pytest.raises(Exception, match="power loss"):
            journal.cut(2, [b"new" * 2000])
        assert opened(disk).next_index == 6


def test_the_reserve_is_for_cuts_alone() -> None:
    disk = MemoryDisk()
    journal = opened(disk, has_reserve=True)
    assert journal.ensure_room()
    disk.free = 0
    index = 1
    with pytest.raises(Overloaded):
        while True:
            journal.append([bytes(9000)], index)
            index += 1
    assert not journal.ensure_room()
    for cut in range(index, 1, -1):
        journal.cut(cut)
    assert opened(disk.copy()).next_index == 2
    disk.free = 9 * SEGMENT
    assert journal.ensure_room()
    journal.append([b"again"], 2)


# ------------------------------------------------------------------------------------------------------------ chains


def test_a_missing_segment_of_which_nothing_is_left_is_noticed() -> None:
    """It took the journal back to where it began, so the numbers alone do not tell."""
    disk, journal = filled(12)
    journal.cut(8)
    journal.append(numbered(8, 12, b"new" * 9000), 8)
    start = journal.segments()[-1].number
    while journal.segments()[-1].number < start + 2:
        journal.append([b"more"], journal.next_index)
    assert len(paths(disk)) > 4
    for victim in paths(disk)[1:-1]:
        rotten = disk.copy()
        rotten.remove(victim)
        with pytest.raises(Corrupt, match="missing"):
            opened(rotten)
        with pytest.raises(Corrupt, match="missing"):
            verify(inspect(rotten, "log"))


def test_segments_of_the_first_format_are_read_and_written_to_their_end() -> None:
    disk, journal = filled(9)
    names = paths(disk)
    for name, segment in zip(names, journal.segments(), strict=True):
        body = frames._SEGMENT_1.pack(frames.SEGMENT_MAGIC_1, segment.number, segment.first_index, SEGMENT, 0)[:-4]
        import google_crc32c

        block = (body + google_crc32c.value(body).to_bytes(4, "little")).ljust(BLOCK_BYTES, b"\0")
        assert frames.decode_segment_header(block) == SegmentHeader(segment.number, segment.first_index, SEGMENT, None)
        disk.open_log(name).write_durable(0, [block])
    again = opened(disk)
    assert list(contents(again).values()) == numbered(1, 9)
    again.cut(5, numbered(5, 30, b"new"))
    again.append([b"x"], 31)
    assert contents(opened(disk.copy()))[5] == b"new 5" and opened(disk).next_index == 32


# ----------------------------------------------------------------------------------------------------------- salvage


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("append", "append", "append", "cut", "restart")), st.integers(0, 9), st.integers(0, 5000)
    ),
    min_size=3,
    max_size=25,
)


def write_life(disk: MemoryDisk, steps: Sequence[tuple[str, int, int]]) -> dict[int, bytes]:
    journal = opened(disk)
    held: dict[int, bytes] = {}
    for number, (what, amount, size) in enumerate(steps):
        first = journal.next_index
        if what == "restart":
            held = {}
            journal.restart(first + amount)
            continue
        payloads = [b"%d.%d" % (number, nth) + bytes(size) for nth in range(amount % 3 + (what == "append"))]
        if what == "cut":
            first = max(journal.first_index, first - amount)
            held = {index: payload for index, payload in held.items() if index < first}
            journal.cut(first, payloads)
        else:
            journal.append(payloads, first)
        held.update(enumerate(payloads, first))
    return held


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    steps=STEPS,
    places=st.lists(st.tuples(st.integers(0, 1 << 20), st.booleans()), min_size=1, max_size=3),
    whole_segment=st.booleans(),
)
def test_what_is_kept_of_a_damaged_journal_was_never_cut(
    steps: list[tuple[str, int, int]], places: list[tuple[int, bool]], whole_segment: bool
) -> None:
    """I-30, K-53: after any damage the journal opens as it was, short of what may have been in flight, or is refused;
    and what `salvage` keeps of it is a part of what was there at the end.
    """
    disk = MemoryDisk()
    held = write_life(disk, steps)
    victims = paths(disk)
    for place, whole_block in places:
        victim = victims[place % len(victims)]
        if whole_segment and len(victims) > 1 and victim != victims[-1]:
            disk.remove(victim)
            victims.remove(victim)
            continue
        offset = place % disk.size(victim)
        if whole_block:
            offset -= offset % BLOCK_BYTES
            disk.open_log(victim).write_durable(offset, [bytes(BLOCK_BYTES)])
        else:
            disk.flip(victim, offset)
    remains = salvage.survey(disk, "log")
    if remains is not None:
        salvage.put_aside(disk, remains)
        if remains.keep_below == 0:
            return
        journal = opened(disk)
        assert remains.keep_below <= journal.next_index
        if remains.keep_below < journal.first_index:
            return
        journal.cut(remains.keep_below)
        kept = contents(opened(disk))
        assert kept.items() <= held.items()


def test_salvage_keeps_what_is_before_the_hole_and_destroys_nothing() -> None:
    disk, journal = filled(30)
    files = len(disk.walk("log"))
    victim = journal.segments()[2]
    disk.flip(victim.path, 2 * BLOCK_BYTES + 50)
    remains = salvage.survey(disk, "log")
    assert remains is not None and remains.keep_below == victim.first_index + 1
    salvage.put_aside(disk, remains)
    assert contents(opened(disk)) == dict(enumerate(numbered(1, victim.first_index), 1))
    assert len([path for path in disk.walk("log") if ".damaged" in path]) == files - 2


def test_salvage_keeps_nothing_when_the_hole_may_hide_a_cut() -> None:
    disk, journal = filled(9)
    journal.cut(4, [b"new 4"])
    journal.append([b"new 5"], 5)
    segment = journal.segments()[-1]
    whole = disk.copy()
    blocks = (segment.used_bytes - BLOCK_BYTES) // BLOCK_BYTES
    for block in range(1, blocks):
        disk = whole.copy()
        disk.flip(segment.path, block * BLOCK_BYTES)
        remains = salvage.survey(disk, "log")
        assert remains is not None
        header = frames.read_header(whole.map(segment.path), block * BLOCK_BYTES, segment.number)
        assert header is not None
        expected = 0 if header.kind is Kind.CUTS else min(header.first_index, 4)
        assert remains.keep_below == expected


def test_salvage_notices_a_cut_that_is_only_seen_behind_the_hole() -> None:
    disk, journal = filled(9)
    journal.cut(4)
    disk.flip(paths(disk)[0], 7 * BLOCK_BYTES)
    remains = salvage.survey(disk, "log")
    assert remains is not None and remains.keep_below == 4
