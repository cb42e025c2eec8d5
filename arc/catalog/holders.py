"""Which nodes hold which file: said by the nodes themselves, kept with the file, gone with the node.

A holder is a node whose disk has the whole file. Nothing here decides who *should* hold one (`replication.placement`);
it is kept because three things depend on it: whom to ask for a file, when rows may leave the write-ahead log, and when
a node may leave.

Files of one batch share one tuple of names. A node that is forgotten is taken out of every file in the same entry, so
that whoever comes back under its name holds nothing: with 100,000 files that is a third of a second, once.
"""

from __future__ import annotations

from collections.abc import Iterator

from arc.catalog import nodes as members
from arc.catalog.cells import Dated, mapped, parse_path, swapped
from arc.catalog.commands import HoldFiles
from arc.catalog.events import FilesHeld
from arc.catalog.manifest import DatabaseFiles, Manifest, Table, files_of
from arc.catalog.nodes import Nodes
from arc.catalog.persistent import frozen, thawed
from arc.catalog.results import Refusal, Step
from arc.ids import NodeId
from arc.storage.files import FileEntry, held_by
from arc.storage.paths import unquote_part

FILES_PER_COMMAND_MAX = 2_000
"""Some 400 KiB of an entry, and 20 ms to apply it."""

Holders = tuple[str, ...]


def apply(state: Manifest, command: HoldFiles, nodes: Nodes) -> Step[Manifest]:
    """Note what a node says of its disk. Raises Refusal for a node, or an incarnation of it, that is none of ours."""
    members.find(nodes, command.node, command.incarnation)
    count = len(command.holds) + len(command.lost)
    if count > FILES_PER_COMMAND_MAX:
        raise Refusal("too_many", f"one command can name {FILES_PER_COMMAND_MAX} files, not {count}")
    shared = _Shared(command.node)
    changes: dict[Table, dict[str, Dated]] = {}
    for path, sha256, holds in _said(command):
        place = parse_path(path)
        if place is None:
            continue
        table = (place.database, unquote_part(place.folder))
        drafted = changes.get(table, {}).get(path)
        file = drafted[0] if drafted is not None else files_of(state, *table).find(path, place.day)
        if file is None or file.sha256 != sha256:
            continue
        after = shared.after(file.holders, holds=holds)
        if after is not file.holders:
            changes.setdefault(table, {})[path] = (held_by(file, after), place.day)
    changed = {table: kept for table, files in changes.items() if (kept := _kept(state, table, files))}
    return _swap(state, changed)


def without(state: Manifest, node: NodeId) -> Step[Manifest]:
    """Take a node that is gone out of all files."""
    shared = _Shared(node)
    told: list[FileEntry] = []
    after = thawed(state)
    for database in sorted(state):
        records = thawed(state[database].measurements)
        for measurement in sorted(records):
            records[measurement], changed = mapped(records[measurement], shared.without)
            told += changed
        after[database] = DatabaseFiles(frozen(records), state[database].floor)
    return Step(state=frozen(after), events=(FilesHeld(tuple(told)),)) if told else Step(state=state)


class _Shared:
    """What a set of holders becomes when one node comes or goes: one tuple for all files with the same holders."""

    def __init__(self, node: NodeId) -> None:
        self._node = node
        self._known: dict[tuple[Holders, bool], Holders] = {}

    def without(self, file: FileEntry) -> FileEntry:
        """The file without the node; the same object when it was no holder."""
        return held_by(file, self.after(file.holders, holds=False)) if self._node in file.holders else file

    def after(self, holders: Holders, *, holds: bool) -> Holders:
        """The same object when nothing changes."""
        if (self._node in holders) == holds:
            return holders
        found = self._known.get((holders, holds))
        if found is None:
            names = {*holders, self._node} if holds else {*holders} - {self._node}
            found = self._known[holders, holds] = tuple(sorted(names))
        return found


def _said(command: HoldFiles) -> Iterator[tuple[str, str, bool]]:
    """What was lost comes last: between two words the one that promises less counts."""
    yield from ((path, sha256, True) for path, sha256 in command.holds)
    yield from ((path, sha256, False) for path, sha256 in command.lost)


def _kept(state: Manifest, table: Table, files: dict[str, Dated]) -> list[Dated]:
    """Those that differ from what stands; one that was said to be held and lost at once does not."""
    record = files_of(state, *table)
    return [(file, day) for file, day in files.values() if _holders(record.find(file.path, day)) != file.holders]


def _holders(file: FileEntry | None) -> Holders:
    return file.holders if file is not None else ()


def _swap(state: Manifest, changes: dict[Table, list[Dated]]) -> Step[Manifest]:
    if not changes:
        return Step(state=state)
    after = thawed(state)
    touched: dict[str, list[str]] = {}
    for database, measurement in changes:
        touched.setdefault(database, []).append(measurement)
    for database, names in touched.items():
        records = thawed(after[database].measurements)
        for name in names:
            records[name] = swapped(records[name], changes[database, name])
        after[database] = DatabaseFiles(frozen(records), after[database].floor)
    told = tuple(file for files in changes.values() for file, _ in files)
    return Step(state=frozen(after), events=(FilesHeld(told),))
