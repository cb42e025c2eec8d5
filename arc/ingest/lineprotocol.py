r"""InfluxDB line protocol, exactly: this module is the definition, every faster decoder must agree with it.

One record is ``measurement[,tag=value…] field=value[,field=value…] [timestamp]`` and ends at a newline. The rules are
those of InfluxDB 1.x (checked against a real server by ``tests/ingest/test_lineprotocol_oracle.py``):

* A backslash before a comma, a space or an equals sign makes that byte part of the name; before anything else it is
  itself. A measurement may have an equals sign without it. Quotes mean nothing in names.
* A value is a float, an integer ``1i``, an unsigned ``1u``, a boolean (``t T true True TRUE f F false False FALSE``) or
  a string in double quotes, where ``\"`` and ``\\`` are escapes and newlines are allowed.
* Blank lines and lines starting with ``#`` are skipped. Spaces may repeat between the three parts; space, tab and NUL
  may stand before a line. When a field comes twice in one line the last one counts.

Where InfluxDB accepts garbage or loses good lines, this parser does not: text behind a closing quote is refused, and so
is a tag value that starts with an equals sign; a backslash never hides the newline that ends a line; a comment ends at
its newline whatever quotes it has; bytes that are not UTF-8 are refused instead of stored. A carriage return at the end
of a line belongs to the line end. The name ``time``, in any case, is taken by the timestamp. When a field comes twice
with two types the last one counts, too. An unclosed string swallows the rest of the body, as in InfluxDB: what may be
the text of a message is never read as a line.

Stored time is microseconds: nanoseconds are divided with floor, so times before 1970 keep their order. Source of the
grammar: InfluxDB 1.x documentation, "Line protocol reference". Not done here: naming rules and types across lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from arc.errors import InvalidRequest, TooLarge
from arc.ingest.bounds import cells_max
from arc.ingest.columns import Kind, Refused, Request
from arc.ingest.lp_rows import Rows, Value

TIME_US_MAX = (2**63 - 1) // 1000
"""Latest stored time, 2262-04-11: every stored time also fits int64 nanoseconds, InfluxDB's range."""

TIME_US_MIN = -TIME_US_MAX
"""Earliest stored time, 1677-09-21."""

SERIES_BYTES_MAX = 65_535
"""Longest measurement with its tags, escapes included; InfluxDB's limit."""

EXCERPT_CHARS = 120
"""How much of a refused line is shown."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Converts a timestamp to microseconds: ``floor(value * multiply / divide)``; one of the two is 1."""

    multiply: int
    divide: int

    def to_us(self, value: int) -> int:
        """Microseconds, rounded towards the past."""
        return value * self.multiply // self.divide


_NANOSECOND, _MICROSECOND = Unit(1, 1000), Unit(1, 1)
_UNITS = {
    "": _NANOSECOND,
    "ns": _NANOSECOND,
    "n": _NANOSECOND,
    "us": _MICROSECOND,
    "u": _MICROSECOND,
    "µ": _MICROSECOND,  # U+00B5, the micro sign
    "μ": _MICROSECOND,  # U+03BC, the Greek letter; keyboards have either
    "ms": Unit(1_000, 1),
    "s": Unit(1_000_000, 1),
    "m": Unit(60_000_000, 1),
    "h": Unit(3_600_000_000, 1),
}


class LineRefused(Exception):
    """A line that breaks the grammar; the message is the reason shown to the user. Never leaves the decoders."""


REFUSED_MAX = 100_000
"""Bad lines of one request that are told one by one; a body of nothing else would take many times its size."""


