"""Trio made repeatable: virtual time, a seeded scheduler, and tasks that can be stopped as SIGSTOP stops a process.

The only module that knows private names of Trio. Trio shuffles its runnable tasks with a generator of its own;
seeding that alone is not enough, for tasks that became runnable in one pass come out of sets. The switch below makes
Trio sort them first. Both names are private, so each run first asserts that they are there and runs a canary: a small
program that meets itself twice and must be the same both times.

A `Group` is the tasks of one process. `Tasks` finds out which task belongs to whom: a task belongs to the group of the
task whose nursery it was started in. Its coroutine is wrapped; the wrapper lets a frozen task wait instead of running.
"""

from __future__ import annotations

import gc
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import trio
import trio.testing

T = TypeVar("T")

POLL_TURNS = 500
"""Trio looks for signals in every so many of its turns: some milliseconds."""

_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR = "_r"


class Group:
    """The tasks of one process: counted, and stopped together by `freeze`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = 0
        self.steps = 0
        self.is_frozen = False
        self._held: list[_Wrapped] = []

    def __repr__(self) -> str:
        return f"<Group {self.name} alive={self.alive}{' frozen' if self.is_frozen else ''}>"

    def freeze(self) -> None:
        """No task of this group runs from now on, whatever happens to it; time goes on."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Everything that was held runs now, with what it was given meanwhile."""
        self.is_frozen = False
        held, self._held = self._held, []
        for wrapped in held:
            trio.lowlevel.reschedule(wrapped.task)


class _Wrapped:
    """Stands in for a task's coroutine. While its group is frozen it keeps what is sent and waits."""

    __slots__ = ("_coroutine", "_given", "_group", "_waiting", "send", "task")

    def __init__(self, task: trio.lowlevel.Task, group: Group) -> None:
        self.task = task
        self._group = group
        self._coroutine: Any = task.coro
        self._waiting: Any = None
        self._given: Any = None
        self.send = self._send

    def __getattr__(self, name: str) -> Any:
        """What inspection asks of a coroutine (``cr_running``, ``cr_frame``)."""
        return getattr(self._coroutine, name)

    def _send(self, value: Any) -> Any:
        group = self._group
        if self._waiting is not None:
            with suppress(StopIteration):
                self._waiting.send(value)
            self._waiting = None
            value, self._given = self._given, None
        if group.is_frozen:
            self._given = value
            group._held.append(self)
            self._waiting = _held_back()
            return self._waiting.send(None)
        group.steps += 1
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()


async def _held_back() -> None:
    await trio.lowlevel.wait_task_rescheduled(lambda raise_cancel: trio.lowlevel.Abort.FAILED)


class Tasks(trio.abc.Instrument):
    """Who every task belongs to. Install it with `trio.run(instruments=[...])`, which `run` does."""

    def __init__(self) -> None:
        self._groups: dict[trio.lowlevel.Task, Group] = {}

    def adopt(self, group: Group) -> None:
        """The current task, and all that will be started below it, belongs to this group."""
        self._take(trio.lowlevel.current_task(), group)

    def current(self) -> str:
        """Name of the group of the current task; empty when it has none."""
        group = self._groups.get(trio.lowlevel.current_task())
        return group.name if group is not None else ""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Trio tells of a new task."""
        nursery = task.parent_nursery
        group = self._groups.get(nursery.parent_task) if nursery is not None else None
        if group is not None:
            self._take(task, group)

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Trio tells of the end of a task."""
        group = self._groups.pop(task, None)
        if group is not None:
            group.alive -= 1

    def _take(self, task: trio.lowlevel.Task, group: Group) -> None:
        self._groups[task] = group
        group.alive += 1
        task.coro = cast(Any, _Wrapped(task, group))


def check_names() -> None:
    """Raises AssertionError when Trio has changed: then nothing here is repeatable any more."""
    core = trio._core._run
    assert getattr(core, _SWITCH, None) in (True, False), f"Trio {trio.__version__} has no {_SWITCH}"
    assert isinstance(getattr(core, _GENERATOR, None), random.Random), f"Trio {trio.__version__} has no {_GENERATOR}"


def run(seed: int, main: Callable[[Tasks], Awaitable[T]]) -> T:
    """Run ``main(tasks)`` in virtual time that begins at 0; the same seed gives the same order of all steps.

    The garbage collector rests meanwhile: what it finds, and when, depends on the addresses of objects.
    """
    check_names()
    core: Any = trio._core._run
    generator: random.Random = getattr(core, _GENERATOR)
    switch, state, collects = getattr(core, _SWITCH), generator.getstate(), gc.isenabled()
    tasks = Tasks()
    clock = trio.testing.MockClock(autojump_threshold=0)
    gc.disable()
    try:
        setattr(core, _SWITCH, True)
        generator.seed(seed)
        with _seldom_polling():
            return trio.run(main, tasks, clock=clock, instruments=[tasks])
    finally:
        setattr(core, _SWITCH, switch)
        generator.setstate(state)
        if collects:
            gc.enable()


@contextmanager
def _seldom_polling() -> Iterator[None]:
    """Trio asks the system for events in each of its turns. There are none here but a signal, which may wait a little;
    the question took a tenth of a world's time.
    """
    manager: Any = trio._core._run.TheIOManager
    ask, turns = manager.get_events, itertools.count(1)

    def get_events(self: Any, timeout: float) -> Any:
        return ask(self, timeout) if timeout > 0 or next(turns) % POLL_TURNS == 0 else ()

    manager.get_events = get_events
    try:
        yield
    finally:
        manager.get_events = ask


def canary() -> None:
    """Raises AssertionError when equal seeds do not give equal runs here, or unequal seeds equal ones."""
    first, again, other = run(1, _sing), run(1, _sing), run(2, _sing)
    assert first == again, f"Trio {trio.__version__}: the same seed gave two different runs"
    assert first != other, f"Trio {trio.__version__}: the seed changes nothing"


async def _sing(tasks: Tasks) -> tuple[tuple[float, int], ...]:
    """Tasks that meet at one event, sleep to one instant, and are cancelled together."""
    song: list[tuple[float, int]] = []
    together = trio.Event()

    async def voice(number: int) -> None:
        for pause in (0.0, 0.5, 0.5, 0.25 * (number % 3)):
            await trio.sleep(pause)
            song.append((trio.current_time(), number))
        await together.wait()
        song.append((trio.current_time(), -number))
        try:
            await trio.sleep_forever()
        finally:
            song.append((trio.current_time(), 100 + number))

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for number in range(1, 9):
                nursery.start_soon(voice, number)
            await trio.sleep(3)
            together.set()
    return tuple(song)
