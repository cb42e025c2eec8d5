"""What a machine of a world does with the work that a node hands to its threads."""

from __future__ import annotations

import trio

from simulations import clock
from simulations.chance import stream
from simulations.world_ports import Workers
from simulations.world_trace import Trace


def test_a_disk_stands_still_until_it_is_over_or_the_faults_end() -> None:
    """A leader's disk stood still for ten seconds after the last fault was over (world seed 620159)."""

    async def main(tasks: clock.Tasks) -> list[float]:
        workers = Workers("n1", 2, 0.001, stream(1, "work"), Trace())
        ended: list[float] = []

        async def work() -> None:
            await workers.run(lambda: None)
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            workers.stall(5.0)
            nursery.start_soon(work)
            await trio.sleep(6.0)
            workers.stall(5.0)
            nursery.start_soon(work)
            await trio.sleep(1.0)
            workers.calm()
        return ended

    first, second = clock.run(1, main)
    assert 5.0 <= first < 5.1 and 7.0 <= second < 7.1
