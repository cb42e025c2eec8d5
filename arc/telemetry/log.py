"""`Log` turns one call into one `Event` and hands it to its sinks.

It reads no clock of its own, opens no file and keeps no state outside itself. A stream that broke (a closed terminal,
a full disk behind a redirect) must not take the node with it: what it loses is counted, and the count is a statistic
like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from arc.telemetry.events import LEVELS, Event, Level, pairs


class Log:
    """Structured events: ``log.info("lease_assigned", lease="writer", epoch=7)``.

    ``bind`` returns a log that adds fields to every event; ``component`` is the one field with a column of its own. All
    logs bound from one share its sinks and counts. ``wall_us`` gives microseconds since 1970 UTC.
    """

    __slots__ = ("_bound", "_core")

    def __init__(self, sinks: Sequence[Sink], wall_us: Callable[[], int], *, level: Level = "info") -> None:
        self._core = _Core(tuple(sinks), wall_us, LEVELS.index(level))
        self._bound: dict[str, object] = {}

    def __repr__(self) -> str:
        return f"<Log {pairs(self._bound)} level={LEVELS[self._core.threshold]} dropped={self._core.dropped}>"

    def bind(self, **bound: object) -> Log:
        """Return a log that adds these fields; a later field of the same name wins."""
        child = Log.__new__(Log)
        child._core = self._core
        child._bound = {**self._bound, **bound}
        return child

    def debug(self, event: str, /, **fields: object) -> None:
        """Tell a developer."""
        self._core.emit(0, event, self._bound, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Tell an operator what changed."""
        self._core.emit(1, event, self._bound, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Tell an operator what may need a hand."""
        self._core.emit(2, event, self._bound, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Tell an operator what failed."""
        self._core.emit(3, event, self._bound, fields)

    def statistics(self) -> LogStatistics:
        """Count events taken and deliveries lost."""
        core = self._core
        return LogStatistics(events_total=dict(zip(LEVELS, core.taken, strict=True)), dropped_total=core.dropped)


class Sink(Protocol):
    """A place where events go.

    ``write`` may raise OSError or ValueError (what a closed stream raises); the event is then lost there, and counted.
    """

    def write(self, event: Event) -> None:
        """Keep or print one event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Section ``[log]``: what is told, and in which form."""

    level: Level = "info"
    """Events below this level are not kept anywhere."""
    format: Literal["console", "json"] = "console"
    """Lines for people, or one JSON object a line."""
    ring_events: int = 2000
    """How many events ``GET /api/v1/logs`` can look back; older ones are dropped."""

    def __post_init__(self) -> None:
        if self.ring_events < 1:
            raise ValueError("ring_events must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatistics:
    """Events taken since the start, by level, and how many deliveries to a sink failed."""

    events_total: Mapping[str, int] = field(metadata={"label": "level"})
    dropped_total: int


class _Core:
    """What all logs bound from one another share."""

    __slots__ = ("dropped", "sinks", "taken", "threshold", "wall_us")

    def __init__(self, sinks: tuple[Sink, ...], wall_us: Callable[[], int], threshold: int) -> None:
        self.sinks = sinks
        self.wall_us = wall_us
        self.threshold = threshold
        self.taken = [0] * len(LEVELS)
        self.dropped = 0

    def emit(self, severity: int, message: str, bound: dict[str, object], given: dict[str, object]) -> None:
        if severity < self.threshold:
            return
        self.taken[severity] += 1
        merged = {**bound, **given}
        component = merged.pop("component", "")
        event = Event(
            time_us=self.wall_us(),
            level=LEVELS[severity],
            component=str(component),
            message=message,
            fields=merged,
        )
        for sink in self.sinks:
            try:
                sink.write(event)
            except (OSError, ValueError):  # ValueError: "I/O operation on closed file"
                self.dropped += 1
