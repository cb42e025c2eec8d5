"""What Tab offers depends on what stands before the cursor."""

from __future__ import annotations

import pytest

from arc.cli.completing import Schema, candidates, quoted
from arc.cli.exits import Failure

ANSWERS = {
    "SHOW DATABASES": [["default"], ["demo"]],
    "SHOW TABLES": [["default", "cpu"], ["default", "my-table"]],
    "SHOW TABLES FROM demo": [["demo", "disk"]],
    "DESCRIBE cpu": [["time"], ["host"], ["Usage"]],
    "DESCRIBE demo.disk": [["time"], ["device"]],
}


class Node:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, sql: str) -> list[list[str]]:
        self.asked.append(sql)
        if sql not in ANSWERS:
            raise Failure("no such thing")
        return ANSWERS[sql]


@pytest.mark.parametrize(
    ("text", "word", "some"),
    [
        ("sel", "sel", ["SELECT"]),
        ("SELECT * FROM ", "", ["cpu", '"my-table"', "default", "demo"]),
        ("SELECT * FROM c", "c", ["cpu"]),
        ("SELECT * FROM demo.", "", ["disk"]),
        ("SELECT * FROM demo.d", "d", ["disk"]),
        ("SELECT * FROM cpu WHERE ho", "ho", ["host"]),
        ("SELECT * FROM cpu WHERE ", "", ["time", "host", '"Usage"']),
        ("SELECT * FROM demo.disk WHERE dev", "dev", ["device"]),
        ("SELECT * FROM cpu c WHERE c.ho", "ho", ["host"]),
        ("SELECT * FROM nothing WHERE lim", "lim", ["LIMIT"]),
        ("\\d", "\\d", ["\\d", "\\dt"]),
        ("\\use d", "d", ["default", "demo"]),
        ("\\d c", "c", ["cpu"]),
    ],
)
def test_candidates(text: str, word: str, some: list[str]) -> None:
    found_word, found = candidates(text, Schema(Node()))
    assert found_word == word
    assert [name for name in found if name in some] == some


def test_the_node_is_asked_once_per_name_also_when_it_refuses() -> None:
    node = Node()
    schema = Schema(node)
    for _ in range(3):
        candidates("SELECT * FROM nothing WHERE x", schema)
        candidates("SELECT * FROM cpu WHERE x", schema)
    assert node.asked == ["DESCRIBE nothing", "DESCRIBE cpu"]
    schema.forget()
    candidates("SELECT * FROM cpu WHERE x", schema)
    assert node.asked[-1] == "DESCRIBE cpu"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cpu", "cpu"),
        ("CPU", '"CPU"'),
        ("my-table", '"my-table"'),
        ('a"b', '"a""b"'),
        ("select", '"select"'),
        ("1a", '"1a"'),
    ],
)
def test_names_are_quoted_when_sql_needs_it(name: str, text: str) -> None:
    assert quoted(name) == text
