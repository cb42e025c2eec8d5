"""`arc serve` with one more task on its loop: it sleeps 5 ms again and again and notes how late it was woken.

What it notes is what a heartbeat between nodes would suffer: long steps of other tasks and waits for the GIL alike. It
begins when a file ``measure`` appears in the working directory and writes ``late.txt`` as it goes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable

import trio

import arc.node
from arc.cli.main import main

PERIOD_SECONDS = 0.005
_run_node: Callable[..., Awaitable[None]] = arc.node.run_node


async def _with_heartbeat(*arguments: object, **named: object) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat)
        await _run_node(*arguments, **named)
        nursery.cancel_scope.cancel()


async def _beat() -> None:
    while not os.path.exists("measure"):  # noqa: ASYNC110, ASYNC240
        await trio.sleep(PERIOD_SECONDS)
    with open("late.txt", "w", buffering=1) as out:  # noqa: ASYNC230
        while True:
            due = trio.current_time() + PERIOD_SECONDS
            await trio.sleep_until(due)
            out.write(f"{trio.current_time() - due:.6f}\n")


if __name__ == "__main__":
    arc.node.run_node = _with_heartbeat
    sys.exit(main())
