"""The log loses nothing silently and lets no value forge a line; statistics become the names that dashboards know."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.telemetry import (
    LEVELS,
    ConsoleSink,
    Distribution,
    Event,
    Histogram,
    JsonSink,
    Level,
    Log,
    LogConfig,
    RingSink,
    Sample,
    flatten,
    rfc3339_ms,
    wants_colour,
)
from arc.telemetry.events import VALUE_CHARS_MAX

NOON_US = 1_732_276_800_123_999
"""2024-11-22T12:00:00.123999Z; the last three digits must not round up."""


def at_noon() -> int:
    return NOON_US


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


# -------------------------------------------------------------------------------------------------------------- log


def test_json_line_has_the_four_names_then_the_fields() -> None:
    stream = io.StringIO()
    Log([JsonSink(stream)], at_noon).bind(component="wal").info("segment_rotated", path="wal/7", bytes=64)
    assert json_lines(stream) == [
        {
            "time": "2024-11-22T12:00:00.123Z",
            "level": "info",
            "component": "wal",
            "message": "segment_rotated",
            "path": "wal/7",
            "bytes": 64,
        }
    ]


def test_bound_fields_reach_every_event_and_later_ones_win() -> None:
    ring = RingSink(10)
    log = Log([ring], at_noon).bind(component="ingest", database="plant")
    child = log.bind(database="lab", measurement="boiler")
    child.info("first")
    child.info("second", database="attic")
    log.info("third")
    got = [dict(event.fields) for event in reversed(ring.select(limit=10))]
    assert got == [
        {"database": "lab", "measurement": "boiler"},
        {"database": "attic", "measurement": "boiler"},
        {"database": "plant"},
    ]
    assert {event.component for event in ring.select(limit=10)} == {"ingest"}


@pytest.mark.parametrize("level", LEVELS)
def test_level_lets_itself_and_higher_ones_through(level: Level) -> None:
    ring = RingSink(10)
    log = Log([ring], at_noon, level=level)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [event.level for event in reversed(ring.select(limit=10))] == list(LEVELS[LEVELS.index(level) :])


def test_closed_stream_is_counted_and_the_other_sinks_go_on() -> None:
    """A node whose terminal went away keeps its promises, and says how many lines nobody saw."""
    closed, ring = io.StringIO(), RingSink(10)
    closed.close()
    log = Log([JsonSink(closed), ConsoleSink(closed), ring], at_noon)
    log.bind(component="x").info("heard")
    assert [event.message for event in ring.select(limit=10)] == ["heard"]
    assert log.statistics().dropped_total == 2
    assert log.statistics().events_total == {"debug": 0, "info": 1, "warning": 0, "error": 0}


def test_stream_that_fails_is_counted() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    log = Log([JsonSink(Full())], at_noon)
    log.error("disk_full")
    assert log.statistics().dropped_total == 1


def test_mistake_inside_a_sink_is_not_hidden() -> None:
    """Only a broken stream is forgiven; a bug in our own code must be seen."""

    class Buggy:
        def write(self, event: Event) -> None:
            raise KeyError("ours")

    with pytest.raises(KeyError):
        Log([Buggy()], at_noon).info("x")


def test_field_named_like_a_column_keeps_both() -> None:
    stream = io.StringIO()
    Log([JsonSink(stream)], at_noon).info("x", time=7, level="raft", message="m")
    assert json_lines(stream)[0] == {
        "time": "2024-11-22T12:00:00.123Z",
        "level": "info",
        "component": "",
        "message": "x",
        "time_": 7,
        "level_": "raft",
        "message_": "m",
    }


def test_values_that_json_lacks_become_text() -> None:
    class Colour(Enum):
        RED = "red"

    stream = io.StringIO()
    Log([JsonSink(stream)], at_noon).info(
        "x",
        nan=float("nan"),
        error=ValueError("bad"),
        raw=b"\x00",
        items={1},
        colour=Colour.RED,
        lone="\ud800",
        none=None,
    )
    line = json_lines(stream)[0]
    del line["time"]
    assert line == {
        "level": "info",
        "component": "",
        "message": "x",
        "nan": "nan",
        "error": "ValueError: bad",
        "raw": "b'\\x00'",
        "items": [1],
        "colour": "red",
        "lone": "\ud800",
        "none": None,
    }


def test_long_value_is_cut_and_says_so() -> None:
    stream = io.StringIO()
    Log([JsonSink(stream)], at_noon).info("x", body="a" * (VALUE_CHARS_MAX + 5))
    body = json_lines(stream)[0]["body"]
    assert isinstance(body, str)
    assert body.endswith("… (5 more characters)")
    assert len(body) < VALUE_CHARS_MAX + 50


def test_console_line_reads_well() -> None:
    stream = io.StringIO()
    Log([ConsoleSink(stream)], at_noon).bind(component="wal").warning("slow_sync", seconds=1.5, path="a b", ok=True)
    assert stream.getvalue() == '2024-11-22T12:00:00.123Z WARNING wal        slow_sync seconds=1.5 path="a b" ok=true\n'


@pytest.mark.parametrize(
    ("value", "shown"), [("a=b", '"a=b"'), ("", '""'), ("a\\b", '"a\\\\b"'), ("ä–×", "ä–×"), (1, "1")]
)
def test_console_value_is_quoted_when_it_could_be_misread(value: object, shown: str) -> None:
    stream = io.StringIO()
    Log([ConsoleSink(stream)], at_noon).info("x", value=value)
    assert stream.getvalue().endswith(f" x value={shown}\n")


@given(st.text())
def test_no_value_can_forge_a_console_line(value: str) -> None:
    """Measurement names and SQL are chosen by strangers."""
    stream = io.StringIO()
    Log([ConsoleSink(stream)], at_noon).info("x", value=value, tail=1)
    line = stream.getvalue()
    assert line.endswith(" tail=1\n")
    assert line[:-1].isprintable()


@given(st.text())
def test_no_value_can_forge_a_json_line(value: str) -> None:
    stream = io.StringIO()
    Log([JsonSink(stream)], at_noon).info("x", value=value)
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    assert json_lines(stream)[0]["value"] == value


def test_colour_wraps_level_and_message_only_when_asked() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Log([ConsoleSink(plain), ConsoleSink(coloured, colour=True)], at_noon).error("x")
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[31mERROR" in coloured.getvalue()


@pytest.mark.parametrize(
    ("stream", "environment", "wanted"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_without_no_color(
    stream: io.StringIO, environment: Mapping[str, str], wanted: bool
) -> None:
    """no-color.org: present and not empty."""
    assert wants_colour(stream, environment) is wanted


def test_ring_forgets_the_oldest_and_filters() -> None:
    ring = RingSink(3)
    clock = iter(range(1, 10))
    log = Log([ring], lambda: next(clock), level="debug")
    log.error("first")
    log.info("second")
    log.debug("third")
    log.error("fourth")
    assert [event.message for event in ring.select(limit=10)] == ["fourth", "third", "second"]
    assert [event.message for event in ring.select(limit=2)] == ["fourth", "third"]
    assert [event.message for event in ring.select(limit=10, level="info")] == ["fourth", "second"]
    assert [event.message for event in ring.select(limit=10, since_us=3)] == ["fourth", "third"]


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (NOON_US, "2024-11-22T12:00:00.123Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_time_is_written_in_milliseconds_without_rounding_up(time_us: int, text: str) -> None:
    assert rfc3339_ms(time_us) == text


def test_ring_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="ring_events"):
        LogConfig(ring_events=0)


# ------------------------------------------------------------------------------------------------------- statistics


class Mode(Enum):
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Buffer:
    rows: int
    flushes_total: int = 0


@dataclass(frozen=True, slots=True)
class Query:
    latency_seconds: Distribution
    client_disconnects_total: Mapping[str, int] = field(metadata={"label": "path"})
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Node:
    uptime_seconds: float
    ready: bool
    mode: Mode
    buffers: Mapping[str, Buffer] = field(metadata={"label": "measurement"})
    query: Query
    recent: tuple[str, ...] = ("for status pages only",)


def a_node() -> Node:
    histogram = Histogram([0.1, 1.0])
    for seconds in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(seconds)
    return Node(
        uptime_seconds=1.5,
        ready=True,
        mode=Mode.OPEN,
        buffers={"boiler": Buffer(3, 4), 'we"ird': Buffer(5)},
        query=Query(latency_seconds=histogram.statistics(), client_disconnects_total={"/write": 2}),
    )


def test_tree_becomes_samples() -> None:
    spread = Distribution(bounds=(0.1, 1.0), counts=(2, 1, 1), sum=7.65)
    assert flatten(a_node()) == [
        Sample(name="arc_uptime_seconds", value=1.5, labels={}, kind="gauge"),
        Sample(name="arc_ready", value=1, labels={}, kind="gauge"),
        Sample(name="arc_mode_info", value=1, labels={"mode": "open"}, kind="info"),
        Sample(name="arc_buffers_rows", value=3, labels={"measurement": "boiler"}, kind="gauge"),
        Sample(name="arc_buffers_flushes_total", value=4, labels={"measurement": "boiler"}, kind="counter"),
        Sample(name="arc_buffers_rows", value=5, labels={"measurement": 'we"ird'}, kind="gauge"),
        Sample(name="arc_buffers_flushes_total", value=0, labels={"measurement": 'we"ird'}, kind="counter"),
        Sample(name="arc_query_latency_seconds", value=spread, labels={}, kind="histogram"),
        Sample(name="arc_query_client_disconnects_total", value=2, labels={"path": "/write"}, kind="counter"),
    ]
    assert spread.count == 4


def test_a_mapping_of_mappings_has_a_label_for_each() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Tree:
        nodes: Mapping[str, Mapping[str, int]] = field(metadata={"label": "role,state"})

    (sample,) = flatten(Tree(nodes={"writer": {"healthy": 3}}))
    assert (sample.name, sample.labels, sample.value) == ("arc_nodes", {"role": "writer", "state": "healthy"}, 3)


def test_statistic_that_nobody_can_see_is_a_mistake() -> None:
    @dataclass
    class Wrong:
        thing: object

    with pytest.raises(TypeError, match="arc_thing holds a object"):
        flatten(Wrong(object()))


def test_log_statistics_are_a_tree() -> None:
    log = Log([], at_noon)
    log.info("x")
    names = {(sample.name, sample.labels.get("level")): sample.value for sample in flatten(log.statistics())}
    assert names["arc_events_total", "info"] == 1
    assert names["arc_dropped_total", None] == 0


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_every_observed_value_lands_in_the_bucket_that_holds_it(values: list[float]) -> None:
    bounds = (0.0, 1.0, 10.0)
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    spread = histogram.statistics()
    for index, bound in enumerate(bounds):
        assert sum(spread.counts[: index + 1]) == sum(value <= bound for value in values)
    assert spread.count == len(values)
    assert spread.sum == pytest.approx(sum(values))