@dataclass(frozen=True, slots=True)
class Point:
    """One understood line. ``time_us`` is None when it has no timestamp; ``tags`` are in the order of the line."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    fields: dict[str, Value]
    time_us: int | None


def parse(body: bytes | memoryview, *, precision: str = "ns", now_us: int) -> Request:
    """Decode one body. ``precision`` is the unit of its timestamps, ``now_us`` the time of lines without one.

    Raises InvalidRequest when the precision is unknown, TooLarge when the lines differ so much in their columns or
    measurements that their batches would be many times the body. Lines that cannot be stored come back in
    ``refused``.
    """
    unit = unit_of(precision)
    rows = Rows(now_us, cells_max(len(body)))
    refused: list[Refused] = []
    for number, line in split_lines(bytes(body)):
        take_line(number, line, unit, rows, refused)
    return Request(rows.batches(), tuple(refused))


def take_line(number: int, line: bytes, unit: Unit, rows: Rows, refused: list[Refused]) -> None:
    """Decode one line as `split_lines` gives it and add it to one of the two."""
    try:
        point = parse_line(line, unit)
    except LineRefused as why:
        if len(refused) >= REFUSED_MAX:
            raise TooLarge(
                f"more than {REFUSED_MAX} lines of this request cannot be stored, the last one: {why} (line {number}); "
                "nothing of it was stored"
            ) from why
        refused.append(refuse(number, line, str(why)))
    else:
        rows.add(number, point.measurement, point.tags, point.fields, point.time_us)


def unit_of(precision: str) -> Unit:
    """The unit that a ``precision`` parameter names. Raises InvalidRequest."""
    unit = _UNITS.get(precision)
    if unit is None:
        raise InvalidRequest(f"precision {precision!r} is not one of ns, us, ms, s, m, h (or n, u, µ)")
    return unit


def refuse(number: int, line: bytes, reason: str) -> Refused:
    """Report a line. Bytes that are not UTF-8 are shown as ``\\xNN``."""
    shown = line[: 4 * EXCERPT_CHARS].decode("utf-8", "backslashreplace").lstrip(" \t\0").rstrip("\r")
    return Refused(number, shown[:EXCERPT_CHARS], reason)


# -- lines ------------------------------------------------------------------------------------------------------------
# Possessive quantifiers everywhere: the grammar never needs to go back, and so no input can make it slow.

_BLANK = re.compile(rb"[ \t\0]*+")

# A string begins at a quote after an unescaped '=' behind the first unescaped space; only in it a newline is text.
_EXTENT = re.compile(
    rb"[ \t\0]*+(?:#[^\n]*+|(?:[^\\ \n]++|\\ ?+)*+"  # a comment, or measurement and tags
    rb'(?: (?:[^=\\\n]++|\\[,= ]?+|="(?:[^"\\]++|\\.?+)*+"?+|=)*+)?+)',  # and all that follows
    re.DOTALL,
)


def split_lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (1-based number, bytes without the line end) of all lines but blanks and comments.

    The number counts newlines, also those in strings, so that it is the number an editor shows for the line's start.
    """
    number, start = 1, 0
    while start < len(body):
        end = body.find(b"\n", start)
        if end < 0:
            end = len(body)
        newlines = 1
        if body.find(b'"', start, end) >= 0:
            end = line_end(body, start)
            newlines += body.count(b"\n", start, end)
        line = without_line_end(body[start:end])
        first = line.lstrip(b" \t\0")[:1]
        if first and first != b"#":
            yield number, line
        number += newlines
        start = end + 1


def without_line_end(line: bytes) -> bytes:
    """The line without the carriage return of its line end; its newline is not part of ``line``."""
    return line[:-1] if line[-1:] == b"\r" else line


def line_end(body: bytes, start: int) -> int:
    """Where the line that starts at ``start`` ends: the index of its newline, or the length of the body."""
    found = _EXTENT.match(body, start)
    assert found is not None
    return found.end()


def parse_line(line: bytes, unit: Unit) -> Point:
    """Decode one line that is neither blank nor a comment. Raises LineRefused."""
    if not line.isascii():
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as broken:
            raise LineRefused("invalid UTF-8") from broken
    start = _skip_blanks(line, 0)
    measurement, tags, end = parse_series(line, start)
    fields, end = _parse_fields(line, _skip_blanks(line, end))
    return Point(measurement, tags, fields, _parse_time(line[end:], unit))


def _skip_blanks(line: bytes, at: int) -> int:
    found = _BLANK.match(line, at)
    assert found is not None
    return found.end()


# -- measurement and tags ---------------------------------------------------------------------------------------------

_MEASUREMENT = re.compile(rb"(?:[^, \\]++|\\[, ]?+)*+")
_NAME = re.compile(rb"(?:[^,= \\]++|\\[,= ]?+)*+")
_NAME_ESCAPE = re.compile(rb"\\([,= ])")


def parse_series(line: bytes, at: int) -> tuple[str, tuple[tuple[str, str], ...], int]:
    """Decode ``measurement,tag=value…`` at ``at``: (measurement, tags, index of the space behind them).

    The bytes must be valid UTF-8. Raises LineRefused.
    """
    start = at
    raw, at = _take(_MEASUREMENT, line, at)
    if not raw:
        raise LineRefused("missing measurement")
    measurement = unescape_name(raw)
    tags: dict[str, str] = {}
    while line[at : at + 1] == b",":
        raw, at = _take(_NAME, line, at + 1)
        if not raw:
            raise LineRefused("missing tag key")
        if line[at : at + 1] != b"=":
            raise LineRefused("missing tag value")
        key = unescape_name(raw)
        raw, at = _take(_NAME, line, at + 1)
        if line[at : at + 1] == b"=":
            raise LineRefused("invalid tag format")
        if not raw:
            raise LineRefused("missing tag value")
        if key in tags:
            raise LineRefused("duplicate tags")
        _refuse_time("tag", key)
        tags[key] = unescape_name(raw)
    if at >= len(line):
        raise LineRefused("missing fields")
    if at - start > SERIES_BYTES_MAX:
        raise LineRefused(f"max key length exceeded: {at - start} > {SERIES_BYTES_MAX}")
    return measurement, tuple(tags.items()), at


