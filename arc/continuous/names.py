"""What the file of a result is called, which files a window has, and which of them nobody else may merge. Pure.

``<epoch>-<run>-<node>@cq.<query>.<start>.<end>.<files>.parquet``, in the hour folder of its rows: the window is found
again by the name alone, and with the number of its files it can be told whether the result is still whole. Once files
were merged with others their rows cannot be taken back, so a window whose result may be among them is not executed
again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from arc.catalog.facts import Catalog
from arc.continuous.definition import definitions
from arc.continuous.progress import OpenWindow, overlap, progress_of
from arc.continuous.statement import Span
from arc.errors import Conflict
from arc.storage.files import FileEntry
from arc.storage.paths import hour_folder, quote_part

MERGED = "merged"
"""Code of the Conflict that says that a result cannot be replaced any more."""

RUNS = 10**14
"""Numbers of runs lie below this: as many digits as the sequence in the name of a flushed file."""

_RESULT = re.compile(
    r"(?P<run>[0-9]{10,}-[0-9]{14}-[^@/]+)@cq\.(?P<query>[0-9]+)\.(?P<start>-?[0-9]+)\.(?P<end>-?[0-9]+)\.(?P<files>[0-9]+)\.parquet"
)


@dataclass(frozen=True, slots=True)
class ResultName:
    """What the name of a result's file says; ``files`` is how many the result has."""

    run: str
    query: int
    window: Span
    files: int


def result_path(
    database: str, measurement: str, hour: int, *, epoch: int, run: int, node: str, query: int, window: Span, files: int
) -> str:
    """The path of the file with one hour of a result."""
    assert 0 <= run < RUNS, run
    stem = f"{epoch:010d}-{run:014d}-{quote_part(node)}@cq.{query}.{window[0]}.{window[1]}.{files}"
    return f"{hour_folder(database, measurement, hour)}/{stem}.parquet"


def read_name(path: str) -> ResultName | None:
    """What a name says; None when it is no file of a result."""
    if "@cq." not in path:
        return None
    match = _RESULT.fullmatch(path.rpartition("/")[2])
    if match is None:
        return None
    return ResultName(match["run"], int(match["query"]), (int(match["start"]), int(match["end"])), int(match["files"]))


def open_files(catalog: Catalog) -> Callable[[FileEntry], bool]:
    """Which files belong to windows that may be executed again: whoever merges files leaves these alone.

    Of one version of the catalog; ask again for another one.
    """
    found: set[tuple[int, Span]] = set()
    for query in definitions(catalog):
        if query.is_active:
            found.update((query.id, each.span) for each in progress_of(catalog, query).open)

    def is_open(entry: FileEntry) -> bool:
        if not found:
            return False
        name = read_name(entry.path)
        return name is not None and (name.query, name.window) in found

    return is_open


def to_replace(
    query: int,
    window: Span,
    files: Iterable[FileEntry],
    *,
    done: Collection[Span],
    known: OpenWindow | None,
    has_strays: bool,
) -> list[FileEntry]:
    """The files that a new result of a window replaces. ``files`` are all of the destination; ``known`` is the window
    if it is open.

    Raises Conflict, code ``merged``: rows of the earlier result may be in files that hold other rows, too.
    """
    if not any(overlap(window, span) for span in done):
        return []
    own: list[tuple[ResultName, FileEntry]] = []
    suspicious = False
    for entry in files:
        name = read_name(entry.path)
        if name is None:
            touches = has_strays or (entry.min_time_us < window[1] and entry.max_time_us >= window[0])
            suspicious |= touches and not _is_flushed(entry)
        elif name.query == query and overlap(name.window, window):
            own.append((name, entry))
    _require_within(window, own)
    is_whole = len(own) == known.files if known is not None else _is_one_result(window, own)
    if suspicious and not is_whole:
        raise Conflict(
            "the result of this window may have been merged with other rows, and can not be replaced any more; delete "
            "its rows, and fill it into another measurement",
            code=MERGED,
        )
    return [entry for _, entry in own]


def _is_flushed(entry: FileEntry) -> bool:
    """Whether a file came from the write-ahead log, and so holds no row of a result."""
    return entry.first_sequence > 0 and "@" not in entry.path.rpartition("/")[2]


def _require_within(window: Span, own: Iterable[tuple[ResultName, FileEntry]]) -> None:
    for name, _ in own:
        if name.window[0] < window[0] or name.window[1] > window[1]:
            raise Conflict(
                "a result that was made under another interval reaches beyond this window; order a span that holds "
                "it whole under an interval that it fits in",
                code=MERGED,
            )


def _is_one_result(window: Span, own: Collection[tuple[ResultName, FileEntry]]) -> bool:
    """Whether all files of one result of exactly this window are there."""
    return len({name.run for name, _ in own}) == 1 and all(
        name.window == window and name.files == len(own) for name, _ in own
    )
