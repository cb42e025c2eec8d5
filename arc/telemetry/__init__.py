"""What a running node tells about itself: events with fields, and trees of numbers. Standard library only."""

from arc.telemetry.events import LEVELS, Event, Level, plain, rfc3339_ms
from arc.telemetry.log import Log, LogConfig, LogStatistics, Sink
from arc.telemetry.sinks import ConsoleSink, JsonSink, RingSink, wants_colour
from arc.telemetry.statistics import (
    DISK_BOUNDS,
    LATENCY_BOUNDS,
    LONG_BOUNDS,
    Distribution,
    Histogram,
    Sample,
    flatten,
)

__all__ = [
    "DISK_BOUNDS",
    "LATENCY_BOUNDS",
    "LEVELS",
    "LONG_BOUNDS",
    "ConsoleSink",
    "Distribution",
    "Event",
    "Histogram",
    "JsonSink",
    "Level",
    "Log",
    "LogConfig",
    "LogStatistics",
    "RingSink",
    "Sample",
    "Sink",
    "flatten",
    "plain",
    "rfc3339_ms",
    "wants_colour",
]
