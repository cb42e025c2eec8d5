"""``arc sql``: a small shell; with a keyboard it has history and completion, without one it runs what is on stdin."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli import statements
from arc.cli.asking import Answer, ask, show, tell_time
from arc.cli.completing import Schema, candidates
from arc.cli.connect import open_client
from arc.cli.exits import USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.query import ROWS_SHOWN
from arc.cli.screen import Screen

if TYPE_CHECKING:
    import httpx
    from prompt_toolkit import PromptSession

HELP = """\
\\d [NAME]   columns of a measurement; without a name all measurements
\\dt         measurements of the database in use
\\l          databases
\\use NAME   use a database for names without one; without a name: none
\\timing     show times, or do not
\\q          leave (or Ctrl-D)
A statement ends with a semicolon and may take several lines. Tab completes, Ctrl-R searches what was typed before."""


class Leave(Exception):
    """The user has seen enough."""


class Shell:
    """One conversation with one node."""

    def __init__(self, client: httpx.Client, screen: Screen, *, database: str | None, rows_max: int) -> None:
        self.client = client
        self.screen = screen
        self.database = database
        self.rows_max = rows_max
        self.timing = True
        self.schema = Schema(lambda sql: ask(client, sql, database=self.database).rows)
        self.answers: list[dict[str, object]] = []

    def run(self, text: str) -> None:
        """Run one command or statement. Raises Failure, Leave."""
        if text.startswith("\\"):
            name, _, argument = text.rstrip("; \t\n").partition(" ")
            self._command(name, argument.strip())
        else:
            self._show(text)

    def _command(self, name: str, argument: str) -> None:
        commands: dict[str, Callable[[str], None]] = {
            "\\d": self._describe,
            "\\dt": lambda _: self._show("SHOW TABLES"),
            "\\l": lambda _: self._show("SHOW DATABASES"),
            "\\use": self._use,
            "\\timing": self._timing,
            "\\q": self._leave,
            "\\?": lambda _: self.screen.line(HELP),
            "\\h": lambda _: self.screen.line(HELP),
        }
        command = commands.get(name)
        if command is None:
            raise Failure(f"no command {name}", next_step="\\? lists them all.", exit_code=USAGE, code="usage")
        command(argument)

    def _describe(self, name: str) -> None:
        self._show(f"DESCRIBE {name}" if name else "SHOW TABLES")

    def _use(self, name: str) -> None:
        if name and name not in self.schema.databases():
            self.schema.forget()
            if name not in self.schema.databases():
                raise Failure(
                    f"no database {name}", next_step="\\l lists them; writing to one makes it.", code="not_found"
                )
        self.database = name or None
        self.schema.forget()

    def _timing(self, _: str) -> None:
        self.timing = not self.timing
        self.screen.note(f"timing is {'on' if self.timing else 'off'}")

    def _leave(self, _: str) -> None:
        raise Leave

    def _show(self, sql: str) -> None:
        answer = ask(self.client, sql, database=self.database)
        if self.screen.json:
            self.answers.append(_document(sql, answer))
            return
        show(self.screen, answer, rows_max=self.rows_max)
        if self.timing:
            tell_time(self.screen, answer)


def sql(
    context: typer.Context,
    db: Annotated[str | None, typer.Option("--db", "-d", help="Database to use first.", metavar="NAME")] = None,
    rows: Annotated[int, typer.Option(help="Rows that a terminal is shown at most.", min=1)] = ROWS_SHOWN,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Ask a node in SQL, statement by statement.

    Without a keyboard the statements on standard input are run, up to the first that fails.
    """
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        shell = Shell(client, screen, database=db, rows_max=rows)
        if sys.stdin.isatty() and screen.out_is_terminal and not json:
            _talk(shell, endpoint)
        else:
            _run_all(shell)
    if screen.json:
        screen.document({"success": True, "results": shell.answers})


def _run_all(shell: Shell) -> None:
    try:
        for text in scripted(sys.stdin):
            shell.run(text)
    except Leave:
        pass


def scripted(source: Iterator[str]) -> Iterator[str]:
    """The commands and statements of a text that comes line by line; the last one may lack its semicolon."""
    held = ""
    for line in source:
        if not statements.is_something(held) and line.lstrip().startswith("\\"):
            yield line.strip()
            continue
        done, held = statements.split(held + line)
        yield from done
    if statements.is_something(held):
        yield held.strip()


def _talk(shell: Shell, endpoint: str) -> None:
    session = _session(shell)
    shell.screen.line(f"{endpoint}; \\? for help, \\q to leave")
    while True:
        try:
            text = session.prompt(f"{shell.database or 'arc'}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        try:
            for one in scripted(iter(text.splitlines(keepends=True))):
                shell.run(one)
        except Leave:
            return
        except KeyboardInterrupt:
            shell.screen.note("cancelled")  # the connection is closed, and the node stops the query
        except Failure as failure:
            shell.screen.fail(failure)


def _session(shell: Shell) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.application import get_app
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.filters import Condition
    from prompt_toolkit.history import FileHistory

    class FromSchema(Completer):
        """Asks `completing`."""

        def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
            word, found = candidates(document.text_before_cursor, shell.schema)
            return (Completion(name, start_position=-len(word)) for name in found)

    return PromptSession(
        history=FileHistory(str(history_path())),
        completer=FromSchema(),
        complete_while_typing=False,
        complete_in_thread=True,
        multiline=Condition(lambda: statements.is_open(get_app().current_buffer.text)),
        prompt_continuation=lambda width, number, soft: "… ".rjust(width),
        enable_open_in_editor=True,
    )


def history_path() -> Path:
    """Where typed statements are kept (XDG base directories); readable for its owner alone."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(base) / "arc" / "sql_history"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    return path


def _document(sql: str, answer: Answer) -> dict[str, object]:
    return {
        "sql": sql,
        "columns": answer.columns,
        "data": answer.rows,
        "row_count": len(answer.rows),
        "execution_time_ms": answer.engine_ms,
    }
