"""Who may come in: bounded at once, bounded in a time, and nobody pays for others."""

from __future__ import annotations

from arc.wire.doorkeeper import (
    ATTEMPTS_MAX,
    ATTEMPTS_PER_SECOND,
    HANDSHAKES_MAX,
    HANDSHAKES_PER_HOST_MAX,
    HOSTS_MAX,
    Doorkeeper,
)
from tests.fakes import ManualClock


def test_handshakes_at_once_are_bounded_for_a_host_and_for_all() -> None:
    door = Doorkeeper(ManualClock())
    for _ in range(HANDSHAKES_PER_HOST_MAX):
        assert door.refuses("a") is None
    assert door.refuses("a") == "too_many"
    for number in range(HANDSHAKES_MAX - HANDSHAKES_PER_HOST_MAX):
        assert door.refuses(f"b{number}") is None
    assert door.refuses("c") == "too_many"
    door.leave("a", is_known=True)
    assert door.refuses("c") is None
    assert door.inside == HANDSHAKES_MAX


def test_failures_of_a_host_are_bounded_in_a_time_and_forgotten_later() -> None:
    clock = ManualClock()
    door = Doorkeeper(clock)
    for _ in range(int(ATTEMPTS_MAX)):
        assert door.refuses("a") is None
        door.leave("a", is_known=False)
    assert door.refuses("a") == "too_fast"
    assert door.refuses("b") is None, "another host pays nothing"
    clock.advance(1)
    for _ in range(int(ATTEMPTS_PER_SECOND)):
        assert door.refuses("a") is None
        door.leave("a", is_known=False)
    assert door.refuses("a") == "too_fast"


def test_a_peer_that_proves_itself_may_come_as_often_as_it_likes() -> None:
    door = Doorkeeper(ManualClock())
    for _ in range(10 * int(ATTEMPTS_MAX)):
        assert door.refuses("a") is None
        door.leave("a", is_known=True)
    assert "hosts=0" in repr(door), "and leaves nothing behind"


def test_a_full_table_refuses_strangers_until_it_has_forgotten() -> None:
    """Promise 39: fail closed, and what is kept is bounded."""
    clock = ManualClock()
    door = Doorkeeper(clock)
    for number in range(HOSTS_MAX):
        assert door.refuses(f"h{number}") is None
        door.leave(f"h{number}", is_known=False)
    assert door.refuses("one more") == "too_fast"
    assert door.refuses("h0") is None, "whoever is known still has his own account"
    clock.advance(1)
    assert door.refuses("one more") is None
