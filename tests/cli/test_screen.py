"""A person gets boxes, a pipe gets tabs, and no stored value can move the cursor."""

from __future__ import annotations

import io

import pytest

from arc.cli.exits import Failure
from arc.cli.screen import Screen, counted, progress_bar, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(stream: type[io.StringIO] = io.StringIO, *, json: bool = False) -> Screen:
    return Screen(out=stream(), err=stream(), json=json)


def text(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_a_pipe_gets_tab_separated_lines() -> None:
    found = screen()
    found.table(("name", "n"), [("a b", 1), (None, 2.5)])
    assert text(found.out) == "name\tn\na b\t1\n\t2.5\n"


def test_a_terminal_gets_a_box_with_numbers_to_the_right() -> None:
    found = screen(Terminal)
    found.table(("name", "n"), [("abc", 1), ("d", 1000), ("e", None)])
    body = text(found.out)
    assert "╭" in body
    assert "│ abc  │    1 │" in body
    assert "│ d    │ 1000 │" in body
    assert "NULL" in body


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_control_characters_of_values_and_names_are_shown_not_obeyed(stream: type[io.StringIO]) -> None:
    found = screen(stream)
    found.table(("evil\x1b[2J",), [("x\x1b]0;owned\x07\ny\tz",)])
    body = text(found.out)
    assert "\x1b]0;owned" not in body
    assert "\x1b[2J" not in body
    assert "x\\x1b]0;owned\\x07\\ny\\tz" in body


def test_markup_in_values_is_text() -> None:
    found = screen(Terminal)
    found.table(("a",), [("[red]x[/red] :smile:",)])
    found.note("[bold]n[/bold]")
    assert "[red]x[/red] :smile:" in text(found.out)
    assert "[bold]n[/bold]" in text(found.err)


def test_no_color_takes_the_colour_away(monkeypatch: pytest.MonkeyPatch) -> None:
    coloured, plain = screen(Terminal), screen(Terminal)
    coloured.fail(Failure("broken"))
    monkeypatch.setenv("NO_COLOR", "1")
    plain.fail(Failure("broken"))
    assert "31m" in text(coloured.err)
    assert "31m" not in text(plain.err)
    assert "broken" in text(plain.err)


def test_a_failure_says_cause_effect_and_next_step_on_stderr() -> None:
    found = screen()
    found.fail(Failure("the disk is full", effect="Nothing was stored.", next_step="Free space."))
    assert text(found.err) == "error: the disk is full\neffect: Nothing was stored.\nnext: Free space.\n"
    assert text(found.out) == ""


def test_a_failure_is_a_document_when_json_was_asked_for() -> None:
    found = screen(json=True)
    found.fail(Failure("x", code="c", exit_code=4))
    assert text(found.out) == ('{"success": false, "error": "x", "effect": "", "next": "", "code": "c", "exit": 4}\n')
    assert text(found.err) == ""


def test_a_bar_is_drawn_for_people_only() -> None:
    for found in (screen(), screen(Terminal, json=True)):
        with progress_bar(found, "file", 100) as bar:
            bar.advance(50)
        assert text(found.err) == ""
    drawn = screen(Terminal)
    with progress_bar(drawn, "file", 100) as bar:
        bar.advance(100)
    assert "file" in text(drawn.err)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (["a", 1], '["a", 1]'),
        ("é", "é"),
        ("\u202e", "\\u202e"),
    ],
)
def test_values_as_text(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_counted() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 12000)] == ["0 rows", "1 row", "2 rows", "12,000 rows"]
