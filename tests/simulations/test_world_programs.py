"""What programs of a world take for wrong: windows, old rows and dropped rows, in tables and by planted bugs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from arc.catalog import manifest
from arc.catalog.results import Step
from arc.compaction import retention
from arc.continuous import names, windows
from simulations import world_expiry
from simulations.checkers.violation import Violation
from simulations.checkers.world_continuous import Reach, Summary, check_windows, mismatch, summaries
from simulations.checkers.world_rows import check_history
from simulations.plan import Fault
from simulations.runner import FAILED, PASSED
from simulations.world import run_world
from simulations.world_client import time_ns
from simulations.world_expiry import AGE_SECONDS, HOUR_NS, check_whole
from simulations.world_history import History, Known
from simulations.world_plan import RECENT_SECONDS, WorldPlan

LONE = WorldPlan(
    scenario="programs",
    seconds=8.0,
    clients=2,
    think_seconds=0.2,
    rows_max=3,
    config={
        "wal": {"segment_bytes": 16384, "max_bytes": 65536},
        "ingest": {"flush_rows": 10, "flush_age_seconds": 0.5},
        "continuous": {"delay_seconds": 0.5, "late_check_seconds": 0.5},
        "retention": {"every_seconds": 0.5},
        "delete": {"enabled": True},
    },
    faults=(Fault(3.0, "crash", ("n1",), 0.2), Fault(5.5, "crash_in_write", ("n1",), 4.0)),
)
SUMMED = replace(LONE, has_continuous=True, rows_age_seconds=RECENT_SECONDS, window_seconds=120.0)
OLD = replace(LONE, has_retention=True)
SHED = replace(LONE, has_drops=True, seconds=12.0)


def replace_no_result(patch: pytest.MonkeyPatch) -> None:
    """A window that is executed again is there beside what it was."""
    patch.setattr(names, "to_replace", lambda *_, **__: [])


def overlook_late_rows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(windows, "late", lambda *_: [])


def find_nothing_too_old(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "expired", lambda *_: [])


def remove_what_is_too_young(patch: pytest.MonkeyPatch) -> None:
    """Before anybody asked for it, which is at the end here: no file of old rows ever gets into the manifest."""
    patch.setattr(world_expiry, "ASKED_SHARE", 0.0)
    register = manifest.register

    def without(state: Any, command: Any, *facts: Any) -> Any:
        young = [file for file in command.files if file.measurement != "old"]
        return register(state, replace(command, files=tuple(young)), *facts)

    patch.setattr(manifest, "register", without)


def forget_a_measurement_and_keep_its_files(patch: pytest.MonkeyPatch) -> None:
    """They come back with the first row that makes it anew."""
    patch.setattr(manifest, "drop_measurement", lambda state, *_: Step(state=state))


def drop_on_no_order(patch: pytest.MonkeyPatch) -> None:
    """Every third flush is taken for a drop: rows are gone that nobody wanted gone."""
    register = manifest.register
    asked = 0

    def dropping(state: Any, command: Any, *facts: Any) -> Any:
        nonlocal asked
        asked += 1
        step = register(state, command, *facts)
        return manifest.drop_measurement(step.state, "default", "shed1", 0) if asked % 3 == 0 else step

    patch.setattr(manifest, "register", dropping)


PLANTED = [
    (replace_no_result, SUMMED, {"W-16"}),
    (overlook_late_rows, SUMMED, {"W-17"}),
    (find_nothing_too_old, OLD, {"W-18"}),
    (remove_what_is_too_young, OLD, {"W-01"}),
    (forget_a_measurement_and_keep_its_files, replace(SHED, faults=()), {"W-19"}),
    (drop_on_no_order, SHED, {"W-01"}),
]


@pytest.mark.parametrize(("plant", "plan", "killers"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None],
    plan: WorldPlan,
    killers: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    outcome = run_world(plan)
    assert outcome.verdict == FAILED
    assert outcome.killer in killers, outcome.violation


@pytest.mark.parametrize(
    ("plan", "probe"),
    [(SUMMED, "windows_are_right"), (OLD, "retention_seen_at_work"), (SHED, "dropped_200")],
    ids=["summed", "old", "shed"],
)
def test_without_a_bug_nothing_is_noticed(plan: WorldPlan, probe: str) -> None:
    outcome = run_world(plan)
    assert outcome.verdict == PASSED, outcome.violation
    assert outcome.probes[probe]


SENT = {0: [1, 2, 5], 60: [7]}


def test_rows_come_into_the_window_that_holds_their_moment() -> None:
    assert summaries([(7, 60), (5, 59), (1, 0), (2, 30)], 60) == SENT


@pytest.mark.parametrize(
    "seen",
    [[], [(0, 1, Summary(3, 8))], [(0, 1, Summary(1, 2)), (60, 1, Summary(1, 7))], [(0, 1, Summary(2, 6))]],
)
def test_a_window_may_say_what_some_of_its_rows_come_to(seen: list[tuple[int, int, Summary]]) -> None:
    check_windows(seen, SENT)


@pytest.mark.parametrize(
    "seen",
    [
        (0, 2, Summary(3, 8)),
        (0, 1, Summary(4, 8)),
        (0, 1, Summary(3, 9)),
        (0, 1, Summary(0, 0)),
        (120, 1, Summary(1, 7)),
    ],
    ids=["twice", "more rows", "another sum", "no rows", "nobody sent any"],
)
def test_a_window_that_no_rows_come_to_is_wrong(seen: tuple[int, int, Summary]) -> None:
    with pytest.raises(Violation, match="W-16"):
        check_windows([seen], SENT)


REACH = Reach(first_us=0, length_us=60, over_us=60, closed_us=0)


@pytest.mark.parametrize(
    ("seen", "reach", "wrong"),
    [
        ({0: Summary(3, 8)}, REACH, None),  # The second one is not over yet.
        ({0: Summary(3, 8)}, replace(REACH, over_us=120), 60),
        ({60: Summary(1, 7)}, REACH, 0),
        ({60: Summary(1, 7)}, replace(REACH, first_us=60), None),
        ({0: Summary(2, 3)}, REACH, 0),
        ({0: Summary(2, 3)}, replace(REACH, closed_us=60), None),
    ],
    ids=["right", "missing", "the first missing", "before the first", "too few rows", "closed for late rows"],
)
def test_windows_at_rest_say_what_their_rows_come_to(seen: dict[int, Summary], reach: Reach, wrong: int | None) -> None:
    found = mismatch(seen, SENT, reach)
    assert (found[0] if found is not None else None) == wrong


def test_half_of_what_one_request_wrote_into_an_hour_is_wrong() -> None:
    """But an hour may go without the other."""
    plan = replace(OLD, rows_age_seconds=AGE_SECONDS)
    history = History(("old",))
    write = history.write("", {"old": 1000})
    history.settle(write, Known.DONE)
    first = [number for number in range(1000) if time_ns(plan, number) // HOUR_NS == time_ns(plan, 0) // HOUR_NS]
    assert 1 < len(first) < 1000
    done = history.done["old"]
    check_whole(plan, history, done, dict.fromkeys(done, 1))
    check_whole(plan, history, done, dict.fromkeys(done - set(first), 1))
    with pytest.raises(Violation, match="W-18"):
        check_whole(plan, history, done, dict.fromkeys(done - {0}, 1))


def test_a_row_that_is_sent_while_a_delete_of_its_number_is_under_way_may_go_with_it() -> None:
    """The order covers all that is there when it is carried out, not when it was asked for (world seed 300018)."""
    history = History()
    history.settle(history.write("", {"mem": 2}), Known.DONE)
    gone = history.deleting("mem", 1, 4)
    history.settle(history.write("", {"mem": 3}), Known.DONE)
    assert (gone, history.kept("mem")) == ({1}, {0, 4})


def test_rows_that_are_sent_while_something_goes_may_go_with_it() -> None:
    history = History(("shed",))
    before = history.write("", {"shed": 1})
    history.settle(before, Known.DONE)
    history.passing_away("shed")
    meanwhile = history.write("", {"shed": 2})
    history.settle(meanwhile, Known.DONE)
    assert history.kept("shed") == set()
    history.passing.discard("shed")
    history.settle(history.write("", {"shed": 1}), Known.DONE)
    assert history.kept("shed") == {3}


def test_an_import_is_stored_measurement_by_measurement_and_any_other_write_whole() -> None:
    """World seed 840020."""
    history = History()
    write = history.write("", {"cpu": 2, "mem": 1})
    seen = {"cpu": {0: 1, 1: 1}, "mem": {}, "disk": {}}
    with pytest.raises(Violation, match="W-04"):
        check_history(history, seen)
    write.is_import = True
    check_history(history, seen)
    with pytest.raises(Violation, match="W-04"):
        check_history(history, seen | {"cpu": {0: 1}})
    write.known = Known.REFUSED
    with pytest.raises(Violation, match="W-03"):
        check_history(history, seen)
