"""docs/parity.md cannot rot: every documented symbol of the Go package has one row, and every home is really there."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SYMBOLS = (ROOT / "tests/parity_symbols.txt").read_text().split()
ROW = re.compile(r"^\| `(?P<symbol>[\w.]+)` \| `(?P<home>[^`]+)` \| (?P<words>.+) \|$")
ROWS = [row for line in (ROOT / "docs/parity.md").read_text().splitlines() if (row := ROW.match(line))]


def home_of(text: str) -> object:
    """What ``module:attribute.attribute`` names, or the constructor's parameter behind ``#``. Raises where it is not
    there.
    """
    place, _, parameter = text.partition("#")
    module, colon, path = place.partition(":")
    if not (colon and path):
        raise ValueError(f"{text!r} is not module:attribute")
    found: object = reduce(getattr, path.split("."), importlib.import_module(module))
    if parameter:
        assert inspect.isclass(found), place
        return inspect.signature(found).parameters[parameter]
    return found


def test_every_symbol_has_exactly_one_row_and_no_row_is_of_anything_else() -> None:
    rows = [row["symbol"] for row in ROWS]
    assert len(SYMBOLS) > 200 and sorted(rows) == sorted(SYMBOLS)
    assert len(set(SYMBOLS)) == len(SYMBOLS)


def test_every_line_of_a_table_is_a_row_that_was_understood() -> None:
    lines = [line for line in (ROOT / "docs/parity.md").read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS)


@pytest.mark.parametrize("home", sorted({row["home"] for row in ROWS}))
def test_every_home_is_there(home: str) -> None:
    home_of(home)


@pytest.mark.parametrize(
    "home",
    [
        "arc.cluster.coordinator",
        "arc.cluster.coordinator:Coordinator.no_such_thing",
        "arc.cluster.no_such_module:Coordinator",
        "arc.cluster.coordinator:Coordinator#no_such_parameter",
    ],
)
def test_a_home_that_is_not_there_is_noticed(home: str) -> None:
    with pytest.raises((ValueError, AttributeError, ImportError, KeyError)):
        home_of(home)
