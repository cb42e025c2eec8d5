"""What a command shows: results on stdout, everything else on stderr; colour and boxes only for a terminal.

A result is a table for people, tab-separated text for a pipe, or one JSON document with ``--json``. Text that came from
a database is shown with its control characters escaped: a stored value must not move the cursor or forge a line.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from arc.cli.exits import Failure

if TYPE_CHECKING:
    from rich import progress
    from rich.console import Console, RenderableType

Row = Sequence[object]


@dataclass(slots=True)
class Wanted:
    """What the flags of this run ask for; one object a run, filled while flags are read."""

    json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """The two streams of one run and how they may be used."""

    out: TextIO
    err: TextIO
    json: bool

    @classmethod
    def of(cls, wanted: Wanted) -> Screen:
        """The process's own streams."""
        return cls(out=sys.stdout, err=sys.stderr, json=wanted.json)

    @property
    def out_is_terminal(self) -> bool:
        """Whether a person reads the result."""
        return self.out.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def err_is_terminal(self) -> bool:
        """Whether progress may be drawn."""
        return self.err.isatty() and os.environ.get("TERM") != "dumb"

    def console(self, stream: TextIO) -> Console:
        """A rich console; it honours NO_COLOR itself."""
        from rich.console import Console

        return Console(file=stream, highlight=False, markup=False, emoji=False)

    def document(self, value: object) -> None:
        """The one JSON document of this run, on stdout."""
        print(json.dumps(value, ensure_ascii=False, default=str), file=self.out, flush=True)

    def line(self, text: str = "") -> None:
        """One line of the result."""
        print(text, file=self.out, flush=True)

    def note(self, text: str = "") -> None:
        """One line beside the result, dim on a terminal."""
        if self.err_is_terminal:
            self.console(self.err).print(text, style="dim", soft_wrap=True)
        else:
            print(text, file=self.err, flush=True)

    def title(self, text: str) -> None:
        """A heading between results."""
        if self.out_is_terminal:
            self.console(self.out).print(f"\n{text}", style="bold", soft_wrap=True)
        else:
            self.line(f"\n# {text}")

    def table(self, columns: Sequence[str], rows: Iterable[Row], *, plain: bool = False) -> None:
        """Rows under their column names: a box with right-aligned numbers on a terminal, else tab-separated lines."""
        if self.out_is_terminal and not plain:
            self.console(self.out).print(boxed(columns, list(rows)))
            return
        self.out.write("\t".join(map(shown, columns)) + "\n")
        for row in rows:
            self.out.write("\t".join(map(shown, row)) + "\n")
        self.out.flush()

    def framed(self, title: str, text: str) -> None:
        """A note on stderr that must not be overlooked."""
        if self.err_is_terminal:
            from rich.panel import Panel
            from rich.text import Text

            self.console(self.err).print(Panel(Text(text, overflow="fold"), title=title, border_style="yellow"))
            return
        rule = "=" * 80
        print(f"{rule}\n{title}\n{text}\n{rule}", file=self.err, flush=True)

    def fail(self, failure: Failure) -> None:
        """The message of a failure: JSON on stdout when that was asked for, and on stderr for people otherwise."""
        if self.json:
            self.document(failure.document())
            return
        if self.err_is_terminal:
            from rich.text import Text

            text = Text.assemble(("error: ", "bold red"), (failure.cause, "red"))
            self.console(self.err).print(text, soft_wrap=True)
        else:
            print(f"error: {failure.cause}", file=self.err, flush=True)
        for name, value in (("effect", failure.effect), ("next", failure.next_step)):
            if value:
                self.note(f"{name}: {value}")


class Bar(Protocol):
    """Tells how far something is."""

    def advance(self, amount: int) -> None:
        """So much more is done."""
        ...


class _Silent:
    def advance(self, amount: int) -> None:
        """Nobody looks."""


class _Drawn:
    def __init__(self, bar: progress.Progress, task: progress.TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, amount: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, advance=amount)


@contextmanager
def progress_bar(screen: Screen, title: str, total: int | None, *, unit: str = "bytes") -> Iterator[Bar]:
    """A bar on stderr, when a person looks at it. ``total`` None: nobody knows how much will come."""
    if not screen.err_is_terminal or screen.json:
        yield _Silent()
        return
    from rich import progress

    numbers: tuple[progress.ProgressColumn, ...] = (
        progress.MofNCompleteColumn(),
        progress.TextColumn(unit),
    )
    if unit == "bytes":
        numbers = (progress.DownloadColumn(binary_units=True), progress.TransferSpeedColumn())
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        *numbers,
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=screen.console(screen.err), transient=True) as bar:
        yield _Drawn(bar, bar.add_task(title, total=total))


def size(count: int) -> str:
    """Bytes for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def counted(count: int, noun: str) -> str:
    """``1 row``, ``12,000 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shown(value: object) -> str:
    """One value as text on one line: nothing for NULL, no control characters."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value if value.isprintable() else "".join(map(_visible, value))
        case list() | dict():
            return shown(json.dumps(value, ensure_ascii=False, default=str))
        case _:
            return str(value)


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def boxed(columns: Sequence[str], rows: Sequence[Row]) -> RenderableType:
    """Rows as a box with right-aligned numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.ROUNDED, header_style="bold")
    for nth, name in enumerate(columns):
        numbers = [row[nth] for row in rows if row[nth] is not None]
        right = bool(numbers) and all(map(_is_number, numbers))
        table.add_column(Text(shown(name)), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("NULL", style="dim") if value is None else Text(shown(value)) for value in row))
    return table
