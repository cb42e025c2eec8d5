"""How far a continuous query was carried out, and what came of its last executions: one text in the catalog. Pure.

It changes in the same entry of the log as the files that it speaks of, so it is never ahead of them nor behind. Every
change expects the text it was made from; of two executions that ran at once, one is refused and looks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace

from arc.catalog.facts import Catalog
from arc.catalog.policies import Policy
from arc.continuous.definition import OPEN_MAX, ContinuousQuery
from arc.continuous.statement import Span
from arc.errors import TooLarge

KIND = "continuous_progress"
"""Kind of its policy in the catalog, which is named by the query's id."""

RUNS_KEPT = 50
GAPS_MAX = 200
ERROR_CHARS_MAX = 200
BEGIN_BEFORE_US = 3_600_000_000
"""A new query begins with the window that an hour before it was made falls into, as Arc in Go does."""


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of one window. ``status`` is ``completed`` or ``failed``; ``cause`` is ``schedule``, ``late``
    (rows came behind it) or ``order``. A failed run wrote nothing.
    """

    id: int
    execution_id: str
    at_us: int
    cause: str
    status: str
    start_us: int
    end_us: int
    rows_read: int
    rows_written: int
    milliseconds: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window that late rows still change. At least so many ``rows`` of the source are in its result, which has so
    many ``files``.
    """

    start_us: int
    end_us: int
    rows: int
    files: int

    @property
    def span(self) -> Span:
        """The window itself."""
        return self.start_us, self.end_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``until_us`` is where the schedule goes on. ``done`` are the spans with a result, ascending and apart; ``open``
    is ascending. ``has_strays``: some result had rows with a time outside of their window. ``runs``: newest first.
    """

    until_us: int
    done: tuple[Span, ...] = ()
    open: tuple[OpenWindow, ...] = ()
    has_strays: bool = False
    runs: tuple[Run, ...] = ()
    updated_us: int = 0

    def open_at(self, window: Span) -> OpenWindow | None:
        """The window, if it is open."""
        return next((each for each in self.open if each.span == window), None)

    def with_result(self, window: Span, *, rows: int, files: int, is_open: bool, has_strays: bool) -> Progress:
        """After a window was executed. Raises TooLarge when what is done has too many gaps to be remembered."""
        done = merged([*self.done, window])
        if len(done) > GAPS_MAX:
            raise TooLarge(f"more than {GAPS_MAX} separate spans were filled back; fill what lies between them first")
        left = [each for each in self.open if not overlap(each.span, window)]
        if is_open:
            left.append(OpenWindow(*window, rows, files))
        newest = sorted(left, key=lambda each: each.start_us)[-OPEN_MAX:]
        until = next((end for start, end in done if start <= self.until_us < end), self.until_us)
        return replace(
            self,
            until_us=until,
            done=done,
            open=tuple(newest),
            has_strays=self.has_strays or has_strays,
        )

    def without_open(self, closed: Iterable[Span]) -> Progress:
        """After windows closed with nothing new in them."""
        gone = set(closed)
        return replace(self, open=tuple(each for each in self.open if each.span not in gone))

    def with_run(self, run: Run) -> Progress:
        """With one more in the history; the oldest are forgotten."""
        number = max((each.id for each in self.runs), default=0) + 1
        error = "".join(filter(str.isprintable, " ".join(run.error.split()))) if run.error is not None else None
        numbered = replace(run, id=number, error=error[:ERROR_CHARS_MAX] if error is not None else None)
        return replace(self, runs=(numbered, *self.runs)[:RUNS_KEPT])


def body_of(progress: Progress) -> str:
    """As it is kept: short, because every window writes it."""
    document = {
        "until_us": progress.until_us,
        "done": progress.done,
        "open": [astuple(each) for each in progress.open],
        "has_strays": progress.has_strays,
        "runs": [astuple(run) for run in progress.runs],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def read(policy: Policy) -> Progress:
    """The other way round."""
    document = json.loads(policy.body)
    return Progress(
        until_us=document["until_us"],
        done=tuple((start, end) for start, end in document["done"]),
        open=tuple(OpenWindow(*each) for each in document["open"]),
        has_strays=document["has_strays"],
        runs=tuple(Run(*each) for each in document["runs"]),
        updated_us=policy.updated_us,
    )


def progress_of(catalog: Catalog, query: ContinuousQuery) -> Progress:
    """How far a query is; before its first window that follows from the query alone."""
    kept = catalog.policies.get((KIND, str(query.id)))
    if kept is not None:
        return read(kept)
    return Progress(until_us=query.schedule.floor(query.created_us - BEGIN_BEFORE_US))


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same moments in as few spans as can be, ascending."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def overlap(one: Span, other: Span) -> bool:
    """Whether two spans share a moment."""
    return one[0] < other[1] and other[0] < one[1]
