"""Where events go: JSON lines, lines for people, and a ring in memory.

A sink writes to the stream it was given, one whole line and a flush per event, so that a crash loses nothing that was
said. The stream may block (a full pipe); whoever chooses the stream answers for that.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import TextIO

from arc.telemetry.events import LEVELS, Event, Level, pairs, rfc3339_ms


class JsonSink:
    """One JSON object a line."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, event: Event) -> None:
        """Write and flush one line."""
        self._stream.write(json.dumps(event.as_dict()) + "\n")
        self._stream.flush()


class ConsoleSink:
    """Lines for people: time, level, component, message, then ``key=value``; values with blanks are quoted.

    Control characters in values are escaped, so nobody can forge a line or move the cursor through a field.
    """

    __slots__ = ("_colour", "_stream")

    def __init__(self, stream: TextIO, *, colour: bool = False) -> None:
        self._stream = stream
        self._colour = colour

    def write(self, event: Event) -> None:
        """Write and flush one line."""
        level = f"{event.level.upper():7}"
        message = event.message
        if self._colour:
            level = f"{_COLOURS[event.level]}{level}{_RESET}"
            message = f"{_BOLD}{message}{_RESET}"
        clock = rfc3339_ms(event.time_us)
        line = f"{clock} {level} {event.component:10} {message} {pairs(event.fields)}".rstrip()
        self._stream.write(line + "\n")
        self._stream.flush()


_COLOURS = {"debug": "\x1b[2m", "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_BOLD = "\x1b[1m"
_RESET = "\x1b[0m"


def wants_colour(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether colour is welcome: on a terminal, unless ``NO_COLOR`` is set and not empty (no-color.org)."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


class RingSink:
    """The last ``capacity`` events in memory, for ``GET /api/v1/logs``; the oldest is dropped when a new one comes."""

    __slots__ = ("_events",)

    def __init__(self, capacity: int) -> None:
        assert capacity >= 1
        self._events: deque[Event] = deque(maxlen=capacity)

    def write(self, event: Event) -> None:
        """Keep one event."""
        self._events.append(event)

    def select(self, *, limit: int, level: Level = "debug", since_us: int = 0) -> list[Event]:
        """Return at most ``limit`` events of this level or above, not older than ``since_us``, newest first."""
        least = LEVELS.index(level)
        chosen: list[Event] = []
        for event in reversed(list(self._events)):
            if len(chosen) >= limit:
                break
            if LEVELS.index(event.level) >= least and event.time_us >= since_us:
                chosen.append(event)
        return chosen
