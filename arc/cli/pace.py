"""How far a long command is, how fast, and when it will end: a bar for a terminal, else a line now and then.

Always on stderr, so that ``--json`` and pipes stay clean. What it shows is for people and settles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from arc.cli.screen import Screen

LINE_SECONDS = 10.0
"""Between two plain lines: rare enough for a log of a night."""


@contextmanager
def paced(screen: Screen, title: str, total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Gives a function to call after each of ``total`` things."""
    if not screen.err_is_terminal:
        yield _Lines(screen, title, total, unit).one_more
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(f"{unit}  {{task.fields[rate]}}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=screen.console(screen.err), transient=True) as bar:
        task = bar.add_task(title, total=total, rate="")

        def one_more() -> None:
            speed = bar.tasks[0].speed
            bar.update(task, advance=1, rate="" if speed is None else f"{speed:,.1f} {unit}/s")

        yield one_more


class _Lines:
    def __init__(self, screen: Screen, title: str, total: int, unit: str) -> None:
        self._screen, self._title, self._total, self._unit = screen, title, total, unit
        self._done = 0
        self._begun = self._told = time.perf_counter()

    def one_more(self) -> None:
        """Count, and tell if it is time to."""
        self._done += 1
        now = time.perf_counter()
        if now < self._told + LINE_SECONDS:
            return
        self._told = now
        rate = self._done / (now - self._begun)
        left = (self._total - self._done) / rate
        done = f"{self._done:,} of {self._total:,} {self._unit}"
        self._screen.note(f"{self._title}: {done}, {rate:,.1f} {self._unit}/s, {left:,.0f} s left")
