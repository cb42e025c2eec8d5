"""How long idempotency keys are known: by moments that go on from write to write, whatever wall clocks say."""

from __future__ import annotations

import pytest

from arc.errors import Overloaded
from arc.ids import Epoch, Position
from arc.ingest.keys import NOT_KNOWN, IdempotencyKeys, KeyReused, Remembered, fingerprint_of, require_same

HOUR_US = 3_600_000_000
WALL_US = 1_800_000_000_000_000


class Node:
    """One that takes writes: its keys, how long it has been up, and how far its wall clock is off."""

    def __init__(self, *, up_seconds: float = 5.0, off_us: int = 0) -> None:
        self.seconds = self._began = up_seconds
        self._off_us = off_us
        self.keys = IdempotencyKeys(HOUR_US, 3, lambda: self.seconds)

    def write(self, key: str, sequence: int) -> Remembered:
        """Log a write, as `intake.Intake` does."""
        wall_us = WALL_US + self._off_us + int((self.seconds - self._began) * 1e6)
        logged = Remembered(Position(Epoch(1), sequence), 1, self.keys.moment_us(wall_us))
        self.keys.remember("db", key, logged)
        return logged

    def follow(self, key: str, logged: Remembered) -> None:
        """What another one has logged is in the log here, too."""
        self.keys.remember("db", key, logged)

    def knows(self, key: str) -> bool:
        return self.keys.find("db", key) is not None


def test_a_key_is_known_for_an_hour() -> None:
    node = Node()
    node.write("k", 1)
    node.seconds += 3599.0
    assert node.knows("k")
    node.seconds += 2.0
    assert not node.knows("k")
    assert len(node.keys) == 0


@pytest.mark.parametrize("off_hours", [-30_000, -2, 2, 24])
def test_the_next_writer_knows_the_keys_of_the_last_one_whatever_its_clock_says(off_hours: int) -> None:
    first, second = Node(), Node(up_seconds=9_000.0, off_us=off_hours * HOUR_US)
    second.follow("old", first.write("old", 1))
    assert second.knows("old")
    first.follow("new", second.write("new", 2))
    for node in (first, second):
        node.seconds += 3000.0
        assert node.knows("old") and node.knows("new")
    second.write("newer", 3)
    second.seconds += 1000.0
    assert not second.knows("old") and not second.knows("new")
    assert second.knows("newer")


def test_a_start_reads_keys_back_as_old_as_they_were_and_time_goes_on() -> None:
    before = Node()
    logged = [before.write("a", 1)]
    before.seconds += 2000.0
    logged.append(before.write("b", 2))
    after = Node(up_seconds=0.5, off_us=50 * HOUR_US)
    for key, write in zip("ab", logged, strict=True):
        after.follow(key, write)
    after.seconds += 1500.0
    assert after.knows("a") and after.knows("b")
    after.seconds += 500.0
    assert not after.knows("a") and after.knows("b")


def test_a_key_that_is_forgotten_makes_room_and_one_that_is_not_does_not() -> None:
    node = Node()
    for number in range(3):
        node.write(f"k{number}", number + 1)
        node.seconds += 60.0
    with pytest.raises(Overloaded, match="3 idempotency keys"):
        node.keys.check_room()
    node.seconds += 3421.0
    node.keys.check_room()
    assert [stored.key for stored in node.keys.below(10)] == ["k1", "k2"]
    assert [stored.key for stored in node.keys.below(3)] == ["k1"]


def test_parts_of_one_request_add_up_and_a_record_that_comes_again_does_not() -> None:
    node = Node()
    for sequence in (1, 2, 2, 1):
        node.follow("k", Remembered(Position(Epoch(1), sequence), 5, WALL_US))
    found = node.keys.find("db", "k")
    assert found is not None and (found.rows, found.position.sequence) == (10, 2)
    node.keys.cut(2)
    assert not node.knows("k")


def test_a_key_that_was_too_old_and_is_used_again_is_a_new_one_also_where_the_log_has_both() -> None:
    """Its rows were added to those of the old one, and it kept the old one's place among those to forget."""
    before = Node()
    logged = [before.write("k", 1), before.write("other", 2)]
    before.seconds += 3601.0
    assert not before.knows("k")
    logged.append(before.write("k", 3))
    after = Node()
    for key, write in zip(("k", "other", "k"), logged, strict=True):
        after.follow(key, write)
    assert after.keys.find("db", "k") == logged[-1]
    assert len(after.keys) == 1


def test_what_leaves_the_log_is_given_back_as_it_was() -> None:
    before, after = Node(), Node()
    for sequence in (1, 2):
        before.follow("k", Remembered(Position(Epoch(1), sequence), 5, WALL_US, 7))
    after.keys.restore(before.keys.below(3))
    assert after.keys.find("db", "k") == Remembered(Position(Epoch(1), 2), 10, WALL_US, 7)


@pytest.mark.parametrize("known", [0, 5])
@pytest.mark.parametrize("fingerprint", [0, 5])
def test_what_may_be_the_same_write_is_taken_for_a_retry(known: int, fingerprint: int) -> None:
    """Records and checkpoints of before fingerprints have none."""
    require_same("k", known, fingerprint)


def test_a_fingerprint_is_of_the_bytes_and_of_what_gives_them_their_meaning() -> None:
    found = {fingerprint_of(b"cpu v=1 1"), fingerprint_of(b"cpu v=1 2"), fingerprint_of(b"cpu v=1 1", "s")}
    found |= {fingerprint_of(b"cpu v=1 1", "a", "bc"), fingerprint_of(b"cpu v=1 1", "ab", "c")}
    assert len(found) == 5 and NOT_KNOWN not in found
    with pytest.raises(KeyReused, match="'k' was used for another write"):
        require_same("k", fingerprint_of(b"a"), fingerprint_of(b"b"))
