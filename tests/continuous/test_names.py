"""Names of results, and which files a new result replaces: all of the old one, or it is refused."""

from __future__ import annotations

import pytest

from arc.catalog.cells import parse_path
from arc.continuous.names import ResultName, read_name, result_path, to_replace
from arc.continuous.progress import OpenWindow
from arc.continuous.statement import Span, counting, moment_text, statement_for
from arc.errors import Conflict
from arc.storage.files import FileEntry
from arc.storage.paths import epoch_of
from tests.catalog.facts import file
from tests.continuous.facts import HOUR_US, NOON_US, hours


def result(window: Span, *, hour: int | None = None, files: int = 1, query: int = 7, run: int = 1) -> FileEntry:
    """A file with rows of one hour of the day."""
    start = window[0] if hour is None else hours(hour)[0]
    path = result_path(
        "metrics", "cpu_1h", start // HOUR_US, epoch=3, run=run, node="n1", query=query, window=window, files=files
    )
    return file("x", measurement="cpu_1h", path=path, span_us=(start, start + 1))


def other(name: str, window: Span, *, first: int = 0, last: int = 0) -> FileEntry:
    hour = window[0] // HOUR_US
    return file(name, hour=hour, measurement="cpu_1h", span_us=(window[0], window[1] - 1), first=first, last=last)


def flushed(window: Span) -> FileEntry:
    return other("0000000003-00000000000009-n1", window, first=5, last=9)


def merged(window: Span) -> FileEntry:
    return other("0000000003-00000000000009-n1@daily.0000", window, first=5, last=9)


def deleted_from(window: Span) -> FileEntry:
    """Written again without some of its rows, by whoever deletes rows; what it held before cannot be told."""
    return other("0000000003-00000000000009-n1", window)


def test_a_name_says_which_window_and_query_and_how_many_files() -> None:
    entry = result(hours(0, 24), hour=5, files=12, run=99)
    assert read_name(entry.path) == ResultName("0000000003-00000000000099-n1", 7, hours(0, 24), 12)
    assert epoch_of(entry.path) == 3
    assert parse_path(entry.path) is not None
    before_1970 = result_path("m", "c", -1, epoch=3, run=1, node="a@cq.1.2.3.4", query=1, window=(-HOUR_US, 0), files=1)
    found = read_name(before_1970)
    assert found is not None and found.window == (-HOUR_US, 0)
    for plain in (flushed(hours(1)), merged(hours(1))):
        assert read_name(plain.path) is None


WINDOW = hours(11)
DONE = (hours(0, 12),)


@pytest.mark.parametrize(
    ("files", "known", "done", "replaced"),
    [
        pytest.param([], None, (), 0, id="never executed"),
        pytest.param([merged(WINDOW)], None, (), 0, id="never executed, others' rows"),
        pytest.param([result(WINDOW)], None, DONE, 1, id="one result"),
        pytest.param([result(WINDOW), flushed(WINDOW)], None, DONE, 1, id="ingested rows hold no result"),
        pytest.param([result(WINDOW), merged(WINDOW)], None, DONE, 1, id="whole, so none of it was merged"),
        pytest.param([result(WINDOW), merged(hours(9))], None, DONE, 1, id="merged elsewhere"),
        pytest.param([result(WINDOW), result(WINDOW, query=8)], None, DONE, 1, id="another query's"),
        pytest.param([result(hours(10)), result(hours(9))], None, DONE, 0, id="other windows"),
        pytest.param([merged(WINDOW)], OpenWindow(*WINDOW, 0, 0), DONE, 0, id="open, known to have no file"),
        pytest.param([result(WINDOW)], OpenWindow(*WINDOW, 9, 2), DONE, 1, id="the other went by retention"),
    ],
)
def test_a_new_result_replaces_the_whole_old_one(
    files: list[FileEntry], known: OpenWindow | None, done: tuple[Span, ...], replaced: int
) -> None:
    found = to_replace(7, WINDOW, files, done=done, known=known, has_strays=False)
    assert len(found) == replaced
    assert all(read_name(entry.path).query == 7 for entry in found)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("files", "known", "has_strays"),
    [
        pytest.param([merged(WINDOW)], None, False, id="all of it may be merged"),
        pytest.param([deleted_from(WINDOW)], None, False, id="or rewritten"),
        pytest.param([result(WINDOW, files=2), merged(WINDOW)], None, False, id="a part of it may be"),
        pytest.param([merged(WINDOW)], OpenWindow(*WINDOW, 9, 1), False, id="open, and its file is gone"),
        pytest.param([merged(hours(2))], None, True, id="its rows may be anywhere"),
        pytest.param([result(hours(0, 24), hour=3)], None, False, id="it reaches beyond the window"),
    ],
)
def test_what_can_not_be_taken_back_is_not_replaced(
    files: list[FileEntry], known: OpenWindow | None, has_strays: bool
) -> None:
    with pytest.raises(Conflict) as caught:
        to_replace(7, WINDOW, files, done=DONE, known=known, has_strays=has_strays)
    assert caught.value.code == "merged"


def test_placeholders_become_quoted_moments_whether_or_not_they_stood_in_quotes() -> None:
    text = statement_for("a >= {start_time} AND a < '{end_time}'", (NOON_US, NOON_US + 1_500))
    assert text == "a >= '2026-01-01T12:00:00Z' AND a < '2026-01-01T12:00:00.001500Z'"
    assert moment_text(0) == "1970-01-01T00:00:00Z"


def test_counts_of_several_windows_are_one_statement_that_can_be_pruned() -> None:
    text = counting("metrics", "disk io", [hours(1), hours(5)])
    assert text.count("FILTER") == 2
    assert text.endswith(
        """FROM "metrics"."disk io" WHERE time >= '2026-01-01T01:00:00Z' AND time < '2026-01-01T06:00:00Z'"""
    )
