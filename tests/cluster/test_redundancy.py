"""Warnings about who is missing: when, how often, and that none silences another."""

from __future__ import annotations

import pytest

from arc.cluster.redundancy import (
    WARNING_SECONDS,
    WRITERS_HOLD_SECONDS,
    CompactorMemory,
    WriterMemory,
    compactor_warning,
    writer_warning,
)
from tests.cluster.members import Members


class Compactors:
    """Asks again and again, with one memory."""

    def __init__(self) -> None:
        self.memory = CompactorMemory()

    def ask(self, members: Members, now: float, **states: str) -> str | None:
        text, self.memory = compactor_warning(members.views(**states), members.catalog, now, self.memory)
        return text


NONE = Members(n1="writer", n2="reader")
ONE = Members(n1="writer", n3="compactor")
TWO = Members(n1="writer", n3="compactor", n4="compactor")


def test_one_dedicated_compactor_is_right() -> None:
    assert Compactors().ask(ONE, 0.0) is None


def test_nobody_who_compacts_is_told_once_a_minute() -> None:
    compactors = Compactors()
    first = compactors.ask(NONE, 0.0)
    assert first is not None
    assert "nobody merges" in first
    assert compactors.ask(NONE, WARNING_SECONDS - 1) is None
    assert compactors.ask(NONE, WARNING_SECONDS) is not None


def test_a_compactor_that_is_not_well_is_none_unless_somebody_holds_the_lease() -> None:
    assert Compactors().ask(ONE, 0.0, n3="dead") is not None
    stand_in = Members(n1="writer", n3="compactor")
    stand_in.compact("n1")
    assert Compactors().ask(stand_in, 0.0, n3="dead") is None


def test_several_compactors_are_told_with_their_names() -> None:
    text = Compactors().ask(TWO, 0.0)
    assert text is not None
    assert text.endswith("n3, n4")
    assert Compactors().ask(TWO, 0.0, n4="unhealthy") is None


def test_neither_warning_silences_the_other() -> None:
    compactors = Compactors()
    assert compactors.ask(NONE, 0.0) is not None
    assert compactors.ask(TWO, 1.0) is not None
    assert compactors.ask(NONE, 2.0) is None
    assert compactors.ask(TWO, 3.0) is None
    assert compactors.ask(NONE, WARNING_SECONDS) is not None
    assert compactors.ask(TWO, WARNING_SECONDS) is None
    assert compactors.ask(TWO, WARNING_SECONDS + 1) is not None


def test_what_was_right_meanwhile_is_told_at_once_when_it_goes_wrong_again() -> None:
    compactors = Compactors()
    assert compactors.ask(NONE, 0.0) is not None
    assert compactors.ask(ONE, 1.0) is None
    assert compactors.ask(NONE, 2.0) is not None


class Writers:
    def __init__(self, *, is_replaced: bool = True) -> None:
        self.memory = WriterMemory()
        self.is_replaced = is_replaced

    def ask(self, members: Members, now: float, **states: str) -> str | None:
        text, self.memory = writer_warning(members.views(**states), now, self.memory, is_replaced=self.is_replaced)
        return text


def test_too_few_writers_are_told_after_two_minutes_and_then_once_a_minute() -> None:
    writers, members = Writers(), Members(n1="writer", n2="writer", n3="reader")
    assert writers.ask(members, 0.0) is None
    assert writers.ask(members, WRITERS_HOLD_SECONDS - 1) is None
    text = writers.ask(members, WRITERS_HOLD_SECONDS)
    assert text is not None
    assert text.startswith("2 of the 3 writers that are wanted")
    assert writers.ask(members, WRITERS_HOLD_SECONDS + WARNING_SECONDS - 1) is None
    assert writers.ask(members, WRITERS_HOLD_SECONDS + WARNING_SECONDS) is not None


def test_a_rolling_upgrade_is_no_reason_to_warn() -> None:
    writers = Writers()
    three, two = Members(n1="writer", n2="writer", n3="writer"), Members(n1="writer", n2="writer")
    for minute in range(60):
        assert writers.ask(two if minute % 2 else three, 60.0 * minute) is None


def test_writers_count_by_what_they_are_for_not_by_how_they_are() -> None:
    writers = Writers()
    members = Members(n1="writer", n2="writer", n3="standalone")
    assert writers.ask(members, 0.0, n1="dead", n2="dead") is None
    assert writers.ask(members, 1e6, n1="dead", n2="dead") is None


@pytest.mark.parametrize(("is_replaced", "words"), [(True, "no second copy"), (False, "failover is off")])
def test_the_words_say_what_the_loss_of_one_would_mean(is_replaced: bool, words: str) -> None:
    writers, members = Writers(is_replaced=is_replaced), Members(n1="writer", n2="reader")
    writers.ask(members, 0.0)
    text = writers.ask(members, 1000.0)
    assert text is not None
    assert words in text
    assert "of 0 voters none may fail" in text


def test_a_node_alone_is_not_warned() -> None:
    writers, members = Writers(), Members(n1="standalone")
    assert writers.ask(members, 0.0) is None
    assert writers.ask(members, 1e6) is None
