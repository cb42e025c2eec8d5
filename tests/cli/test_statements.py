"""A statement ends at its semicolon, not at one inside of a text, a name or a comment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.cli.sql import scripted
from arc.cli.statements import is_open, split


@pytest.mark.parametrize(
    ("text", "done", "rest"),
    [
        ("select 1;", ["select 1"], ""),
        ("select 1; select 2", ["select 1"], " select 2"),
        ("select ';';", ["select ';'"], ""),
        ("select 'it''s; fine';x", ["select 'it''s; fine'"], "x"),
        ('select ";" from "a;b";', ['select ";" from "a;b"'], ""),
        ("select 1 -- no; end\n;", ["select 1 -- no; end"], ""),
        ("select /* ; */ 1;", ["select /* ; */ 1"], ""),
        ("select 'open;", [], "select 'open;"),
        ("select /* open;", [], "select /* open;"),
        (";;  ; -- nothing;\n;", [], ""),
        ("select 3-2;select 6/3;", ["select 3-2", "select 6/3"], ""),
    ],
)
def test_split(text: str, done: list[str], rest: str) -> None:
    assert split(text) == (done, rest)


@given(st.text(alphabet="a'\";-/*\n ", max_size=60))
def test_nothing_but_semicolons_space_and_comments_gets_lost(text: str) -> None:
    done, rest = split(text)
    again, last = split("\n;".join([*done, rest]))  # A statement may end with a comment, which a line ends.
    assert again == done
    assert last == rest


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("", False), ("  ", False), ("\\dt", False), ("select 1", True), ("select 1;", False), ("select ';", True),
     ("select 1; select", True), ("-- only a comment", False)],
)  # fmt: skip
def test_the_shell_asks_for_another_line_only_when_something_was_begun(text: str, wanted: bool) -> None:
    assert is_open(text) is wanted


def test_a_script_may_mix_commands_and_statements() -> None:
    text = "\\use demo\nselect 1;\nselect\n  2; select 3;\n\\dt\nselect 'a\\b'\n"
    found = list(scripted(iter(text.splitlines(keepends=True))))
    assert found == ["\\use demo", "select 1", "select\n  2", "select 3", "\\dt", "select 'a\\b'"]
