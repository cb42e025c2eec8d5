"""Entries go through the state machine in order, a few in the driver's turn and many in slices of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import trio
import trio.testing

from arc.errors import ArcError, OutcomeUnknown
from arc.raft.applylane import SLICE_SECONDS, ApplyLane
from arc.raft.effects import Apply, Committed, Readable
from arc.raft.events import Applied, Event
from arc.raft.requests import Proposed, Requests
from arc.raft.types import Entry


class Machine:
    """Notes what it is given; every entry takes ``seconds`` of the clock it also is."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seen: list[int] = []
        self._seconds = seconds
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def wall_us(self) -> int:
        return 0

    def apply(self, entry: Entry, /) -> object:
        self.seen.append(entry.index)
        self._now += self._seconds
        return entry.index * 10

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        raise NotImplementedError

    def thaw(self, index: int, chunks: Iterator[bytes], /) -> Callable[[], None]:
        raise NotImplementedError


def entries(first: int, last: int) -> Apply:
    return Apply(tuple(Entry(index, 1) for index in range(first, last + 1)))


def make(machine: Machine) -> tuple[ApplyLane, list[Event], list[int]]:
    posted: list[Event] = []
    told: list[int] = []
    lane = ApplyLane(
        machine,
        clock=machine,
        workers=None,  # type: ignore[arg-type]  # only a snapshot needs one
        load=lambda meta: iter(()),
        post=posted.append,
        on_applied=lambda entry, result: told.append(entry.index),
    )
    return lane, posted, told


async def test_few_entries_are_applied_in_the_turn_that_commits_them() -> None:
    machine = Machine()
    lane, posted, told = make(machine)
    lane.put(entries(1, 3))
    assert machine.seen == told == [1, 2, 3]
    assert posted == [Applied(3)]


async def test_many_entries_go_in_slices_and_nothing_overtakes_them(nursery: trio.Nursery) -> None:
    machine = Machine(seconds=SLICE_SECONDS * 0.75)
    lane, posted, _ = make(machine)
    lane.put(entries(1, 7))
    lane.put(entries(8, 9))
    assert machine.seen == [1, 2], "one slice, and the rest waits for the task"
    nursery.start_soon(lane.run)
    await trio.testing.wait_all_tasks_blocked()
    assert machine.seen == list(range(1, 10))
    assert posted == [Applied(index) for index in (2, 4, 6, 7, 9)]
    lane.put(entries(10, 10))
    assert machine.seen[-1] == 10, "the task is idle again, so this one need not wait"


async def test_word_is_left_for_the_result_or_the_error() -> None:
    requests = Requests()
    requests.closed_because = None
    heard: list[tuple[object, ArcError | None]] = []
    for payload in (b"a", b"b"):
        requests.propose(payload, lambda result, error: heard.append((result, error)))
    (first, _), _ = requests.take_batch()
    requests.answered(first, Committed(1, 1), 0)
    assert heard == []
    requests.applied(Entry(1, 1), "done")
    assert heard == [(Proposed(1, 1, "done"), None)]
    requests.close("the node is stopping")
    assert isinstance(heard[1][1], OutcomeUnknown)


async def test_reads_that_wait_together_are_one_request_to_the_core() -> None:
    requests = Requests()
    requests.closed_because = None
    heard: list[object] = []
    for _ in range(3):
        requests.read(lambda result, error: heard.append(result or error))
    together = requests.take_readers()
    requests.read(lambda result, error: heard.append(result or error))
    requests.answered(together, Readable(7), 7)
    assert heard == [Readable(7)] * 3, "the fourth asked too late for this one"
    requests.close("the node is stopping")
    assert isinstance(heard[3], ArcError)


async def test_who_waits_after_the_answer_has_it_at_once() -> None:
    requests = Requests()
    requests.closed_because = None
    asked = requests.propose(b"a")
    requests.close("the node is stopping")
    with pytest.raises(ArcError, match="nothing was stored"):
        await asked.wait()
