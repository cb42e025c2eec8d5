"""A journal keeps what it acknowledged, drops what it did not, and says where it was damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.errors import Corrupt
from arc.journal import Journal, inspect
from arc.ports import BLOCK_BYTES
from arc.system import SystemDisk

SEGMENT = 8 * BLOCK_BYTES


def open_journal(root: Path) -> Journal:
    return Journal.open(SystemDisk(root), "log", segment_bytes=SEGMENT)


def contents(journal: Journal) -> list[bytes]:
    return [bytes(payload) for _, payload in journal.read(journal.first_index)]


def damage(root: Path, number: int, offset: int, data: bytes) -> None:
    with (root / f"log/{number:012d}.log").open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_records_come_back_in_order_across_segments_and_restarts(tmp_path: Path) -> None:
    written = [bytes([n]) * (n * 700) for n in range(1, 30)]
    journal = open_journal(tmp_path)
    for n, payload in enumerate(written[:20]):
        journal.append([payload], n + 1)
    journal = open_journal(tmp_path)  # no close: a crash
    journal.append(written[20:], 21)
    assert len(journal.segments()) > 2
    assert contents(open_journal(tmp_path)) == written


def test_torn_last_group_is_dropped_and_its_place_used_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"kept"], 1)
    journal.append([b"torn" * 3000], 2)
    damage(tmp_path, 1, 3 * BLOCK_BYTES, b"\xff" * 10)
    journal = open_journal(tmp_path)
    assert journal.dropped_tail is not None and journal.dropped_tail.offset == 2 * BLOCK_BYTES
    assert journal.next_index == 2
    journal.append([b"again"], 2)
    assert contents(open_journal(tmp_path)) == [b"kept", b"again"]


@pytest.mark.parametrize("offset", [BLOCK_BYTES + 3, BLOCK_BYTES + 50], ids=["group header", "record"])
def test_damage_with_records_behind_it_is_named_and_refused(tmp_path: Path, offset: int) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"first"], 1)
    journal.append([b"second"], 2)
    damage(tmp_path, 1, offset, b"\xff")
    with pytest.raises(Corrupt) as caught:
        open_journal(tmp_path)
    assert caught.value.path == "log/000000000001.log"
    assert caught.value.offset == BLOCK_BYTES


def test_rot_in_the_last_group_is_corruption_when_the_log_was_closed_in_order(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"only"], 1)
    journal.close()
    damage(tmp_path, 1, BLOCK_BYTES + 50, b"\xff")
    with pytest.raises(Corrupt):
        open_journal(tmp_path)


def test_missing_segment_in_the_middle_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for n in range(1, 30):
        journal.append([bytes(5000)], n)
    (tmp_path / "log/000000000002.log").unlink()
    with pytest.raises(Corrupt, match="are missing"):
        open_journal(tmp_path)


def test_released_segments_are_recycled_and_their_old_records_never_return(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    index = 1
    for _ in range(5):
        for _ in range(6):
            journal.append([b"%d" % index], index)
            index += 1
        journal.release(index - 2)
    journal = open_journal(tmp_path)
    assert journal.next_index == index
    assert contents(journal)[-1] == b"%d" % (index - 1)
    assert any(path.suffix == ".spare" for path in (tmp_path / "log").iterdir())


def test_release_keeps_segments_that_hold_a_needed_record(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for n in range(1, 21):
        journal.append([bytes(5000)], n)
    journal.release(10)
    assert journal.first_index <= 10
    assert [index for index, _ in journal.read(10)] == list(range(10, 21))
    with pytest.raises(ValueError, match="is gone"):
        list(journal.read(1))


def test_client_bytes_that_look_like_a_group_do_not_fool_the_torn_tail_rule(tmp_path: Path) -> None:
    """A record may contain the bytes of a valid group of this very segment."""
    from arc.journal import frames

    forged = b"".join(bytes(chunk) for chunk in frames.encode_group(1, 2, [b"forged"]))
    journal = open_journal(tmp_path)
    payload = bytes(BLOCK_BYTES - 40 - 8) + forged.ljust(BLOCK_BYTES, b"\0") + b"tail"
    journal.append([payload], 1)
    damage(tmp_path, 1, BLOCK_BYTES + 60, b"\xff")
    journal = open_journal(tmp_path)
    assert journal.dropped_tail is not None and journal.next_index == 1


def test_record_larger_than_a_segment_gets_a_segment_of_its_own(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"small"], 1)
    journal.append([bytes(20 * BLOCK_BYTES)], 2)
    journal.append([b"after"], 3)
    assert [len(record) for record in contents(open_journal(tmp_path))] == [5, 20 * BLOCK_BYTES, 5]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    groups=st.lists(st.lists(st.binary(max_size=6000), min_size=1, max_size=3), min_size=1, max_size=8),
    cut=st.integers(min_value=0),
    junk=st.binary(min_size=1, max_size=50),
)
def test_any_damage_to_the_last_group_loses_at_most_that_group(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]], cut: int, junk: bytes
) -> None:
    root = tmp_path_factory.mktemp("journal")
    journal = open_journal(root)
    index, last_start, last_segment = 1, 0, 0
    for group in groups:
        before = journal.segments()[-1]
        journal.append(group, index)
        index += len(group)
        after = journal.segments()[-1]
        last_start = before.used_bytes if after.number == before.number else BLOCK_BYTES
        last_segment = after.number
    end = journal.segments()[-1].used_bytes
    damage(root, last_segment, last_start + cut % (end - last_start), junk)
    kept = contents(open_journal(root))
    flat = [record for group in groups for record in group]
    assert kept in (flat, flat[: len(flat) - len(groups[-1])])


def test_inspection_reports_without_judging(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append([b"first"], 1)
    journal.append([b"second"], 2)
    damage(tmp_path, 1, BLOCK_BYTES + 50, b"\xff")
    (found,) = inspect(SystemDisk(tmp_path), "log")
    assert found.damage is not None and not found.damage.torn
