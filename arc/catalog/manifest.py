"""The manifest: which files are the data, and up to which WAL record they hold it (DURABILITY 5 and 8).

Files and marks move in one step or not at all, only in the epoch of the lease that may move them, and never so that a
row would be seen twice. A path must lie in the folder of its measurement, so no command can
point outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from arc.catalog import cells
from arc.catalog.cells import Cell, FileStats, MeasurementFiles, changed, parse_path
from arc.catalog.commands import RegisterFiles, ReplaceFiles
from arc.catalog.events import Event, FilesAdded, FilesRemoved, MarksMoved
from arc.catalog.persistent import frozen, thawed, with_item, without_item
from arc.catalog.results import Refusal, Step
from arc.catalog.values import FlushMark
from arc.storage.files import FileEntry, held_by
from arc.storage.paths import quote_part, unquote_part

Table = tuple[str, str]
"""(database, measurement)."""

Known = Callable[[str, str], bool]
"""Whether a measurement is declared."""

Member = Callable[[str], bool]
"""Whether a node is one of the cluster's, and so can hold a file that it wrote."""


@dataclass(frozen=True, slots=True)
class DatabaseFiles:
    """Files of one database by measurement.

    ``floor`` is below every flush mark here: what a dropped namesake left behind."""

    measurements: Mapping[str, MeasurementFiles] = field(default_factory=lambda: frozen({}))
    floor: int = 0


Manifest = Mapping[str, DatabaseFiles]

FILES_PER_COMMAND_MAX = 200_000
"""A flush of old data makes a file for every hour it touches, and must be one command.

20 years of hours in one flush.
"""

NOTHING = MeasurementFiles()
NO_FILES = DatabaseFiles()


def register(state: Manifest, command: RegisterFiles, known: Known, member: Member) -> Step[Manifest]:
    """Add flushed files, which their writer holds, and move marks. Raises Refusal; the caller has checked the epoch."""
    if not command.files and not command.flushed:
        return Step(state=state)
    _require_few(command.files)
    marks: dict[Table, int] = {}
    for mark in command.flushed:
        table = (mark.database, mark.measurement)
        if table in marks:
            raise Refusal("invalid", f"{'.'.join(table)} has two flush marks in one command")
        _require_known(known, table)
        _require_forward(mark_of(state, *table), mark)
        marks[table] = mark.sequence
    draft = _Draft(state, known)
    added: list[FileEntry] = []
    for file in command.files:
        table = (file.database, file.measurement)
        added.append(draft.add(held_at_first(file, member)))
        before = mark_of(state, *table)
        if file.last_sequence > 0 and not before < file.first_sequence <= file.last_sequence <= marks.get(
            table, before
        ):
            raise Refusal(
                "invalid",
                f"{file.path} holds WAL records {file.first_sequence}..{file.last_sequence}, but the flush mark of "
                f"{'.'.join(table)} moves from {before} to {marks.get(table, before)}: rows would be seen twice",
            )
    return Step(state=draft.finish(marks), events=_told(add=tuple(added), marks=command.flushed))


def replace(state: Manifest, command: ReplaceFiles, known: Known, member: Member) -> Step[Manifest]:
    """Swap files. Raises Refusal if one to remove is gone or another one; the caller has checked the epoch."""
    if not command.remove and not command.add:
        return Step(state=state)
    _require_few(command.add)
    _require_few(command.remove)
    draft = _Draft(state, known)
    gone = tuple(draft.remove(path, sha256) for path, sha256 in command.remove)
    added: list[FileEntry] = []
    for file in command.add:
        added.append(draft.add(held_at_first(file, member, command.holders)))
        mark = mark_of(state, file.database, file.measurement)
        if file.last_sequence > mark:
            raise Refusal("invalid", f"{file.path} holds WAL records above the flush mark {mark} of its measurement")
    return Step(state=draft.finish({}), events=_told(remove=gone, add=tuple(added)))


def held_at_first(file: FileEntry, member: Member, others: Collection[str] = ()) -> FileEntry:
    """The file as the manifest takes it in: whoever wrote it has it, and ``others`` do, as far as they are members."""
    holders = tuple(sorted(name for name in {file.origin, *others} if member(name)))
    return file if file.holders == holders else held_by(file, holders)


def drop_database(state: Manifest, name: str, up_to: int) -> Step[Manifest]:
    """Forget the files of a database. Its marks live on as a floor, so that its WAL records never come back to life."""
    old = state.get(name, NO_FILES)
    floor = max((old.floor, up_to, *(record.mark for record in old.measurements.values())))
    gone = tuple(file for record in old.measurements.values() for file in record.all())
    after = state
    if name in state:
        after = without_item(after, name)
    if floor > 0:
        after = with_item(after, name, DatabaseFiles(floor=floor))
    return Step(state=after, events=_told(remove=gone))


def build(
    files: Iterable[FileEntry], marks: Iterable[FlushMark] = (), floors: Mapping[str, int] | None = None
) -> Manifest:
    """The manifest from its primary facts. Raises ValueError where they contradict each other."""
    draft = _Draft({name: DatabaseFiles(floor=floor) for name, floor in (floors or {}).items()}, lambda *_: True)
    try:
        for file in files:
            draft.add(file)
    except Refusal as refusal:
        raise ValueError(refusal.message) from refusal
    return draft.finish({(mark.database, mark.measurement): mark.sequence for mark in marks})


def files_of(state: Manifest, database: str, measurement: str) -> MeasurementFiles:
    """The record of one measurement; an empty one when there is none."""
    return state.get(database, NO_FILES).measurements.get(measurement, NOTHING)


