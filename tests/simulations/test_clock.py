"""Trio is repeatable under `simulations.clock`, and a frozen group of tasks really stands still."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from simulations import clock

ROOT = Path(__file__).resolve().parents[2]


def test_the_canary_sings() -> None:
    clock.canary()


def test_a_trio_without_the_switch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING")
    with pytest.raises(AssertionError, match="_ALLOW_DETERMINISTIC_SCHEDULING"):
        clock.check_names()


def test_a_run_leaves_trio_as_it_was() -> None:
    core = trio._core._run
    before = core._r.getstate(), core._ALLOW_DETERMINISTIC_SCHEDULING
    clock.run(5, clock._sing)
    assert before == (core._r.getstate(), core._ALLOW_DETERMINISTIC_SCHEDULING)


def test_two_processes_sing_the_same_song() -> None:
    program = "from simulations import clock; print([clock.run(seed, clock._sing) for seed in range(5)])"

    def sing(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert sing("1") == sing("4242")


def test_a_frozen_group_stands_still_while_time_goes_on() -> None:
    ticks: list[float] = []

    async def main(tasks: clock.Tasks) -> None:
        group = clock.Group("n1")

        async def tick() -> None:
            while True:
                await trio.sleep(1)
                ticks.append(trio.current_time())

        async def process() -> None:
            tasks.adopt(group)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tick)
                nursery.start_soon(tick)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(process)
            await trio.sleep(2.5)
            assert group.alive == 3
            group.freeze()
            await trio.sleep(5)
            group.thaw()
            await trio.sleep(1.2)
            nursery.cancel_scope.cancel()
        assert group.alive == 0

    clock.run(0, main)
    assert ticks == [1, 1, 2, 2, 7.5, 7.5, 8.5, 8.5]


def test_a_frozen_task_gets_its_cancellation_when_it_is_thawed() -> None:
    seen: list[tuple[str, float]] = []

    async def main(tasks: clock.Tasks) -> None:
        group = clock.Group("n1")

        async def process() -> None:
            tasks.adopt(group)
            with trio.move_on_after(1) as scope:
                await trio.sleep(1.5)
            seen.append(("cancelled" if scope.cancelled_caught else "ran", trio.current_time()))
            try:
                await trio.sleep_forever()
            finally:
                seen.append(("ended", trio.current_time()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(process)
            await trio.sleep(0.5)
            group.freeze()
            await trio.sleep(2)
            group.thaw()
            await trio.sleep(1)
            group.freeze()
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
            group.thaw()

    clock.run(0, main)
    assert seen == [("cancelled", 2.5), ("ended", 4.5)]
