"""What every test may need: opt-in for the outside oracle, a bounded Hypothesis, and a log that nobody has to read."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from arc.telemetry import Log, RingSink

# Two slow cores shared with others: no deadline per example (it would measure the neighbours), few examples by default.
# HYPOTHESIS_PROFILE=long is for a quiet machine and `make fuzz`.
settings.register_profile("short", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The simulator's files come first: some compute for minutes, and would be alone at the end.

    The oracle is a program that not everybody has: it runs when asked for, and says so when not.
    """
    items.sort(key=lambda item: item.path.parent.name != "simulations")
    if os.environ.get("ARC_ORACLE") == "1":
        return
    for item in items:
        if item.get_closest_marker("oracle"):
            item.add_marker(pytest.mark.skip(reason="compares with an outside influxd: set ARC_ORACLE=1 to run"))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the collector need not walk it again and again, as in `arc serve`."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture
def events() -> RingSink:
    """What the code under test logged, newest first: ``events.select(limit=10)``."""
    return RingSink(1000)


@pytest.fixture
def log(events: RingSink) -> Log:
    """A log into ``events`` whose clock stands at 1 second after 1970."""
    return Log([events], lambda: 1_000_000, level="debug")