def mark_of(state: Manifest, database: str, measurement: str) -> int:
    """The flush mark, 0 if there is none."""
    old = state.get(database, NO_FILES)
    return max(old.floor, old.measurements.get(measurement, NOTHING).mark)


def find(state: Manifest, path: str) -> FileEntry | None:
    """The file of this path."""
    place = parse_path(path)
    if place is None:
        return None
    return files_of(state, place.database, unquote_part(place.folder)).find(path, place.day)


def every(state: Manifest) -> Iterator[FileEntry]:
    """All files, in the same order on every node."""
    for database in sorted(state):
        for _, record in sorted(state[database].measurements.items()):
            yield from record.all()


def differing(before: Manifest, after: Manifest) -> Iterator[tuple[Cell, Cell]]:
    """(before, after) of every cell of files that is another object now, in the same order on every node.

    Who keeps something about every file follows the manifest by this: the cost is that of what changed.
    """
    if before is after:
        return
    for database in sorted({*before, *after}):
        olds, news = (state.get(database, NO_FILES).measurements for state in (before, after))
        if olds is news:
            continue
        moved = (name for name in {*olds, *news} if olds.get(name) is not news.get(name))
        for name in sorted(moved):
            yield from cells.differing(olds.get(name, NOTHING), news.get(name, NOTHING))


def totals(state: Manifest) -> FileStats:
    """Totals over everything."""
    every_one = [record.stats for old in state.values() for record in old.measurements.values()]
    return FileStats(sum(s.files for s in every_one), sum(s.rows for s in every_one), sum(s.bytes for s in every_one))


class _Draft:
    """Collects the changes of one command, each checked against state and changes so far.

    Publishes them as one version.
    """

    def __init__(self, state: Manifest, known: Known) -> None:
        self._state = state
        self._known = known
        self._adds: dict[Table, dict[str, tuple[FileEntry, int]]] = {}
        self._removes: dict[Table, dict[str, tuple[FileEntry, int]]] = {}
        self._folders: dict[Table, str] = {}

    def add(self, file: FileEntry) -> FileEntry:
        table = (file.database, file.measurement)
        if table not in self._adds:
            _require_known(self._known, table)
            self._adds[table] = {}
            self._folders[table] = quote_part(file.measurement)
        place = parse_path(file.path)
        if place is None or place.database != file.database or place.folder != self._folders[table]:
            form = f"{file.database}/{self._folders[table]}/YYYY/MM/DD/HH/name.parquet"
            raise Refusal("invalid", f"path {file.path[:200]!r} is not of the form {form}")
        if not (file.sha256 and file.rows > 0 and file.size_bytes > 0 and file.min_time_us <= file.max_time_us):
            raise Refusal("invalid", f"{file.path} has no hash, no rows, no bytes, or an empty time range")
        adds = self._adds[table]
        if file.path in adds or files_of(self._state, *table).find(file.path, place.day) is not None:
            raise Refusal("duplicate_path", f"{file.path} is in the manifest already")
        adds[file.path] = (file, place.day)
        return file

    def remove(self, path: str, sha256: str) -> FileEntry:
        file = find(self._state, path)
        if file is None or file.sha256 != sha256:
            raise Refusal("file_gone", f"{path[:200]!r} with this hash is not in the manifest")
        place = parse_path(path)
        assert place is not None, "a registered path can be parsed"
        removes = self._removes.setdefault((file.database, file.measurement), {})
        if path in removes:
            raise Refusal("invalid", f"{path} is to be removed twice")
        removes[path] = (file, place.day)
        return file

    def finish(self, marks: Mapping[Table, int]) -> Manifest:
        touched: dict[str, set[str]] = {}
        for database, measurement in (*self._adds, *self._removes, *marks):
            touched.setdefault(database, set()).add(measurement)
        after = thawed(self._state)
        for database, names in touched.items():
            old = after.get(database, NO_FILES)
            records = thawed(old.measurements)
            for name in names:
                records[name] = self._changed((database, name), marks)
                # A restored snapshot could not know of a record without a fact, so there must be none.
                if records[name] == NOTHING:
                    del records[name]
            after[database] = DatabaseFiles(frozen(records), old.floor)
            if after[database] == NO_FILES:
                del after[database]
        return frozen(after)

    def _changed(self, table: Table, marks: Mapping[Table, int]) -> MeasurementFiles:
        old = files_of(self._state, *table)
        return changed(
            old,
            add=self._adds.get(table, {}).values(),
            remove=self._removes.get(table, {}).values(),
            mark=marks.get(table, old.mark),
        )


def _require_few(items: Sequence[object]) -> None:
    if len(items) > FILES_PER_COMMAND_MAX:
        raise Refusal("too_many", f"one command can name {FILES_PER_COMMAND_MAX} files, not {len(items)}")


def _require_known(known: Known, table: Table) -> None:
    if not known(*table):
        raise Refusal("not_found", f"{'.'.join(table)} does not exist")


def _require_forward(current: int, mark: FlushMark) -> None:
    where = f"{mark.database}.{mark.measurement}"
    if mark.sequence == current:
        raise Refusal("already_flushed", f"the flush mark of {where} stands at {current} already")
    if mark.sequence < current:
        raise Refusal(
            "backward_mark", f"the flush mark of {where} stands at {current} and cannot go back to {mark.sequence}"
        )


def _told(
    *,
    remove: tuple[FileEntry, ...] = (),
    add: tuple[FileEntry, ...] = (),
    marks: tuple[FlushMark, ...] = (),
) -> tuple[Event, ...]:
    """The events of a change, none for what did not change."""
    events: list[Event] = []
    if remove:
        events.append(FilesRemoved(remove))
    if add:
        events.append(FilesAdded(add))
    if marks:
        events.append(MarksMoved(marks))
    return tuple(events)
