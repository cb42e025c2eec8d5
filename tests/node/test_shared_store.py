"""A start and the shared store: wrong is refused, away is waited for later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from arc.errors import InvalidRequest, Unavailable
from arc.node.life import _check_store
from arc.telemetry import Log, RingSink
from tests.fakes import InlineWorkers, make_ports
from tests.storage.memory_objects import MemoryObjects


class Hanging(InlineWorkers):
    async def run(self, fn: Callable[..., object], *args: object, abandon_on_cancel: bool = False) -> object:  # type: ignore[override]
        assert abandon_on_cancel, "else nobody could stop waiting"
        await trio.sleep_forever()


class Refusing(MemoryObjects):
    def check(self) -> None:
        raise InvalidRequest("no such bucket")


async def told(objects: MemoryObjects, workers: InlineWorkers) -> list[str]:
    ring = RingSink(10)
    await _check_store(objects, make_ports(workers=workers), Log([ring], lambda: 0))
    return [event.message for event in ring.select(limit=10)]


async def test_a_store_that_works_is_no_news() -> None:
    assert await told(MemoryObjects(), InlineWorkers()) == []


async def test_a_store_that_is_away_or_hangs_is_told_of_and_the_start_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    away = MemoryObjects()
    away.is_down = True
    assert await told(away, InlineWorkers()) == ["shared_store_fails"]
    assert await told(MemoryObjects(), Hanging()) == ["shared_store_fails"]
    with pytest.raises(Unavailable):
        away.check()


async def test_a_store_that_can_never_work_ends_the_start() -> None:
    with pytest.raises(InvalidRequest):
        await told(Refusing(), InlineWorkers())