def _take(pattern: re.Pattern[bytes], line: bytes, at: int) -> tuple[bytes, int]:
    found = pattern.match(line, at)
    assert found is not None
    return found.group(), found.end()


def unescape_name(raw: bytes) -> str:
    """The name that the raw bytes of a measurement, tag key, tag value or field key, valid UTF-8, stand for."""
    return _unescape(_NAME_ESCAPE, raw)


def _unescape(pattern: re.Pattern[bytes], raw: bytes) -> str:
    return (pattern.sub(rb"\1", raw) if b"\\" in raw else raw).decode("utf-8")


def _refuse_time(what: str, name: str) -> None:
    if name.lower() == "time":
        raise LineRefused(f"{what} name {name!r} is reserved for the timestamp")


# -- fields -----------------------------------------------------------------------------------------------------------

_BARE = re.compile(rb"[^, ]*+")
_STRING = re.compile(rb'"((?:[^"\\]++|\\.?+)*+)("?+)', re.DOTALL)
_STRING_ESCAPE = re.compile(rb'\\(["\\])')
_INTEGER = re.compile(rb"(-?)([0-9]+)i")
_UNSIGNED = re.compile(rb"([0-9]+)u")
_FLOAT = re.compile(rb"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(rb"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_BOOLEANS = {
    **dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), True),
    **dict.fromkeys((b"f", b"F", b"false", b"False", b"FALSE"), False),
}


def _parse_fields(line: bytes, at: int) -> tuple[dict[str, Value], int]:
    """Decode ``field=value,…`` at ``at``: (fields, index behind them, which is the end or a space)."""
    if at >= len(line):
        raise LineRefused("missing fields")
    fields: dict[str, Value] = {}
    while True:
        raw, at = _take(_NAME, line, at)
        if line[at : at + 1] != b"=":
            raise LineRefused("invalid field format")
        if not raw:
            raise LineRefused("missing field key")
        key = unescape_name(raw)
        _refuse_time("field", key)
        value, at = _parse_value(line, at + 1)
        fields[key] = value
        if at >= len(line) or line[at] == 32:
            return fields, at
        if line[at] != 44:
            raise LineRefused("invalid field format")
        at += 1


def _parse_value(line: bytes, at: int) -> tuple[Value, int]:
    if line[at : at + 1] == b'"':
        found = _STRING.match(line, at)
        assert found is not None
        if not found[2]:
            raise LineRefused("unbalanced quotes")
        return (Kind.STRING, _unescape(_STRING_ESCAPE, found[1])), found.end()
    raw, at = _take(_BARE, line, at)
    if not raw:
        raise LineRefused("missing field value")
    if raw in _BOOLEANS:
        return (Kind.BOOLEAN, _BOOLEANS[raw]), at
    return _parse_number(raw), at


def _parse_number(raw: bytes) -> Value:
    if found := _INTEGER.fullmatch(raw):
        magnitude = _bounded(found[2], 2**63 if found[1] else 2**63 - 1, "integer", raw)
        return Kind.INTEGER, -magnitude if found[1] else magnitude
    if found := _UNSIGNED.fullmatch(raw):
        return Kind.UNSIGNED, _bounded(found[1], 2**64 - 1, "unsigned integer", raw)
    if _FLOAT.fullmatch(raw):
        number = float(raw)
        if number in (float("inf"), float("-inf")):
            raise LineRefused("invalid number: float out of range")
        return Kind.FLOAT, number
    if _NOT_FINITE.fullmatch(raw):
        raise LineRefused("invalid number: NaN and infinity cannot be stored")
    raise LineRefused("invalid number" if raw[0] in b"0123456789+-.nN" else "invalid boolean")


def _bounded(digits: bytes, limit: int, kind: str, raw: bytes) -> int:
    """The number, if it fits. Its length is looked at first: converting a megabyte of digits would take minutes."""
    digits = digits.lstrip(b"0") or b"0"
    if len(digits) > 20 or int(digits) > limit:
        raise LineRefused(f"unable to parse {kind} {raw[:40].decode()}: value out of range")
    return int(digits)


# -- timestamp --------------------------------------------------------------------------------------------------------

_TIMESTAMP = re.compile(rb"(-?)([0-9]+)")


def _parse_time(rest: bytes, unit: Unit) -> int | None:
    """Microseconds of the text behind the fields; None when there is no timestamp."""
    text = rest.lstrip(b" \t\0").rstrip(b" ")
    if not text:
        return None
    found = _TIMESTAMP.fullmatch(text)
    if found is None:
        raise LineRefused("bad timestamp")
    digits = found[2].lstrip(b"0") or b"0"
    written = int(found[1] + digits) if len(digits) <= 20 else 2**63
    time_us = unit.to_us(written)
    if not (-(2**63) <= written < 2**63 and TIME_US_MIN <= time_us <= TIME_US_MAX):
        raise LineRefused("bad timestamp: outside of 1677-09-21 to 2262-04-11")
    return time_us
