"""The value behind a log line: a name, a time, a level, a component and fields, and how each is written as text.

Nothing here keeps or prints events; `arc.telemetry.log` makes them and `arc.telemetry.sinks` keeps them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Literal

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
"""From chatter to trouble. ``info`` is what an operator acts on."""

VALUE_CHARS_MAX = 2000
"""A longer field value is cut, and says so: a log line must not carry a request body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. ``message`` is a stable snake_case name; what varies is in ``fields``."""

    time_us: int
    level: Level
    component: str
    message: str
    fields: Mapping[str, object]

    def as_dict(self) -> dict[str, object]:
        """The JSON form: ``time`` (RFC 3339, ms, UTC), ``level``, ``component``, ``message``, then the fields.

        A field that has the name of one of those four gets a trailing underscore.
        """
        body: dict[str, object] = {
            "time": rfc3339_ms(self.time_us),
            "level": self.level,
            "component": self.component,
            "message": self.message,
        }
        body.update({f"{name}_" if name in body else name: plain(value) for name, value in self.fields.items()})
        return body


def rfc3339_ms(time_us: int) -> str:
    """Write microseconds since 1970 as ``2026-11-22T21:04:05.123Z``; exact, because no float is involved."""
    moment = _EPOCH + timedelta(microseconds=time_us)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain(value: object) -> object:
    """Return what JSON can carry: finite numbers, text, and lists and maps of those; everything else as its text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _cut(value)
        case BaseException():
            return _cut(f"{type(value).__name__}: {value}")
        case Enum():
            return plain(value.value)
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
        case _:
            return _cut(str(value))


def _cut(text: str) -> str:
    if len(text) <= VALUE_CHARS_MAX:
        return text
    return f"{text[:VALUE_CHARS_MAX]}… ({len(text) - VALUE_CHARS_MAX} more characters)"


def pairs(values: Mapping[str, object]) -> str:
    """Write fields as ``key=value`` for people.

    Text with blanks, quotes or control characters comes quoted and escaped, so that no value can forge a line.
    """
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items())


def _quoted(value: object) -> str:
    simple = plain(value)
    if isinstance(simple, str):
        bare = simple != "" and simple.isprintable() and not any(mark in simple for mark in ' "=\\')
        return simple if bare else json.dumps(simple, ensure_ascii=not simple.isprintable())
    return json.dumps(simple)
